"""One row of a table, in whichever format it came, and what a reader of a format is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias


class Row(NamedTuple):
    """One row of a table."""

    number: int
    """1-based, without the header and blank lines."""
    line: int
    """1-based line of the file where the row starts; 0 in a format without lines."""
    values: Mapping[str, str]
    """The text of the columns asked for."""


Report: TypeAlias = Callable[[int, str], None]
"""Takes the line (or 0) and the message for a row that can't be used."""


class Reader(NamedTuple):
    """How one format is read; both raise ValueError for a file that isn't one, and OSError."""

    columns: Callable[[Path], tuple[str, ...]]
    """The names of the columns, in order."""
    rows: Callable[[Path, Sequence[str], Report], Iterator[Row]]
    """The usable rows with the columns asked for, streamed; the others are reported."""
