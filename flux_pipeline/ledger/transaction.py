"""Reads and writes attempts and budgets within one open database transaction.

Writers run one after another (SQLite's write lock, one advisory lock on Postgres), so what a
transaction reads stays true until its commit. Every UPDATE repeats its condition in its WHERE all
the same: no write depends on the lock alone. The SQL statements are at the end of this module.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from operator import attrgetter
from typing import Any, Protocol, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from flux_pipeline.errors import LedgerError
from flux_pipeline.iteration import batched
from flux_pipeline.ledger import base as rules
from flux_pipeline.ledger import schema
from flux_pipeline.ledger.base import (
    CLAIMED_ALONE,
    FINISHED,
    WITHOUT_ID,
    Adoption,
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
    intent_moment_from,
    stamp_from,
    storable,
)

_IN_ONE_QUERY = 1000
"""Values of one IN list, and rows of one page: below the limits of every database."""


class Executed(Protocol):
    """What a statement did: the part of a cursor that drivers and SQLAlchemy have in common."""

    @property
    def rowcount(self) -> int:
        """How many rows an UPDATE changed."""
        ...

    def fetchone(self) -> Any:
        """The next row, which can be unpacked; None where there is none."""
        ...


Values: TypeAlias = Mapping[str, Any]
Run: TypeAlias = Callable[[sa.Executable, Values], Executed]
"""Executes a statement with its values. Each statement comes with the same names every time, and
has no list of values (IN)."""
Execute: TypeAlias = Callable[[Connection, sa.Executable, Values], Executed]


@dataclass(frozen=True, slots=True)
class Claimer:
    """The claiming process: its lease, its lock file, and how it tells that another one is dead."""

    lease_seconds: float
    take_lock_file: Callable[[], str]
    """Hold this process's lock file and return its name; "" where the database uses none."""
    is_dead: Callable[[str], bool]
    """Whether the process behind another lock file is proven to be gone."""
    read_elapsed: Callable[[], Moment]
    """Reads this host's clocks, for the age of attempts."""
    store_id: str | None = None
    """Claim only while the ledger is noted as this store's; None checks nothing."""


