"""Expands the prompts of a set: one variant for each table row and each combination of a matrix.

Everything streams: at any time one row and one combination are held in memory.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

from flux_pipeline.errors import Problems
from flux_pipeline.models import Model
from flux_pipeline.prompts.chain import Each, SourcePicture, Sources
from flux_pipeline.prompts.names import (
    MAX_KEY_CHARACTERS,
    MAX_NAME_CHARACTERS,
    NamePart,
    as_name_part,
    join_name,
    name_part,
)
from flux_pipeline.prompts.skipped_rows import Skip, SkippedRows
from flux_pipeline.prompts.tables import AFTER, BEFORE, AreAsked, Row, Table, with_lf
from flux_pipeline.prompts.templates import Template, TemplateList
from flux_pipeline.prompts.yaml_document import Document

MODEL = "model"
"""The matrix variable that compares models, where no placeholder uses it."""
DATE = "date"
"""The placeholder for the partition's day, where partitions are days."""
_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


AreWanted: TypeAlias = Callable[["Entry", Sequence[str], Sequence[str]], Sequence[bool]]
"""Takes an entry and the names of some of its prompts with their stable names, and says which of
them are looked at; the others are left out.

It is asked once for a row of a table, and only where a row is one prompt."""


class SeedRule(StrEnum):
    """How the seed of a request is chosen."""

    DERIVED = "derived"
    """Derived from the names of set and prompt, the take and the day."""
    GIVEN = "given"
    """Given in the file; take n sends that seed plus n - 1."""
    NONE = "none"
    """None is sent: the provider draws one."""


class MatrixValue(NamedTuple):
    """One value of a matrix variable, and the part that it adds to the prompt's name."""

    name_part: NamePart
    value: str


