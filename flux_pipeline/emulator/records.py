"""The emulator's state in one SQLite database, in memory or in a directory, and its records.

Nothing is held in the process, so a killed emulator goes on where it was, and several processes
that open one directory are one API.
"""

import json
import os
import secrets
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from flux_pipeline.emulator.inputs import ModelInput
from flux_pipeline.emulator.jobs import Job
from flux_pipeline.emulator.lifecycle import Interruption, Life, Plan

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
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
    reads INTEGER NOT NULL DEFAULT 0,
    job TEXT,
    pictures_at REAL
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
_PICTURES_SCHEMA = """
CREATE TABLE contents (sha256 TEXT PRIMARY KEY, content BLOB NOT NULL);
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    content_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    md5 TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    deleted_at REAL
);
CREATE TABLE fetched (
    prediction_id TEXT NOT NULL, place INTEGER NOT NULL, input TEXT NOT NULL,
    position INTEGER NOT NULL, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL,
    PRIMARY KEY (prediction_id, place)
) WITHOUT ROWID;
"""
"""Uploaded files, and the pictures that predictions were made from."""


@dataclass(frozen=True)
class Record:
    """One accepted prediction: its input, its price and its plan."""

    id: str
    input_sha: str
    """Names the (version, input) pair."""
    ordinal: int
    """0-based: how many predictions of the same input were accepted before."""
    created_at: float
    """s since the epoch"""
    model: str
    version: str
    input: Mapping[str, Any] = field(hash=False)
    """As sent, without the inputs that the model doesn't know."""
    plan: Plan
    cost_usd: float
    deadline_at: float | None = None
    canceled_at: float | None = None
    expired: bool = False
    reads: int = 0
    job: Job | None = field(default=None, hash=False)
    """What to do, for a model with a contract; None for lucataco/flux-schnell-lora."""
    pictures_at: float | None = None
    """When its input pictures were fetched, or failed to be; s since the epoch."""
    seq: int = 0
    """Position in the order of acceptance; 0 before it is stored."""

    @property
    def identity(self) -> str:
        """Key of the random numbers: the same in every run, unlike the id."""
        return f"{self.input_sha}#{self.ordinal}"

    @cached_property
    def typed_input(self) -> ModelInput | Job:
        """The input with the model's defaults."""
        return ModelInput.model_validate(self.input) if self.job is None else self.job

    @property
    def life(self) -> Life:
        """The plan, with the interruptions and reads since."""
        return Life(
            plan=self.plan,
            images=self.typed_input.num_outputs,
            interruption=Interruption(self.canceled_at, self.deadline_at),
            reads=self.reads,
            expired=self.expired,
        )


