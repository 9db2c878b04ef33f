"""What is written to the ledger, in one transaction.

Writers come one after another (SQLite's write lock; one advisory lock on Postgres), so what is read
here stays true until the commit. The writes repeat their conditions all the same.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger import base as rules
from flux_pipeline.ledger import schema
from flux_pipeline.ledger.base import (
    FINISHED,
    Attempt,
    Budget,
    Busy,
    Claim,
    Claimed,
    Intent,
    Over,
    OverBudget,
    State,
)
from flux_pipeline.ledger.leases import Moment, remaining
from flux_pipeline.ledger.schema import (
    ATTEMPTS,
    BUDGETS,
    CLAIM_COLUMNS,
    COLUMNS,
    attempt_from,
    stamp_from,
    storable,
)

_IN_ONE_QUERY = 1000
_c = ATTEMPTS.c
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

_b = BUDGETS.c
_AT = _b.scope == sa.bindparam("at")
_COST = sa.bindparam("cost", type_=sa.BigInteger)
_USED = sa.select(_b.used_micros).where(_AT)
_ADD = BUDGETS.update().where(_AT).values(used_micros=_b.used_micros + _COST)
_RESERVE = _ADD.where(_b.used_micros + _COST <= sa.bindparam("most", type_=sa.BigInteger))
_FIRST = BUDGETS.insert()
_SAME_REQUEST = _c.request_sha256 == sa.bindparam("sha")
_ONE = (_SAME_REQUEST, _c.number == sa.bindparam("at", type_=sa.Integer))
_WAS = _c.state == sa.bindparam("was")

_CLAIMED = (
    _c.holder == sa.bindparam("by"),
    _c.claims == sa.bindparam("claim", type_=sa.Integer),
)
"""By this very claim: the same holder may have taken it over again after its lease."""
_AMONG = _c.state.in_(sa.bindparam("states", expanding=True))
_OPEN = [state.value for state in State if state.is_open]
_UPDATE_ONE = ATTEMPTS.update().where(*_ONE)
LATEST = sa.select(*CLAIM_COLUMNS).where(_SAME_REQUEST, _c.latest)
ROW = sa.select(*COLUMNS, _c.acceptance, _c.latest, _c.scopes).where(*_ONE)
HIGHEST = sa.select(sa.func.max(_c.number)).where(_SAME_REQUEST)
KEPT = sa.select(_c.number).where(_SAME_REQUEST, _c.acceptance == sa.bindparam("key"))
INSERT = ATTEMPTS.insert()
FOLLOW = _UPDATE_ONE.where(_c.latest, _c.state.not_in(_OPEN)).values(latest=False)
STAMP = _UPDATE_ONE.where(_c.state.in_(_OPEN), *_CLAIMED)
"""Sets the columns that it is given: those of the claim."""

ACCEPT = _UPDATE_ONE.where(_WAS).values(
    state=sa.bindparam("word"),
    acceptance=sa.bindparam("key"),
    prediction_id=sa.bindparam("id"),
    reply=sa.bindparam("raw"),
)

REOPEN = ACCEPT.values(error=None, retryable=False, images="[]", recorded=False)

SUCCEED = _UPDATE_ONE.where(_c.state == State.ACCEPTED.value).values(
    state=State.SUCCEEDED.value, reply=sa.bindparam("raw")
)

CLOSE = (
    _UPDATE_ONE.where(_AMONG)
    .where(sa.or_(_c.state != State.INTENT.value, sa.and_(*_CLAIMED)))
    .values(
        state=sa.bindparam("word"),
        error=sa.bindparam("message"),
        retryable=sa.bindparam("again"),
        images=sa.bindparam("records"),
        reply=sa.func.coalesce(sa.bindparam("raw"), _c.reply),
        resolution=sa.func.coalesce(sa.bindparam("how"), _c.resolution),
        recorded=False,
    )
    .returning(_c.cost_micros, _c.scopes, _c.acceptance)
)

MARK_RECORDED = (
    ATTEMPTS.update()
    .where(_c.request_sha256.in_(sa.bindparam("shas", expanding=True)), _c.latest)
    .where(_c.state.not_in(_OPEN))
    .values(recorded=True)
)


@dataclass(frozen=True, slots=True)
class Claimer:
    """Who claims: this process's lease, its lock file, and how it sees that another is dead."""

    lease_seconds: float
    enter: Callable[[], str]
    is_dead: Callable[[str], bool]
    store_id: str | None = None
    """The store that it claims for; None asks nobody whose the ledger is."""


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
        return spent(self.connection, scope)

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


