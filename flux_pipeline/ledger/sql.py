"""The ledger in a database: one transaction a call, or several calls in one."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import Protocol, Self

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger import schema
from flux_pipeline.ledger.base import Attempt, Budget, Claim, Intent, State
from flux_pipeline.ledger.leases import Moment
from flux_pipeline.ledger.schema import RATES
from flux_pipeline.ledger.transaction import Claimer, Transaction
from flux_pipeline.rate_limit import Grant, Kind, RateState, reserve, slow_down

_PAGE = 1000
_START = ("", 0)
_NUMBERS = tuple(field.name for field in fields(RateState))
_AT = RATES.c.kind == sa.bindparam("at")
_LOAD = sa.select(*(RATES.c[name] for name in ("boot", *_NUMBERS))).where(_AT)
_FIRST = RATES.insert()
_SAVE = RATES.update().where(_AT)


class Database(Protocol):
    """One database: its engines, its write lock, its clock and its errors in plain words."""

    name: str
    """Where it is, without credentials."""
    engine: Engine
    """Commits are durable when they return."""
    hasty_engine: Engine
    """Commits may be lost with the machine: for rates, which are worthless by then."""

    def lock(self, connection: Connection, /) -> Moment | None:
        """Wait until no other process writes attempts; return the time where it came along."""
        ...

    def now(self, connection: Connection, /) -> Moment:
        """Read the ledger's clock."""
        ...

    def enter(self) -> str:
        """Show that this process lives; return the name of its lock, or "" where none is used."""
        ...

    def is_dead(self, presence: str, /) -> bool:
        """Return whether the process behind another lock is proven to be gone."""
        ...

    def explain(self, error: SQLAlchemyError) -> str:
        """Say what is wrong and what to do, without a statement's values."""
        ...

    def close(self) -> None:
        """Close every connection, and show no longer that this process lives."""
        ...


