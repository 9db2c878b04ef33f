"""Remembers what loading a prompt set came to: a file that has not changed is not read again.

A record is JSON in a folder, named after the path of the prompt set's file. It is believed only if
its key is the digest of everything that the result depends on (the file, the project's contracts of
models, the code and contracts of this package), and if every table has the bytes that it had.
Anything else in its place is ignored and written anew, and nothing in it can be executed. A record
appears whole, by renaming, so that writers don't disturb each other.
"""

import hashlib
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import get_ident
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from flux_pipeline.errors import Problem
from flux_pipeline.models import Catalog
from flux_pipeline.prompts.tables import Table
from flux_pipeline.redaction import looks_secret

_FORM = "1"
_MAX_BYTES = 64 * 2**20


class _TableRecord(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    path: str
    columns: list[str]
    sha256: str


class Record(BaseModel):
    """What one file came to; only of files without mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key: str
    head: dict[str, Any]
    """The file's keys but those that hold inputs of a model, in which a token may stand."""
    lines: dict[str, int]
    """The lines of all its keys."""
    model: str
    names: list[str]
    """Of the prompts, where each is a partition."""
    warnings: list[tuple[str, int, str, str]]
    """The fields of each ``Problem``."""
    is_checked: bool
    tables: list[_TableRecord]
    """Of each prompt that has one, in their order."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The warnings."""
        return tuple(Problem(*each) for each in self.warnings)


@dataclass(frozen=True, slots=True)
class LoadCache:
    """The records of a folder; without a folder there are none."""

    folder: Path | None = None
    writes: bool = False
    """Whether records are written, too."""

    def find(self, path: Path, key: str) -> tuple[Record, tuple[Table, ...]] | None:
        """The record of a prompt set's file, and its tables; None where it has to be loaded."""
        if self.folder is None:
            return None
        try:
            with _record_path(self.folder, path).open("rb") as file:
                record = Record.model_validate_json(file.read(_MAX_BYTES))
        except (OSError, ValidationError):
            return None
        if record.key != key:
            return None
        stamps = {each.path: _stamp(Path(each.path)) for each in record.tables}
        if any(stamps[each.path][0] != each.sha256 for each in record.tables):
            return None
        tables = (
            Table(Path(each.path), tuple(each.columns), *stamps[each.path])
            for each in record.tables
        )
        return record, tuple(tables)

    def save(self, path: Path, record: Record) -> None:
        """Write the record of a file; where that can't be done, the file is loaded every time.

        So it is where something in it looks like a key: that stays in the user's own file.
        """
        if self.folder is None or not self.writes:
            return
        text = record.model_dump_json()
        if looks_secret(text):
            return
        final = _record_path(self.folder, path)
        unfinished = final.with_suffix(f".{os.getpid()}-{get_ident()}")
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished.write_text(text, "utf-8")
            unfinished.replace(final)


OFF = LoadCache()
"""Every file is loaded anew."""


def record_key(path: Path, data: bytes, contracts: bytes) -> str:
    """The digest of what loading a file without its tables depends on, 64 hex digits.

    ``data`` are its bytes, ``contracts`` the ``contracts_digest`` of its models.
    """
    digest = hashlib.sha256(f"{_FORM}\n{path}\n".encode())
    for part in (_package_digest(), contracts, data):
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()


def contracts_digest(catalog: Catalog) -> bytes:
    """A digest of the project's own contracts of models."""
    return _files_digest(path for folder in catalog.folders for path in folder.glob("*/*.yaml"))


def table_record(table: Table) -> _TableRecord:
    """What a record holds of a table."""
    return _TableRecord(path=str(table.path), columns=list(table.columns), sha256=table.sha256)


@cache
def _package_digest() -> bytes:
    """A digest of the code that loads, and of the contracts that come with it."""
    package = Path(__file__).parents[1]
    patterns = ("*.py", "prompts/*.py", "models/*.py", "models/contracts/*/*.yaml")
    files = _files_digest(path for pattern in patterns for path in package.glob(pattern))
    return files + f"{sys.version}\n{version('pydantic')}".encode()


def _files_digest(paths: Iterable[Path]) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path}\n".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _stamp(path: Path) -> tuple[str, int, int]:
    """SHA-256, size and time of the last change of a table; an empty hash where it is gone."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return "", 0, 0
        now = path.stat()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), now.st_size, now.st_mtime_ns
    except OSError:
        return "", 0, 0


def _record_path(folder: Path, path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]
    return folder / f"{name}.json"