class Transaction(Queries):
    """Every method of ``Ledger``, within one transaction that its owner commits."""

    def __init__(
        self, connection: Connection, read_clock: Callable[[], Moment], claimer: Claimer
    ) -> None:
        super().__init__(connection, read_clock)
        self._claimer = claimer
        self._is_ours = claimer.store_id is None

    def claim(
        self, intent: Intent, *, holder: str, after: int = 0, budgets: Sequence[Budget] = ()
    ) -> Claim:
        """See ``Ledger.claim``."""
        self._check_store()
        row = self.connection.execute(LATEST, {"sha": intent.request_sha256}).first()
        if row is None:
            if after:
                raise LedgerError(
                    f"attempt {after} of request {intent.request_sha256} is not in the ledger: the "
                    "database was replaced while it was in use; restore it or start the run again"
                )
            return self._start(intent, holder, budgets, after=None)
        attempt = attempt_from(row)
        if attempt.state.is_open:
            left = remaining(stamp_from(row), self.now, is_dead=self._claimer.is_dead)
            return Busy(left) if left > 0 else self._take_over(attempt, holder)
        if not rules.may_follow(attempt, after):
            return Over(attempt)
        return self._start(intent, holder, budgets, after=attempt)

    def renew(self, attempt: Attempt, *, holder: str) -> bool:
        """See ``Ledger.renew``."""
        return self._stamp(attempt, by=holder, to=holder, claims=attempt.claims)

    def accept(self, attempt: Attempt, *, prediction_id: str | None, reply: str) -> State:
        """See ``Ledger.accept``."""
        prediction = None if prediction_id is None else storable(prediction_id)
        raw = storable(reply)
        at = _key(attempt)
        paid = {"id": prediction, "raw": raw, "key": rules.acceptance_of(prediction, raw)}
        accepted = {**at, **paid, "was": State.INTENT.value, "word": State.ACCEPTED.value}
        if self.connection.execute(ACCEPT, accepted).rowcount:
            return State.ACCEPTED
        row = self.connection.execute(ROW, at).first()
        if row is None:
            return self._keep_lost(attempt, paid)
        return self._accept_again(row, paid)

    def succeed(self, attempt: Attempt, *, reply: str) -> bool:
        """See ``Ledger.succeed``."""
        values = {**_key(attempt), "raw": storable(reply)}
        return self.connection.execute(SUCCEED, values).rowcount == 1

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
        states = rules.states_to_close(attempt.state, state)
        values = {
            **_key(attempt),
            "by": holder,
            "claim": attempt.claims,
            "states": sorted(each.value for each in states),
            "word": state.value,
            "message": None if error is None else storable(error),
            "again": retryable,
            "records": storable(images),
            "raw": None if reply is None else storable(reply),
            "how": None if resolution is None else storable(resolution),
        }
        row = self.connection.execute(CLOSE, values).first()
        if row is None:
            return False
        cost, scopes, acceptance = row
        if not rules.is_charged(state, accepted=acceptance is not None):
            charge(self.connection, load_scopes(scopes), -cost)
        return True

    def mark_recorded(self, request_sha256s: Sequence[str]) -> None:
        """See ``Ledger.mark_recorded``."""
        for start in range(0, len(request_sha256s), _IN_ONE_QUERY):
            shas = list(request_sha256s[start : start + _IN_ONE_QUERY])
            self.connection.execute(MARK_RECORDED, {"shas": shas})

    def _check_store(self) -> None:
        """Begin nothing where another store's worker has taken the ledger meanwhile."""
        if not self._is_ours:
            if schema.read_meta(self.connection, schema.STORE_ID) != self._claimer.store_id:
                where = schema.read_meta(self.connection, schema.STORE_URI)
                raise LedgerError(
                    f"belongs to {where} since another worker began: nothing more is sent here. "
                    "Give both the same FLUX_STORE, or each a FLUX_LEDGER of its own"
                )
            self._is_ours = True

    def _take_over(self, attempt: Attempt, holder: str) -> Claim:
        claims = attempt.claims + 1
        if not self._stamp(attempt, by=attempt.holder, to=holder, claims=claims):
            raise LedgerError("an attempt changed under the ledger's own lock: nothing was claimed")
        taken = replace(attempt, holder=holder, claimed_at=self.now.wall, claims=claims)
        return Claimed(taken, fresh=False)

    def _stamp(self, attempt: Attempt, *, by: str, to: str, claims: int) -> bool:
        """Start the lease of an open attempt anew, for its holder or for another one."""
        values = {**_key(attempt), "by": by, "claim": attempt.claims, "claims": claims}
        return self.connection.execute(STAMP, values | self._claim(to)).rowcount == 1

    def _claim(self, holder: str) -> dict[str, Any]:
        now = self.now
        return {
            "holder": holder,
            "claimed_at": now.wall,
            "steady_at": now.steady,
            "boot": now.boot,
            "lease_seconds": self._claimer.lease_seconds,
            "presence": self._claimer.enter(),
        }

    def _start(
        self, intent: Intent, holder: str, budgets: Sequence[Budget], *, after: Attempt | None
    ) -> Claim:
        """Write a new attempt, unless a budget forbids it."""
        over = reserve(self.connection, budgets, intent.cost_micros)
        if over is not None:
            return over
        number = 1
        if after is not None:
            self.connection.execute(FOLLOW, _key(after))
            number = self._next_number(intent.request_sha256)
        now = self.now.wall
        attempt = Attempt(
            intent.request_sha256, number, State.INTENT, holder, now, now, _stored(intent)
        )
        self._insert(attempt, scopes=dump_scopes(budgets))
        return Claimed(attempt, fresh=True)

    def _accept_again(self, found: Sequence[Any], paid: dict[str, Any]) -> State:
        """Accept for an attempt that is no intent any more."""
        row = attempt_from(found)
        held, latest, scopes = found[len(COLUMNS) :]
        state = rules.state_when_accepted(row.state, held, paid["key"], latest=latest)
        if state is None:
            return self._keep_apart(row, paid, scopes)
        if state is row.state and held is not None:
            return State.DUPLICATE if state is State.DUPLICATE else State.ACCEPTED
        values = {**_key(row), **paid, "was": row.state.value, "word": state.value}
        self.connection.execute(REOPEN, values)
        if not rules.is_charged(row.state, accepted=held is not None):
            charge(self.connection, load_scopes(scopes), row.intent.cost_micros)
        return state

    def _keep_apart(self, row: Attempt, paid: dict[str, Any], scopes: str) -> State:
        """Keep a second paid creation of one attempt in a row of its own, charged too."""
        same = {"sha": row.request_sha256, "key": paid["key"]}
        if self.connection.execute(KEPT, same).first() is None:
            number = self._next_number(row.request_sha256)
            kept = replace(row, number=number, state=State.DUPLICATE, intent_at=self.now.wall)
            self._insert(_paid(kept, paid), scopes=scopes, acceptance=paid["key"], latest=False)
            charge(self.connection, load_scopes(scopes), row.intent.cost_micros)
        return State.DUPLICATE

    def _keep_lost(self, attempt: Attempt, paid: dict[str, Any]) -> State:
        """Write an accepted attempt whose intent is gone (an older backup was restored).

        A paid id is written whatever happened to the database: with the intent that the caller
        still has, as a duplicate where others have gone on without it.
        """
        row = self.connection.execute(LATEST, {"sha": attempt.request_sha256}).first()
        latest = None if row is None else attempt_from(row)
        state = rules.state_when_lost(attempt, latest)
        if latest is not None and state is State.ACCEPTED:
            self.connection.execute(FOLLOW, _key(latest))
        lost = replace(attempt, state=state, intent=_stored(attempt.intent))
        self._insert(_paid(lost, paid), acceptance=paid["key"], latest=state is State.ACCEPTED)
        return state

    def _next_number(self, request_sha256: str) -> int:
        highest = self.connection.scalar(HIGHEST, {"sha": request_sha256})
        return int(highest or 0) + 1

    def _insert(
        self,
        attempt: Attempt,
        *,
        scopes: str = "[]",
        acceptance: str | None = None,
        latest: bool = True,
    ) -> None:
        values = {
            "request_sha256": attempt.request_sha256,
            "number": attempt.number,
            "latest": latest,
            "state": attempt.state.value,
            "claims": attempt.claims,
            "intent_at": attempt.intent_at,
            "prompt_set": attempt.intent.prompt_set,
            "run_id": attempt.intent.run_id,
            "cost_micros": attempt.intent.cost_micros,
            "scopes": scopes,
            "request_json": attempt.intent.request_json,
            "acceptance": acceptance,
            "prediction_id": attempt.prediction_id,
            "reply": attempt.reply,
            "error": None,
            "retryable": False,
            "images": "[]",
            "recorded": False,
            "resolution": None,
        }
        self.connection.execute(INSERT, values | self._claim(attempt.holder))


