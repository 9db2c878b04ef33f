"""Postgres as the ledger's database: many workers on many hosts, by the server's clock.

Only leases free the claims of dead workers here, and no lock of a session: it would take a worker
for dead when only its connection is gone, while it may be about to send.

Nothing here outlives its transaction, so that a pooler such as PgBouncer may give each transaction
another session: limits are set within each one, the lock ends with it, and no statement is
prepared.
"""

import difflib
import re
from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, CursorResult, Engine
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.leases import Clock, Moment
from flux_pipeline.ledger.transaction import Values

_WRITERS = 7_362_915_404  # the advisory lock of all writers of attempts; any number does
_LOCK = sa.text(
    "SELECT pg_advisory_xact_lock(:key), extract(epoch FROM clock_timestamp())::float8"
).bindparams(key=_WRITERS)
_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")
# The third argument ends each with the transaction.
_BOUNDS = sa.text(
    "SELECT set_config('lock_timeout', :wait, true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true),"
    " set_config('synchronous_commit', CASE WHEN :relaxed THEN 'off'"
    " ELSE coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on') END, true)"
)
_MILLISECONDS = 1000
_TIMEOUTS = {
    "connect_timeout": 10,
    # A network that swallows everything is found out within a minute, and not after two hours.
    "keepalives_idle": 20,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 40_000,
}


class PostgresDatabase:
    """One database of a server; ``clock`` replaces the server's in tests."""

    def __init__(self, url: URL, *, clock: Clock | None, patience_seconds: float) -> None:
        host = url.host or url.query.get("host") or "localhost"
        port = f":{url.port}" if url.port else ""
        self.name = f"ledger postgresql://{host}{port}/{url.database or ''}"
        self._clock = clock
        self._patience = patience_seconds
        self.engine = self._open_engine(url)
        sa.event.listen(self.engine, "begin", self._bound)
        self.relaxed_engine: Engine = self.engine.execution_options(flux_relaxed=True)

    def lock_writes(self, connection: Connection) -> Moment | None:
        """Wait for the advisory lock of all writers; it ends with the transaction."""
        _, seconds = connection.execute(_LOCK).one()
        return Moment(seconds) if self._clock is None else None

    def now(self, connection: Connection) -> Moment:
        """Read the server's clock."""
        if self._clock is not None:
            return Moment(self._clock())
        return Moment(connection.execute(_NOW).scalar_one())

    def take_lock_file(self) -> str:
        """Use no lock file: the workers are on many hosts."""
        return ""

    def is_dead(self, _lock_file: str) -> bool:
        """Return False: nothing proves a death here."""
        return False

    def execute(
        self, connection: Connection, statement: sa.Executable, values: Values
    ) -> CursorResult[Any]:
        """Execute a statement."""
        return connection.execute(statement, values)

    def explain(self, error: SQLAlchemyError) -> str:
        """Say what Postgres's error code means here."""
        cause = error.orig if isinstance(error, DBAPIError) else None
        code = str(getattr(cause, "sqlstate", None) or "")
        for words, text in _REFUSALS.items() if code in _NO_CODES else ():
            if re.search(words, str(cause)):
                return text
        for prefix, text in _EXPLANATIONS.items():
            if code.startswith(prefix):
                return f"{text.format(patience=self._patience)} ({code})"
        if isinstance(error, DBAPIError) and (error.connection_invalidated or not code):
            return "can't be reached or cut the connection: check the server, then run again"
        return f"failed ({code or type(error).__name__}): see the server's log, and run again"

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _open_engine(self, url: URL) -> Engine:
        try:
            # Here, because psycopg is an extra.
            import psycopg  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"{self.name}: needs psycopg: install flux-pipeline[postgres]"
            ) from error
        known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
        if mistake := find_option_mistake(url, known):
            raise LedgerError(f"{self.name}: {mistake}")
        try:
            return sa.create_engine(
                url.set(drivername="postgresql+psycopg"),
                hide_parameters=True,
                isolation_level="READ COMMITTED",  # what is read after the lock must be new
                pool_pre_ping=True,  # a server that was restarted meanwhile
                connect_args={
                    **{name: value for name, value in _TIMEOUTS.items() if name not in url.query},
                    # The session that a pooler gives next does not know what was prepared before.
                    "prepare_threshold": None,
                },
            )
        except (ArgumentError, ValueError):
            # From None: the text of the error quotes what it is about.
            raise LedgerError(
                f"{self.name}: host and port of FLUX_LEDGER can't be read: write host=a,b&port=1,2"
                " for several"
            ) from None

    def _bound(self, connection: Connection) -> None:
        """Make a transaction's commit durable, and bound how long it blocks others.

        A stopped worker would hold the writers' lock for as long as it is stopped: so the server
        ends a transaction that idles.
        """
        connection.execute(
            _BOUNDS,
            {
                "wait": str(int(self._patience * _MILLISECONDS)),
                "idle": str(int(self._patience * _MILLISECONDS / 2)),
                "relaxed": bool(connection.get_execution_options().get("flux_relaxed")),
            },
        )


