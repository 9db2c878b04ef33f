"""Reads the prompts of a document: every key checked against the form and the model's limits.

Inputs are only taken apart here; their values are checked when they are expanded, because they may
depend on the row and the combination.
"""

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import ValidationError

from flux_pipeline.errors import Problems
from flux_pipeline.models import Model
from flux_pipeline.prompts.document import Document
from flux_pipeline.prompts.form import PromptForm, checked_prompt_name, join_name, slug
from flux_pipeline.prompts.messages import explain, unknown_key
from flux_pipeline.prompts.tables import Report, Row, Table, open_table
from flux_pipeline.text import quoted

_SHORT_FORM = PromptForm(prompt="-")
NO_VALUE = "none"
"""Switches off a seed, or a default of an input that may be left out."""
_NOTHING: Mapping[str, Any] = MappingProxyType({})
DATE = "date"
"""The placeholder that partitions by day give."""
MAX_COMBINATIONS = 10_000
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_NAME = re.compile(r"[^\W_]\w*(?:[ -]\w+)*")


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
class Template:
    """A text with placeholders, taken apart."""

    parts: tuple[tuple[str, str | None], ...]
    """Pairs of literal text and the placeholder behind it; None behind the last literal."""

    @property
    def names(self) -> frozenset[str]:
        """The placeholders."""
        return frozenset(name for _, name in self.parts if name is not None)

    def render(self, values: Mapping[str, str]) -> str:
        """The text with every placeholder replaced by its value, to the letter."""
        return "".join(
            literal if name is None else literal + values[name] for literal, name in self.parts
        )


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


def read_entries(
    document: Document, model: Model, folder: Path, *, by_day: bool, problems: Problems
) -> tuple[Entry, ...]:
    """The entries that can be expanded; everything wrong with the others goes to ``problems``."""
    reader = _Reader(document, model, folder, by_day, problems)
    prompts = document.value.get("prompts")
    defaults = reader.read_defaults(document.value.get("defaults", {}))
    if not isinstance(prompts, Mapping):
        return ()
    entries = (reader.read_entry(key, body, defaults) for key, body in prompts.items())
    return tuple(entry for entry in entries if entry is not None)