def _key(attempt: Attempt) -> dict[str, Any]:
    return {"sha": attempt.request_sha256, "at": attempt.number}


def _paid(attempt: Attempt, paid: dict[str, Any]) -> Attempt:
    return replace(attempt, prediction_id=paid["id"], reply=paid["raw"])


def _stored(intent: Intent) -> Intent:
    return Intent(
        intent.request_sha256,
        storable(intent.prompt_set),
        storable(intent.run_id),
        intent.cost_micros,
        storable(intent.request_json),
    )


def spent(connection: Connection, scope: str) -> int:
    """Return what counts under a scope, in millionths of a USD."""
    used = connection.scalar(_USED, {"at": storable(scope)})
    return 0 if used is None else int(used)


def reserve(connection: Connection, budgets: Sequence[Budget], cost: int) -> OverBudget | None:
    """Add ``cost`` to every budget, or to none and return the one that would be exceeded.

    The condition stands in the UPDATE itself: no reader's old sum can overspend.
    """
    for done, budget in enumerate(budgets):
        over = _reserve_one(connection, budget, cost)
        if over is not None:
            charge(connection, (each.scope for each in budgets[:done]), -cost)
            return over
    return None


def charge(connection: Connection, scopes: Iterable[str], cost: int) -> None:
    """Add ``cost`` to the scopes whatever their limits: money that is gone, or (below 0) free."""
    for scope in scopes:
        at = storable(scope)
        if not connection.execute(_ADD, {"at": at, "cost": cost}).rowcount:
            connection.execute(_FIRST, {"scope": at, "used_micros": cost})


def dump_scopes(budgets: Sequence[Budget]) -> str:
    """Return the scopes as they are kept with an attempt."""
    return json.dumps([budget.scope for budget in budgets])


def load_scopes(text: str) -> list[str]:
    """Return the scopes that ``dump_scopes`` wrote."""
    return [str(scope) for scope in json.loads(text)]


def _reserve_one(connection: Connection, budget: Budget, cost: int) -> OverBudget | None:
    limit = budget.limit_micros
    if limit is None:
        charge(connection, [budget.scope], cost)
        return None
    at = storable(budget.scope)
    if connection.execute(_RESERVE, {"at": at, "cost": cost, "most": limit}).rowcount:
        return None
    used = connection.scalar(_USED, {"at": at})
    if used is None and cost <= limit:
        connection.execute(_FIRST, {"scope": at, "used_micros": cost})
        return None
    return OverBudget(budget.scope, limit, max(0, limit - int(used or 0)))