class Transaction:
    """Every method of ``Ledger``, within one transaction that its owner commits."""

    def __init__(
        self,
        connection: Connection,
        read_clock: Callable[[], Moment],
        claimer: Claimer,
        execute: Execute,
    ) -> None:
        self.connection = connection
        self._run = partial(execute, connection)
        self._read_clock = read_clock
        self._claimer = claimer
        self._store_checked = claimer.store_id is None

    @cached_property
    def now(self) -> Moment:
        """The ledger's time, read once a transaction."""
        return self._read_clock()

    def claim(
        self, intent: Intent, *, holder: str, after: int = 0, budgets: Sequence[Budget] = ()
    ) -> Claim:
        """See ``Ledger.claim``."""
        self._check_store()
        row = self._run(LATEST, {"sha": intent.request_sha256}).fetchone()
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
            if left > 0:
                return Busy(left)
            age = self._claimer.read_elapsed().seconds_since(intent_moment_from(row))
            return self._take_over(replace(attempt, steady_age=age), holder)
        if not rules.may_follow(attempt, after):
            return Over(attempt)
        return self._start(intent, holder, budgets, after=attempt)

    def _check_store(self) -> None:
        """Refuse to claim where a worker with another store has taken over the ledger meanwhile."""
        if self._store_checked:
            return
        if schema.read_meta(self.connection, schema.STORE_ID) != self._claimer.store_id:
            where = schema.read_meta(self.connection, schema.STORE_URI)
            raise LedgerError(
                f"belongs to {where} since another worker began: nothing more is sent here. "
                "Give both the same FLUX_STORE, or each a FLUX_LEDGER of its own"
            )
        self._store_checked = True

    def _start(
        self, intent: Intent, holder: str, budgets: Sequence[Budget], *, after: Attempt | None
    ) -> Claim:
        """Write a new attempt, unless a budget forbids it."""
        over = reserve(self._run, budgets, intent.cost_micros)
        if over is not None:
            return over
        number = 1
        if after is not None:
            # First, because a unique index allows one latest attempt of a request.
            self._run(UNSET_LATEST, _key(after))
            number = self._next_number(intent.request_sha256)
        now = self.now.wall
        attempt = Attempt(
            intent.request_sha256, number, State.INTENT, holder, now, now, _storable_intent(intent)
        )
        self._insert(attempt, scopes=dump_scopes(budgets), begun=self._claimer.read_elapsed())
        return Claimed(replace(attempt, steady_age=0.0), fresh=True)

    def _take_over(self, attempt: Attempt, holder: str) -> Claim:
        claims = attempt.claims + 1
        if not self._restart_lease(attempt, by=attempt.holder, to=holder, claims=claims):
            raise LedgerError("an attempt changed under the ledger's own lock: nothing was claimed")
        taken = replace(attempt, holder=holder, claimed_at=self.now.wall, claims=claims)
        return Claimed(taken, fresh=False)

    def renew(self, attempt: Attempt, *, holder: str) -> bool:
        """See ``Ledger.renew``."""
        return self._restart_lease(attempt, by=holder, to=holder, claims=attempt.claims)

    def _restart_lease(self, attempt: Attempt, *, by: str, to: str, claims: int) -> bool:
        """Start the lease of an open attempt anew, for its holder or for another one."""
        values = {**_key(attempt), "by": by, "claim": attempt.claims, "claims": claims}
        return self._run(RESTART_LEASE, values | self._lease(to)).rowcount == 1

    def accept(self, attempt: Attempt, *, prediction_id: str | None, reply: str) -> State:
        """See ``Ledger.accept``."""
        prediction = None if prediction_id is None else storable(prediction_id)
        raw = storable(reply)
        at = _key(attempt)
        paid = {"id": prediction, "raw": raw, "key": rules.acceptance_of(prediction, raw)}
        # The usual case takes one statement: every paid prediction passes here.
        accepted = {**at, **paid, "was": State.INTENT.value, "word": State.ACCEPTED.value}
        if self._run(ACCEPT, accepted).rowcount:
            return State.ACCEPTED
        row = self._run(ATTEMPT, at).fetchone()
        if row is None:
            return self._keep_lost(attempt, paid)
        return self._accept_again(row, paid)

    def adopt(
        self, attempt: Attempt, *, holder: str, prediction_id: str | None, reply: str
    ) -> Adoption:
        """See ``Ledger.adopt``."""
        if not self.renew(attempt, holder=holder):
            return Adoption.NOT_OURS
        prediction = None if prediction_id is None else storable(prediction_id)
        raw = storable(reply)
        paid = {"id": prediction, "raw": raw, "key": rules.acceptance_of(prediction, raw)}
        at = _key(attempt)
        if self._run(ADOPT, {**at, **paid}).rowcount:
            return Adoption.ADOPTED
        row = self._run(ATTEMPT, at).fetchone()
        held = row[len(COLUMNS)]
        if held == paid["key"]:
            return Adoption.HELD
        return Adoption.TAKEN if held is None else Adoption.NOT_OURS

    def _is_taken(self, request_sha256: str, prediction_id: str | None) -> bool:
        """Whether an attempt of another request holds this id."""
        values = {"sha": request_sha256, "id": prediction_id}
        return self._run(TAKEN, values).fetchone() is not None

    def _is_awaited(self, row: Attempt) -> bool:
        """Whether an attempt of another request with the same input is without an id."""
        shared = row.intent.input_sha256
        values = {"sha": row.request_sha256, "shared": shared}
        return bool(shared) and self._run(AWAITED, values).fetchone() is not None

    def _leave(self, row: Attempt) -> State:
        """Leave an id to another request; an attempt without an answer is free to be claimed."""
        self._run(FREE_CLAIM, _key(row))
        return State.INTENT

    def _accept_again(self, found: Sequence[Any], paid: dict[str, Any]) -> State:
        """Accept for an attempt that is no intent any more, or whose id another request holds."""
        row = attempt_from(found)
        held, latest, scopes = found[len(COLUMNS) :]
        if rules.is_left_to_another(
            held,
            paid["key"],
            is_taken=self._is_taken(row.request_sha256, paid["id"]),
            is_awaited=self._is_awaited(row),
        ):
            return self._leave(row)
        state = rules.state_when_accepted(row.state, held, paid["key"], latest=bool(latest))
        if state is None:
            return self._keep_apart(row, paid, scopes)
        if state is row.state and held is not None:
            return State.DUPLICATE if state is State.DUPLICATE else State.ACCEPTED
        values = {**_key(row), **paid, "was": row.state.value, "word": state.value}
        self._run(REOPEN, values)
        if not rules.is_charged(row.state, accepted=held is not None):
            charge(self._run, load_scopes(scopes), row.intent.cost_micros)
        return state

    def _keep_apart(self, row: Attempt, paid: dict[str, Any], scopes: str) -> State:
        """Keep a second paid creation of one attempt in a row of its own, charged too."""
        same = {"sha": row.request_sha256, "key": paid["key"]}
        if self._run(SAME_ACCEPTANCE, same).fetchone() is None:
            number = self._next_number(row.request_sha256)
            kept = replace(row, number=number, state=State.DUPLICATE, intent_at=self.now.wall)
            self._insert(_paid(kept, paid), scopes=scopes, acceptance=paid["key"], latest=False)
            charge(self._run, load_scopes(scopes), row.intent.cost_micros)
        return State.DUPLICATE

    def _keep_lost(self, attempt: Attempt, paid: dict[str, Any]) -> State:
        """Write an accepted attempt whose intent is gone (an older backup was restored).

        A paid id is written whatever happened to the database: with the intent that the caller
        still has, as a duplicate where others have gone on without it.
        """
        if self._is_taken(attempt.request_sha256, paid["id"]):
            return State.INTENT
        row = self._run(LATEST, {"sha": attempt.request_sha256}).fetchone()
        latest = None if row is None else attempt_from(row)
        state = rules.state_when_lost(attempt, latest)
        if latest is not None and state is State.ACCEPTED:
            self._run(UNSET_LATEST, _key(latest))
        lost = replace(attempt, state=state, intent=_storable_intent(attempt.intent))
        self._insert(_paid(lost, paid), acceptance=paid["key"], latest=state is State.ACCEPTED)
        return state

    def succeed(self, attempt: Attempt, *, reply: str) -> bool:
        """See ``Ledger.succeed``."""
        values = {**_key(attempt), "raw": storable(reply)}
        return self._run(SUCCEED, values).rowcount == 1

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
            "word": state.value,
            "message": None if error is None else storable(error),
            "again": retryable,
            "records": storable(images),
            "raw": None if reply is None else storable(reply),
            "how": None if resolution is None else storable(resolution),
        }
        row = self._run(close_from(states), values).fetchone()
        if row is None:
            return False
        cost, scopes, acceptance = row
        if not rules.is_charged(state, accepted=acceptance is not None):
            charge(self._run, load_scopes(scopes), -cost)
        return True

    def allow_retry(self, attempt: Attempt) -> bool:
        """See ``Ledger.allow_retry``."""
        return self._run(ALLOW_RETRY, _key(attempt)).rowcount == 1

    def reopen(self, attempt: Attempt) -> bool:
        """See ``Ledger.reopen``."""
        return self._run(REOPEN_PAID, _key(attempt)).rowcount == 1

    def begin_pruning(self, attempt: Attempt, *, holder: str, images: str) -> Attempt | None:
        """See ``Ledger.begin_pruning``."""
        self._check_store()
        if attempt.state not in {State.STORED, State.PRUNED}:
            return None
        values = {
            **_key(attempt),
            "by": attempt.holder,
            "claim": attempt.claims,
            "was": attempt.state.value,
            "records": storable(images),
        }
        values |= self._lease(holder) | {"claims": attempt.claims + 1}
        if not self._run(BEGIN_PRUNING, values).rowcount:
            return None
        return replace(
            attempt,
            state=State.PRUNING,
            holder=holder,
            claimed_at=self.now.wall,
            claims=attempt.claims + 1,
            images=images,
            recorded=False,
        )

    def mark_recorded(self, request_sha256s: Sequence[str]) -> None:
        """See ``Ledger.mark_recorded``."""
        for shas in batched(request_sha256s, _IN_ONE_QUERY):
            self.connection.execute(MARK_RECORDED, {"shas": shas})

    def find(self, request_sha256s: Sequence[str]) -> dict[str, Attempt]:
        """See ``Ledger.find``."""
        found: dict[str, Attempt] = {}
        for shas in batched(request_sha256s, _IN_ONE_QUERY):
            for row in self.connection.execute(FIND, {"shas": shas}).all():
                found[row[0]] = attempt_from(row)
        return found

    def history(self, request_sha256: str) -> list[Attempt]:
        """See ``Ledger.history``."""
        rows = self.connection.execute(HISTORY, {"sha": request_sha256})
        return [attempt_from(row) for row in rows.all()]

    def unfinished(self, *, older_than: float = 0.0, limit: int = 1000) -> list[Attempt]:
        """See ``Ledger.unfinished``."""
        before = {"before": self.now.wall - older_than}
        rows = self.connection.execute(UNFINISHED, {**before, "most": limit}).all()
        left = [attempt_from(row) for row in rows]
        # Younger ones, whose process is gone: nobody else goes on with them.
        young = self.connection.execute(UNFINISHED_YOUNG, before).all() if older_than > 0 else []
        left += [
            attempt_from(row) for row in young if self._claimer.is_dead(stamp_from(row).lock_file)
        ]
        return sorted(left, key=attrgetter("intent_at", "request_sha256"))[:limit]

    def in_state(self, state: State, *, limit: int = 1000) -> list[Attempt]:
        """See ``Ledger.in_state``."""
        rows = self.connection.execute(IN_STATE, {"word": state.value, "most": limit})
        return [attempt_from(row) for row in rows.all()]

    def spent_micros(self, scope: str) -> int:
        """See ``Ledger.spent_micros``."""
        return int(self.connection.scalar(USED, {"at": storable(scope)}) or 0)

    def known_ids(self, prediction_ids: Sequence[str]) -> set[str]:
        """See ``Ledger.known_ids``."""
        asked = {storable(each): each for each in prediction_ids}
        known: set[str] = set()
        for ids in batched(asked, _IN_ONE_QUERY):
            rows = self.connection.execute(KNOWN_IDS, {"ids": ids})
            known.update(asked[row[0]] for row in rows.all())
        return known

    def ids_of_input(self, input_sha256: str) -> set[str]:
        """See ``Ledger.ids_of_input``."""
        if not input_sha256:
            return set()
        rows = self.connection.execute(IDS_OF_INPUT, {"shared": input_sha256})
        return {row[0] for row in rows.all()}

    def attempts(self) -> Iterator[Attempt]:
        """See ``Ledger.attempts``."""
        return in_pages(self.page)

    def page(self, after: tuple[str, int], limit: int = _IN_ONE_QUERY) -> list[Attempt]:
        """Return the attempts that follow (request, number), in that order."""
        rows = self.connection.execute(PAGE, {"sha": after[0], "at": after[1], "most": limit})
        return [attempt_from(row) for row in rows.all()]

    def is_empty(self) -> bool:
        """Return whether the ledger holds no attempt at all."""
        return not self.page(_BEFORE_ALL, limit=1)

    def _next_number(self, request_sha256: str) -> int:
        (highest,) = self._run(HIGHEST_NUMBER, {"sha": request_sha256}).fetchone()
        return int(highest or 0) + 1

    def _insert(
        self,
        attempt: Attempt,
        *,
        scopes: str = "[]",
        acceptance: str | None = None,
        latest: bool = True,
        begun: Moment | None = None,
    ) -> None:
        values = {
            "request_sha256": attempt.request_sha256,
            "number": attempt.number,
            "latest": latest,
            "state": attempt.state.value,
            "claims": attempt.claims,
            "intent_at": attempt.intent_at,
            "intent_steady": begun.steady if begun else None,
            "intent_boot": begun.boot if begun else None,
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
            "input_sha256": attempt.intent.input_sha256,
        }
        self._run(INSERT, values | self._lease(attempt.holder))

    def _lease(self, holder: str) -> dict[str, Any]:
        """The columns of a lease that this process starts now."""
        now = self.now
        return {
            "holder": holder,
            "claimed_at": now.wall,
            "steady_at": now.steady,
            "boot": now.boot,
            "lease_seconds": self._claimer.lease_seconds,
            "presence": self._claimer.take_lock_file(),
        }


