"""Reads tables of prompts: rows of text from csv, tsv, jsonl and parquet files, streamed.

Every value is the text that stands in the file: ``NA``, ``null``, ``010`` and the empty text mean
nothing special. pandas is not used: it fills up short rows silently and stops at the first long
one, and every such row must be reported.
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

OnRowProblem: TypeAlias = Callable[[int, str], None]
"""Takes the line (0 in a format without lines) of a row that can't be used, and the message."""
_Cells: TypeAlias = Iterator[tuple[int, list[str]]]
"""Pairs of line and cells; a row that can't be taken apart is reported instead."""
MAX_LINE_BYTES = 2**20
_PARQUET_BATCH_ROWS = 4_096
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
    """The functions that read one format; they raise ValueError for another format, and OSError."""

    columns: Callable[[Path], tuple[str, ...]]
    """The names of the columns, in order."""
    rows: Callable[[Path, Sequence[str], OnRowProblem], Iterator[Row]]
    """The usable rows with the columns asked for, streamed; the others are reported."""


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
        """Whether the file still has the same bytes; hashed again only if size or time changed."""
        try:
            now = self.path.stat()
            if (now.st_size, now.st_mtime_ns) == (self.size, self.modified_ns):
                return True
            return self.path.is_file() and _sha256(self.path) == self.sha256
        except OSError:
            return False

    def rows(self, columns: Sequence[str], on_problem: OnRowProblem) -> Iterator[Row]:
        """The usable rows in order; the problems of the others go to ``on_problem``."""
        return _READERS[self.path.suffix.lower()].rows(self.path, columns, on_problem)


