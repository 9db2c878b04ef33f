"""What is read from the ledger, on one connection."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from flux_pipeline.ledger import budgets
from flux_pipeline.ledger.base import Attempt, State
from flux_pipeline.ledger.lease import Moment
from flux_pipeline.ledger.rows import COLUMNS, attempt_from, storable
from flux_pipeline.ledger.rules import FINISHED
from flux_pipeline.ledger.schema import ATTEMPTS

_c = ATTEMPTS.c
_IN_ONE_QUERY = 1000
_WITHOUT_LINEAGE = [state.value for state in State if not (state.is_open or state in FINISHED)]

_FIND = sa.select(*COLUMNS).where(
    _c.request_sha256.in_(sa.bindparam("shas", expanding=True)), _c.latest
)
_HISTORY = sa.select(*COLUMNS).where(_c.request_sha256 == sa.bindparam("sha")).order_by(_c.number)
_UNFINISHED = (
    sa.select(*COLUMNS)
    # The first two are a partial index. NOT IN keeps SQLite from the index on states, which would
    # lead it through all that was ever stored.
    .where(sa.not_(_c.recorded), _c.latest, _c.state.not_in(_WITHOUT_LINEAGE))
    .where(_c.claimed_at <= sa.bindparam("before", type_=sa.Double))
    .order_by(_c.intent_at, _c.request_sha256)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_IN_STATE = (
    sa.select(*COLUMNS)
    .where(_c.state == sa.bindparam("word"))
    .order_by(_c.intent_at, _c.request_sha256, _c.number)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
_KNOWN = sa.select(_c.prediction_id).where(
    _c.prediction_id.in_(sa.bindparam("ids", expanding=True))
)
_PAGE = (
    sa.select(*COLUMNS)
    .where(
        sa.tuple_(_c.request_sha256, _c.number)
        > sa.tuple_(sa.bindparam("sha"), sa.bindparam("at", type_=sa.Integer))
    )
    .order_by(_c.request_sha256, _c.number)
    .limit(sa.bindparam("most", type_=sa.Integer))
)


class Queries:
    """The reading methods of ``Ledger``, within one open transaction."""

    def __init__(self, connection: Connection, read_clock: Callable[[], Moment]) -> None:
        self.connection = connection
        self._read_clock = read_clock

    @cached_property
    def now(self) -> Moment:
        """The ledger's time, read once a transaction."""
        return self._read_clock()

    def find(self, request_sha256s: Sequence[str]) -> dict[str, Attempt]:
        """See ``Ledger.find``."""
        found: dict[str, Attempt] = {}
        for start in range(0, len(request_sha256s), _IN_ONE_QUERY):
            shas = list(request_sha256s[start : start + _IN_ONE_QUERY])
            for row in self.connection.execute(_FIND, {"shas": shas}).all():
                found[row[0]] = attempt_from(row)
        return found

    def history(self, request_sha256: str) -> list[Attempt]:
        """See ``Ledger.history``."""
        rows = self.connection.execute(_HISTORY, {"sha": request_sha256})
        return [attempt_from(row) for row in rows.all()]

    def unfinished(self, *, older_than: float = 0.0, limit: int = 1000) -> list[Attempt]:
        """See ``Ledger.unfinished``."""
        before = self.now.wall - older_than
        rows = self.connection.execute(_UNFINISHED, {"before": before, "most": limit})
        return [attempt_from(row) for row in rows.all()]

    def in_state(self, state: State, *, limit: int = 1000) -> list[Attempt]:
        """See ``Ledger.in_state``."""
        rows = self.connection.execute(_IN_STATE, {"word": state.value, "most": limit})
        return [attempt_from(row) for row in rows.all()]

    def spent_micros(self, scope: str) -> int:
        """See ``Ledger.spent_micros``."""
        return budgets.spent(self.connection, scope)

    def known_ids(self, prediction_ids: Sequence[str]) -> set[str]:
        """See ``Ledger.known_ids``."""
        asked = {storable(each): each for each in prediction_ids}
        stored = list(asked)
        known: set[str] = set()
        for start in range(0, len(stored), _IN_ONE_QUERY):
            ids = stored[start : start + _IN_ONE_QUERY]
            rows = self.connection.execute(_KNOWN, {"ids": ids})
            known.update(asked[row[0]] for row in rows.all())
        return known

    def page(self, after: tuple[str, int], *, limit: int) -> list[Attempt]:
        """Return the attempts that follow (request, number), in that order."""
        rows = self.connection.execute(_PAGE, {"sha": after[0], "at": after[1], "most": limit})
        return [attempt_from(row) for row in rows.all()]

    def attempts(self) -> Iterator[Attempt]:
        """See ``Ledger.attempts``."""
        page = self.page(("", 0), limit=_IN_ONE_QUERY)
        while page:
            yield from page
            last = page[-1]
            page = self.page((last.request_sha256, last.number), limit=_IN_ONE_QUERY)
