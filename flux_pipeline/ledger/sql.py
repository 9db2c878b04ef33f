"""The ledger on a SQL database: each call in a transaction of its own, or several calls in one."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial, wraps
from typing import Concatenate, ParamSpec, Protocol, Self, TypeVar
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger import schema
from flux_pipeline.ledger.base import Attempt
from flux_pipeline.ledger.leases import HostClock, Moment
from flux_pipeline.ledger.schema import RATES
from flux_pipeline.ledger.transaction import Claimer, Executed, Transaction, Values, in_pages
from flux_pipeline.rate_limit import Grant, Kind, RateState, reserve, slow_down

P = ParamSpec("P")
Result = TypeVar("Result")


class Database(Protocol):
    """What differs between SQLite and Postgres: engines, the write lock, the clock, error texts."""

    name: str
    """Where it is, without credentials."""
    engine: Engine
    """Commits are durable when they return."""
    relaxed_engine: Engine
    """Commits may be lost with the machine: for rate limits, which are worthless by then."""

    def lock_writes(self, connection: Connection, /) -> Moment | None:
        """Wait until no other process writes attempts; return the time where it came along."""
        ...

    def now(self, connection: Connection, /) -> Moment:
        """Read the ledger's clock."""
        ...

    def take_lock_file(self) -> str:
        """Show that this process lives; return the name of its lock file, "" where none is used."""
        ...

    def is_dead(self, lock_file: str, /) -> bool:
        """Return whether the process behind another lock file is proven to be gone."""
        ...

    def execute(
        self, connection: Connection, statement: sa.Executable, values: Values, /
    ) -> Executed:
        """Execute a statement of ``transaction.Run``. Raises SQLAlchemyError."""
        ...

    def explain(self, error: SQLAlchemyError) -> str:
        """Say what is wrong and what to do, without a statement's values."""
        ...

    def close(self) -> None:
        """Close every connection and free this process's lock file."""
        ...


def _one_read(
    method: Callable[Concatenate[Transaction, P], Result],
) -> Callable[Concatenate["SqlLedger", P], Result]:
    """A method of ``Transaction`` as one of ``SqlLedger``, which waits for no writer."""

    @wraps(method)
    def call(self: "SqlLedger", /, *args: P.args, **kwargs: P.kwargs) -> Result:
        with self.read_transaction() as tx:
            return method(tx, *args, **kwargs)

    return call


def _one_write(
    method: Callable[Concatenate[Transaction, P], Result],
) -> Callable[Concatenate["SqlLedger", P], Result]:
    """A method of ``Transaction`` as one of ``SqlLedger``, durable when it returns."""

    @wraps(method)
    def call(self: "SqlLedger", /, *args: P.args, **kwargs: P.kwargs) -> Result:
        with self.transaction() as tx:
            return method(tx, *args, **kwargs)

    return call