def open_table(folder: Path, name: str) -> Table:
    """Read the columns and the checksum of a table in a folder or below; no row is checked yet.

    Raises:
        ValueError: Outside of the folder, missing, unreadable, of another format, without a
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
        if path.exists() and not path.is_file():  # reading a pipe would wait without an end
            raise ValueError("is a pipe, a socket or a device, not a table")
        state = path.stat()
        digest = _sha256(path)
        columns = reader.columns(path)
    except FileNotFoundError:
        message = "no such file; tables are named from the folder of their prompt set"
        raise ValueError(message) from None
    except OSError as error:
        raise ValueError(f"can't be read: {error.strerror}") from error
    duplicates = sorted({name for name in columns if name and columns.count(name) > 1})
    if duplicates:
        raise ValueError(f"has more than one column called {', '.join(duplicates)}")
    return Table(path, columns, digest, state.st_size, state.st_mtime_ns)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _delimited(cells_of: Callable[[Iterable[str], OnRowProblem], _Cells]) -> Reader:
    def columns(path: Path) -> tuple[str, ...]:
        with path.open("rb") as file:
            return tuple(_header(cells_of(text_lines(file, _ignore), _ignore)))

    def rows(path: Path, columns: Sequence[str], on_problem: OnRowProblem) -> Iterator[Row]:
        with path.open("rb") as file:
            cells_by_line = cells_of(text_lines(file, on_problem), on_problem)
            header = _header(cells_by_line)
            places = [(name, header.index(name)) for name in columns]
            for number, (line, cells) in enumerate(cells_by_line, start=1):
                if len(cells) != len(header):
                    on_problem(
                        line, f"row {number} has {len(cells)} cells, the header {len(header)}"
                    )
                else:
                    yield Row(number, line, {name: cells[place] for name, place in places})

    return Reader(columns, rows)


def _header(cells: _Cells) -> list[str]:
    _, names = next(cells, (0, []))
    if not any(name.strip() for name in names):
        raise ValueError("is empty: the first line must name the columns")
    return [name.strip() for name in names]


def _csv_cells(lines: Iterable[str], on_problem: OnRowProblem) -> _Cells:
    reader = csv.reader(lines, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            on_problem(line, f"is no valid csv from here on: {error}")
            continue
        if cells:
            yield line, cells


def _tsv_cells(lines: Iterable[str], _on_problem: OnRowProblem) -> _Cells:
    # A quotation mark is a character like any other: tab-separated prompt lists are published
    # that way, and a reader that takes it for a quote swallows lines.
    for line, text in enumerate(lines, start=1):
        if content := text.rstrip("\r\n"):
            yield line, content.split("\t")


def _json_columns(path: Path) -> tuple[str, ...]:
    with path.open("rb") as file:
        for _, _, value in _json_objects(file, _ignore):
            return tuple(value)
    raise ValueError("holds no JSON object; every line must be one")


def _json_rows(path: Path, columns: Sequence[str], on_problem: OnRowProblem) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line, value in _json_objects(file, on_problem):
            values = {}
            for name in columns:
                text = _cell_text(value[name]) if name in value else None
                if text is not None:
                    values[name] = text
                elif name in value:
                    on_problem(line, f"row {number}: {name} is {quoted(value[name])}, not text")
                else:
                    on_problem(line, f"row {number} has no {name}")
            if len(values) == len(columns):
                yield Row(number, line, values)


def _json_objects(file: Any, on_problem: OnRowProblem) -> Iterator[tuple[int, int, dict[str, Any]]]:
    number = 0
    for line, text in enumerate(text_lines(file, on_problem), start=1):
        if not text.strip():
            continue
        number += 1
        try:
            value = json.loads(
                text,
                parse_int=str,  # as it is written: 1.10 stays 1.10
                parse_float=str,
                parse_constant=_refuse_constant,
                object_pairs_hook=_without_duplicates,
            )
        except json.JSONDecodeError as error:
            on_problem(line, f"row {number} is no JSON: {error.msg} at character {error.colno}")
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            on_problem(line, f"row {number}: {reason}")
        else:
            if isinstance(value, dict):
                yield number, line, value
            else:
                on_problem(
                    line, f"row {number} is {quoted(value)}; every line must be a JSON object"
                )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {quoted(duplicate)} stands twice")
    return value


def _parquet_columns(path: Path) -> tuple[str, ...]:
    try:
        with pq.ParquetFile(path) as file:
            return tuple(file.schema_arrow.names)
    except pa.ArrowInvalid as error:
        raise ValueError(f"is no valid Parquet file: {error}") from error


def _parquet_rows(path: Path, columns: Sequence[str], on_problem: OnRowProblem) -> Iterator[Row]:
    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(
                _PARQUET_BATCH_ROWS, columns=list(columns), use_threads=False
            ):
                lists = [batch.column(name).to_pylist() for name in columns]
                for index in range(batch.num_rows):
                    number += 1
                    values = {
                        name: text
                        for name, cells in zip(columns, lists, strict=True)
                        if (text := _cell_text(cells[index])) is not None
                    }
                    if len(values) == len(columns):
                        yield Row(number, 0, values)
                    else:
                        _report_missing(number, values, columns, on_problem)
    except (pa.ArrowException, OSError) as error:
        # pyarrow reports corrupt data as OSError.
        on_problem(0, f"is no valid Parquet file from row {number + 1} on: {error}")


def _report_missing(
    number: int, values: Any, columns: Sequence[str], on_problem: OnRowProblem
) -> None:
    for name in columns:
        if name not in values:
            on_problem(0, f"row {number}: {name} is null or nested, not text")


def _cell_text(value: Any) -> str | None:
    """The text of a JSON or Parquet value; None where it is no single value."""
    if value is None or isinstance(value, list | dict | bytes):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def text_lines(file: BinaryIO, on_problem: OnRowProblem) -> Iterator[str]:
    """Every line of a UTF-8 file with its end; a byte order mark is dropped.

    A line that can't be decoded is reported, and yielded as far as it can be, so that the numbers
    of the lines after it stay right. At most ``MAX_LINE_BYTES`` are held in memory.

    Raises:
        ValueError: The file is UTF-16.
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
            on_problem(number, f"a line of more than {MAX_LINE_BYTES:,} bytes (1 MiB)")
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                size += len(rest)
            size, data = size + len(rest), b"\n"
        try:
            yield data.decode("utf-8")
        except UnicodeDecodeError as error:
            on_problem(
                number, f"is not UTF-8 at byte {offset + skipped + error.start}: save as UTF-8"
            )
            yield data.decode("utf-8", "replace")
        offset += size


def _ignore(_line: int, _message: str) -> None:
    """Drop a problem: it is found again, and reported, when the rows are read."""


_READERS: Mapping[str, Reader] = MappingProxyType(
    {
        ".csv": _delimited(_csv_cells),
        ".tsv": _delimited(_tsv_cells),
        ".jsonl": Reader(_json_columns, _json_rows),
        ".parquet": Reader(_parquet_columns, _parquet_rows),
    }
)
"""By the ending of the file's name."""
