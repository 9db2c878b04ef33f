"""Everything the emulator remembers, in one SQLite database: in memory, or kept in a directory.

Nothing is held in the process, so that a killed emulator goes on where it was, and several
processes that open one directory are one API. ``synchronous=OFF`` survives the death of the
process, not that of the machine: enough for an emulator, and five times as fast.
"""

import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

FILE_NAME = "emulator.sqlite3"

_SCHEMA = """
CREATE TABLE predictions (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    input_sha TEXT NOT NULL,
    ordinal INTEGER NOT NULL,
    created_at REAL NOT NULL,
    model TEXT NOT NULL,
    version TEXT NOT NULL,
    input TEXT NOT NULL,
    plan TEXT NOT NULL,
    cost_usd REAL NOT NULL,
    deadline_at REAL,
    canceled_at REAL,
    expired INTEGER NOT NULL DEFAULT 0,
    reads INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX predictions_by_input ON predictions (input_sha);
CREATE INDEX predictions_by_time ON predictions (created_at);
CREATE TABLE tallies (
    kind TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE keys_seen (
    host TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (host, route, key)
) WITHOUT ROWID;
CREATE TABLE buckets (
    name TEXT PRIMARY KEY, tokens REAL NOT NULL, filled_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE asked (
    phase TEXT NOT NULL, identity TEXT NOT NULL, times INTEGER NOT NULL, hits INTEGER NOT NULL,
    PRIMARY KEY (phase, identity)
) WITHOUT ROWID;
"""


class State:
    """The emulator's memory; safe to share among threads, and its directory among processes."""

    def __init__(self, directory: Path | None = None) -> None:
        """Open the state kept in ``directory``, made if it is missing; None keeps it in memory."""
        self.directory = directory
        self._lock = threading.RLock()
        self._connection = _connect(":memory:" if directory is None else _prepared(directory))
        if directory is None:
            self._connection.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database; what it holds stays in the directory."""
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write under the database's one write lock: all of it counts, or nothing."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Read without the write lock; each statement sees what was committed before it."""
        with self._lock:
            yield self._connection


def _connect(place: str | Path) -> sqlite3.Connection:
    connection = sqlite3.connect(place, timeout=30, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def _prepared(directory: Path) -> Path:
    """The database in a directory, made whole and then put in place by whoever is first.

    Several processes that open an empty directory at once would otherwise meet SQLite's switch to
    WAL, the one lock that it does not wait for.
    """
    place = directory / FILE_NAME
    if not place.exists():
        directory.mkdir(parents=True, exist_ok=True)
        draft = directory / f"{FILE_NAME}.{secrets.token_hex(8)}"
        with closing(_connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA)
        with suppress(FileExistsError):
            os.link(draft, place)
        draft.unlink()
    return place


def tally(connection: sqlite3.Connection, kind: str, name: str) -> int:
    """Count one more ``name`` of a ``kind``, and return how many there are now."""
    row = connection.execute(
        "INSERT INTO tallies VALUES (?, ?, 1)"
        " ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
        (kind, name),
    ).fetchone()
    return int(row["count"])


def count(connection: sqlite3.Connection, kind: str, name: str) -> int:
    """How many ``name`` of a ``kind`` were counted."""
    row = connection.execute(
        "SELECT count FROM tallies WHERE kind = ? AND name = ?", (kind, name)
    ).fetchone()
    return 0 if row is None else int(row["count"])