class Variant(NamedTuple):
    """One prompt that an entry expands to."""

    name: str
    variables: Mapping[str, str]
    """The values of its placeholders."""
    row: Row | None
    model: Model
    source: SourcePicture | None = None
    """The picture that it is made for."""
    stable_name: str = ""
    """What its seeds, its shard and older keys in the store are made of; empty: the name."""

    def describe(self) -> str:
        """Its row or variables, to end a message with; empty where the entry has one variant."""
        if self.row is not None:
            return f" (row {self.row.number})"
        if self.source is not None:
            return f" (for {'-'.join(part.readable for part in self.source.name_parts)})"
        values = ", ".join(f"{name}: {value}" for name, value in self.variables.items())
        return f" (with {values})" if values else ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One key under ``prompts``, parsed."""

    key: str
    models: tuple[Model, ...]
    """The models to make it with: one, or those that its matrix compares."""
    constants: Mapping[str, Any]
    """Inputs of the model without placeholders, as they stand in the file."""
    templates: Mapping[str, Template | TemplateList] = field(default_factory=dict)
    """Inputs of the model with placeholders."""
    inherited: frozenset[str] = frozenset()
    """Names of the inputs that come from ``defaults``."""
    matrix: Mapping[str, tuple[MatrixValue, ...]] = field(default_factory=dict)
    takes: int = 1
    each: Each | None = None
    table: Table | None = None
    key_column: str | None = None
    blank: str = "error"
    """What a blank cell is: ``error``, ``skip`` or ``empty``."""
    skips_bad_rows: bool = False
    seed: SeedRule = SeedRule.DERIVED
    variable_names: tuple[str, ...] = ()
    """Every placeholder that it could use: of its table, its matrix and its source pictures."""
    published_columns: frozenset[str] = frozenset()
    """Columns that names and alt texts of published files use; blank in a row, they stay empty."""

    @property
    def _used_names(self) -> set[str]:
        return set().union(*(template.names for template in self.templates.values()))

    @property
    def columns(self) -> list[str]:
        """The columns of the table that are used, the key column first."""
        if self.table is None:
            return []
        names = self._used_names | self.published_columns
        used = [name for name in self.table.columns if name in names and name != self.key_column]
        return used if self.key_column is None else [self.key_column, *used]

    def variants(
        self,
        notes: "RowNotes",
        sources: Sources,
        *,
        max_rows: int | None = None,
        are_wanted: AreWanted | None = None,
    ) -> Iterator[Variant]:
        """Every variant, streamed, in the order of the file: for each row every combination.

        Of a table's row that ``are_wanted`` leaves out only the name is made.
        """
        if self.table is None and self.each is None and not self.matrix:
            yield Variant(self.key, _NO_VARIABLES, None, self.models[0])
            return
        for parts, row, source in self._rows(notes, sources, max_rows, are_wanted):
            values = source.values() if source else row.values if row else {}
            if not self.matrix:  # the most of a large table's time is spent here
                name, stable = self._names(parts)
                yield Variant(name, values, row, self.models[0], source, stable)
                continue
            for choices in itertools.product(*self.matrix.values()):
                variables = dict(values)
                variables.update(
                    zip(self.matrix, (choice.value for choice in choices), strict=True)
                )
                name, stable = self._names((*parts, *(choice.name_part for choice in choices)))
                model = variables.pop(MODEL, None) if len(self.models) > 1 else None
                yield Variant(name, variables, row, self._model(model), source, stable)

    def _names(self, parts: tuple[NamePart, ...]) -> tuple[str, str]:
        """The name, and the stable one where it differs; else an empty text."""
        name = join_name(self.key, *[readable for readable, _ in parts])
        for readable, stable in parts:
            if readable is not stable:
                return name, join_name(self.key, *[stable for _, stable in parts])
        return name, ""

    def rendered(self, variant: Variant, day: str) -> dict[str, str | list[str]]:
        """The model's inputs with placeholders, filled in; ``day`` is a variant's date or empty."""
        if not self.templates:
            return {}
        values = {**variant.variables, DATE: day} if day else variant.variables
        if variant.source is not None:
            values = defaultdict(str, values)  # an input that the source was made without is blank
        rendered = {name: template.render(values) for name, template in self.templates.items()}
        if self.blank == "empty":
            # An optional input that its row leaves blank is one that isn't given.
            return {n: text for n, text in rendered.items() if n == "prompt" or _is_given(text)}
        return rendered

    def _model(self, name: str | None) -> Model:
        return next((each for each in self.models if each.name == name), self.models[0])

    def blank_columns(self, row: Row) -> list[str]:
        """The columns that a placeholder needs and the row leaves blank."""
        blank = [name for name, text in row.values.items() if not text.strip()]
        if not blank:
            return blank
        free = {BEFORE, AFTER} if self.table is not None and self.table.is_styles else set()
        if self.published_columns:
            free |= self.published_columns - self._used_names - {self.key_column}
        return [name for name in blank if name not in free]

    def _rows(
        self,
        notes: "RowNotes",
        sources: Sources,
        max_rows: int | None,
        are_wanted: AreWanted | None,
    ) -> Iterator[tuple[tuple[NamePart, ...], Row | None, SourcePicture | None]]:
        """Name parts with a table's row, or with a source picture; once where there is neither."""
        if self.each is not None:
            found = itertools.islice(sources.pictures(self.each), max_rows)
            yield from ((source.name_parts, None, source) for source in found)
        elif self.table is None:
            yield (), None, None
        else:
            yield from self._table_rows(self.table, notes, max_rows, are_wanted)

    def _table_rows(
        self, table: Table, notes: "RowNotes", max_rows: int | None, are_wanted: AreWanted | None
    ) -> Iterator[tuple[tuple[NamePart], Row, None]]:
        """The part of a name that a row adds, and the row."""
        blanks = _BlankRows(notes)
        styles: dict[str, int] | None = {} if table.is_styles else None
        are_asked = None if are_wanted is None else self._row_filter(are_wanted, blanks)
        rows = table.rows(self.columns, notes.add_bad, notes.add_damage, are_asked=are_asked)
        for row in itertools.islice(rows, max_rows):
            if row.is_blank:
                blanks.add(row.number)
                continue
            blanks.end()
            if self.blank == "skip" and self.blank_columns(row):
                notes.add_skipped(Skip.CELL, row.number)
            elif self.key_column is None:
                number = f"row-{row.number:06d}"
                yield (NamePart(number, number),), row, None
            elif text := row.values[self.key_column].strip():
                yield (_unique(name_part(text), styles),), row, None
            else:
                what = f"row {row.number}: the key column {self.key_column} is blank"
                notes.add_bad(row.line, what)

    def _row_filter(self, are_wanted: AreWanted, blanks: "_BlankRows") -> AreAsked | None:
        """What a table asks about its rows, where a row is one prompt and its key is its name."""
        if self.matrix or self.blank == "skip":
            return None
        is_numbered, prefix = self.key_column is None, f"{self.key}-"
        is_short = len(prefix) + MAX_KEY_CHARACTERS <= MAX_NAME_CHARACTERS

        def are_asked(numbers: Sequence[int], texts: Sequence[str]) -> Sequence[bool]:
            blanks.end()
            keys = [f"row-{number:06d}" for number in numbers] if is_numbered else texts
            if is_short and all(map(as_name_part, keys)):  # as below, in a third of the time
                names = [prefix + key for key in keys]
                return are_wanted(self, names, names)
            keys = [with_lf(key).strip() for key in keys]
            both = [self._names((name_part(key),)) for key in keys if key]
            names = [name for name, _ in both]
            wanted = iter(are_wanted(self, names, [stable or name for name, stable in both]))
            return [not key or next(wanted) for key in keys]  # without a key, it is reported

        return are_asked