class State:
    """The database; safe to share among threads, and its directory among processes."""

    def __init__(self, directory: Path | None = None) -> None:
        """Open the state kept in ``directory``, made if it is missing; None keeps it in memory."""
        self.directory = directory
        self._lock = threading.RLock()
        self._connection = _connect(":memory:" if directory is None else _database_in(directory))
        if directory is None:
            self._connection.executescript(_SCHEMA + _PICTURES_SCHEMA)
        else:
            self._complete()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; a state in a directory stays there."""
        with self._lock:
            self._connection.close()

    def _complete(self) -> None:
        """Add what a state of an earlier release lacks."""
        known = "SELECT count(*) FROM sqlite_master WHERE name = 'fetched'"
        if self._connection.execute(known).fetchone()[0]:
            return
        with self.transaction() as connection:
            if not connection.execute(known).fetchone()[0]:  # another process may have been first
                connection.execute("ALTER TABLE predictions ADD COLUMN job TEXT")
                connection.execute("ALTER TABLE predictions ADD COLUMN pictures_at REAL")
                for statement in filter(str.strip, _PICTURES_SCHEMA.split(";")):
                    connection.execute(statement)

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
    # Survives the death of the process, not of the machine: enough here, and five times as fast.
    connection.execute("PRAGMA synchronous=OFF")
    return connection


def _database_in(directory: Path) -> Path:
    """The database in a directory, made there if it is missing."""
    # Made under another name and then linked into place: several processes that open an empty
    # directory at once would otherwise meet SQLite's switch to WAL, a lock that it doesn't wait
    # for. The first link wins.
    place = directory / FILE_NAME
    if not place.exists():
        directory.mkdir(parents=True, exist_ok=True)
        draft = directory / f"{FILE_NAME}.{secrets.token_hex(8)}"
        with closing(_connect(draft)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.executescript(_SCHEMA + _PICTURES_SCHEMA)
        with suppress(FileExistsError):
            os.link(draft, place)
        draft.unlink()
    return place


def new_id() -> str:
    """26 random characters; not repeatable, so that no id of an earlier state comes back."""
    return "".join(_ALPHABET[byte % 32] for byte in secrets.token_bytes(26))


def count_same(connection: sqlite3.Connection, input_sha: str) -> int:
    """How many predictions of this (version, input) were accepted."""
    row = connection.execute(
        "SELECT count(*) AS n FROM predictions WHERE input_sha = ?", (input_sha,)
    ).fetchone()
    return int(row["n"])


def charged(connection: sqlite3.Connection) -> float:
    """What all accepted predictions cost together, USD."""
    row = connection.execute("SELECT coalesce(sum(cost_usd), 0) AS usd FROM predictions").fetchone()
    return float(row["usd"])


def insert(connection: sqlite3.Connection, record: Record) -> None:
    """Store an accepted prediction."""
    connection.execute(
        "INSERT INTO predictions (id, input_sha, ordinal, created_at, model, version, input, plan,"
        " cost_usd, deadline_at, job) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.input_sha,
            record.ordinal,
            record.created_at,
            record.model,
            record.version,
            json.dumps(record.input),
            json.dumps(vars(record.plan)),
            record.cost_usd,
            record.deadline_at,
            None if record.job is None else record.job.model_dump_json(),
        ),
    )


def find(connection: sqlite3.Connection, prediction_id: str) -> Record | None:
    """The prediction with this id, or None."""
    row = connection.execute("SELECT * FROM predictions WHERE id = ?", (prediction_id,)).fetchone()
    return None if row is None else from_row(row)


def cancel(connection: sqlite3.Connection, prediction_id: str, now: float) -> None:
    """Note that it was cancelled; the first time counts."""
    connection.execute(
        "UPDATE predictions SET canceled_at = coalesce(canceled_at, ?) WHERE id = ?",
        (now, prediction_id),
    )


def expire(connection: sqlite3.Connection, prediction_id: str) -> None:
    """Let its input, output and files vanish for good."""
    connection.execute("UPDATE predictions SET expired = 1 WHERE id = ?", (prediction_id,))


def count_read(connection: sqlite3.Connection, prediction_id: str) -> None:
    """Note one more read after the end."""
    connection.execute("UPDATE predictions SET reads = reads + 1 WHERE id = ?", (prediction_id,))


def note_pictures(
    connection: sqlite3.Connection, prediction_id: str, plan: Plan, now: float
) -> None:
    """Note that the input pictures were fetched, or failed to be, and what comes of it."""
    connection.execute(
        "UPDATE predictions SET plan = ?, pictures_at = ? WHERE id = ?",
        (json.dumps(vars(plan)), now, prediction_id),
    )


def page(
    connection: sqlite3.Connection,
    *,
    after: float,
    before: float,
    older_than: int,
    limit: int,
) -> list[Record]:
    """Predictions created in (``after``, ``before``), seq below ``older_than``, newest first."""
    rows = connection.execute(
        "SELECT * FROM predictions WHERE created_at > ? AND created_at < ? AND seq < ?"
        " ORDER BY seq DESC LIMIT ?",
        (after, before, older_than, limit),
    )
    return [from_row(row) for row in rows]


def from_row(row: sqlite3.Row) -> Record:
    """The record that a row of the table holds."""
    values = dict(row)
    plan = json.loads(values["plan"])
    plan["refused"] = tuple(plan["refused"])
    values["plan"] = Plan(**plan)
    values["input"] = json.loads(values["input"])
    values["expired"] = bool(values["expired"])
    if values["job"] is not None:
        values["job"] = Job.model_validate_json(values["job"])
    return Record(**values)


def first_create(connection: sqlite3.Connection, now: float) -> float:
    """When the first create was received, s since the epoch: ``now``, if none was before."""
    # Not in the schema, so that older states can be opened.
    connection.execute("CREATE TABLE IF NOT EXISTS moments (name TEXT PRIMARY KEY, at REAL)")
    connection.execute("INSERT OR IGNORE INTO moments VALUES ('first create', ?)", (now,))
    row = connection.execute("SELECT at FROM moments WHERE name = 'first create'").fetchone()
    return float(row["at"])


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