_BEFORE_ALL = ("", 0)


def in_pages(read_page: Callable[[tuple[str, int]], Sequence[Attempt]]) -> Iterator[Attempt]:
    """Yield every attempt; ``read_page`` returns those that follow (request, number)."""
    after = _BEFORE_ALL
    while page := read_page(after):
        yield from page
        after = (page[-1].request_sha256, page[-1].number)


def reserve(run: Run, budgets: Sequence[Budget], cost: int) -> OverBudget | None:
    """Add ``cost`` to every budget, or to none and return the one that would be exceeded.

    The condition stands in the UPDATE itself: no reader's old sum can overspend.
    """
    limited = [budget for budget in budgets if budget.limit_micros is not None]
    for done, budget in enumerate(limited):
        over = _reserve_one(run, budget, cost)
        if over is not None:
            charge(run, (each.scope for each in limited[:done]), -cost)
            return over
    charge(run, (each.scope for each in budgets if each.limit_micros is None), cost)
    return None


def _reserve_one(run: Run, budget: Budget, cost: int) -> OverBudget | None:
    limit = budget.limit_micros or 0
    at = storable(budget.scope)
    if run(ADD_WITHIN_LIMIT, {"at": at, "cost": cost, "most": limit}).rowcount:
        return None
    used = run(USED, {"at": at}).fetchone()
    if used is None and cost <= limit:
        run(FIRST_USE, {"scope": at, "used_micros": cost})
        return None
    return OverBudget(budget.scope, limit, max(0, limit - int(used[0] if used else 0)))


