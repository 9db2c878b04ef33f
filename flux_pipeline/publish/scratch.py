"""Mappings and lists in a temporary database on disk, for what is too much to hold in memory.

A set may publish any number of pictures, and what is known of them all is some kilobytes each. The
database has no name: the system removes it with the process, however that ends. The trap: it takes
room where SQLite puts temporary files, which is TMPDIR, else ``/var/tmp`` or ``/tmp``.
"""

import sqlite3
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, BinaryIO, Generic, TypeVar

from flux_pipeline.errors import StoreError

Value = TypeVar("Value")
_SETTINGS = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1000; BEGIN"
_CREATE_DICT = (
    "CREATE TABLE {0} (place INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, value NOT NULL)"
)
_GET = "SELECT value FROM {0} WHERE name = ?"
_SET = (
    "INSERT INTO {0} (name, value) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_ADD = "INSERT INTO {0} (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1"
_DELETE = "DELETE FROM {0} WHERE name = ?"
_COUNT = "SELECT count(*) FROM {0}"
_PAIRS = "SELECT name, value FROM {0} ORDER BY place"
_SORTED_PAIRS = "SELECT name, value FROM {0} ORDER BY name"
_CREATE_LIST = "CREATE TABLE {0} (place INTEGER PRIMARY KEY, value NOT NULL)"
_APPEND = "INSERT INTO {0} (value) VALUES (?)"
_VALUES = "SELECT value FROM {0} ORDER BY place"


class Scratch:
    """One temporary database, which is closed when nothing uses it any more.

    Every method, and every one of its mappings and lists, raises StoreError where the disk for
    temporary files is full or can't be written.
    """

    def __init__(self) -> None:
        try:
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._database.executescript(_SETTINGS)
        except sqlite3.OperationalError as error:
            raise _no_room(error) from error
        weakref.finalize(self, self._database.close)
        self._tables = count()

    def texts(self) -> "DiskDict[str]":
        """A new mapping from texts to texts."""
        return DiskDict(self, str, str)

    def lines(self) -> "DiskDict[bytes]":
        """A new mapping from texts to bytes."""
        return DiskDict(self, bytes, bytes)

    def new_table(self, statement: str) -> str:
        """Create a table, and return its name."""
        name = f"t{next(self._tables)}"
        self.execute(statement.format(name))
        return name

    def execute(self, statement: str, *values: object) -> Any:
        """The first row of what a statement gives; None where it gives none."""
        try:
            return self._database.execute(statement, values).fetchone()
        except sqlite3.OperationalError as error:
            raise _no_room(error) from error

    def execute_many(self, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
        """Run a statement for each row."""
        try:
            self._database.executemany(statement, rows)
        except sqlite3.OperationalError as error:
            raise _no_room(error) from error

    def rows(self, statement: str) -> Iterator[Any]:
        """What a statement gives, row by row."""
        try:
            yield from self._database.execute(statement)
        except sqlite3.OperationalError as error:
            raise _no_room(error) from error


class DiskDict(MutableMapping[str, Value], Generic[Value]):
    """A mapping in a scratch database, in the order in which its keys came, as a dict's.

    ``encode`` makes text or bytes of a value, and ``decode`` the value of those. The trap: it must
    not be changed while it is iterated.
    """

    def __init__(
        self,
        scratch: Scratch,
        encode: Callable[[Value], str | bytes],
        decode: Callable[[Any], Value],
    ) -> None:
        self._scratch = scratch
        self._encode = encode
        self._decode = decode
        self._table = scratch.new_table(_CREATE_DICT)
        self._get = _GET.format(self._table)
        self._set = _SET.format(self._table)
        self._add = _ADD.format(self._table)

    def __getitem__(self, name: str) -> Value:
        row = self._scratch.execute(self._get, name)
        if row is None:
            raise KeyError(name)
        return self._decode(row[0])

    def __setitem__(self, name: str, value: Value) -> None:
        self._scratch.execute(self._set, name, self._encode(value))

    def add(self, name: str, value: Value) -> bool:
        """Set a value where there is none; whether there was none."""
        row = self._scratch.execute(self._add, name, self._encode(value))
        return row is not None

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._scratch.execute(_DELETE.format(self._table), name)

    def __contains__(self, name: object) -> bool:
        return self._scratch.execute(self._get, name) is not None

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self._scratch.rows(_PAIRS.format(self._table)))

    def __len__(self) -> int:
        return int(self._scratch.execute(_COUNT.format(self._table))[0])

    def add_all(self, pairs: Iterable[tuple[str, Value]]) -> None:
        """Set every pair, which is quicker than one by one."""
        self._scratch.execute_many(
            self._set, ((name, self._encode(value)) for name, value in pairs)
        )

    def remove_all(self, names: Iterable[str]) -> None:
        """Delete every name that is there."""
        self._scratch.execute_many(_DELETE.format(self._table), ((name,) for name in names))

    def pairs(self) -> Iterator[tuple[str, Value]]:
        """Names and values, in the order in which the names came."""
        return ((name, self._decode(value)) for name, value in self.encoded_pairs())

    def encoded_pairs(self) -> Iterator[tuple[str, Any]]:
        """As ``pairs``, with the values as they are kept."""
        return self._scratch.rows(_PAIRS.format(self._table))

    def sorted_pairs(self) -> Iterator[tuple[str, Value]]:
        """Names and values, in the order of the names' characters."""
        rows = self._scratch.rows(_SORTED_PAIRS.format(self._table))
        return ((name, self._decode(value)) for name, value in rows)


class DiskList(Generic[Value]):
    """A list in a scratch database, which only grows; ``encode`` and ``decode`` as DiskDict's."""

    def __init__(
        self,
        scratch: Scratch,
        encode: Callable[[Value], str | bytes],
        decode: Callable[[Any], Value],
    ) -> None:
        self._scratch = scratch
        self._encode = encode
        self._decode = decode
        self._table = scratch.new_table(_CREATE_LIST)
        self._append = _APPEND.format(self._table)

    def append(self, value: Value) -> None:
        """Add a value at the end."""
        self._scratch.execute(self._append, self._encode(value))

    def __iter__(self) -> Iterator[Value]:
        return (self._decode(value) for (value,) in self._scratch.rows(_VALUES.format(self._table)))

    def __len__(self) -> int:
        return int(self._scratch.execute(_COUNT.format(self._table))[0])


@contextmanager
def spooled(pieces: Iterable[bytes] = ()) -> Iterator[BinaryIO]:
    """An open temporary file without a name that holds these bytes, or none.

    Raises StoreError where the disk for temporary files is full or can't be written.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(tempfile.TemporaryFile())
            file.writelines(pieces)
            file.flush()
        except OSError as error:
            raise _no_room(error) from error
        yield file


def _no_room(error: Exception) -> StoreError:
    return StoreError(
        f"temporary files can't be written ({error}): free some space in the folder for them, or"
        " name another one in TMPDIR"
    )
