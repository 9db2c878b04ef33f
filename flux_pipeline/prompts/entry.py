"""One prompt of a set and what it becomes: a variant for every row and every combination."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple

from flux_pipeline.prompts.names import join_name, slug
from flux_pipeline.prompts.row import Report, Row
from flux_pipeline.prompts.table import Table
from flux_pipeline.prompts.template import Template

_NOTHING: Mapping[str, Any] = MappingProxyType({})

DATE = "date"
"""The placeholder that partitions by day give."""


class SeedRule(StrEnum):
    """Where the seed of a request comes from."""

    DERIVED = "derived"
    """From the names of set and prompt, the take and the day."""
    GIVEN = "given"
    """From the file; take n sends the seed plus n - 1."""
    NONE = "none"
    """Nowhere: the provider draws one."""


class Choice(NamedTuple):
    """One value of a matrix variable."""

    slug: str
    value: str


class Variant(NamedTuple):
    """One prompt with its name and the values of its placeholders."""

    name: str
    variables: Mapping[str, str]
    row: Row | None

    def described(self) -> str:
        """Where it comes from, for a message; empty where that is clear from the prompt's key."""
        if self.row is not None:
            return f" (row {self.row.number})"
        values = ", ".join(f"{name}: {value}" for name, value in self.variables.items())
        return f" (with {values})" if values else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key under ``prompts``, taken apart."""

    key: str
    constants: Mapping[str, Any]
    """Inputs of the model without placeholders, as they stand in the file."""
    templates: Mapping[str, Template] = field(default_factory=dict)
    """Inputs with placeholders."""
    inherited: frozenset[str] = frozenset()
    """Those of both that come from ``defaults``."""
    matrix: Mapping[str, tuple[Choice, ...]] = field(default_factory=dict)
    takes: int = 1
    table: Table | None = None
    key_column: str | None = None
    seed: SeedRule = SeedRule.DERIVED

    @property
    def columns(self) -> list[str]:
        """The columns of the table that are used, the key first."""
        if self.table is None:
            return []
        names = set().union(*(template.names for template in self.templates.values()))
        used = [name for name in self.table.columns if name in names and name != self.key_column]
        return used if self.key_column is None else [self.key_column, *used]

    def variants(self, report: Report, *, max_rows: int | None = None) -> Iterator[Variant]:
        """Every variant in the order of the file: rows outside, combinations inside.

        Streams: at any time one row and one combination are held.
        """
        if self.table is None and not self.matrix:
            yield Variant(self.key, _NOTHING, None)
            return
        for part, row in self._rows(report, max_rows):
            for choices in itertools.product(*self.matrix.values()):
                variables = dict(row.values) if row else {}
                variables.update(
                    zip(self.matrix, (choice.value for choice in choices), strict=True)
                )
                parts = [self.key, *part, *(choice.slug for choice in choices)]
                yield Variant(join_name(*parts), variables, row)

    def inputs(self, variant: Variant, day: str) -> dict[str, Any]:
        """The model's inputs of one variant, not yet checked; ``day`` is its date or empty."""
        if not self.templates:
            return dict(self.constants)
        values = {**variant.variables, DATE: day} if day else variant.variables
        rendered = {name: template.render(values) for name, template in self.templates.items()}
        return {**self.constants, **rendered}

    def _rows(
        self, report: Report, max_rows: int | None
    ) -> Iterator[tuple[tuple[str, ...], Row | None]]:
        if self.table is None:
            yield (), None
            return
        for row in itertools.islice(self.table.rows(self.columns, report), max_rows):
            if self.key_column is None:
                yield (f"row-{row.number:06d}",), row
            elif text := row.values[self.key_column].strip():
                yield (slug(text),), row
            else:
                report(row.line, f"row {row.number}: the key column {self.key_column} is blank")