def charge(run: Run, scopes: Iterable[str], cost: int) -> None:
    """Add ``cost`` to the scopes whatever their limits: money that is gone, or (below 0) free."""
    names = list(dict.fromkeys(map(storable, scopes)))
    if not names:
        return
    values = {f"at{place}": name for place, name in enumerate(names)}
    changed = run(_add_to(len(names)), {**values, "cost": cost}).rowcount
    if changed == len(names):
        return
    for name in names:  # the others were changed
        if run(USED, {"at": name}).fetchone() is None:
            run(FIRST_USE, {"scope": name, "used_micros": cost})


def dump_scopes(budgets: Sequence[Budget]) -> str:
    """Return the scopes as JSON, as they are kept with an attempt."""
    return json.dumps([budget.scope for budget in budgets])


def load_scopes(text: str) -> list[str]:
    """Return the scopes that ``dump_scopes`` wrote."""
    return [str(scope) for scope in json.loads(text)]


def _key(attempt: Attempt) -> dict[str, Any]:
    return {"sha": attempt.request_sha256, "at": attempt.number}


def _paid(attempt: Attempt, paid: dict[str, Any]) -> Attempt:
    return replace(attempt, prediction_id=paid["id"], reply=paid["raw"])


def _storable_intent(intent: Intent) -> Intent:
    return Intent(
        intent.request_sha256,
        storable(intent.prompt_set),
        storable(intent.run_id),
        intent.cost_micros,
        storable(intent.request_json),
        intent.input_sha256,
    )


