"""Postgres as the ledger's database: many workers on many hosts, by the server's clock.

Only leases free the claims of dead workers here, and no lock of a session: it would take a worker
for dead when only its connection is gone, while it may be about to send.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.leases import Clock, Moment

_WRITERS = 7_362_915_404  # the advisory lock of all writers of attempts; any number does
_LOCK = sa.text(
    "SELECT pg_advisory_xact_lock(:key), extract(epoch FROM clock_timestamp())::float8"
).bindparams(key=_WRITERS)
_NOW = sa.text("SELECT extract(epoch FROM clock_timestamp())::float8")
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
        try:
            self.engine = sa.create_engine(
                url.set(drivername="postgresql+psycopg"),
                hide_parameters=True,
                isolation_level="READ COMMITTED",  # what is read after the lock must be new
                pool_pre_ping=True,  # a server that was restarted meanwhile
                connect_args={k: v for k, v in _TIMEOUTS.items() if k not in url.query},
            )
        except ModuleNotFoundError as error:
            raise LedgerError(
                f"{self.name}: needs psycopg: install flux-pipeline[postgres]"
            ) from error
        sa.event.listen(self.engine, "connect", self._set_up)
        sa.event.listen(self.engine, "begin", _begin)
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

    def explain(self, error: SQLAlchemyError) -> str:
        """Say what Postgres's error code means here."""
        cause = error.orig if isinstance(error, DBAPIError) else None
        code = str(getattr(cause, "sqlstate", None) or "")
        for prefix, text in _EXPLANATIONS.items():
            if code.startswith(prefix):
                return f"{text.format(patience=self._patience)} ({code})"
        if isinstance(error, DBAPIError) and (error.connection_invalidated or not code):
            return "can't be reached or cut the connection: check the server, then run again"
        return f"failed ({code or type(error).__name__}): see the server's log, and run again"

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def _set_up(self, connection: Any, _record: Any) -> None:
        """Make a session's commits durable, and bound how long it blocks others.

        A stopped worker would hold the writers' lock for as long as it is stopped: so the server
        ends a transaction that idles.
        """
        wait = str(int(self._patience * _MILLISECONDS))
        idle = str(int(self._patience * _MILLISECONDS / 2))
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', %s, false)", (wait,))
            cursor.execute(
                "SELECT set_config('idle_in_transaction_session_timeout', %s, false)", (idle,)
            )
            cursor.execute(
                "SELECT set_config('synchronous_commit', 'on', false) "
                "WHERE current_setting('synchronous_commit') = 'off'"
            )
        connection.commit()


def _begin(connection: Connection) -> None:
    if connection.get_execution_options().get("flux_relaxed"):
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")


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
