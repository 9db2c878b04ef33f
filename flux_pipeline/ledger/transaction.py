"""What is written to the ledger, in one transaction.

Writers come one after another (SQLite's write lock; one advisory lock on Postgres), so what is read
here stays true until the commit. The writes repeat their conditions all the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.engine import Connection

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger import budgets as money
from flux_pipeline.ledger import rules, schema
from flux_pipeline.ledger import statements as sql
from flux_pipeline.ledger.base import Attempt, Budget, Busy, Claim, Claimed, Intent, Over, State
from flux_pipeline.ledger.lease import Moment, remaining
from flux_pipeline.ledger.queries import Queries
from flux_pipeline.ledger.rows import COLUMNS, attempt_from, stamp_from, storable

_IN_ONE_QUERY = 1000


@dataclass(frozen=True, slots=True)
class Claimer:
    """Who claims: this process's lease, its lock file, and how it sees that another is dead."""

    lease_seconds: float
    enter: Callable[[], str]
    is_dead: Callable[[str], bool]
    store_id: str | None = None
    """The store that it claims for; None asks nobody whose the ledger is."""


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
        row = self.connection.execute(sql.LATEST, {"sha": intent.request_sha256}).first()
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
        if self.connection.execute(sql.ACCEPT, accepted).rowcount:
            return State.ACCEPTED
        row = self.connection.execute(sql.ROW, at).first()
        if row is None:
            return self._keep_lost(attempt, paid)
        return self._accept_again(row, paid)

    def succeed(self, attempt: Attempt, *, reply: str) -> bool:
        """See ``Ledger.succeed``."""
        values = {**_key(attempt), "raw": storable(reply)}
        return self.connection.execute(sql.SUCCEED, values).rowcount == 1

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
        row = self.connection.execute(sql.CLOSE, values).first()
        if row is None:
            return False
        cost, scopes, acceptance = row
        if not rules.is_charged(state, accepted=acceptance is not None):
            money.charge(self.connection, money.load_scopes(scopes), -cost)
        return True

    def mark_recorded(self, request_sha256s: Sequence[str]) -> None:
        """See ``Ledger.mark_recorded``."""
        for start in range(0, len(request_sha256s), _IN_ONE_QUERY):
            shas = list(request_sha256s[start : start + _IN_ONE_QUERY])
            self.connection.execute(sql.MARK_RECORDED, {"shas": shas})

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
        return self.connection.execute(sql.STAMP, values | self._claim(to)).rowcount == 1

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
        over = money.reserve(self.connection, budgets, intent.cost_micros)
        if over is not None:
            return over
        number = 1
        if after is not None:
            self.connection.execute(sql.FOLLOW, _key(after))
            number = self._next_number(intent.request_sha256)
        now = self.now.wall
        attempt = Attempt(
            intent.request_sha256, number, State.INTENT, holder, now, now, _stored(intent)
        )
        self._insert(attempt, scopes=money.dump_scopes(budgets))
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
        self.connection.execute(sql.REOPEN, values)
        if not rules.is_charged(row.state, accepted=held is not None):
            money.charge(self.connection, money.load_scopes(scopes), row.intent.cost_micros)
        return state

    def _keep_apart(self, row: Attempt, paid: dict[str, Any], scopes: str) -> State:
        """Keep a second paid creation of one attempt in a row of its own, charged too."""
        same = {"sha": row.request_sha256, "key": paid["key"]}
        if self.connection.execute(sql.KEPT, same).first() is None:
            number = self._next_number(row.request_sha256)
            kept = replace(row, number=number, state=State.DUPLICATE, intent_at=self.now.wall)
            self._insert(_paid(kept, paid), scopes=scopes, acceptance=paid["key"], latest=False)
            money.charge(self.connection, money.load_scopes(scopes), row.intent.cost_micros)
        return State.DUPLICATE

    def _keep_lost(self, attempt: Attempt, paid: dict[str, Any]) -> State:
        """Write an accepted attempt whose intent is gone (an older backup was restored).

        A paid id is written whatever happened to the database: with the intent that the caller
        still has, as a duplicate where others have gone on without it.
        """
        row = self.connection.execute(sql.LATEST, {"sha": attempt.request_sha256}).first()
        latest = None if row is None else attempt_from(row)
        state = rules.state_when_lost(attempt, latest)
        if latest is not None and state is State.ACCEPTED:
            self.connection.execute(sql.FOLLOW, _key(latest))
        lost = replace(attempt, state=state, intent=_stored(attempt.intent))
        self._insert(_paid(lost, paid), acceptance=paid["key"], latest=state is State.ACCEPTED)
        return state

    def _next_number(self, request_sha256: str) -> int:
        highest = self.connection.scalar(sql.HIGHEST, {"sha": request_sha256})
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
        self.connection.execute(sql.INSERT, values | self._claim(attempt.holder))


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