# Conditions that several statements share.
_c = ATTEMPTS.c


def _is_one_of(states: Iterable[State]) -> sa.ColumnElement[bool]:
    """Not IN, whose values SQLAlchemy would write into the statement's text at each call."""
    return sa.or_(sa.false(), *(_c.state == each.value for each in sorted(states)))


_SAME_REQUEST = _c.request_sha256 == sa.bindparam("sha")
_ANY_REQUEST = _c.request_sha256.in_(sa.bindparam("shas", expanding=True))
_ONE_ATTEMPT = (_SAME_REQUEST, _c.number == sa.bindparam("at", type_=sa.Integer))
_IS_OPEN = _is_one_of(state for state in State if state.is_open)
_SAME_CLAIM = (
    _c.holder == sa.bindparam("by"),
    # The same holder may have claimed it again after its lease: the count tells the two apart.
    _c.claims == sa.bindparam("claim", type_=sa.Integer),
)
_MOST = sa.bindparam("most", type_=sa.Integer)
_UPDATE = ATTEMPTS.update().where(*_ONE_ATTEMPT)

# Claim: a new attempt, one that follows a closed one, or the lease of an open one.
LATEST = sa.select(*CLAIM_COLUMNS).where(_SAME_REQUEST, _c.latest)
HIGHEST_NUMBER = sa.select(sa.func.max(_c.number)).where(_SAME_REQUEST)
INSERT = ATTEMPTS.insert()
UNSET_LATEST = _UPDATE.where(_c.latest, sa.not_(_IS_OPEN)).values(latest=False)
# No values here: it sets the columns that it is given, those of ``Transaction._lease``.
RESTART_LEASE = _UPDATE.where(_IS_OPEN, *_SAME_CLAIM)

