"""A table of prompts: rows of text from a csv, tsv, jsonl or parquet file, streamed.

Every value is the text that stands in the file: ``NA``, ``null``, ``010`` and the empty text mean
nothing special. pandas is left out on purpose: it fills up short rows without a word and stops at
the first long one, and all of both must be named.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, NamedTuple, NoReturn, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from flux_pipeline.text import quoted

Report: TypeAlias = Callable[[int, str], None]
"""Takes the line (or 0) and the message for a row that can't be used."""
_Cells: TypeAlias = Iterator[tuple[int, list[str]]]
"""Pairs of line and cells; rows that no cells can be had from are reported, with no cells."""
_BATCH_ROWS = 4_096
MAX_LINE_BYTES = 2**20
_BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One row of a table."""

    number: int
    """1-based, without the header and blank lines."""
    line: int
    """1-based line of the file where the row starts; 0 in a format without lines."""
    values: Mapping[str, str]
    """The text of the columns asked for."""


class Reader(NamedTuple):
    """How one format is read; both raise ValueError for a file that isn't one, and OSError."""

    columns: Callable[[Path], tuple[str, ...]]
    """The names of the columns, in order."""
    rows: Callable[[Path, Sequence[str], Report], Iterator[Row]]
    """The usable rows with the columns asked for, streamed; the others are reported."""


def _csv_cells(lines: Iterable[str], report: Report) -> _Cells:
    reader = csv.reader(lines, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            report(line, f"is no valid csv from here on: {error}")
            continue
        if cells:
            yield line, cells


def _tsv_cells(lines: Iterable[str], _report: Report) -> _Cells:
    for line, text in enumerate(lines, start=1):
        if content := text.rstrip("\r\n"):
            yield line, content.split("\t")


def _header(cells: _Cells) -> list[str]:
    _, names = next(cells, (0, []))
    if not any(name.strip() for name in names):
        raise ValueError("is empty: the first line must name the columns")
    return [name.strip() for name in names]


def _reader(cells_of: Callable[[Iterable[str], Report], _Cells]) -> Reader:
    def columns(path: Path) -> tuple[str, ...]:
        with path.open("rb") as file:
            return tuple(_header(cells_of(text_lines(file, _ignore), _ignore)))

    def rows(path: Path, columns: Sequence[str], report: Report) -> Iterator[Row]:
        with path.open("rb") as file:
            cells_by_line = cells_of(text_lines(file, report), report)
            header = _header(cells_by_line)
            places = [(name, header.index(name)) for name in columns]
            for number, (line, cells) in enumerate(cells_by_line, start=1):
                if len(cells) != len(header):
                    report(line, f"row {number} has {len(cells)} cells, the header {len(header)}")
                else:
                    yield Row(number, line, {name: cells[place] for name, place in places})

    return Reader(columns, rows)


def _ignore(_line: int, _message: str) -> None:
    """What is wrong in the first line is found again, and reported, when the rows are read."""


def text_lines(file: BinaryIO, report: Report) -> Iterator[str]:
    """Every line with its end, as text; a byte order mark is dropped.

    A line that can't be read is reported and comes as far as it can be read, so that the numbers
    of the lines behind it stay right. At most ``MAX_LINE_BYTES`` are held.

    Raises:
        ValueError: the file is UTF-16.
    """
    number = offset = 0
    while data := file.readline(MAX_LINE_BYTES):
        number += 1
        size = len(data)
        if number == 1:
            if data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise ValueError("is UTF-16: save as UTF-8")
            data = data.removeprefix(_BOM)
        skipped = size - len(data)
        if size == MAX_LINE_BYTES and not data.endswith(b"\n"):
            report(number, f"a line of more than {MAX_LINE_BYTES:,} bytes (1 MiB)")
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                size += len(rest)
            size, data = size + len(rest), b"\n"
        try:
            yield data.decode("utf-8")
        except UnicodeDecodeError as error:
            report(number, f"is not UTF-8 at byte {offset + skipped + error.start}: save as UTF-8")
            yield data.decode("utf-8", "replace")
        offset += size


CSV = _reader(_csv_cells)
TSV = _reader(_tsv_cells)


def _columns(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        for _, _, value in _objects(file, lambda _line, _message: None):
            return tuple(value)
    raise ValueError("holds no JSON object; every line must be one")


def _rows(path: Path, columns: Sequence[str], report: Report) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line, value in _objects(file, report):
            values = {}
            for name in columns:
                text = _text(value[name]) if name in value else None
                if text is not None:
                    values[name] = text
                elif name in value:
                    report(line, f"row {number}: {name} is {quoted(value[name])}, not text")
                else:
                    report(line, f"row {number} has no {name}")
            if len(values) == len(columns):
                yield Row(number, line, values)


def _objects(file: Any, report: Report) -> Iterator[tuple[int, int, dict[str, Any]]]:
    number = 0
    for line, text in enumerate(text_lines(file, report), start=1):
        if not text.strip():
            continue
        number += 1
        try:
            value = json.loads(
                text,
                parse_int=_Literal,
                parse_float=_Literal,
                parse_constant=_refuse_constant,
                object_pairs_hook=_without_twins,
            )
        except json.JSONDecodeError as error:
            report(line, f"row {number} is no JSON: {error.msg} at character {error.colno}")
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            report(line, f"row {number}: {reason}")
        else:
            if isinstance(value, dict):
                yield number, line, value
            else:
                report(line, f"row {number} is {quoted(value)}; every line must be a JSON object")


class _Literal(str):
    """A number as it is written: 1.10 stays 1.10."""

    __slots__ = ()


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quoted(twin)} stands twice")
    return value


JSON_LINES = Reader(_columns, _rows)


def _parquet_columns(path: Path) -> tuple[str, ...]:
    try:
        with pq.ParquetFile(path) as file:
            return tuple(file.schema_arrow.names)
    except pa.ArrowInvalid as error:
        raise ValueError(f"is no valid Parquet file: {error}") from error


def _parquet_rows(path: Path, columns: Sequence[str], report: Report) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=list(columns), use_threads=False):
                lists = [batch.column(name).to_pylist() for name in columns]
                for index in range(batch.num_rows):
                    number += 1
                    values = {
                        name: text
                        for name, cells in zip(columns, lists, strict=True)
                        if (text := _parquet_text(cells[index])) is not None
                    }
                    if len(values) == len(columns):
                        yield Row(number, 0, values)
                    else:
                        _report_gaps(number, values, columns, report)
    except (pa.ArrowException, OSError) as error:
        # pyarrow reports corrupt data as OSError.
        report(0, f"is no valid Parquet file from row {number + 1} on: {error}")


