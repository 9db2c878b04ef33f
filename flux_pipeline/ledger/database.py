"""What the ledger needs of a database, whichever it is."""

from typing import Protocol

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from flux_pipeline.ledger.lease import Moment


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
