"""Budgets: reserved with the intent, given back for what was never accepted."""

import pytest

from flux_pipeline.ledger.base import Budget, Ledger, OverBudget, State
from tests.ledger.attempts import (
    COST,
    LEASE,
    Clock,
    begin,
    claimed,
    held,
    intent,
    sha,
)


class BudgetContract:
    RUN = Budget("run:1", 10 * COST)
    MONTH = Budget("month:winter:2026-11", None)

    def test_an_intent_reserves_every_budget(self, ledger: Ledger) -> None:
        begin(ledger, budgets=(self.RUN, self.MONTH))
        assert ledger.spent_micros("run:1") == COST
        assert ledger.spent_micros("month:winter:2026-11") == COST
        assert ledger.spent_micros("run:2") == 0

    def test_a_budget_is_used_to_the_last_micro_and_no_further(self, ledger: Ledger) -> None:
        exact = (Budget("run:1", 2 * COST),)
        begin(ledger, 1, budgets=exact)
        begin(ledger, 2, budgets=exact)
        answer = ledger.claim(intent(3), holder="a", budgets=exact)
        assert answer == OverBudget("run:1", 2 * COST, 0)
        assert not ledger.find([sha(3)])

    def test_a_first_intent_may_be_too_dear_itself(self, ledger: Ledger) -> None:
        answer = ledger.claim(intent(1), holder="a", budgets=[Budget("run:1", COST - 1)])
        assert answer == OverBudget("run:1", COST - 1, COST - 1)
        assert ledger.spent_micros("run:1") == 0

    def test_one_full_budget_leaves_the_others_untouched(self, ledger: Ledger) -> None:
        budgets = (self.MONTH, self.RUN, Budget("day", COST - 1))
        answer = ledger.claim(intent(), holder="a", budgets=budgets)
        assert isinstance(answer, OverBudget)
        assert (answer.scope, answer.left_micros) == ("day", COST - 1)
        for budget in budgets:
            assert ledger.spent_micros(budget.scope) == 0

    def test_a_lowered_limit_leaves_nothing(self, ledger: Ledger) -> None:
        begin(ledger, 1, budgets=(Budget("run:1", COST),))
        answer = ledger.claim(intent(2), holder="a", budgets=[Budget("run:1", 1)])
        assert answer == OverBudget("run:1", 1, 0)

    def test_only_a_written_intent_costs(self, ledger: Ledger, clock: Clock) -> None:
        budgets = (self.RUN,)
        begin(ledger, budgets=budgets)
        ledger.claim(intent(), holder="b", budgets=budgets)
        clock.advance(LEASE)
        taken = claimed(ledger.claim(intent(), holder="b", budgets=budgets))
        ledger.close(taken, State.FAILED, holder="b")
        ledger.claim(intent(), holder="b", budgets=budgets)
        assert ledger.spent_micros("run:1") == COST

    @pytest.mark.parametrize(
        ("target", "left"),
        [
            (State.UNSENT, 0),
            (State.REFUSED, 0),
            (State.FAILED, COST),
            (State.RESENT, COST),
            (State.HELD, COST),
        ],
    )
    def test_what_was_never_accepted_gives_its_budget_back(
        self, ledger: Ledger, target: State, left: int
    ) -> None:
        attempt = begin(ledger, budgets=(self.RUN, self.MONTH))
        for _ in range(2):
            ledger.close(attempt, target, holder="a")
        assert ledger.spent_micros("run:1") == left
        assert ledger.spent_micros("month:winter:2026-11") == left

    @pytest.mark.parametrize(
        ("target", "prediction_id"),
        [(State.REFUSED, "p1"), (State.REFUSED, None), (State.FAILED, "p1"), (State.STORED, None)],
    )
    def test_what_was_accepted_stays_paid(
        self, ledger: Ledger, target: State, prediction_id: str | None
    ) -> None:
        attempt = begin(ledger, budgets=(self.RUN,))
        ledger.accept(attempt, prediction_id=prediction_id, reply="{}")
        assert ledger.close(attempt, target, holder="a")
        assert ledger.spent_micros("run:1") == COST

    def test_what_is_held_gives_back_when_it_proves_unsent(self, ledger: Ledger) -> None:
        attempt = held(ledger, budgets=(self.RUN,))
        assert ledger.spent_micros("run:1") == COST
        ledger.close(attempt, State.UNSENT, holder="a person")
        assert ledger.spent_micros("run:1") == 0

    @pytest.mark.parametrize("target", [State.UNSENT, State.REFUSED, State.RESENT, State.HELD])
    def test_an_id_that_turns_up_late_is_charged_once(self, ledger: Ledger, target: State) -> None:
        attempt = begin(ledger, budgets=(self.RUN,))
        ledger.close(attempt, target, holder="a")
        for _ in range(2):
            ledger.accept(attempt, prediction_id="late", reply="{}")
        assert ledger.spent_micros("run:1") == COST

    def test_a_second_id_is_charged_even_beyond_the_limit(self, ledger: Ledger) -> None:
        attempt = begin(ledger, budgets=(Budget("run:1", COST),))
        for prediction_id in ("p1", "second", "second"):
            ledger.accept(attempt, prediction_id=prediction_id, reply="{}")
        assert ledger.spent_micros("run:1") == 2 * COST