def _report_gaps(number: int, values: Any, columns: Sequence[str], report: Report) -> None:
    for name in columns:
        if name not in values:
            report(0, f"row {number}: {name} is null or nested, not text")


def _parquet_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, list | dict | bytes):
        return None
    return quoted(value) if isinstance(value, bool) else str(value)


PARQUET = Reader(_parquet_columns, _parquet_rows)

_READERS: Mapping[str, Reader] = MappingProxyType(
    {".csv": CSV, ".tsv": TSV, ".jsonl": JSON_LINES, ".parquet": PARQUET}
)


@dataclass(frozen=True, slots=True)
class Table:
    """A table file as it was when its prompt set was loaded."""

    path: Path
    columns: tuple[str, ...]
    sha256: str
    size: int
    """bytes"""
    modified_ns: int

    def is_unchanged(self) -> bool:
        """Whether the file holds what it held; it is hashed again only where it was touched."""
        try:
            now = self.path.stat()
            if (now.st_size, now.st_mtime_ns) == (self.size, self.modified_ns):
                return True
            return _sha256(self.path) == self.sha256
        except OSError:
            return False

    def rows(self, columns: Sequence[str], report: Report) -> Iterator[Row]:
        """The usable rows in order; what is wrong with the others goes to ``report``."""
        return _READERS[self.path.suffix.lower()].rows(self.path, columns, report)


def open_table(folder: Path, name: str) -> Table:
    """Look at a table in a folder or below: its columns and its checksum. No row is checked yet.

    Raises:
        ValueError: outside of the folder, missing, unreadable, of another format, without a
            header, or with two columns of one name; the message doesn't name the file.
    """
    path = folder / name
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:  # a loop of links, as RuntimeError before 3.13
        raise ValueError("can't be read: a loop of links") from error
    if not is_inside:
        raise ValueError("leaves the folder of its prompt set: put the table there or below")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"is no table by its ending: {', '.join(_READERS)} are read")
    try:
        if path.is_dir():
            raise ValueError("is a folder, not a table")
        state = path.stat()
        digest = _sha256(path)
        columns = reader.columns(path)
    except FileNotFoundError:
        said = "no such file; tables are named from the folder of their prompt set"
        raise ValueError(said) from None
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from error
    twins = sorted({name for name in columns if name and columns.count(name) > 1})
    if twins:
        raise ValueError(f"has more than one column called {', '.join(twins)}")
    return Table(path, columns, digest, state.st_size, state.st_mtime_ns)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
