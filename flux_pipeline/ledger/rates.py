"""The shared rate limit's state, kept in the ledger's database.

Commits here don't wait for the disk: a limit that is forgotten with the machine does no harm. A
crash of the process loses nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

import sqlalchemy as sa

from flux_pipeline.ledger.schema import RATES
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.rate_limit import Grant, Kind, RateState, reserve, slow_down

_NUMBERS = tuple(field.name for field in fields(RateState))
_AT = RATES.c.kind == sa.bindparam("at")
_LOAD = sa.select(*(RATES.c[name] for name in ("boot", *_NUMBERS))).where(_AT)
_FIRST = RATES.insert()
_SAVE = RATES.update().where(_AT)


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