# Accept: the provider's id, whatever state the attempt is in by now; no two requests hold one id.
_other = ATTEMPTS.alias("other")
_SAME_ID = _other.c.prediction_id == sa.bindparam("id", type_=sa.Text)
_TAKEN = (_SAME_ID, _other.c.request_sha256 != sa.bindparam("sha"))
TAKEN = sa.select(_other.c.number).where(*_TAKEN).limit(1)
_ACCEPT = _UPDATE.where(_c.state == sa.bindparam("was")).values(
    state=sa.bindparam("word"),
    acceptance=sa.bindparam("key"),
    prediction_id=sa.bindparam("id"),
    reply=sa.bindparam("raw"),
)
ACCEPT = _ACCEPT.where(sa.not_(sa.exists().where(*_TAKEN)))
REOPEN = _ACCEPT.values(error=None, retryable=False, images="[]", recorded=False)
ADOPT = (
    _UPDATE.where(_c.state == State.INTENT.value)
    .where(sa.not_(sa.exists().where(_SAME_ID)))
    .values(
        state=State.ACCEPTED.value,
        acceptance=sa.bindparam("key"),
        prediction_id=sa.bindparam("id"),
        reply=sa.bindparam("raw"),
    )
)
FREE_CLAIM = _UPDATE.where(_c.state == State.INTENT.value).values(
    claims=_c.claims + 1, lease_seconds=0.0
)
_SHARED_INPUT = (
    _c.input_sha256 == sa.bindparam("shared"),
    _c.input_sha256 != "",  # so that the partial index is used
)
IDS_OF_INPUT = sa.select(_c.prediction_id).where(*_SHARED_INPUT, _c.prediction_id.is_not(None))
AWAITED = (
    sa.select(_c.number)
    .where(
        *_SHARED_INPUT,
        _c.request_sha256 != sa.bindparam("sha"),
        _is_one_of(WITHOUT_ID),
    )
    .limit(1)
)
ATTEMPT = sa.select(*COLUMNS, _c.acceptance, _c.latest, _c.scopes).where(*_ONE_ATTEMPT)
SAME_ACCEPTANCE = sa.select(_c.number).where(_SAME_REQUEST, _c.acceptance == sa.bindparam("key"))

# By hand: another attempt may follow, or what was believed to be gone is looked for by its id.
ALLOW_RETRY = _UPDATE.where(_c.latest, _is_one_of([State.FAILED, State.REFUSED])).values(
    state=State.FAILED.value, retryable=True
)
REOPEN_PAID = _UPDATE.where(
    _c.latest,
    _is_one_of([State.FAILED, State.EXPIRED]),
    _c.prediction_id.is_not(None),
).values(state=State.ACCEPTED.value, error=None, retryable=False, images="[]", recorded=False)

