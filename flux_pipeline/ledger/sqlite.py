"""SQLite as the ledger's database: one file, several processes of one host.

Commits are durable (``synchronous=FULL``, a write-ahead log). Writers take the write lock at the
start (``BEGIN IMMEDIATE``): SQLite refuses a transaction that reads first and writes later where
another one has written in between.
"""

import contextlib
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.leases import HostClock, LockFile, Moment
from flux_pipeline.ledger.transaction import Values

_OLDEST = (3, 35)  # RETURNING
_RETRY_SECONDS = 0.01


class SqliteDatabase:
    """One file and what lies beside it: the write-ahead log and the folder of lock files."""

    def __init__(self, url: URL, *, clock: HostClock, patience_seconds: float) -> None:
        if url.database in {None, "", ":memory:"} or url.query or url.host or url.username:
            raise LedgerError(
                "the ledger must be one file, such as sqlite:///data/ledger.db, with three "
                "slashes: an address (FLUX_LEDGER) without a path, or with options, is not possible"
            )
        if sqlite3.sqlite_version_info < _OLDEST:
            raise LedgerError(
                f"SQLite {sqlite3.sqlite_version} is too old: 3.35 or newer is needed"
            )
        self._path = Path(str(url.database)).absolute()
        self.name = f"ledger {self._path}"
        self._patience = patience_seconds
        self._clock = clock
        self._lock_file = LockFile(self._path.with_name(f"{self._path.name}.workers"))
        self._create_file()
        address = url.set(drivername="sqlite", database=str(self._path))
        self._plain: dict[sa.Executable, _Plain] = {}
        self.engine = _engine(address, patience_seconds, synchronous="FULL")
        self.relaxed_engine = _engine(address, patience_seconds, synchronous="NORMAL")

    def lock_writes(self, _connection: Connection) -> Moment | None:
        """Do nothing: ``BEGIN IMMEDIATE`` holds the write lock already."""

    def now(self, _connection: Connection) -> Moment:
        """Read the host's clocks."""
        return self._clock.read()

    def take_lock_file(self) -> str:
        """Hold this process's lock file."""
        return self._lock_file.take()

    def is_dead(self, lock_file: str) -> bool:
        """Return whether nobody holds that lock file any more."""
        return self._lock_file.is_dead(lock_file)

    def execute(
        self, connection: Connection, statement: sa.Executable, values: Values
    ) -> sqlite3.Cursor:
        """Execute a statement by the driver: the work of SQLAlchemy costs ten times as much.

        The transaction is SQLAlchemy's, and so are the errors.
        """
        plain = self._plain.get(statement)
        if plain is None:
            plain = self._plain[statement] = _compile(statement, connection, values)
        return _execute(connection, plain.text, plain.parameters(values))

    def explain(self, error: SQLAlchemyError) -> str:
        """Say what SQLite's error code means here."""
        cause = error.orig if isinstance(error, DBAPIError) else None
        code = str(getattr(cause, "sqlite_errorname", None) or type(cause or error).__name__)
        for prefix, text in _EXPLANATIONS.items():
            if code.startswith(prefix):
                return f"{text.format(patience=self._patience)} ({code})"
        return f"failed ({code}): run again; if it stays, this is a bug to report"

    def close(self) -> None:
        """Close every connection, and free the lock file."""
        self.engine.dispose()
        self.relaxed_engine.dispose()
        self._lock_file.release()

    def _create_file(self) -> None:
        """Create the file for this user alone: requests may hold what nobody else should read.

        It appears closed, by a link: closing a file of our own on the database would cancel the
        locks that SQLite holds on it elsewhere in this process.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if not self._path.exists():
                empty = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
                empty.touch(mode=0o600, exist_ok=False)
                try:
                    with contextlib.suppress(OSError):  # another was first, or there are no links
                        self._path.hardlink_to(empty)
                finally:
                    empty.unlink()
        except OSError as error:
            raise LedgerError(
                f"{self.name}: can't be opened ({error.strerror}): check the path and that this "
                "user may write there"
            ) from error


@dataclass(frozen=True, slots=True)
class _Plain:
    """A statement as the driver takes it."""

    text: str
    names: tuple[str, ...]
    """Of its parameters, in their order."""
    fixed: Mapping[str, Any]
    """Parameters that are part of the statement."""

    def parameters(self, values: Values) -> list[Any]:
        """The values in their order."""
        fixed = self.fixed
        return [values[name] if name in values else fixed[name] for name in self.names]


def _execute(connection: Connection, text: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    try:
        return driver.execute(text, parameters)
    except sqlite3.Error as error:
        raise DBAPIError(None, None, error) from None


def _compile(statement: Any, connection: Connection, values: Values) -> _Plain:
    compiled = statement.compile(dialect=connection.dialect, column_keys=sorted(values))
    return _Plain(str(compiled), tuple(compiled.positiontup), compiled.params)


def _engine(address: URL, patience_seconds: float, *, synchronous: str) -> Engine:
    engine = sa.create_engine(
        address, hide_parameters=True, connect_args={"timeout": patience_seconds}
    )

    def set_up(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours, see below
        _use_write_ahead_log(connection, patience_seconds)
        connection.execute(f"PRAGMA synchronous={synchronous}").close()

    def begin(connection: Connection) -> None:
        if not connection.get_execution_options().get("flux_reading"):
            _execute(connection, "BEGIN IMMEDIATE")

    sa.event.listen(engine, "connect", set_up)
    sa.event.listen(engine, "begin", begin)
    return engine


def _use_write_ahead_log(connection: sqlite3.Connection, patience_seconds: float) -> None:
    """Switch a new file to the write-ahead log.

    Tries again while another process does the same: SQLite's own timeout doesn't cover that.
    """
    last = time.monotonic() + patience_seconds
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
            if mode != "wal":
                connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > last:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


# By the beginning of the code, so that extended ones (SQLITE_BUSY_SNAPSHOT) are covered too.
_EXPLANATIONS = {
    "SQLITE_BUSY": "was locked by another process for {patience:g} s: let a stopped worker go on "
    "or end it, then run again",
    "SQLITE_LOCKED": "is locked by another process: end it, then run again",
    "SQLITE_FULL": "the disk is full, so nothing more is sent: free some space, then run again",
    "SQLITE_READONLY": "is read-only: let this user write the file and its folder",
    "SQLITE_CANTOPEN": "can't be opened: check that its folder exists and that this user may write "
    "there",
    "SQLITE_IOERR": "the disk failed or a quota is used up, so nothing more is sent: check the "
    "disk, then run again",
    "SQLITE_CORRUPT": "is damaged: restore it from a backup",
    "SQLITE_NOTADB": "is no ledger but another kind of file: check the address",
    "SQLITE_PERM": "may not be written by this user: change its permissions",
}