@dataclass(frozen=True, slots=True)
class _Reader:
    document: Document
    model: Model
    folder: Path
    by_day: bool
    problems: Problems

    def read_defaults(self, defaults: Any) -> Mapping[str, Any]:
        if not isinstance(defaults, Mapping):
            return {}
        allowed = [name for name in self.model.input_type.model_fields if name != "prompt"]
        self._refuse_unknown(("defaults",), defaults, allowed)
        values = {name: value for name, value in defaults.items() if name in allowed}
        self._check_constants(("defaults",), values)
        return values

    def read_entry(self, key: Any, body: Any, defaults: Mapping[str, Any]) -> Entry | None:
        where = ("prompts", str(key))
        try:
            checked_prompt_name(str(key))
        except ValueError as error:
            self._problem(where, str(error))
        if isinstance(body, str):
            inputs = {**defaults, "prompt": body}
            if not any(map(_is_special, inputs.values())) and "seed" not in inputs:
                # Most prompts of a large file: there is nothing to take apart.
                return Entry(where[1], inputs, inherited=frozenset(defaults))
            return self._entry(where, _SHORT_FORM, inputs, inherited=set(defaults))
        if not isinstance(body, Mapping):
            self._problem(where, f"must be a text or a mapping, not {quoted(body)}")
            return None
        allowed = dict.fromkeys([*PromptForm.model_fields, *self.model.input_type.model_fields])
        self._refuse_unknown(where, body, [*allowed])
        given = {k: v for k, v in body.items() if k in self.model.input_type.model_fields}
        own = {k: v for k, v in body.items() if k in PromptForm.model_fields}
        try:
            form = PromptForm.model_validate(own)
        except ValidationError as error:
            for path, message in explain(error, PromptForm):
                self._problem((*where, *path), message)
            # It will not be expanded, which is where inputs are checked.
            self._check_constants(where, {k: v for k, v in given.items() if k != "prompt"})
            return None
        inputs = {**defaults, **given, "prompt": form.prompt}
        return self._entry(where, form, inputs, inherited=defaults.keys() - given.keys())

    def _entry(
        self, where: tuple[str, str], form: PromptForm, inputs: dict[str, Any], inherited: set[str]
    ) -> Entry | None:
        table = self._table(where, form)
        if form.table is not None and table is None:
            self._check_constants(where, {k: v for k, v in inputs.items() if k not in inherited})
            return None
        columns = table.columns if table else ()
        reserved = {*columns, DATE} if self.by_day else {*columns}
        matrix = read_matrix(
            form.matrix, reserved, lambda *at: self._problem((*where, *at[:-1]), at[-1])
        )
        seed = self._seed_rule(where, inputs, form.takes)
        present = {name: value for name, value in inputs.items() if not self._is_none(name, value)}
        templates = self._templates(where, present, inherited, {*matrix, *reserved})
        if templates is None:
            self._check_constants(where, {k: v for k, v in inputs.items() if k not in inherited})
            return None
        used = set[str]().union(*(template.names for template in templates.values()))
        for name in matrix.keys() - used:
            self._problem(
                (*where, "matrix", name), "is used nowhere in the prompt; for more images use takes"
            )
        if self.by_day and seed is not SeedRule.DERIVED and DATE not in used:
            self._problem(
                (*where, "seed"),
                "with a seed of its own, or none, every day would ask for the same image: put "
                "{date} into the prompt or leave the seed out",
            )
        return Entry(
            key=where[1],
            constants={name: value for name, value in present.items() if name not in templates},
            templates=templates,
            inherited=frozenset(inherited),
            matrix=matrix,
            takes=form.takes,
            table=table,
            key_column=form.key,
            seed=seed,
        )

    def _table(self, where: tuple[str, ...], form: PromptForm) -> Table | None:
        if form.table is None:
            if form.key is not None:
                self._problem((*where, "key"), "names a column, and there is no table")
            return None
        try:
            table = open_table(self.folder, form.table)
        except ValueError as error:
            self._problem((*where, "table"), f"{form.table}: {error}")
            return None
        if form.key is not None and form.key not in table.columns:
            listed = ", ".join(table.columns)
            self._problem(
                (*where, "key"), f"{form.table} has no column {form.key}; it has {listed}"
            )
            return None
        return table

    def _seed_rule(self, where: tuple[str, ...], inputs: Mapping[str, Any], takes: int) -> SeedRule:
        seed = inputs.get("seed")
        if seed is None:
            return SeedRule.DERIVED
        if seed != NO_VALUE:
            return SeedRule.GIVEN
        if takes > 1:
            self._problem(
                (*where, "takes"),
                f"{takes} takes without a seed would be the same request {takes} times: leave out "
                "seed: none",
            )
        return SeedRule.NONE

    def _templates(
        self,
        where: tuple[str, ...],
        inputs: Mapping[str, Any],
        inherited: set[str],
        allowed: set[str],
    ) -> dict[str, Template] | None:
        """The inputs with placeholders; None where one of them is wrong."""
        templates = {}
        are_right = True
        for name, value in inputs.items():
            if not _has_braces(value):
                continue
            place = ("defaults", name) if name in inherited else (*where, name)
            try:
                templates[name] = parse_template(value)
            except ValueError as error:
                self._problem(place, str(error))
                are_right = False
                continue
            for unknown in sorted(templates[name].names - allowed):
                self._problem(place, f"unknown placeholder {{{unknown}}}; {_allowed(allowed)}")
                are_right = False
        return templates if are_right else None

    def _check_constants(self, where: tuple[str, ...], given: Mapping[str, Any]) -> None:
        values = {
            name: value
            for name, value in given.items()
            if not _has_braces(value) and not self._is_none(name, value)
        }
        try:
            self.model.input_type.model_validate({"prompt": "-", **values})
        except ValidationError as error:
            for path, message in explain(error, self.model.input_type):
                self._problem((*where, *path), message)

    def _is_none(self, name: str, value: Any) -> bool:
        is_none = value is None or value == NO_VALUE
        return is_none and self.model.input_type.model_fields[name].default is None

    def _refuse_unknown(
        self, where: tuple[str, ...], given: Iterable[Any], allowed: list[str]
    ) -> None:
        for key in given:
            if key not in allowed:
                self._problem((*where, str(key)), unknown_key(str(key), allowed))

    def _problem(self, where: tuple[str, ...], message: str) -> None:
        self.problems.add(self.document.path, self.document.line(*where), ".".join(where), message)


