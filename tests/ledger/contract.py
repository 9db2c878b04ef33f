"""The ledger's contract: what the core may rely on, whatever keeps the rows.

A subclass gives the ``ledger`` fixture, on the ``clock`` of these tests and with ``LEASE``.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Budget, Busy, Ledger, Over, OverBudget, State
from tests.ledger.actions import (
    CLOSED,
    COST,
    LEASE,
    OPEN,
    Clock,
    accepted,
    begin,
    bring_to,
    claimed,
    held,
    intent,
    latest,
    sha,
)

HOSTILE = "naïve 图 🖼 \x00 \ud800 '; DROP TABLE attempts; --"


class ClaimContract:
    def test_a_first_claim_writes_the_intent(self, ledger: Ledger, clock: Clock) -> None:
        attempt = begin(ledger)
        assert (attempt.number, attempt.state, attempt.holder) == (1, State.INTENT, "a")
        assert attempt.claimed_at == attempt.intent_at == clock.now
        assert attempt.intent == intent()
        assert latest(ledger) == attempt

    def test_a_claimed_request_is_busy_for_everybody(self, ledger: Ledger, clock: Clock) -> None:
        begin(ledger)
        clock.advance(30)
        for holder in ("a", "b"):
            answer = ledger.claim(intent(), holder=holder)
            assert isinstance(answer, Busy)
            assert answer.seconds == pytest.approx(LEASE - 30)

    @pytest.mark.parametrize("state", OPEN)
    def test_an_open_attempt_is_taken_over_when_its_lease_has_passed(
        self, ledger: Ledger, clock: Clock, state: State
    ) -> None:
        before = bring_to(ledger, state)
        clock.advance(LEASE - 1)
        assert isinstance(ledger.claim(intent(), holder="b"), Busy)
        clock.advance(1)
        taken = claimed(ledger.claim(intent(), holder="b"), fresh=False)
        assert (taken.number, taken.state, taken.holder) == (1, state, "b")
        assert (taken.claimed_at, taken.intent_at) == (clock.now, before.intent_at)
        assert taken.prediction_id == before.prediction_id
        assert latest(ledger) == taken

    def test_a_takeover_starts_a_lease_of_its_own(self, ledger: Ledger, clock: Clock) -> None:
        begin(ledger)
        clock.advance(LEASE)
        claimed(ledger.claim(intent(), holder="b"))
        clock.advance(LEASE - 1)
        assert isinstance(ledger.claim(intent(), holder="c"), Busy)

    def test_a_takeover_keeps_the_first_intent(self, ledger: Ledger, clock: Clock) -> None:
        begin(ledger)
        clock.advance(LEASE)
        other = replace(intent(), run_id="run-2", cost_micros=9)
        assert claimed(ledger.claim(other, holder="b")).intent == intent()

    @pytest.mark.parametrize("state", OPEN)
    def test_a_renewed_lease_starts_anew(self, ledger: Ledger, clock: Clock, state: State) -> None:
        attempt = bring_to(ledger, state)
        for _ in range(3):
            clock.advance(LEASE - 1)
            assert ledger.renew(attempt, holder="a")
        assert isinstance(ledger.claim(intent(), holder="b"), Busy)
        assert latest(ledger).claimed_at == clock.now

    def test_only_the_holder_renews(self, ledger: Ledger, clock: Clock) -> None:
        attempt = begin(ledger)
        assert not ledger.renew(attempt, holder="b")
        clock.advance(LEASE)
        taken = claimed(ledger.claim(intent(), holder="b"))
        assert not ledger.renew(attempt, holder="a")
        assert ledger.renew(taken, holder="b")

    def test_an_earlier_claim_of_the_same_holder_is_over(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        earlier = begin(ledger)
        clock.advance(LEASE)
        later = claimed(ledger.claim(intent(), holder="a"), fresh=False)
        assert not ledger.renew(earlier, holder="a")
        assert not ledger.close(earlier, State.UNSENT, holder="a")
        assert ledger.renew(later, holder="a")
        assert ledger.close(later, State.UNSENT, holder="a")

    @pytest.mark.parametrize("state", CLOSED)
    def test_what_is_closed_is_not_renewed(self, ledger: Ledger, state: State) -> None:
        attempt = bring_to(ledger, state)
        before = latest(ledger)
        assert not ledger.renew(attempt, holder="a")
        assert latest(ledger) == before

    @pytest.mark.parametrize("state", CLOSED)
    def test_what_is_over_is_not_claimed_again_unasked(
        self, ledger: Ledger, clock: Clock, state: State
    ) -> None:
        bring_to(ledger, state)
        clock.advance(2 * LEASE)
        answer = ledger.claim(intent(), holder="b")
        assert answer == Over(latest(ledger))
        assert len(ledger.history(sha(1))) == 1

    @pytest.mark.parametrize("state", [state for state in CLOSED if state.may_be_followed])
    def test_a_named_closed_attempt_is_followed(self, ledger: Ledger, state: State) -> None:
        bring_to(ledger, state)
        second = begin(ledger, holder="b", after=1)
        assert (second.number, second.holder) == (2, "b")
        assert latest(ledger) == second
        assert [each.number for each in ledger.history(sha(1))] == [1, 2]

    def test_what_is_held_waits_until_it_is_ended(self, ledger: Ledger) -> None:
        attempt = held(ledger)
        assert isinstance(ledger.claim(intent(), holder="b", after=1), Over)
        assert ledger.close(attempt, State.RESENT, holder="a person")
        begin(ledger, holder="b", after=1)

    @pytest.mark.parametrize("state", [State.STORED, State.REFUSED, State.HELD])
    def test_what_has_its_end_is_not_followed(self, ledger: Ledger, state: State) -> None:
        bring_to(ledger, state)
        assert ledger.claim(intent(), holder="b", after=1) == Over(latest(ledger))

    def test_a_failure_for_good_is_not_followed(self, ledger: Ledger) -> None:
        attempt = accepted(ledger)
        ledger.close(attempt, State.FAILED, holder="a", retryable=False)
        assert isinstance(ledger.claim(intent(), holder="b", after=1), Over)

    def test_only_one_attempt_follows_the_same_one(self, ledger: Ledger) -> None:
        bring_to(ledger, State.UNSENT)
        second = begin(ledger, holder="b", after=1)
        assert isinstance(ledger.claim(intent(), holder="c", after=1), Busy)
        assert ledger.close(second, State.FAILED, holder="b")
        answer = ledger.claim(intent(), holder="c", after=1)
        assert answer == Over(latest(ledger))

    def test_an_open_attempt_is_not_followed(self, ledger: Ledger, clock: Clock) -> None:
        begin(ledger)
        assert isinstance(ledger.claim(intent(), holder="b", after=1), Busy)
        clock.advance(LEASE)
        assert claimed(ledger.claim(intent(), holder="b", after=1), fresh=False).number == 1

    def test_following_what_the_ledger_never_had_is_an_error(self, ledger: Ledger) -> None:
        with pytest.raises(LedgerError, match=r"attempt 3 of request .* is not in the ledger"):
            ledger.claim(intent(), holder="a", after=3)
        assert not ledger.find([sha(1)])


class AcceptContract:
    def test_an_intent_is_accepted(self, ledger: Ledger) -> None:
        attempt = begin(ledger)
        assert ledger.accept(attempt, prediction_id="p1", reply='{"id":"p1"}') is State.ACCEPTED
        row = latest(ledger)
        assert (row.state, row.prediction_id, row.reply) == (State.ACCEPTED, "p1", '{"id":"p1"}')

    def test_an_id_is_written_whoever_holds_the_attempt_now(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        attempt = begin(ledger)
        clock.advance(LEASE)
        claimed(ledger.claim(intent(), holder="b"))
        assert ledger.accept(attempt, prediction_id="p1", reply="{}") is State.ACCEPTED
        row = latest(ledger)
        assert (row.holder, row.prediction_id) == ("b", "p1")

    def test_what_was_accepted_meanwhile_is_not_given_up(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        attempt = begin(ledger, budgets=(Budget("run:1", None),))
        clock.advance(LEASE)
        taken = claimed(ledger.claim(intent(), holder="b"))
        ledger.accept(attempt, prediction_id="p1", reply="{}")
        for state in (State.UNSENT, State.RESENT, State.HELD):
            assert not ledger.close(taken, state, holder="b")
        assert latest(ledger).state is State.ACCEPTED
        assert ledger.spent_micros("run:1") == COST

    @pytest.mark.parametrize(
        "state",
        [State.ACCEPTED, State.SUCCEEDED, State.FAILED, State.STORED, State.EXPIRED],
    )
    def test_the_same_id_again_changes_nothing(self, ledger: Ledger, state: State) -> None:
        attempt = bring_to(ledger, state)
        before = ledger.history(sha(1))
        assert ledger.accept(attempt, prediction_id="p1", reply="later") is State.ACCEPTED
        assert ledger.history(sha(1)) == before

    @pytest.mark.parametrize(
        "state", [State.UNSENT, State.RESENT, State.FAILED, State.REFUSED, State.HELD]
    )
    def test_an_id_opens_again_what_nothing_has_followed(
        self, ledger: Ledger, clock: Clock, state: State
    ) -> None:
        attempt = begin(ledger)
        ledger.close(attempt, state, holder="a", error="e", retryable=True, images="[1]")
        ledger.mark_recorded([sha(1)])
        assert ledger.accept(attempt, prediction_id="late", reply="{}") is State.ACCEPTED
        row = latest(ledger)
        assert (row.state, row.prediction_id) == (State.ACCEPTED, "late")
        assert (row.error, row.retryable, row.images, row.recorded) == (None, False, "[]", False)
        assert isinstance(ledger.claim(intent(), holder="b", after=1), Busy)
        clock.advance(LEASE)
        claimed(ledger.claim(intent(), holder="b", after=1), fresh=False)

    @pytest.mark.parametrize("state", [State.UNSENT, State.RESENT, State.FAILED])
    def test_an_id_after_another_attempt_followed_is_kept_as_a_duplicate(
        self, ledger: Ledger, state: State
    ) -> None:
        attempt = begin(ledger)
        ledger.close(attempt, state, holder="a", retryable=True)
        second = begin(ledger, holder="b", after=1)
        for _ in range(2):
            assert ledger.accept(attempt, prediction_id="late", reply="{}") is State.DUPLICATE
        first = ledger.history(sha(1))[0]
        assert (first.state, first.prediction_id) == (State.DUPLICATE, "late")
        assert latest(ledger) == second
        assert ledger.in_state(State.DUPLICATE) == [first]
        assert ledger.known_ids(["late"]) == {"late"}

    def test_a_duplicate_is_never_changed(self, ledger: Ledger) -> None:
        attempt = bring_to(ledger, State.RESENT)
        begin(ledger, holder="b", after=1)
        ledger.accept(attempt, prediction_id="late", reply="{}")
        before = ledger.history(sha(1))
        seen = replace(before[0], state=State.ACCEPTED)
        assert not ledger.succeed(seen, reply="{}")
        assert not ledger.renew(seen, holder="a")
        for state in CLOSED:
            assert not ledger.close(seen, state, holder="a")
        assert ledger.history(sha(1)) == before

    def test_a_second_id_is_kept_in_an_attempt_of_its_own(self, ledger: Ledger) -> None:
        attempt = accepted(ledger)
        before = latest(ledger)
        for _ in range(2):
            assert ledger.accept(attempt, prediction_id="second", reply="{}") is State.DUPLICATE
        assert latest(ledger) == before, "what is found is the attempt that is worked on"
        first, second = ledger.history(sha(1))
        assert first == before
        assert (second.state, second.prediction_id) == (State.DUPLICATE, "second")
        assert second.intent == intent()

    def test_a_second_id_does_not_stop_the_first(self, ledger: Ledger) -> None:
        attempt = accepted(ledger)
        ledger.accept(attempt, prediction_id="second", reply="{}")
        assert ledger.succeed(attempt, reply="{}")
        assert ledger.close(attempt, State.FAILED, holder="a", retryable=True)
        third = begin(ledger, holder="b", after=1)
        assert third.number == 3
        assert latest(ledger) == third

    def test_a_creation_without_an_id_is_told_by_its_reply(self, ledger: Ledger) -> None:
        attempt = begin(ledger)
        for _ in range(2):
            state = ledger.accept(attempt, prediction_id=None, reply='{"data":[1]}')
            assert state is State.ACCEPTED
        assert ledger.succeed(attempt, reply="{}")
        assert ledger.accept(attempt, prediction_id=None, reply='{"data":[1]}') is State.ACCEPTED
        assert len(ledger.history(sha(1))) == 1
        assert ledger.accept(attempt, prediction_id=None, reply='{"data":[2]}') is State.DUPLICATE
        assert len(ledger.history(sha(1))) == 2

    def test_an_attempt_that_the_ledger_lost_is_written_whole(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        attempt = replace(begin(ledger, 1), request_sha256=sha(2), intent=intent(2))
        assert ledger.accept(attempt, prediction_id="p2", reply="{}") is State.ACCEPTED
        row = latest(ledger, 2)
        assert (row.state, row.prediction_id, row.intent) == (State.ACCEPTED, "p2", intent(2))
        clock.advance(LEASE)
        claimed(ledger.claim(intent(2), holder="b"), fresh=False)

    @pytest.mark.parametrize("state", [*OPEN, *CLOSED])
    def test_a_lost_attempt_gives_way_to_what_others_began(
        self, ledger: Ledger, state: State
    ) -> None:
        attempt = replace(bring_to(ledger, state), number=2)
        answer = ledger.accept(attempt, prediction_id="lost", reply="{}")
        assert answer is (State.DUPLICATE if state.is_open else State.ACCEPTED)
        assert latest(ledger).number == (1 if state.is_open else 2)
        assert ledger.known_ids(["lost"]) == {"lost"}

    def test_whatever_the_provider_answers_can_be_written(self, ledger: Ledger) -> None:
        attempt = begin(ledger)
        assert ledger.accept(attempt, prediction_id=HOSTILE, reply=HOSTILE) is State.ACCEPTED
        assert ledger.known_ids([HOSTILE]) == {HOSTILE}
        assert ledger.succeed(attempt, reply=HOSTILE)
        assert ledger.close(
            attempt, State.FAILED, holder="a", error=HOSTILE, images=HOSTILE, resolution=HOSTILE
        )
        assert "图 🖼 \\x00 \\ud800" in (latest(ledger).error or "")


class CloseContract:
    def test_success_is_written_once(self, ledger: Ledger) -> None:
        attempt = begin(ledger)
        assert not ledger.succeed(attempt, reply="final")
        ledger.accept(attempt, prediction_id="p1", reply="{}")
        assert ledger.succeed(attempt, reply="final")
        assert not ledger.succeed(attempt, reply="again")
        assert (latest(ledger).state, latest(ledger).reply) == (State.SUCCEEDED, "final")

    @pytest.mark.parametrize("state", [State.ACCEPTED, State.SUCCEEDED])
    @pytest.mark.parametrize("target", [State.STORED, State.REFUSED, State.FAILED, State.EXPIRED])
    def test_anybody_finishes_what_was_accepted(
        self, ledger: Ledger, state: State, target: State
    ) -> None:
        attempt = bring_to(ledger, state)
        assert ledger.close(
            attempt, target, holder="z", error="e", retryable=True, images="[1]", resolution="r"
        )
        row = latest(ledger)
        assert (row.state, row.error, row.retryable) == (target, "e", True)
        assert (row.images, row.resolution, row.recorded) == ("[1]", "r", False)

    @pytest.mark.parametrize("target", [State.STORED, State.FAILED])
    def test_who_saw_only_the_intent_may_finish_what_was_accepted(
        self, ledger: Ledger, target: State
    ) -> None:
        attempt = begin(ledger)
        ledger.accept(attempt, prediction_id="p1", reply="{}")
        assert ledger.close(attempt, target, holder="a")

    @pytest.mark.parametrize(
        "target", [State.UNSENT, State.RESENT, State.HELD, State.REFUSED, State.FAILED]
    )
    def test_an_intent_is_closed_by_its_holder_alone(self, ledger: Ledger, target: State) -> None:
        attempt = begin(ledger)
        assert not ledger.close(attempt, target, holder="b")
        assert latest(ledger) == attempt
        assert ledger.close(attempt, target, holder="a")
        assert latest(ledger).state is target

    @pytest.mark.parametrize("target", [State.STORED, State.EXPIRED])
    def test_an_intent_can_not_end_as_paid(self, ledger: Ledger, target: State) -> None:
        attempt = begin(ledger)
        assert not ledger.close(attempt, target, holder="a")
        assert latest(ledger).state is State.INTENT

    @pytest.mark.parametrize("target", [State.UNSENT, State.RESENT, State.HELD])
    def test_what_was_accepted_can_not_be_given_up(self, ledger: Ledger, target: State) -> None:
        attempt = accepted(ledger)
        assert not ledger.close(attempt, target, holder="a")
        assert latest(ledger).state is State.ACCEPTED

    @pytest.mark.parametrize("state", [state for state in CLOSED if state is not State.HELD])
    @pytest.mark.parametrize("target", CLOSED)
    def test_what_is_closed_stays_closed(self, ledger: Ledger, state: State, target: State) -> None:
        attempt = bring_to(ledger, state)
        before = latest(ledger)
        for seen in (attempt, replace(attempt, state=State.INTENT)):
            assert not ledger.close(seen, target, holder="a", images="[1]")
        assert latest(ledger) == before

    @pytest.mark.parametrize(
        "target", [State.UNSENT, State.RESENT, State.REFUSED, State.FAILED, State.EXPIRED]
    )
    def test_what_is_held_is_ended_by_who_saw_it_held(self, ledger: Ledger, target: State) -> None:
        attempt = held(ledger)
        assert not ledger.close(replace(attempt, state=State.INTENT), target, holder="a")
        assert not ledger.close(attempt, State.STORED, holder="a person")
        assert ledger.close(attempt, target, holder="a person", resolution="by hand")
        assert (latest(ledger).state, latest(ledger).resolution) == (target, "by hand")

    @pytest.mark.parametrize(
        "target", [State.INTENT, State.ACCEPTED, State.SUCCEEDED, State.DUPLICATE]
    )
    def test_an_attempt_is_not_closed_in_an_open_state(self, ledger: Ledger, target: State) -> None:
        attempt = begin(ledger)
        with pytest.raises(ValueError, match=f"can't be closed as {target.value}"):
            ledger.close(attempt, target, holder="a")

    def test_closing_keeps_what_it_does_not_name(self, ledger: Ledger) -> None:
        attempt = held(ledger)
        ledger.close(attempt, State.UNSENT, holder="a", resolution="absent")
        attempt = begin(ledger, holder="a", after=1)
        ledger.accept(attempt, prediction_id="p2", reply="reply")
        assert ledger.close(attempt, State.FAILED, holder="a", error="nsfw")
        assert latest(ledger).reply == "reply"
        assert ledger.history(sha(1))[0].resolution == "absent"


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

    @pytest.mark.parametrize("target", [State.REFUSED, State.FAILED, State.EXPIRED, State.STORED])
    @pytest.mark.parametrize("prediction_id", ["p1", None])
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


class ReadContract:
    def test_find_gives_the_latest_of_many(self, ledger: Ledger) -> None:
        for number in range(1, 6):
            bring_to(ledger, State.UNSENT, number)
        begin(ledger, 3, holder="b", after=1)
        found = ledger.find([sha(number) for number in range(1, 2500)])
        assert {each: found[each].number for each in found} == {
            sha(number): 2 if number == 3 else 1 for number in range(1, 6)
        }
        assert not ledger.find([])

    def test_history_of_an_unknown_request_is_empty(self, ledger: Ledger) -> None:
        assert not ledger.history(sha(9))

    def test_known_ids_are_those_that_some_attempt_holds(self, ledger: Ledger) -> None:
        accepted(ledger, 1, id_="p1")
        accepted(ledger, 2, id_="p2")
        assert ledger.known_ids(["p2", "p3", "p2"]) == {"p2"}
        assert ledger.known_ids([str(number) for number in range(2500)]) == set()

    def test_in_state_lists_the_oldest_first(self, ledger: Ledger, clock: Clock) -> None:
        for number in (3, 1, 2):
            held(ledger, number)
            clock.advance(1)
        begin(ledger, 4)
        listed = ledger.in_state(State.HELD)
        assert [each.request_sha256 for each in listed] == [sha(3), sha(1), sha(2)]
        assert len(ledger.in_state(State.HELD, limit=2)) == 2

    def test_unfinished_are_open_or_without_lineage(self, ledger: Ledger) -> None:
        for number, state in enumerate([*OPEN, *CLOSED], start=1):
            bring_to(ledger, state, number)
        listed = {each.state for each in ledger.unfinished()}
        assert listed == {
            *OPEN,
            *(State.STORED, State.REFUSED, State.FAILED, State.EXPIRED),
        }

    def test_what_was_followed_or_kept_apart_is_not_unfinished(self, ledger: Ledger) -> None:
        bring_to(ledger, State.FAILED)
        second = begin(ledger, holder="b", after=1)
        ledger.accept(second, prediction_id="p2", reply="{}")
        ledger.accept(second, prediction_id="p3", reply="{}")
        assert [each.number for each in ledger.unfinished()] == [2]

    def test_unfinished_are_old_enough_and_the_oldest_first(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        first = begin(ledger, 2)
        clock.advance(10)
        begin(ledger, 1)
        clock.advance(50)
        assert [each.request_sha256 for each in ledger.unfinished(older_than=50)] == [
            sha(2),
            sha(1),
        ]
        assert [each.request_sha256 for each in ledger.unfinished(older_than=51)] == [sha(2)]
        assert [each.request_sha256 for each in ledger.unfinished(limit=1)] == [sha(2)]
        ledger.renew(first, holder="a")
        assert not ledger.unfinished(older_than=51)

    def test_recorded_attempts_are_finished(self, ledger: Ledger) -> None:
        bring_to(ledger, State.STORED, 1)
        bring_to(ledger, State.STORED, 2)
        for _ in range(2):
            ledger.mark_recorded([sha(1), sha(3)])
        assert latest(ledger, 1).recorded
        assert [each.request_sha256 for each in ledger.unfinished()] == [sha(2)]
        ledger.mark_recorded([])

    def test_what_is_open_can_not_be_recorded(self, ledger: Ledger) -> None:
        attempt = accepted(ledger)
        ledger.mark_recorded([sha(1)])
        assert not latest(ledger).recorded
        ledger.close(attempt, State.STORED, holder="a")
        assert [each.state for each in ledger.unfinished()] == [State.STORED]

    def test_a_recorded_end_that_changes_must_be_recorded_again(self, ledger: Ledger) -> None:
        attempt = held(ledger)
        ledger.mark_recorded([sha(1)])
        ledger.close(attempt, State.FAILED, holder="a person")
        assert [each.state for each in ledger.unfinished()] == [State.FAILED]

    def test_attempts_are_all_there_in_order(self, ledger: Ledger) -> None:
        for number in (3, 1, 2):
            bring_to(ledger, State.UNSENT, number)
        begin(ledger, 1, holder="b", after=1)
        listed = [(each.request_sha256, each.number) for each in ledger.attempts()]
        assert listed == [(sha(1), 1), (sha(1), 2), (sha(2), 1), (sha(3), 1)]
        assert next(iter(ledger.attempts())) == ledger.history(sha(1))[0]


class ReplayContract:
    @pytest.mark.parametrize("given_up", [None, State.UNSENT, State.RESENT, State.HELD])
    @pytest.mark.parametrize("end", [State.STORED, State.REFUSED, State.FAILED, State.EXPIRED])
    def test_i6_replaying_any_prefix_changes_nothing(
        self, ledger: Ledger, given_up: State | None, end: State
    ) -> None:
        attempt = begin(ledger, budgets=(Budget("run:1", None),))
        writes: list[Callable[[], object]] = [
            lambda: ledger.accept(attempt, prediction_id="p1", reply="{}"),
            lambda: ledger.succeed(attempt, reply="final"),
            lambda: ledger.close(attempt, end, holder="a", images="[1]", error="e"),
            lambda: ledger.mark_recorded([attempt.request_sha256]),
        ]
        if given_up is not None:
            writes.insert(0, lambda: ledger.close(attempt, given_up, holder="a"))
        for done in range(len(writes)):
            writes[done]()
            after = (ledger.history(sha(1)), ledger.spent_micros("run:1"))
            for write in writes[: done + 1]:
                write()
            assert (ledger.history(sha(1)), ledger.spent_micros("run:1")) == after


class LedgerContract(
    ClaimContract, AcceptContract, CloseContract, BudgetContract, ReadContract, ReplayContract
):
    """All of it."""
