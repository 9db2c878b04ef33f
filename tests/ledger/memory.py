"""The ledger in memory, for the simulator: the same contract, a few microseconds a call.

It keeps plain dictionaries and decides by ``flux_pipeline.ledger.base``, as the SQL one does.
Time is whatever the clock says; ``bury`` says what a lock file shows elsewhere: a holder is dead.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Self

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger import base as rules
from flux_pipeline.ledger.base import (
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
from flux_pipeline.ledger.schema import storable


@dataclass(slots=True)
class _Row:
    attempt: Attempt
    scopes: tuple[str, ...]
    acceptance: str | None = None
    is_free: bool = False
    """Whether it can be claimed although its lease has not ended."""


class MemoryLedger:
    def __init__(self, *, clock: Callable[[], float], lease_seconds: float = 120.0) -> None:
        self._clock = clock
        self._rows: dict[str, dict[int, _Row]] = {}
        self._latest: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._ids: dict[str, str] = {}
        """The request that holds each."""
        self._dead: set[str] = set()
        self.lease_seconds = lease_seconds

    def bury(self, holder: str) -> None:
        """Whatever this holder claims may be taken over at once."""
        self._dead.add(holder)

    def copy(self) -> Self:
        """A backup, which can be put in this ledger's place."""
        backup = type(self)(clock=self._clock, lease_seconds=self.lease_seconds)
        backup._rows = {
            sha: {number: replace(row) for number, row in rows.items()}
            for sha, rows in self._rows.items()
        }
        backup._latest, backup._used = dict(self._latest), dict(self._used)
        backup._ids, backup._dead = dict(self._ids), set(self._dead)
        return backup

    @contextmanager
    def transaction(self) -> Iterator["MemoryLedger"]:
        """For LedgerWriter; nothing is rolled back."""
        yield self

    def find(self, request_sha256s: Sequence[str]) -> dict[str, Attempt]:
        latest = self._latest
        return {
            sha: self._rows[sha][latest[sha]].attempt for sha in request_sha256s if sha in latest
        }

    def history(self, request_sha256: str) -> list[Attempt]:
        rows = self._rows.get(request_sha256, {})
        return [rows[number].attempt for number in sorted(rows)]

    def claim(
        self, intent: Intent, *, holder: str, after: int = 0, budgets: Sequence[Budget] = ()
    ) -> Claim:
        sha = intent.request_sha256
        number = self._latest.get(sha)
        if number is None:
            if after:
                raise LedgerError(f"attempt {after} of request {sha} is not in the ledger")
            return self._start(intent, 1, holder, budgets)
        row = self._rows[sha][number]
        attempt = row.attempt
        if attempt.state.is_open:
            left = self._remaining(row)
            if left > 0:
                return Busy(left)
            row.is_free = False
            row.attempt = replace(
                attempt, holder=holder, claimed_at=self._clock(), claims=attempt.claims + 1
            )
            return Claimed(row.attempt, fresh=False)
        if not rules.may_follow(attempt, after):
            return Over(attempt)
        return self._start(intent, max(self._rows[sha]) + 1, holder, budgets)

    def renew(self, attempt: Attempt, *, holder: str) -> bool:
        row = self._row(attempt)
        if row is None or not row.attempt.state.is_open or not _is_claim(row, attempt, holder):
            return False
        row.attempt = replace(row.attempt, claimed_at=self._clock())
        return True

    def accept(self, attempt: Attempt, *, prediction_id: str | None, reply: str) -> State:
        prediction = None if prediction_id is None else storable(prediction_id)
        raw = storable(reply)
        key = rules.acceptance_of(prediction, raw)
        row = self._row(attempt)
        if row is None:
            return self._keep_lost(attempt, key, prediction, raw)
        was = row.attempt
        if rules.is_left_to_another(
            row.acceptance,
            key,
            is_taken=self._is_taken(was.request_sha256, prediction),
            is_awaited=self._is_awaited(was),
        ):
            self._free(row)
            return State.INTENT
        latest = self._latest[was.request_sha256] == was.number
        state = rules.state_when_accepted(was.state, row.acceptance, key, latest=latest)
        if state is None:
            return self._keep_apart(row, key, prediction, raw)
        if state is was.state and row.acceptance is not None:
            return State.DUPLICATE if state is State.DUPLICATE else State.ACCEPTED
        if not rules.is_charged(was.state, accepted=row.acceptance is not None):
            self._charge(row, was.intent.cost_micros)
        row.attempt = replace(
            was,
            state=state,
            prediction_id=prediction,
            reply=raw,
            error=None,
            retryable=False,
            images="[]",
            recorded=False,
        )
        self._remember(row, key, prediction)
        return state

    def adopt(
        self, attempt: Attempt, *, holder: str, prediction_id: str | None, reply: str
    ) -> Adoption:
        if not self.renew(attempt, holder=holder):
            return Adoption.NOT_OURS
        prediction = None if prediction_id is None else storable(prediction_id)
        raw = storable(reply)
        key = rules.acceptance_of(prediction, raw)
        row = self._rows[attempt.request_sha256][attempt.number]
        if row.acceptance == key:
            return Adoption.HELD
        if row.attempt.state is not State.INTENT:
            return Adoption.NOT_OURS
        if prediction in self._ids:
            return Adoption.TAKEN
        row.attempt = replace(
            row.attempt, state=State.ACCEPTED, prediction_id=prediction, reply=raw
        )
        self._remember(row, key, prediction)
        return Adoption.ADOPTED

    def succeed(self, attempt: Attempt, *, reply: str) -> bool:
        row = self._row(attempt)
        if row is None or row.attempt.state is not State.ACCEPTED:
            return False
        row.attempt = replace(row.attempt, state=State.SUCCEEDED, reply=storable(reply))
        return True

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
        states = rules.states_to_close(attempt.state, state)
        row = self._row(attempt)
        if row is None or row.attempt.state not in states:
            return False
        was = row.attempt
        if was.state in rules.CLAIMED_ALONE and not _is_claim(row, attempt, holder):
            return False
        row.attempt = replace(
            was,
            state=state,
            error=None if error is None else storable(error),
            retryable=retryable,
            images=storable(images),
            reply=was.reply if reply is None else storable(reply),
            resolution=was.resolution if resolution is None else storable(resolution),
            recorded=False,
        )
        if not rules.is_charged(state, accepted=row.acceptance is not None):
            self._charge(row, -was.intent.cost_micros)
        return True

    def allow_retry(self, attempt: Attempt) -> bool:
        row = self._latest_row(attempt, {State.FAILED, State.REFUSED})
        if row is None:
            return False
        row.attempt = replace(row.attempt, state=State.FAILED, retryable=True)
        return True

    def reopen(self, attempt: Attempt) -> bool:
        row = self._latest_row(attempt, {State.FAILED, State.EXPIRED})
        if row is None or row.attempt.prediction_id is None:
            return False
        row.attempt = replace(
            row.attempt,
            state=State.ACCEPTED,
            error=None,
            retryable=False,
            images="[]",
            recorded=False,
        )
        return True

    def _latest_row(self, attempt: Attempt, states: set[State]) -> _Row | None:
        row = self._row(attempt)
        is_latest = self._latest.get(attempt.request_sha256) == attempt.number
        return row if row is not None and is_latest and row.attempt.state in states else None

    def begin_pruning(self, attempt: Attempt, *, holder: str, images: str) -> Attempt | None:
        row = self._latest_row(attempt, {State.STORED, State.PRUNED})
        if row is None or row.attempt.state is not attempt.state:
            return None
        if not _is_claim(row, attempt, attempt.holder):
            return None
        if row.attempt.state is State.STORED and not row.attempt.recorded:
            return None
        row.attempt = replace(
            row.attempt,
            state=State.PRUNING,
            holder=holder,
            claimed_at=self._clock(),
            claims=attempt.claims + 1,
            images=storable(images),
            recorded=False,
        )
        return row.attempt

    def mark_recorded(self, request_sha256s: Sequence[str]) -> None:
        for sha, attempt in self.find(request_sha256s).items():
            if not attempt.state.is_open:
                self._rows[sha][attempt.number].attempt = replace(attempt, recorded=True)

    def unfinished(self, *, older_than: float = 0.0, limit: int = 1000) -> list[Attempt]:
        before = self._clock() - older_than
        latest = (self._rows[sha][number].attempt for sha, number in self._latest.items())
        listed = [
            each
            for each in latest
            if (each.state.is_open or (each.state in rules.FINISHED and not each.recorded))
            and each.claimed_at <= before
        ]
        return sorted(listed, key=attrgetter("intent_at", "request_sha256"))[:limit]

    def in_state(self, state: State, *, limit: int = 1000) -> list[Attempt]:
        listed = [each for each in self.attempts() if each.state is state]
        return sorted(listed, key=attrgetter("intent_at", "request_sha256", "number"))[:limit]

    def spent_micros(self, scope: str) -> int:
        return self._used.get(scope, 0)

    def known_ids(self, prediction_ids: Sequence[str]) -> set[str]:
        return {each for each in prediction_ids if storable(each) in self._ids}

    def ids_of_input(self, input_sha256: str) -> set[str]:
        return {
            each.prediction_id
            for each in self._of_input(input_sha256)
            if each.prediction_id is not None
        }

    def _of_input(self, input_sha256: str) -> Iterator[Attempt]:
        for rows in self._rows.values() if input_sha256 else ():
            for row in rows.values():
                if row.attempt.intent.input_sha256 == input_sha256:
                    yield row.attempt

    def attempts(self) -> Iterator[Attempt]:
        for sha in sorted(self._rows):
            yield from self.history(sha)

    def _row(self, attempt: Attempt) -> _Row | None:
        return self._rows.get(attempt.request_sha256, {}).get(attempt.number)

    def _is_taken(self, request_sha256: str, prediction: str | None) -> bool:
        owner = None if prediction is None else self._ids.get(prediction)
        return owner is not None and owner != request_sha256

    def _is_awaited(self, row: Attempt) -> bool:
        return any(
            each.state in rules.WITHOUT_ID and each.request_sha256 != row.request_sha256
            for each in self._of_input(row.intent.input_sha256)
        )

    def _free(self, row: _Row) -> None:
        if row.attempt.state is State.INTENT:
            row.attempt = replace(row.attempt, claims=row.attempt.claims + 1)
            row.is_free = True

    def _remaining(self, row: _Row) -> float:
        attempt = row.attempt
        if row.is_free or attempt.holder in self._dead:
            return 0.0
        return self.lease_seconds - (self._clock() - attempt.claimed_at)

    def _start(self, intent: Intent, number: int, holder: str, budgets: Sequence[Budget]) -> Claim:
        cost = intent.cost_micros
        for done, (scope, limit) in enumerate((each.scope, each.limit_micros) for each in budgets):
            used = self._used.get(scope, 0)
            if limit is not None and used + cost > limit:
                for each in budgets[:done]:
                    self._used[each.scope] -= cost
                return OverBudget(scope, limit, max(0, limit - used))
            self._used[scope] = used + cost
        now = self._clock()
        sha = intent.request_sha256
        attempt = Attempt(sha, number, State.INTENT, holder, now, now, intent)
        row = _Row(attempt, tuple(each.scope for each in budgets))
        self._rows.setdefault(sha, {})[number] = row
        self._latest[sha] = number
        return Claimed(attempt, fresh=True)

    def _keep_apart(self, row: _Row, key: str, prediction: str | None, raw: str) -> State:
        rows = self._rows[row.attempt.request_sha256]
        if all(each.acceptance != key for each in rows.values()):
            number = max(rows) + 1
            kept = replace(
                row.attempt,
                number=number,
                state=State.DUPLICATE,
                intent_at=self._clock(),
                claimed_at=self._clock(),
                prediction_id=prediction,
                reply=raw,
                error=None,
                retryable=False,
                images="[]",
                recorded=False,
                resolution=None,
            )
            rows[number] = _Row(kept, row.scopes)
            self._remember(rows[number], key, prediction)
            self._charge(row, kept.intent.cost_micros)
        return State.DUPLICATE

    def _keep_lost(self, attempt: Attempt, key: str, prediction: str | None, raw: str) -> State:
        sha = attempt.request_sha256
        if self._is_taken(sha, prediction):
            return State.INTENT
        latest = self.find([sha]).get(sha)
        state = rules.state_when_lost(attempt, latest)
        lost = replace(
            attempt,
            state=state,
            claimed_at=self._clock(),
            prediction_id=prediction,
            reply=raw,
            error=None,
            retryable=False,
            images="[]",
            recorded=False,
            resolution=None,
        )
        row = _Row(lost, ())
        self._rows.setdefault(sha, {})[attempt.number] = row
        if state is State.ACCEPTED:
            self._latest[sha] = attempt.number
        self._remember(row, key, prediction)
        return state

    def _remember(self, row: _Row, key: str, prediction: str | None) -> None:
        row.acceptance = key
        if prediction is not None:
            self._ids.setdefault(prediction, row.attempt.request_sha256)

    def _charge(self, row: _Row, cost: int) -> None:
        for scope in row.scopes:
            self._used[scope] = self._used.get(scope, 0) + cost


def _is_claim(row: _Row, attempt: Attempt, holder: str) -> bool:
    """Whether the row is held by this holder, by the very claim that the caller has in hand."""
    return row.attempt.holder == holder and row.attempt.claims == attempt.claims
