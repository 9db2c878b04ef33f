"""Reads tables of prompts: rows of text from csv, tsv, txt, jsonl, json, parquet and xlsx.

Every value is the text that stands in the file: ``NA``, ``null``, ``010`` and the empty text mean
nothing special; only line ends within a cell become LF. A null, and a NaN of a Parquet file, is a
blank cell. Rows are streamed, but for those of a spreadsheet. pandas reads only these: it fills up
short rows of a csv silently and stops at the first long one, and every such row must be reported.
"""

import csv
import hashlib
import io
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias

from flux_pipeline.iteration import batched
from flux_pipeline.prompts.encodings import SAMPLE_BYTES, SAVE_AS, describe_encoding
from flux_pipeline.prompts.json_array import parse_json, read_json_array
from flux_pipeline.prompts.spreadsheets import read_sheet
from flux_pipeline.text import quoted

if TYPE_CHECKING:  # a fifth of a second, which only a Parquet file is worth
    import pyarrow as pa

AreAsked: TypeAlias = Callable[[Sequence[int], Sequence[str]], Sequence[bool]]
"""Takes the numbers of rows and the texts of their first column, whatever their line ends are, and
says for each whether the row is built."""
OnRowProblem: TypeAlias = Callable[[int, str], None]
"""Takes the line (0 in a format without lines) of a row that can't be used, and the message."""
_Cells: TypeAlias = Iterator[tuple[int, list[str] | None]]
"""Pairs of line and cells; None in place of a row that can't be taken apart and is reported."""
_Numbered: TypeAlias = Iterator[tuple[int, int, list[str]]]
"""The number of each row, its line and its cells."""
MAX_LINE_BYTES = 2**20
TEXT_COLUMN = "prompt"
"""The one column of a txt file, and of a JSON array of texts."""
BEFORE, AFTER = "before", "after"
"""Columns that a web UI's styles have besides their own: what stands around the subject."""
_STYLE_COLUMNS = frozenset({"name", "prompt", "negative_prompt"})
_SUBJECT = "{prompt}"
_PARQUET_BATCH_ROWS = 4_096
_BLOCK_BYTES = 2**14
_ROWS_AT_ONCE = 500
"""That ``AreAsked`` is shown together: the calls for each would take longer than all else."""
_BOM = b"\xef\xbb\xbf"


class Row(NamedTuple):
    """One row of a table."""

    number: int
    """1-based, without the header and empty lines; rows of blank cells count."""
    line: int
    """1-based line of the file where the row starts; 0 in a format without lines."""
    values: Mapping[str, str]
    """The text of the columns asked for."""
    is_blank: bool = False
    """Whether no cell of the row holds anything, those of other columns included."""


class Report(NamedTuple):
    """Where problems go."""

    row: OnRowProblem
    """Of one row, which is left out."""
    rest: OnRowProblem
    """Of the table from some row on: other rows may be lost with it."""


class Reader(NamedTuple):
    """The functions that read one format; they raise ValueError for another format, and OSError."""

    columns: Callable[[Path], tuple[str, ...]]
    """The names of the columns, in order."""
    rows: Callable[[Path, Sequence[str], Report, AreAsked | None], Iterator[Row]]
    """The usable rows with the columns asked for, streamed; the others are reported. Of rows that
    are not blank, those that ``AreAsked`` refuses are left out."""


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

    @property
    def is_styles(self) -> bool:
        """Whether it has the columns of the styles that web UIs keep in ``styles.csv``."""
        return _has_styles(self.path, self.columns)

    def rows(
        self,
        columns: Sequence[str],
        on_problem: OnRowProblem,
        on_damage: OnRowProblem | None = None,
        *,
        are_asked: AreAsked | None = None,
    ) -> Iterator[Row]:
        """The usable rows in order; the problems of the others go to ``on_problem``.

        What makes the rest of the table unreadable goes to ``on_damage``, where it is given. Every
        row that is not blank is shown to ``are_asked`` once, before it costs anything more; those
        that it refuses are left out. Styles come whole: they are few.
        """
        report = Report(on_problem, on_damage or on_problem)
        reader = _READERS[self.path.suffix.lower()]
        if self.is_styles:
            return _style_rows(reader, self.path, columns, report)
        return reader.rows(self.path, columns, report, are_asked)


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
    if mistake := find_format_mistake(name):
        raise ValueError(mistake)
    reader = _READERS[path.suffix.lower()]
    try:
        _refuse_other_files(path)
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
    if _has_styles(path, columns):
        columns += tuple(name for name in (BEFORE, AFTER) if name not in columns)
    return Table(path, columns, digest, state.st_size, state.st_mtime_ns)


