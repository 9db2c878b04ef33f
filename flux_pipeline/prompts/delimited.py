"""Reads csv (RFC 4180, quotes strict) and tsv (no quotes at all) as rows of text.

In tsv a quotation mark is a character like any other: that is how tab-separated prompt lists are
published, and a reader that takes it for a quote swallows lines. Row and line numbers come from
here, every short and every long row is reported.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from flux_pipeline.prompts.row import Reader, Report, Row
from flux_pipeline.prompts.text_lines import text_lines

_Cells: TypeAlias = Iterator[tuple[int, list[str]]]
"""Pairs of line and cells; rows that no cells can be had from are reported, with no cells."""


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


CSV = _reader(_csv_cells)
TSV = _reader(_tsv_cells)