class SqlLedger:
    """``Ledger`` on one database; made by ``open_ledger``.

    Every method is one transaction, durable when it returns. The trap: disposing of it gives
    up what is claimed through it, so only after the last request was sent.
    """

    def __init__(self, database: Database, *, lease_seconds: float) -> None:
        self._database = database
        self._claimer = Claimer(lease_seconds, database.enter, database.is_dead)
        self._reader = database.engine.execution_options(flux_reading=True)
        self._writing = threading.Lock()  # threads queue here, and don't poll SQLite's lock
        self.name = database.name
        self.lease_seconds = lease_seconds

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open a transaction that has all the methods of ``Ledger``; commit it at the end.

        An exception rolls it back whole. The trap: inside, call what is yielded and not the ledger
        itself, whose writes wait for this very transaction.

        Raises:
            LedgerError: Also where the commit failed; whether it took place is unknown then.
        """
        with self._writing, self._begun(self._database.engine) as connection:
            moment = self._database.lock(connection)
            yield self._calls(connection, moment)

    @contextmanager
    def hasty_transaction(self) -> Iterator[tuple[Connection, Moment]]:
        """Open a transaction that may be lost with the machine: for rates alone."""
        with self._writing, self._begun(self._database.hasty_engine) as connection:
            yield connection, self._database.lock(connection) or self._database.now(connection)

    def prepare(self) -> None:
        """Create the tables where there are none, and check that they are of this version.

        Raises:
            LedgerError: Says what to do about a version that can't be used.
        """
        with self._begun(self._reader) as connection:
            if schema.stored_version(connection) == schema.SCHEMA_VERSION:
                return  # without a write: a read-only ledger can still be read
        with self._writing, self._begun(self._database.engine) as connection:
            self._database.lock(connection)
            schema.prepare(connection)

    def note(self, key: str) -> str | None:
        """What was noted about the ledger itself under ``key``. Raises LedgerError."""
        with self._begun(self._reader) as connection:
            return schema.read_meta(connection, key)

    def set_notes(self, notes: Mapping[str, str], *, if_empty: bool = False) -> bool:
        """Note something about the ledger itself, in place of what stood there.

        With ``if_empty``, only where no attempt was written meanwhile; return whether it was noted.

        Raises LedgerError.
        """
        with self.transaction() as tx:
            if if_empty and tx.page(_START, limit=1):
                return False
            for key, value in notes.items():
                schema.write_meta(tx.connection, key, value)
        return True

    def serve(self, store_id: str) -> None:
        """From now on begin nothing unless the ledger is noted as this store's."""
        self._claimer = replace(self._claimer, store_id=store_id)

    def is_empty(self) -> bool:
        """Whether it holds no attempt at all. Raises LedgerError."""
        with self._reading() as tx:
            return not tx.page(_START, limit=1)

    def dispose(self) -> None:
        """Close every connection, and give up what is still claimed."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.dispose()

    def find(self, request_sha256s: Sequence[str]) -> dict[str, Attempt]:
        """See ``Ledger.find``."""
        with self._reading() as tx:
            return tx.find(request_sha256s)

    def history(self, request_sha256: str) -> list[Attempt]:
        """See ``Ledger.history``."""
        with self._reading() as tx:
            return tx.history(request_sha256)

    def claim(
        self, intent: Intent, *, holder: str, after: int = 0, budgets: Sequence[Budget] = ()
    ) -> Claim:
        """See ``Ledger.claim``."""
        with self.transaction() as tx:
            return tx.claim(intent, holder=holder, after=after, budgets=budgets)

    def renew(self, attempt: Attempt, *, holder: str) -> bool:
        """See ``Ledger.renew``."""
        with self.transaction() as tx:
            return tx.renew(attempt, holder=holder)

    def accept(self, attempt: Attempt, *, prediction_id: str | None, reply: str) -> State:
        """See ``Ledger.accept``."""
        with self.transaction() as tx:
            return tx.accept(attempt, prediction_id=prediction_id, reply=reply)

    def succeed(self, attempt: Attempt, *, reply: str) -> bool:
        """See ``Ledger.succeed``."""
        with self.transaction() as tx:
            return tx.succeed(attempt, reply=reply)

    def close(
        self,
        attempt: Attempt,
        state: State,
        *,
        holder: str,
        error: str | None = None,
        retryable: bool = False,
        images: str = "[]",
        reply: str | None = None,
        resolution: str | None = None,
    ) -> bool:
        """See ``Ledger.close``."""
        with self.transaction() as tx:
            return tx.close(
                attempt,
                state,
                holder=holder,
                error=error,
                retryable=retryable,
                images=images,
                reply=reply,
                resolution=resolution,
            )

    def mark_recorded(self, request_sha256s: Sequence[str]) -> None:
        """See ``Ledger.mark_recorded``."""
        with self.transaction() as tx:
            tx.mark_recorded(request_sha256s)

    def unfinished(self, *, older_than: float = 0.0, limit: int = 1000) -> list[Attempt]:
        """See ``Ledger.unfinished``."""
        with self._reading() as tx:
            return tx.unfinished(older_than=older_than, limit=limit)

    def in_state(self, state: State, *, limit: int = 1000) -> list[Attempt]:
        """See ``Ledger.in_state``."""
        with self._reading() as tx:
            return tx.in_state(state, limit=limit)

    def spent_micros(self, scope: str) -> int:
        """See ``Ledger.spent_micros``."""
        with self._reading() as tx:
            return tx.spent_micros(scope)

    def known_ids(self, prediction_ids: Sequence[str]) -> set[str]:
        """See ``Ledger.known_ids``."""
        with self._reading() as tx:
            return tx.known_ids(prediction_ids)

    def attempts(self) -> Iterator[Attempt]:
        """See ``Ledger.attempts``. Read in pages, so that a slow reader keeps nobody waiting."""
        after = _START
        while True:
            with self._reading() as tx:
                page = tx.page(after, limit=_PAGE)
            if not page:
                return
            yield from page
            after = (page[-1].request_sha256, page[-1].number)

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        with self._begun(self._reader) as connection:
            yield self._calls(connection, None)

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

    def _calls(self, connection: Connection, moment: Moment | None) -> Transaction:
        def read_clock() -> Moment:
            return self._database.now(connection) if moment is None else moment

        return Transaction(connection, read_clock, self._claimer)


class SqlRates:
    """``RateStore`` in the database of an open ledger: one limit for all workers that share it.

    ``per_minute`` holds the configured rate of each kind; ``account`` keeps the limits of several
    providers or keys apart. On SQLite the times are the host's steady clock's, so that a jump of
    the wall clock neither stops nor frees anything; a limit starts anew with the next boot.
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
        with self._ledger.hasty_transaction() as (connection, moment):
            found = connection.execute(_LOAD, {"at": name}).first()
            same_clock = found is not None and found[0] == moment.boot
            row = _Row(
                RateState(*found[1:]) if found is not None and same_clock else RateState(),
                moment.wall if moment.steady is None else moment.steady,
            )
            yield row
            values = {**asdict(row.state), "boot": moment.boot}
            if found is None:
                connection.execute(_FIRST, {"kind": name, **values})
            else:
                connection.execute(_SAVE, {"at": name, **values})


@dataclass(slots=True)
class _Row:
    state: RateState
    now: float
