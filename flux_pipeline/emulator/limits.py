"""Token buckets in the database, so that all processes of one state share one limit."""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit: what flows in a minute, and what may be taken at once."""

    per_minute: float
    capacity: float

    def take(self, connection: sqlite3.Connection, name: str, now: float) -> float:
        """Take one token; returns 0, or the seconds until there is one (then nothing is taken)."""
        row = connection.execute(
            "SELECT tokens, filled_at FROM buckets WHERE name = ?", (name,)
        ).fetchone()
        per_second = self.per_minute / 60
        tokens = self.capacity
        if row is not None:
            elapsed = max(0.0, now - row["filled_at"])
            tokens = min(self.capacity, row["tokens"] + elapsed * per_second)
        allowed = tokens >= 1
        connection.execute(
            "INSERT OR REPLACE INTO buckets VALUES (?, ?, ?)",
            (name, tokens - 1 if allowed else tokens, now),
        )
        return 0.0 if allowed else (1 - tokens) / per_second


LOW_CREDIT = Bucket(per_minute=6, capacity=1)
"""What is left to an account that is nearly out of credit."""


def bucket(per_minute: float, burst_seconds: float) -> Bucket:
    """A bucket that holds what flows in during ``burst_seconds``, at least one token."""
    return Bucket(per_minute, max(1.0, per_minute * burst_seconds / 60))
