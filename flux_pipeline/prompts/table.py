"""A table of prompts: rows of text from a csv, tsv, jsonl or parquet file, streamed.

Every value is the text that stands in the file: ``NA``, ``null``, ``010`` and the empty text mean
nothing special. pandas is left out on purpose: it fills up short rows without a word and stops at
the first long one, and all of both must be named.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from flux_pipeline.prompts.delimited import CSV, TSV
from flux_pipeline.prompts.json_lines import JSON_LINES
from flux_pipeline.prompts.parquet import PARQUET
from flux_pipeline.prompts.row import Reader, Report, Row

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