class RowNotes(NamedTuple):
    """Where it is said what is wrong with, or was skipped of, one entry's rows."""

    problems: Problems
    skipped: SkippedRows
    entry: Entry
    path: str

    def add_bad(self, line: int, message: str) -> None:
        """A row that can't be used, which is skipped where the entry says so."""
        key = f"prompts.{self.entry.key}"
        if self.entry.skips_bad_rows:
            self.skipped.add_bad(self.path, key, line, message)
        else:
            self.problems.add(self.path, line, key, message)

    def add_damage(self, line: int, message: str) -> None:
        """The rest of a table that can't be read: rows that nobody has seen are never skipped."""
        self.problems.add(self.path, line, f"prompts.{self.entry.key}", message)

    def add_skipped(self, why: Skip, number: int, rows: int = 1) -> None:
        """Rows without what is needed, from the row of this number on."""
        self.skipped.add(self.path, f"prompts.{self.entry.key}", why, f"row {number}", rows)


@dataclass(slots=True)
class _BlankRows:
    """Blank rows in a row, which are told once a row follows that is not blank.

    A spreadsheet may leave a million of them at the end, which needs no warning.
    """

    notes: RowNotes
    count: int = 0
    first: int = 0

    def add(self, number: int) -> None:
        """Count a blank row."""
        if not self.count:
            self.first = number
        self.count += 1

    def end(self) -> None:
        """Tell of those so far: another row follows."""
        if self.count:
            self.notes.add_skipped(Skip.BETWEEN, self.first, self.count)
            self.count = 0


def _unique(part: NamePart, taken: dict[str, int] | None) -> NamePart:
    """The part of a name, in styles with ``-2`` and so on where an earlier style has it."""
    if taken is None:
        return part
    name = part.stable
    unique = name
    while unique in taken:
        taken[name] += 1
        unique = f"{name}-{taken[name]}"
    taken[unique] = 1
    if unique == name:
        return part
    is_same = part.readable is name
    return NamePart(unique if is_same else part.readable + unique[len(name) :], unique)


def _is_given(value: str | list[str]) -> bool:
    return bool(value.strip()) if isinstance(value, str) else any(map(_is_given, value))


