"""Opens the ledger that a URL names: a SQLite file or a Postgres database."""

from urllib.parse import parse_qsl

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from flux_pipeline.endpoint import find_database_mistake
from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.leases import Clock, HostClock, current_boot
from flux_pipeline.ledger.postgres import PostgresDatabase
from flux_pipeline.ledger.sql import Database, SqlLedger
from flux_pipeline.ledger.sqlite import SqliteDatabase

LEASE_SECONDS = 120.0


def open_ledger(
    url: str,
    *,
    lease_seconds: float = LEASE_SECONDS,
    clock: Clock | None = None,
    steady: Clock | None = None,
    patience_seconds: float = 30.0,
) -> SqlLedger:
    """Open the ledger at ``sqlite:///path`` or ``postgresql://…``; create it where there is none.

    ``lease_seconds``: how long a claim of this process stands without ``renew``.
    ``patience_seconds``: how long a call waits for another writer. ``clock`` replaces the wall
    clock (on Postgres the server's), ``steady`` the host's steady clocks, which age claims on
    SQLite and attempts everywhere; ``clock`` alone stands for all.

    Raises:
        LedgerError: Names the database without credentials, what is wrong, and what to do.
    """
    host = _host_clock(clock, steady)
    ledger = SqlLedger(
        _database(_parse(url), clock, host, patience_seconds),
        lease_seconds=lease_seconds,
        host=host,
    )
    try:
        ledger.prepare()
    except LedgerError:
        ledger.dispose()
        raise
    return ledger


def _parse(url: str) -> URL:
    """Parse an address, without dropping what SQLAlchemy drops: options that have no value."""
    if mistake := find_database_mistake(url):
        raise LedgerError(f"the ledger's address (FLUX_LEDGER) can't be read: it {mistake}")
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # From None: the text of the error quotes the URL with its password.
        raise LedgerError(
            "the ledger's address (FLUX_LEDGER) can't be read: give sqlite:///path or "
            "postgresql://user@host/database"
        ) from None
    options = parse_qsl(url.partition("?")[2], keep_blank_values=True)
    empty = [(name, value) for name, value in options if not value]
    return parsed.update_query_pairs(empty, append=True) if empty else parsed


def _host_clock(clock: Clock | None, steady: Clock | None) -> HostClock:
    boot = current_boot()
    if clock is None:
        return HostClock(boot=boot)
    steady = steady or clock
    return HostClock(clock, steady, boot, steady)


def _database(url: URL, clock: Clock | None, host: HostClock, patience_seconds: float) -> Database:
    kind = url.drivername.partition("+")[0]
    if kind == "sqlite":
        return SqliteDatabase(url, clock=host, patience_seconds=patience_seconds)
    if kind in {"postgresql", "postgres"}:
        return PostgresDatabase(url, clock=clock, patience_seconds=patience_seconds)
    raise LedgerError(
        f"the ledger can't be kept in {kind}: give sqlite:///path or postgresql://user@host/database"
    )