def find_format_mistake(name: str) -> str:
    """Why a file of this name is no table that can be read; empty where its ending is of one."""
    ending = Path(name).suffix.lower()
    if ending in _READERS:
        return ""
    is_sheet = ending in _SPREADSHEETS
    what = "is a spreadsheet: save it as CSV UTF-8" if is_sheet else "is no table by its ending"
    return f"{what}: {', '.join(_READERS)} are read"


def _refuse_other_files(path: Path) -> None:
    if path.is_dir():
        raise ValueError("is a folder, not a table")
    if path.exists() and not path.is_file():  # reading a pipe would wait without an end
        raise ValueError("is a pipe, a socket or a device, not a table")
    ending = path.suffix.lower()
    if ending not in {".parquet", ".xlsx"}:
        sample = _sample(path)
        if problem := describe_encoding(sample):
            raise ValueError(problem)
        if ending != ".json" and b"\r" in sample and b"\n" not in sample:
            raise ValueError("has the line ends of an old Mac (CR): save as UTF-8 with LF or CRLF")


def _has_styles(path: Path, columns: Sequence[str]) -> bool:
    return path.suffix.lower() == ".csv" and _STYLE_COLUMNS.issubset(columns)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sample(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(SAMPLE_BYTES)


def _style_rows(
    reader: Reader, path: Path, columns: Sequence[str], report: Report
) -> Iterator[Row]:
    """The rows of a web UI's styles: their prompts are cut where the subject stands.

    A UI puts its own prompt in place of ``{prompt}``, or, where a style has none, before a comma
    and the style.
    """
    own = [name for name in columns if name not in {BEFORE, AFTER}]
    given = dict.fromkeys([*own, "prompt", "negative_prompt"])
    for row in reader.rows(path, [*given], report, None):
        prompt = row.values["prompt"]
        is_blank = not prompt.strip() and not row.values["negative_prompt"].strip()
        if not is_blank and "prompt" in columns and _SUBJECT in prompt:
            report.row(
                row.line,
                f"row {row.number}: its prompt holds {_SUBJECT}, in whose place a web UI puts a "
                "subject: write {before}your subject{after} instead of {prompt}",
            )
            continue
        before, found, after = prompt.partition(_SUBJECT)
        parts = {BEFORE: before, AFTER: after} if found else {BEFORE: "", AFTER: f", {prompt}"}
        values = {name: parts[name] if name in parts else row.values[name] for name in columns}
        yield Row(row.number, row.line, values, is_blank)


def _delimited(cells_of: Callable[["_Lines", Report], _Cells]) -> Reader:
    def columns(path: Path) -> tuple[str, ...]:
        with path.open("rb") as file:
            return tuple(_header(cells_of(_Lines(file, _SILENT), _SILENT)))

    def rows(
        path: Path, columns: Sequence[str], report: Report, are_asked: AreAsked | None
    ) -> Iterator[Row]:
        with path.open("rb") as file:
            cells_by_line = cells_of(_Lines(file, report), report)
            header = _header(cells_by_line)
            places = [(name, header.index(name)) for name in columns]
            first = places[0][1] if places else 0
            found = _whole_rows(cells_by_line, len(header), first, report)
            if are_asked is not None:
                found = _only_asked(found, first, are_asked)
            for number, line, cells in found:
                if cells:
                    yield Row(number, line, {name: with_lf(cells[n]) for name, n in places})
                else:
                    yield Row(number, line, dict.fromkeys(columns, ""), is_blank=True)

    return Reader(columns, rows)


def _whole_rows(cells_by_line: _Cells, width: int, first: int, report: Report) -> _Numbered:
    """The rows of the right width and, without cells, the blank ones; the others are reported."""
    for number, (line, cells) in enumerate(cells_by_line, start=1):
        if cells is None:
            continue
        # Most of the time that a large table takes is spent in these lines.
        if len(cells) != width or not cells[first].strip():
            if not any(map(str.strip, cells)):
                # Spreadsheets leave such rows, often with another number of cells.
                yield number, line, []
                continue
            if len(cells) != width:
                what = f"row {number} has {len(cells)} cells, the header {width}"
                report.row(line, what)
                continue
        yield number, line, cells


def _only_asked(rows: _Numbered, first: int, are_asked: AreAsked) -> _Numbered:
    """The blank rows, and of the others those that are asked for; in order."""
    for block in batched(rows, _ROWS_AT_ONCE):
        for is_blank, together in itertools.groupby(block, lambda row: not row[2]):
            found = list(together)
            if is_blank:
                yield from found
            else:
                texts = [cells[first] for _, _, cells in found]
                numbers = [number for number, _, _ in found]
                yield from itertools.compress(found, are_asked(numbers, texts))


def _header(cells: _Cells) -> list[str]:
    _, names = next(cells, (0, []))
    if names is None:
        raise ValueError(f"has a first line that can't be read: {SAVE_AS}")
    if not any(name.strip() for name in names):
        raise ValueError("is empty: the first line must name the columns")
    return [name.strip() for name in names]


def _csv_cells(lines: "_Lines", report: Report) -> _Cells:
    delimiter, all_lines, skipped = _delimiter(lines)
    reader = csv.reader(all_lines, strict=True, delimiter=delimiter)
    while True:
        lines.is_bad = False
        line = reader.line_num + skipped + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # A quote that is never closed takes in the rows up to the next one.
            is_one_line = reader.line_num + skipped == line and "unexpected end" not in str(error)
            tell = report.row if is_one_line else report.rest
            tell(line, f"is no valid csv from here on: {error}")
            yield line, None
            continue
        if lines.is_bad:
            yield line, None
        elif cells:
            yield line, cells


def _delimiter(lines: Iterator[str]) -> tuple[str, Iterator[str], int]:
    """The separator of cells, the lines to read, and how many were taken off before them.

    Excel writes semicolons where a comma is the decimal sign, and may say so in a first line.
    """
    first = next(lines, "")
    if first.startswith("sep=") and len(first.strip()) == len("sep=,"):
        return first[4], lines, 1
    found = next((sign for sign in ",;\t" if sign in first), ",")
    return found, itertools.chain([first] if first else [], lines), 0


def _tsv_cells(lines: "_Lines", _report: Report) -> _Cells:
    # A quotation mark is a character like any other: tab-separated prompt lists are published
    # that way, and a reader that takes it for a quote swallows lines.
    for line, content in _numbered(lines):
        yield line, None if content is None else content.split("\t")


def _numbered(lines: "_Lines") -> Iterator[tuple[int, str | None]]:
    """Pairs of line and text, without empty lines; None in place of a line that was reported."""
    for line, text in enumerate(lines, start=1):
        content = text.rstrip("\r\n")
        if lines.is_bad:
            lines.is_bad = False
            yield line, None
        elif content:
            yield line, content


def _filled(lines: "_Lines") -> Iterator[tuple[int, str | None]]:
    """As ``_numbered``, without lines of white space alone."""
    return (each for each in _numbered(lines) if each[1] is None or each[1].strip())


def _txt_columns(_path: Path) -> tuple[str, ...]:
    return (TEXT_COLUMN,)


def _txt_rows(
    path: Path, columns: Sequence[str], report: Report, are_asked: AreAsked | None
) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, (line, text) in enumerate(_filled(_Lines(file, report)), start=1):
            if text is not None and (are_asked is None or all(are_asked([number], [text]))):
                yield Row(number, line, dict.fromkeys(columns, text))


def _json_reader(values_of: Callable[[BinaryIO, Report], Iterator[tuple[int, int, Any]]]) -> Reader:
    def columns(path: Path) -> tuple[str, ...]:
        with path.open("rb") as file:
            for _, _, value in values_of(file, _SILENT):
                return tuple(value)
        raise ValueError("holds no JSON object that can be read; every row must be one")

    def rows(
        path: Path, columns: Sequence[str], report: Report, are_asked: AreAsked | None
    ) -> Iterator[Row]:
        with path.open("rb") as file:
            for number, line, value in values_of(file, report):
                if all(_is_nothing(cell) for cell in value.values()):
                    yield Row(number, line, dict.fromkeys(columns, ""), is_blank=True)
                    continue
                values = {}
                for name in columns:
                    text = _cell_text(value[name]) if name in value else None
                    if text is not None:
                        values[name] = text
                    elif name in value:
                        what = f"{name} is {quoted(value[name])}, not text"
                        report.row(line, f"row {number}: {what}")
                    else:
                        report.row(line, f"row {number} has no {name}")
                if len(values) == len(columns) and _asks(are_asked, number, columns, values):
                    yield Row(number, line, values)

    return Reader(columns, rows)


def _jsonl_values(file: BinaryIO, report: Report) -> Iterator[tuple[int, int, Any]]:
    for number, (line, text) in enumerate(_filled(_Lines(file, report)), start=1):
        if text is None:
            continue
        try:
            value = parse_json(text)
        except json.JSONDecodeError as error:
            what = f"is no JSON: {error.msg} at character {error.colno}"
            report.row(line, f"row {number} {what}")
        except ValueError as error:
            report.row(line, f"row {number}: {error}")
        else:
            if isinstance(value, dict):
                yield number, line, value
            else:
                what = f"row {number} is {quoted(value)}; every line must be a JSON object"
                report.row(line, what)


def _array_values(file: BinaryIO, report: Report) -> Iterator[tuple[int, int, Any]]:
    elements = enumerate(read_json_array(file), start=1)
    while True:
        try:
            number, element = next(elements)
        except StopIteration:
            return
        except ValueError as error:
            if report is _SILENT:
                raise
            report.rest(0, str(error))
            return
        value = element.value
        if element.problem:
            tell = report.rest if element.is_last else report.row
            tell(element.line, f"row {number} {element.problem}")
        elif isinstance(value, dict):
            yield number, element.line, value
        elif isinstance(value, str):
            yield number, element.line, {TEXT_COLUMN: value}
        else:
            what = f"row {number} is {quoted(value)}; every row must be a JSON object or a text"
            report.row(element.line, what)


def _parquet_columns(path: Path) -> tuple[str, ...]:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        with pq.ParquetFile(path) as file:
            return tuple(file.schema_arrow.names)
    except pa.ArrowInvalid as error:
        raise ValueError(f"is no valid Parquet file: {error}") from error


def _parquet_rows(
    path: Path, columns: Sequence[str], report: Report, are_asked: AreAsked | None
) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    number = 0
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:
            others = [n for n in _plain_columns(file.schema_arrow) if n not in columns]
            for batch in file.iter_batches(
                _PARQUET_BATCH_ROWS, columns=[*columns, *others], use_threads=False
            ):
                lists = [batch.column(name).to_pylist() for name in columns]
                for index in range(batch.num_rows):
                    number += 1
                    cells = [cells[index] for cells in lists]
                    if all(map(_is_nothing, cells)) and all(
                        _is_nothing(batch.column(name)[index].as_py()) for name in others
                    ):
                        yield Row(number, 0, dict.fromkeys(columns, ""), is_blank=True)
                        continue
                    values = {
                        name: text
                        for name, cell in zip(columns, cells, strict=True)
                        if (text := _cell_text(cell)) is not None
                    }
                    if len(values) == len(columns):
                        if _asks(are_asked, number, columns, values):
                            yield Row(number, 0, values)
                    else:
                        for name in columns:
                            if name not in values:
                                what = f"{name} is nested or binary, not text"
                                report.row(0, f"row {number}: {what}")
    except (pa.ArrowException, OSError) as error:
        # pyarrow reports corrupt data as OSError.
        report.rest(0, f"is no valid Parquet file from row {number + 1} on: {error}")


def _plain_columns(schema: "pa.Schema") -> list[str]:
    """The columns of single values: no picture is read to see whether a row is blank."""
    import pyarrow as pa  # noqa: PLC0415

    kinds = (pa.types.is_primitive, pa.types.is_string, pa.types.is_large_string)
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]