class SqlLedger:
    """``Ledger`` on one database; made by ``open_ledger``.

    Every method is one transaction, durable when it returns. The trap: ``dispose`` gives up what is
    claimed through this ledger, so call it only after the last request was sent.
    """

    def __init__(self, database: Database, *, lease_seconds: float, host: HostClock) -> None:
        self._database = database
        self._claimer = Claimer(
            lease_seconds, database.take_lock_file, database.is_dead, host.read_elapsed
        )
        self._reader = database.engine.execution_options(flux_reading=True)
        self._writing = threading.Lock()  # threads queue here, and don't poll SQLite's lock
        self.execute = database.execute
        self.name = database.name
        self.lease_seconds = lease_seconds

    claim = _one_write(Transaction.claim)
    renew = _one_write(Transaction.renew)
    accept = _one_write(Transaction.accept)
    adopt = _one_write(Transaction.adopt)
    succeed = _one_write(Transaction.succeed)
    close = _one_write(Transaction.close)
    allow_retry = _one_write(Transaction.allow_retry)
    reopen = _one_write(Transaction.reopen)
    begin_pruning = _one_write(Transaction.begin_pruning)
    mark_recorded = _one_write(Transaction.mark_recorded)
    find = _one_read(Transaction.find)
    history = _one_read(Transaction.history)
    unfinished = _one_read(Transaction.unfinished)
    in_state = _one_read(Transaction.in_state)
    spent_micros = _one_read(Transaction.spent_micros)
    known_ids = _one_read(Transaction.known_ids)
    ids_of_input = _one_read(Transaction.ids_of_input)
    is_empty = _one_read(Transaction.is_empty)
    _page = _one_read(Transaction.page)

    def attempts(self) -> Iterator[Attempt]:
        """See ``Ledger.attempts``. A transaction a page, so that a slow reader blocks nobody."""
        return in_pages(self._page)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a transaction that has all the methods of ``Ledger``; commit it at the end.

        An exception rolls it back whole. The trap: inside, call what is yielded and not the ledger
        itself, whose writes wait for this very transaction.

        Raises:
            LedgerError: Also where the commit failed; whether it took place is unknown then.
        """
        with self._writing, self._begun(self._database.engine) as connection:
            moment = self._database.lock_writes(connection)
            yield self._transaction_on(connection, moment)

    @contextmanager
    def read_transaction(self) -> Iterator[Transaction]:
        """Open a transaction for reading, which waits for no writer. Raises LedgerError."""
        with self._begun(self._reader) as connection:
            yield self._transaction_on(connection, None)

    @contextmanager
    def relaxed_transaction(self) -> Iterator[tuple[Connection, Moment]]:
        """Open a transaction that may be lost with the machine: for rate limits alone."""
        with self._writing, self._begun(self._database.relaxed_engine) as connection:
            yield (
                connection,
                self._database.lock_writes(connection) or self._database.now(connection),
            )

    def prepare(self) -> None:
        """Create the tables where there are none, and check that they are of this version.

        Raises:
            LedgerError: Says what to do about a version that can't be used.
        """
        with self._begun(self._reader) as connection:
            if schema.stored_version(connection) == schema.SCHEMA_VERSION:
                return  # without a write: a read-only ledger can still be read
        with self._writing, self._begun(self._database.engine) as connection:
            self._database.lock_writes(connection)
            schema.prepare(connection)

    def note(self, key: str) -> str | None:
        """Return what was noted about the ledger itself under ``key``. Raises LedgerError."""
        with self._begun(self._reader) as connection:
            return schema.read_meta(connection, key)

    def set_notes(self, notes: Mapping[str, str], *, if_empty: bool = False) -> bool:
        """Note something about the ledger itself, in place of what stood there.

        With ``if_empty``, only where no attempt was written meanwhile; return whether it was noted.

        Raises LedgerError.
        """
        with self.transaction() as tx:
            if if_empty and not tx.is_empty():
                return False
            for key, value in notes.items():
                schema.write_meta(tx.connection, key, value)
        return True

    def identify(self) -> str:
        """Return the id of this ledger, 32 hex digits, which it gets at the first call.

        A copy of the database has the same. Raises LedgerError.
        """
        if known := self.note(schema.LEDGER_ID):
            return known
        with self.transaction() as tx:
            if known := schema.read_meta(tx.connection, schema.LEDGER_ID):
                return known  # another worker was first
            new = uuid4().hex
            schema.write_meta(tx.connection, schema.LEDGER_ID, new)
        return new

    def claim_only_for(self, store_id: str) -> None:
        """From now on refuse to claim unless the ledger is noted as this store's."""
        self._claimer = replace(self._claimer, store_id=store_id)

    def dispose(self) -> None:
        """Close every connection, and give up what is still claimed."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()

    @contextmanager
    def _begun(self, engine: Engine) -> Iterator[Connection]:
        """Open a transaction; every error of the database names it and says what to do."""
        try:
            with engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            # From None: a driver's text may quote a row, and exceptions end in event logs.
            raise LedgerError(f"{self.name}: {self._database.explain(error)}") from None
        except LedgerError as error:
            raise LedgerError(f"{self.name}: {error}") from error

    def _transaction_on(self, connection: Connection, moment: Moment | None) -> Transaction:
        def read_clock() -> Moment:
            return self._database.now(connection) if moment is None else moment

        return Transaction(connection, read_clock, self._claimer, self._database.execute)


class SqlRates:
    """``RateStore`` in the database of an open ledger: one limit for all workers that share it.

    ``per_minute`` holds the configured rate of each kind; ``account`` keeps the limits of several
    providers or keys apart. On SQLite the times are the host's steady clock's, so that a jump of
    the wall clock neither stops nor frees anything; a limit starts anew with the next boot.

    A commit here doesn't wait for the disk, because a limit that is lost with the machine does no
    harm. A crash of the process loses nothing.
    """

    def __init__(
        self, ledger: SqlLedger, per_minute: Mapping[Kind, float], *, account: str = ""
    ) -> None:
        self._ledger = ledger
        self._per_minute = dict(per_minute)
        self._account = account

    def reserve(self, kind: Kind, count: int) -> Grant:
        """See ``RateStore.reserve``. Raises LedgerError."""
        with self._state(kind) as row:
            row.state, grant = reserve(
                row.state, per_minute=self._per_minute[kind], count=count, now=row.now
            )
        return grant

    def slow_down(self, kind: Kind, seconds: float) -> None:
        """See ``RateStore.slow_down``. Raises LedgerError."""
        with self._state(kind) as row:
            row.state = slow_down(row.state, seconds=seconds, now=row.now)

    @contextmanager
    def _state(self, kind: Kind) -> Iterator["_Row"]:
        """Load a kind's state, let the caller change it, and write it back."""
        name = f"{self._account}/{kind}"
        with self._ledger.relaxed_transaction() as (connection, moment):
            run = partial(self._ledger.execute, connection)
            found = run(_LOAD, {"at": name}).fetchone()
            same_clock = found is not None and found[0] == moment.boot
            row = _Row(
                RateState(*found[1:]) if found is not None and same_clock else RateState(),
                moment.wall if moment.steady is None else moment.steady,
            )
            yield row
            values = {**asdict(row.state), "boot": moment.boot}
            if found is None:
                run(_FIRST, {"kind": name, **values})
            else:
                run(_SAVE, {"at": name, **values})


@dataclass(slots=True)
class _Row:
    state: RateState
    now: float


_NUMBERS = tuple(field.name for field in fields(RateState))
_AT = RATES.c.kind == sa.bindparam("at")
_LOAD = sa.select(*(RATES.c[name] for name in ("boot", *_NUMBERS))).where(_AT)
_FIRST = RATES.insert()
_SAVE = RATES.update().where(_AT)