# What was stored, and is recorded, is removed on purpose; or what was removed is brought back.
BEGIN_PRUNING = _UPDATE.where(
    _c.latest,
    _c.state == sa.bindparam("was"),
    sa.or_(_c.recorded, _c.state == State.PRUNED.value),
    *_SAME_CLAIM,
).values(state=State.PRUNING.value, images=sa.bindparam("records"), recorded=False)

# Close: the provider's last reply, the end, and the note that its lineage is written.
SUCCEED = _UPDATE.where(_c.state == State.ACCEPTED.value).values(
    state=State.SUCCEEDED.value, reply=sa.bindparam("raw")
)


@cache
def close_from(states: frozenset[State]) -> sa.UpdateBase:
    """The statement that closes an attempt in one of these states."""
    return (
        _UPDATE.where(_is_one_of(states))
        .where(
            sa.or_(
                sa.and_(*(_c.state != each.value for each in sorted(CLAIMED_ALONE))),
                sa.and_(*_SAME_CLAIM),
            )
        )
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
    ATTEMPTS.update().where(_ANY_REQUEST, _c.latest, sa.not_(_IS_OPEN)).values(recorded=True)
)

# Reads: each finds an index, however large the table grows (tests/ledger/test_transaction.py).
FIND = sa.select(*COLUMNS).where(_ANY_REQUEST, _c.latest)
HISTORY = sa.select(*COLUMNS).where(_SAME_REQUEST).order_by(_c.number)
_UNFINISHED = (
    sa.select(*CLAIM_COLUMNS)
    # `recorded` and `latest` are a partial index. NOT IN keeps SQLite from the index on states,
    # which would lead it through all that was ever stored.
    .where(sa.not_(_c.recorded), _c.latest)
    .where(_c.state.not_in([s.value for s in State if not (s.is_open or s in FINISHED)]))
)
_BEFORE = sa.bindparam("before", type_=sa.Double)
UNFINISHED = (
    _UNFINISHED.where(_c.claimed_at <= _BEFORE)
    .order_by(_c.intent_at, _c.request_sha256)
    .limit(_MOST)
)
UNFINISHED_YOUNG = _UNFINISHED.where(_c.claimed_at > _BEFORE, _c.presence != "")
IN_STATE = (
    sa.select(*COLUMNS)
    .where(_c.state == sa.bindparam("word"))
    .order_by(_c.intent_at, _c.request_sha256, _c.number)
    .limit(_MOST)
)
KNOWN_IDS = sa.select(_c.prediction_id).where(
    _c.prediction_id.in_(sa.bindparam("ids", expanding=True))
)
PAGE = (
    sa.select(*COLUMNS)
    .where(
        sa.tuple_(_c.request_sha256, _c.number)
        > sa.tuple_(sa.bindparam("sha"), sa.bindparam("at", type_=sa.Integer))
    )
    .order_by(_c.request_sha256, _c.number)
    .limit(_MOST)
)

# Budgets: one row a scope, made by its first use.
_b = BUDGETS.c
_SAME_SCOPE = _b.scope == sa.bindparam("at")
_COST = sa.bindparam("cost", type_=sa.BigInteger)
USED = sa.select(_b.used_micros).where(_SAME_SCOPE)
FIRST_USE = BUDGETS.insert()
_ADD = BUDGETS.update().values(used_micros=_b.used_micros + _COST)
ADD_WITHIN_LIMIT = _ADD.where(
    _SAME_SCOPE, _b.used_micros + _COST <= sa.bindparam("most", type_=sa.BigInteger)
)


@cache
def _add_to(scopes: int) -> sa.UpdateBase:
    """The statement that adds to so many scopes at once, those that are there."""
    return _ADD.where(sa.or_(*(_b.scope == sa.bindparam(f"at{each}") for each in range(scopes))))