def _asks(
    are_asked: AreAsked | None, number: int, columns: Sequence[str], values: Mapping[str, str]
) -> bool:
    """Of one row alone: in the formats that read as slowly as this, it makes no difference."""
    return are_asked is None or all(are_asked([number], [values[columns[0]] if columns else ""]))


def _is_nothing(value: Any) -> bool:
    """Whether a JSON or Parquet value is a blank cell."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell_text(value: Any) -> str | None:
    """The text of a JSON or Parquet value; None where it is no single value."""
    if isinstance(value, str):
        return with_lf(value)
    if isinstance(value, list | dict | bytes):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if _is_nothing(value) else str(value)


def with_lf(text: str) -> str:
    """The text with LF for every line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


class _Lines(Iterator[str]):
    """Every line of a UTF-8 file with its end; a byte order mark is dropped.

    A line that can't be decoded is reported, and yielded as far as it can be, so that the numbers
    of the lines after it stay right. At most ``MAX_LINE_BYTES`` and a block are held in memory.
    """

    def __init__(self, file: BinaryIO, report: Report) -> None:
        self.is_bad = False
        """Whether a line was reported since this was set to False."""
        self._report = report
        self._lines = itertools.chain.from_iterable(self._blocks(file))

    def __iter__(self) -> Iterator[str]:  # noqa: PYI034 - without this class in between, for speed
        return self._lines

    def __next__(self) -> str:
        return next(self._lines)

    def _tell(self, line: int, message: str) -> None:
        self.is_bad = True
        self._report.row(line, message)

    def _blocks(self, file: BinaryIO) -> Iterator[Iterable[str]]:
        """The lines in blocks, which are decoded at once; line by line where one is bad."""
        number = 0
        while block := file.read(_BLOCK_BYTES):
            begun = file.tell() - len(block)
            if not block.endswith(b"\n"):
                block += file.readline(MAX_LINE_BYTES)
            last = block.rfind(b"\n", 0, -1) + 1
            is_long = len(block) - last >= MAX_LINE_BYTES
            text = None if is_long else _decoded(block if begun else block.removeprefix(_BOM))
            if text is not None:
                yield io.StringIO(text)
            else:
                end = file.tell()
                file.seek(begun)
                yield self._one_by_one(file, number, end)
                number += file.tell() > end  # the end of a long line lies behind the block
            number += block.count(b"\n")

    def _one_by_one(self, file: BinaryIO, number: int, end: int) -> Iterator[str]:
        """The lines from where the file stands to ``end``; ``number`` of them came before."""
        while file.tell() < end and (data := file.readline(MAX_LINE_BYTES)):
            number += 1
            offset = file.tell() - len(data)
            size = len(data)
            if number == 1:
                data = data.removeprefix(_BOM)
            skipped = size - len(data)
            if size == MAX_LINE_BYTES and not data.endswith(b"\n"):
                self._tell(number, f"a line of more than {MAX_LINE_BYTES:,} bytes (1 MiB)")
                while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
                data = b"\n"
            try:
                yield data.decode("utf-8")
            except UnicodeDecodeError as error:
                place = offset + skipped + error.start
                self._tell(number, f"is not UTF-8 at byte {place}: {SAVE_AS}")
                yield data.decode("utf-8", "replace")


