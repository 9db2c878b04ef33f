"""Everything the emulator remembers, in one SQLite database: in memory, or kept in a directory.

Nothing is held in the process, so that a killed emulator goes on where it was, and several
processes that open one directory are one API. ``synchronous=OFF`` survives the death of the
process, not that of the machine: enough for an emulator, and five times as fast.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

FILE_NAME = "emulator.sqlite3"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS predictions (
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
CREATE INDEX IF NOT EXISTS predictions_by_input ON predictions (input_sha);
CREATE INDEX IF NOT EXISTS predictions_by_time ON predictions (created_at);
CREATE TABLE IF NOT EXISTS tallies (
    kind TEXT NOT NULL, name TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys_seen (
    host TEXT NOT NULL, route TEXT NOT NULL, key TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (host, route, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS buckets (
    name TEXT PRIMARY KEY, tokens REAL NOT NULL, filled_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS asked (
    phase TEXT NOT NULL, identity TEXT NOT NULL, times INTEGER NOT NULL, hits INTEGER NOT NULL,
    PRIMARY KEY (phase, identity)
) WITHOUT ROWID;
"""


class State:
    """The emulator's memory; safe to share among threads, and its directory among processes."""

    def __init__(self, directory: Path | None = None) -> None:
        """Open the state kept in ``directory``, made if it is missing; None keeps it in memory."""
        if directory is None:
            place = ":memory:"
        else:
            directory.mkdir(parents=True, exist_ok=True)
            place = str(directory / FILE_NAME)
        self.directory = directory
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(
            place, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=OFF")
        with self.transaction() as connection:
            for statement in _SCHEMA.split(";"):
                connection.execute(statement)

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