def _is_special(value: Any) -> bool:
    return value is None or value == NO_VALUE or _has_braces(value)


def _has_braces(value: Any) -> bool:
    return isinstance(value, str) and ("{" in value or "}" in value)


def _allowed(names: set[str]) -> str:
    if names:
        return f"allowed: {', '.join(sorted(names))}; a brace is written {{{{"
    return "a matrix, a table or partitions by day give placeholders; a brace is written {{"


def read_matrix(
    matrix: Mapping[str, Sequence[str]], reserved: set[str], problem: Callable[..., None]
) -> dict[str, tuple[Choice, ...]]:
    """The choices of every variable.

    ``problem`` takes the keys below the prompt and, last, the message. Nothing is multiplied out
    here: the number of combinations is computed first.
    """
    count = math.prod(len(values) for values in matrix.values())
    if count > MAX_COMBINATIONS:
        problem("matrix", f"has {count:,} combinations; at most {MAX_COMBINATIONS:,}: use a table")
        return {}
    choices = {}
    for name, values in matrix.items():
        if not is_placeholder_name(name):
            problem("matrix", name, "a variable's name is made of letters, digits, _ and spaces")
        if name in reserved:
            problem(
                "matrix", name, "is taken: the table or the partitions give a value of this name"
            )
        by_slug: dict[str, str] = {}
        for value in values:
            part = slug(value)
            if part not in by_slug:
                by_slug[part] = value
            elif by_slug[part] == value:
                problem("matrix", name, f"{quoted(value)} stands twice; for more images use takes")
            else:
                twins = f"{quoted(by_slug[part])} and {quoted(value)}"
                problem("matrix", name, f"{twins} give the same name ({part})")
        choices[name] = tuple(Choice(part, value) for part, value in by_slug.items())
    return choices


def parse_template(text: str) -> Template:
    """Take a text apart.

    Raises:
        ValueError: a lone brace, or a placeholder that is no plain name; says what to write.
    """
    parts: list[tuple[str, str | None]] = []
    literal, end = "", 0
    for token in _TOKEN.finditer(text):
        literal += text[end : token.start()]
        end = token.end()
        name = token[1]
        if token[0] in {"{{", "}}"}:
            literal += token[0][0]
        elif name is None:
            brace, where = token[0], token.start() + 1
            raise ValueError(f"a lone {brace} at character {where}: write {brace * 2} for a brace")
        elif not _NAME.fullmatch(name):
            raise ValueError(_why_no_name(name, token.start() + 1))
        else:
            parts.append((literal, name))
            literal = ""
    parts.append((literal + text[end:], None))
    return Template(tuple(parts))


def _why_no_name(name: str, where: int) -> str:
    what = f"{{{name[:40]}}} at character {where} is no placeholder"
    if re.search(r"[.\[\]!:]|__", name):
        return f"{what}: a plain name is allowed, no attribute, index or format"
    return f"{what}: write {{{{ and }}}} for braces that shall stay"


def is_placeholder_name(name: str) -> bool:
    """Whether a matrix variable or a column of this name can be put into a text."""
    return _NAME.fullmatch(name) is not None
