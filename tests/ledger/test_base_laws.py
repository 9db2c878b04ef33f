"""Laws of the ledger, tried on random sequences of calls against a model of a few dictionaries.

The model decides on its own and shares no code with the ledgers. Numbers I1 to I6 are the
project's invariants: those that a ledger can keep.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flux_pipeline.ledger.base import (
    Adoption,
    Attempt,
    Budget,
    Busy,
    Claimed,
    Ledger,
    Over,
    OverBudget,
    State,
)
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.attempts import COST, LEASE, Clock, intent, sha, wipe
from tests.ledger.memory import MemoryLedger

S = State
OPEN = {S.INTENT, S.ACCEPTED, S.SUCCEEDED, S.PRUNING}
ENDS = {
    S.INTENT: {S.UNSENT, S.RESENT, S.HELD, S.REFUSED, S.FAILED},
    S.ACCEPTED: {S.STORED, S.REFUSED, S.FAILED, S.EXPIRED},
    S.SUCCEEDED: {S.STORED, S.REFUSED, S.FAILED, S.EXPIRED},
    S.HELD: {S.UNSENT, S.RESENT, S.REFUSED, S.FAILED, S.EXPIRED},
    S.PRUNING: {S.STORED, S.PRUNED},
}
FOLLOWED = {S.UNSENT, S.RESENT, S.EXPIRED, S.PRUNED}
LIMIT = 4 * COST
BUDGETS = (Budget("run:1", LIMIT), Budget("all", None))

holders = st.sampled_from("ab")
numbers = st.integers(1, 2)
ids = st.sampled_from(["p1", "p2", "p3"])
ends = st.sampled_from(sorted({end for ends in ENDS.values() for end in ends}))
seconds = st.sampled_from([1.0, LEASE / 2, LEASE])


@dataclass
class Row:
    """What the model knows of one attempt."""

    state: State
    holder: str = ""
    claims: int = 1
    claimed_at: float = 0.0
    retryable: bool = False
    recorded: bool = False
    prediction_id: str | None = None

    @property
    def charged(self) -> bool:
        return self.prediction_id is not None or self.state not in (S.UNSENT, S.REFUSED)


@dataclass
class Model:
    """Rows by request and number, and the number that a request is known by."""

    rows: dict[int, dict[int, Row]] = field(default_factory=dict)
    latest: dict[int, int] = field(default_factory=dict)

    def used(self) -> int:
        return sum(COST for rows in self.rows.values() for row in rows.values() if row.charged)


class LedgerMachine(RuleBasedStateMachine):
    """Two workers, two requests, three prediction ids, one clock."""

    clock = Clock()

    def make_ledger(self) -> Ledger:
        raise NotImplementedError

    def __init__(self) -> None:
        super().__init__()
        self.ledger = self.make_ledger()
        self.model = Model()
        self.seen: list[tuple[int, Attempt]] = []
        self.paid: set[tuple[int, str]] = set()

    @rule(by=seconds)
    def time_passes(self, by: float) -> None:
        self.clock.advance(by)

    @rule(number=numbers, holder=holders, follow=st.booleans())
    def claim(self, number: int, holder: str, *, follow: bool) -> None:
        at = self.model.latest.get(number, 0)
        after = at if follow else 0
        answer = self.ledger.claim(intent(number), holder=holder, after=after, budgets=BUDGETS)
        row = self.model.rows.get(number, {}).get(at)
        if row is not None and row.state in OPEN:
            if self.clock.now - row.claimed_at < LEASE:
                assert isinstance(answer, Busy)
                return
            assert isinstance(answer, Claimed)
            assert not answer.fresh
            row.holder, row.claims, row.claimed_at = holder, row.claims + 1, self.clock.now
        elif row is not None and not (follow and may_be_followed(row)):
            assert isinstance(answer, Over)
            return
        elif self.model.used() + COST > LIMIT:
            assert isinstance(answer, OverBudget)
            return
        else:
            assert isinstance(answer, Claimed)
            assert answer.fresh
            rows = self.model.rows.setdefault(number, {})
            self.model.latest[number] = max(rows, default=0) + 1
            rows[self.model.latest[number]] = Row(S.INTENT, holder, 1, self.clock.now)
        assert answer.attempt.number == self.model.latest[number]
        self.seen.append((number, answer.attempt))

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), holder=holders)
    def renew(self, data: st.DataObject, holder: str) -> None:
        number, attempt = data.draw(st.sampled_from(self.seen))
        row = self.model.rows[number][attempt.number]
        ours = (row.holder, row.claims) == (holder, attempt.claims) and row.state in OPEN
        assert self.ledger.renew(attempt, holder=holder) is ours
        if ours:
            row.claimed_at = self.clock.now

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), prediction_id=ids)
    def accept(self, data: st.DataObject, prediction_id: str) -> None:
        number, attempt = data.draw(st.sampled_from(self.seen))
        answer = self.ledger.accept(attempt, prediction_id=prediction_id, reply="{}")
        rows = self.model.rows[number]
        row = rows[attempt.number]
        if any(held == prediction_id for other, held in self.paid if other != number):
            assert answer is S.INTENT
            if row.state is S.INTENT:  # and can be claimed at once
                row.claims, row.claimed_at = row.claims + 1, -math.inf
            return
        self.paid.add((number, prediction_id))
        if row.prediction_id not in (None, prediction_id):
            assert answer is S.DUPLICATE
            if all(each.prediction_id != prediction_id for each in rows.values()):
                rows[max(rows) + 1] = Row(S.DUPLICATE, prediction_id=prediction_id)
            return
        if row.prediction_id is None:
            followed = self.model.latest[number] != attempt.number
            row.state, row.retryable = (S.DUPLICATE if followed else S.ACCEPTED), False
        row.prediction_id = prediction_id
        assert answer is (S.DUPLICATE if row.state is S.DUPLICATE else S.ACCEPTED)

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), prediction_id=ids, holder=holders)
    def adopt(self, data: st.DataObject, prediction_id: str, holder: str) -> None:
        number, attempt = data.draw(st.sampled_from(self.seen))
        row = self.model.rows[number][attempt.number]
        answer = self.ledger.adopt(attempt, holder=holder, prediction_id=prediction_id, reply="{}")
        if (row.holder, row.claims) != (holder, attempt.claims) or row.state not in OPEN:
            assert answer is Adoption.NOT_OURS
            return
        row.claimed_at = self.clock.now
        if row.prediction_id == prediction_id:
            assert answer is Adoption.HELD
        elif row.state is not S.INTENT:
            assert answer is Adoption.NOT_OURS
        elif any(held == prediction_id for _, held in self.paid):
            assert answer is Adoption.TAKEN
        else:
            assert answer is Adoption.ADOPTED
            row.state, row.prediction_id = S.ACCEPTED, prediction_id
            self.paid.add((number, prediction_id))

    @precondition(lambda self: self.seen)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        number, attempt = data.draw(st.sampled_from(self.seen))
        row = self.model.rows[number][attempt.number]
        assert self.ledger.succeed(attempt, reply="{}") is (row.state is S.ACCEPTED)
        if row.state is S.ACCEPTED:
            row.state = S.SUCCEEDED

    @precondition(lambda self: self.seen)
    @rule(data=st.data(), end=ends, holder=holders, again=st.booleans(), held=st.booleans())
    def close(
        self, data: st.DataObject, end: State, holder: str, *, again: bool, held: bool
    ) -> None:
        number, attempt = data.draw(st.sampled_from(self.seen))
        row = self.model.rows[number][attempt.number]
        if held:
            attempt = replace(attempt, state=S.HELD)
        mine = (row.holder, row.claims) == (holder, attempt.claims)
        possible = (
            end in ENDS.get(row.state, ())
            and (row.state is S.HELD) is held
            and (row.state is S.PRUNING) is (attempt.state is S.PRUNING)
            and (row.state not in (S.INTENT, S.PRUNING) or mine)
        )
        assert self.ledger.close(attempt, end, holder=holder, retryable=again) is possible
        if possible:
            row.state, row.retryable, row.recorded = end, again, False

    @rule(number=numbers)
    def mark_recorded(self, number: int) -> None:
        self.ledger.mark_recorded([sha(number)])
        row = self.model.rows.get(number, {}).get(self.model.latest.get(number, 0))
        if row is not None and row.state not in OPEN:
            row.recorded = True

    @rule(number=numbers, holder=holders)
    def begin_pruning(self, number: int, holder: str) -> None:
        found = self.ledger.find([sha(number)]).get(sha(number))
        if found is None:
            return
        row = self.model.rows[number][found.number]
        possible = row.state is S.PRUNED or (row.state is S.STORED and row.recorded)
        begun = self.ledger.begin_pruning(found, holder=holder, images="[]")
        assert (begun is not None) is possible
        if begun is not None:
            row.state, row.holder, row.claims = S.PRUNING, holder, row.claims + 1
            row.claimed_at, row.recorded = self.clock.now, False
            self.seen.append((number, begun))

    @invariant()
    def the_rows_are_as_the_model_says(self) -> None:
        for number, rows in self.model.rows.items():
            stored = {each.number: each for each in self.ledger.history(sha(number))}
            assert {at: (each.state, each.prediction_id) for at, each in stored.items()} == {
                at: (row.state, row.prediction_id) for at, row in rows.items()
            }
            found = self.ledger.find([sha(number)])[sha(number)]
            assert found == stored[self.model.latest[number]]

    @invariant()
    def i1_nothing_is_accepted_or_done_without_its_intent(self) -> None:
        for attempt in self.ledger.attempts():
            assert attempt.intent.request_json == intent().request_json
            assert attempt.intent_at >= Clock().now

    @invariant()
    def i3_only_what_is_over_counts_as_recorded(self) -> None:
        assert not any(each.recorded and each.state in OPEN for each in self.ledger.attempts())

    @invariant()
    def i4_every_paid_creation_is_a_known_id(self) -> None:
        kept = {(each.request_sha256, each.prediction_id) for each in self.ledger.attempts()}
        assert all((sha(number), each) in kept for number, each in self.paid)
        wanted = {each for _, each in self.paid}
        assert self.ledger.known_ids(["p1", "p2", "p3"]) == wanted

    @invariant()
    def no_id_is_held_by_two_requests(self) -> None:
        held = {(each.request_sha256, each.prediction_id) for each in self.ledger.attempts()}
        ids = [each for _, each in held if each is not None]
        assert len(ids) == len(set(ids))

    @invariant()
    def the_budget_is_what_the_attempts_cost(self) -> None:
        for budget in BUDGETS:
            assert self.ledger.spent_micros(budget.scope) == self.model.used()

    @invariant()
    def at_most_one_attempt_of_a_request_is_worked_on(self) -> None:
        for number, rows in self.model.rows.items():
            open_ones = [at for at, row in rows.items() if row.state in OPEN]
            assert open_ones in ([], [self.model.latest[number]])


def may_be_followed(row: Row) -> bool:
    return row.state in FOLLOWED or (row.state is S.FAILED and row.retryable)


@pytest.fixture(scope="module")
def sqlite_ledger() -> Iterator[SqlLedger]:
    with (
        tempfile.TemporaryDirectory() as folder,
        open_ledger(
            f"sqlite:///{folder}/ledger.db", lease_seconds=LEASE, clock=LedgerMachine.clock
        ) as ledger,
    ):
        yield ledger


def test_the_memory_ledger_does_what_the_model_does() -> None:
    class MemoryMachine(LedgerMachine):
        def make_ledger(self) -> Ledger:
            return MemoryLedger(clock=self.clock, lease_seconds=LEASE)

    run_state_machine_as_test(
        MemoryMachine,
        settings=settings(max_examples=40, stateful_step_count=30, deadline=None),
    )


def test_the_sqlite_ledger_does_what_the_model_does(sqlite_ledger: SqlLedger) -> None:
    class SqliteMachine(LedgerMachine):
        def make_ledger(self) -> Ledger:
            wipe(sqlite_ledger)
            return sqlite_ledger

    run_state_machine_as_test(
        SqliteMachine, settings=settings(max_examples=12, stateful_step_count=25, deadline=None)
    )