def find_option_mistake(url: URL, known: Collection[str]) -> str:
    """Why the options of an address, behind its ``?``, can't be used; empty where they can.

    No value is in the message, and no name where the options hold a password: an ``&`` within it
    makes names of its parts.
    """
    unknown = [name for name in url.query if name not in known]
    empty = [name for name, value in url.query.items() if not all(value) or value == ""]
    twice = [
        name
        for name, value in url.query.items()
        if not isinstance(value, str) and name not in {"host", "port"}
    ]
    shown = set(url.query) if not _SECRET & set(url.query) else _SECRET
    if unknown:
        return _unknown_options(sorted(shown.intersection(unknown)), known)
    if empty or twice:
        names = ", ".join(sorted(shown.intersection(empty + twice))) or "an option"
        how = "without a value" if empty else "twice"
        return f"the address in FLUX_LEDGER holds {names} {how}: take it out or correct it"
    return ""


def _unknown_options(names: Sequence[str], known: Collection[str]) -> str:
    near = [
        f"; did you mean {close[0]}?"
        for name in names
        if (close := difflib.get_close_matches(name, known, n=1, cutoff=0.8))
    ]
    listed = ", ".join(name for name in names if _OPTION.fullmatch(name)) or "an option"
    return (
        f"the address in FLUX_LEDGER holds what the driver (libpq) does not know: {listed}. Take it"
        " out: a pooler needs no option, and a schema is set by ALTER ROLE ... SET search_path"
        f"{''.join(near)}"
    )


_OPTION = re.compile(r"\w{1,40}")
_SECRET = frozenset({"password", "sslpassword"})

# By SQLSTATE, or the beginning of one.
_EXPLANATIONS = {
    "55P03": "was locked by another worker for {patience:g} s: end the one that hangs, then run "
    "again",
    "53100": "the server's disk is full, so nothing more is sent: free some space, then run again",
    "53300": "the server has no connection left: raise its limit or run fewer workers",
    "25006": "is read-only (a replica?): use the address of the primary",
    "28": "refused the user or password: check the address",
    "3D000": "does not exist: create it, or check the address",
    "42501": "this user may not create or write the tables: grant it the rights",
    "25P03": "ended a transaction that idled: this worker was stopped; run again",
    "57P": "is shutting down or was restarted: run again when it is up",
    "08": "can't be reached: check the server, then run again",
}

_WRONG_VALUE = "the address in FLUX_LEDGER has an option whose value is wrong: correct or remove"
# Words of libpq, Postgres and PgBouncer, for errors that have no code (a connection that was not
# made), or one that says nothing: PgBouncer has a single one.
_NO_CODES = ("", "08P01")
_REFUSALS = {
    r"unsupported startup parameter": "a pooler (PgBouncer) refuses an option of the address: take "
    "it out of FLUX_LEDGER, or name it in the pooler's ignore_startup_parameters",
    r"statement pooling mode": "a pooler (PgBouncer) ends sessions after each statement: set its "
    "pool_mode to transaction or session",
    r"query_wait_timeout": "a pooler (PgBouncer) had no connection to the server in time: raise "
    "its default_pool_size, or run fewer workers",
    r"no more connections allowed": "a pooler (PgBouncer) takes no more clients: raise its "
    "max_client_conn, or run fewer workers",
    r'no such database|database ".*" does not exist': _EXPLANATIONS["3D000"],
    r'authentication failed|role ".*" does not exist': _EXPLANATIONS["28"],
    r"invalid sslmode value": f"{_WRONG_VALUE} sslmode",
    r"bad value for connect_timeout": f"{_WRONG_VALUE} connect_timeout",
    r"for connection option": f"{_WRONG_VALUE} it",
}