def _decoded(block: bytes) -> str | None:
    try:
        return block.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _ignore(_line: int, _message: str) -> None:
    """Drop a problem: it is found again, and reported, when the rows are read."""


_SILENT = Report(_ignore, _ignore)


def _sheet_columns(path: Path) -> tuple[str, ...]:
    return tuple(_header(enumerate(read_sheet(path), start=1)))


def _sheet_rows(
    path: Path, columns: Sequence[str], report: Report, are_asked: AreAsked | None
) -> Iterator[Row]:
    del report  # every row has a cell for each column
    rows: _Cells = enumerate(read_sheet(path), start=1)
    header = _header(rows)
    places = [(name, header.index(name)) for name in columns]
    for line, cells in rows:
        values = {name: with_lf((cells or [])[place]) for name, place in places}
        is_blank = not any(map(str.strip, cells or []))
        if is_blank or _asks(are_asked, line - 1, columns, values):
            yield Row(line - 1, line, values, is_blank)


_SPREADSHEETS = frozenset({".xls", ".xlsm", ".ods", ".numbers"})
_READERS: Mapping[str, Reader] = MappingProxyType(
    {
        ".csv": _delimited(_csv_cells),
        ".tsv": _delimited(_tsv_cells),
        ".txt": Reader(_txt_columns, _txt_rows),
        ".jsonl": _json_reader(_jsonl_values),
        ".json": _json_reader(_array_values),
        ".parquet": Reader(_parquet_columns, _parquet_rows),
        ".xlsx": Reader(_sheet_columns, _sheet_rows),
    }
)
"""By the ending of the file's name."""