@dataclass(frozen=True, slots=True)
class Expansion:
    """The entries of a whole set, with all that is needed to expand and check them."""

    document: Document
    entries: tuple[Entry, ...]
    folder: Path
    """The folder in which tables and pictures lie."""

    @property
    def tables(self) -> tuple[Table, ...]:
        """The tables of its entries, one for each that has one, in their order."""
        return tuple(entry.table for entry in self.entries if entry.table is not None)

    def line(self, key: str) -> int:
        """The line of one of the file's keys; 0 where it is not known."""
        return self.document.line(key)

    def variants(
        self,
        problems: Problems,
        *,
        skipped: SkippedRows | None = None,
        sources: Sources | None = None,
        max_rows: int | None = None,
        are_wanted: AreWanted | None = None,
    ) -> Iterator[tuple[Entry, Variant]]:
        """Every prompt of the set, streamed, in the order of the file.

        Prompts that are made for pictures of other sets take those of ``sources``. Rows of tables
        that ``are_wanted`` leaves out cost little more than their name.
        """
        given = sources or Sources()
        counted = SkippedRows() if skipped is None else skipped
        for entry in self.entries:
            notes = RowNotes(problems, counted, entry, self.path_of(entry))
            for variant in entry.variants(notes, given, max_rows=max_rows, are_wanted=are_wanted):
                yield entry, variant

    def path_of(self, entry: Entry) -> str:
        """The file that an entry's prompts stand in: its table, or the set's own."""
        return str(entry.table.path) if entry.table else self.document.path

    def add_to_name(self, problems: Problems, entry: Entry, variant: Variant, message: str) -> None:
        """Add a problem at the place that names the prompt: the table's row or the entry's key."""
        if variant.row is not None and entry.table is not None:
            path, line = str(entry.table.path), variant.row.line
        else:
            path, line = self.document.path, self.document.line("prompts", entry.key)
        problems.add(path, line, f"prompts.{entry.key}", message + variant.describe())

    def add_to_input(
        self, problems: Problems, entry: Entry, variant: Variant, name: str, message: str
    ) -> None:
        """Add a problem at the place of an input: the table's row, the entry or ``defaults``."""
        inherited = name in entry.inherited
        keys = ("defaults", name) if inherited else ("prompts", entry.key, name)
        if variant.row is not None and entry.table is not None and name in entry.templates:
            path, line = str(entry.table.path), variant.row.line
        else:
            path, line = self.document.path, self.document.line(*keys)
        # A constant input is the same in every variant: one problem for all of them.
        origin = variant.describe() if name in entry.templates else ""
        problems.add(path, line, ".".join(keys), message + origin)


class DeferredExpansion(Expansion):
    """An expansion whose file is parsed when its prompts are asked for the first time."""

    __slots__ = ("_found", "_lines", "_read", "_tables")
    _found: Expansion | None
    _lines: Mapping[str, int]
    _read: Callable[[], Expansion]
    _tables: tuple[Table, ...]

    def __init__(
        self,
        folder: Path,
        tables: tuple[Table, ...],
        lines: Mapping[str, int],
        read: Callable[[], Expansion],
    ) -> None:
        values = {"folder": folder, "_tables": tables, "_lines": lines, "_read": read}
        for name, value in {**values, "_found": None}.items():
            object.__setattr__(self, name, value)  # the class is frozen

    @property
    def document(self) -> Document:
        """The parsed file."""
        return self._whole().document

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries of the parsed file."""
        return self._whole().entries

    @property
    def tables(self) -> tuple[Table, ...]:
        """See ``Expansion.tables``; nothing is parsed."""
        return self._tables

    def line(self, key: str) -> int:
        """See ``Expansion.line``; nothing is parsed."""
        return self._lines.get(key, 0)

    def _whole(self) -> Expansion:
        found = self._found
        if found is None:
            found = self._read()
            object.__setattr__(self, "_found", found)
        return found
