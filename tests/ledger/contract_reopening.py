"""Reopening: what a person or a policy may ask for again, and what nobody may."""

from dataclasses import replace

import pytest

from flux_pipeline.ledger.base import Budget, Busy, Ledger, Over, State
from tests.ledger.attempts import (
    CLOSED,
    COST,
    LEASE,
    OPEN,
    Clock,
    begin,
    bring_to,
    claimed,
    intent,
    latest,
    sha,
)

RETRIED = (State.FAILED, State.REFUSED)
REOPENED = (State.FAILED, State.EXPIRED)


class RetryContract:
    @pytest.mark.parametrize("state", RETRIED)
    def test_a_failed_or_refused_one_may_be_followed_once_it_is_allowed(
        self, ledger: Ledger, state: State
    ) -> None:
        attempt = begin(ledger)
        ledger.close(attempt, state, holder="a", error="out of memory", images="[1]")
        assert isinstance(ledger.claim(intent(), holder="b", after=1), Over)

        assert ledger.allow_retry(latest(ledger))

        row = latest(ledger)
        assert (row.state, row.retryable, row.error) == (State.FAILED, True, "out of memory")
        second = begin(ledger, holder="b", after=1)
        assert (second.number, latest(ledger)) == (2, second)

    @pytest.mark.parametrize("state", [each for each in [*OPEN, *CLOSED] if each not in RETRIED])
    def test_nothing_else_may_be_asked_again(self, ledger: Ledger, state: State) -> None:
        attempt = bring_to(ledger, state)
        before = latest(ledger)
        assert not ledger.allow_retry(attempt)
        assert latest(ledger) == before

    def test_what_another_attempt_has_followed_is_not_asked_again(self, ledger: Ledger) -> None:
        first = bring_to(ledger, State.FAILED)
        second = begin(ledger, holder="b", after=1)
        assert not ledger.allow_retry(first)
        assert ledger.history(sha(1))[0].state is State.FAILED
        assert latest(ledger) == second

    def test_one_that_the_ledger_never_had_is_not_asked_again(self, ledger: Ledger) -> None:
        attempt = bring_to(ledger, State.FAILED)
        assert not ledger.allow_retry(replace(attempt, number=2))
        assert not ledger.allow_retry(replace(attempt, request_sha256=sha(2)))

    def test_allowing_it_again_changes_nothing(self, ledger: Ledger) -> None:
        attempt = bring_to(ledger, State.FAILED)
        ledger.allow_retry(attempt)
        before = latest(ledger)
        assert ledger.allow_retry(attempt)
        assert latest(ledger) == before

    def test_what_a_failure_cost_stays_counted_and_the_next_one_is_too(
        self, ledger: Ledger
    ) -> None:
        budgets = (Budget("run:1", None),)
        attempt = begin(ledger, budgets=budgets)
        ledger.accept(attempt, prediction_id="p1", reply="{}")
        ledger.close(attempt, State.FAILED, holder="a")
        ledger.allow_retry(attempt)
        assert ledger.spent_micros("run:1") == COST
        begin(ledger, after=1, budgets=budgets)
        assert ledger.spent_micros("run:1") == 2 * COST

    def test_what_a_refusal_gave_back_is_reserved_by_the_next_one_alone(
        self, ledger: Ledger
    ) -> None:
        budgets = (Budget("run:1", None),)
        attempt = begin(ledger, budgets=budgets)
        ledger.close(attempt, State.REFUSED, holder="a")
        ledger.allow_retry(attempt)
        assert ledger.spent_micros("run:1") == 0
        begin(ledger, after=1, budgets=budgets)
        assert ledger.spent_micros("run:1") == COST


class ReopenContract:
    @pytest.mark.parametrize("state", REOPENED)
    def test_what_was_believed_gone_is_open_again_by_its_id(
        self, ledger: Ledger, clock: Clock, state: State
    ) -> None:
        attempt = begin(ledger)
        ledger.accept(attempt, prediction_id="p1", reply="{}")
        ledger.close(attempt, state, holder="a", error="404", retryable=True, images="[1]")
        ledger.mark_recorded([sha(1)])

        assert ledger.reopen(latest(ledger))

        row = latest(ledger)
        assert (row.state, row.prediction_id, row.number) == (State.ACCEPTED, "p1", 1)
        assert (row.error, row.retryable, row.images, row.recorded) == (None, False, "[]", False)
        assert ledger.unfinished() == [row]
        clock.advance(LEASE)
        taken = claimed(ledger.claim(intent(), holder="b"), fresh=False)
        assert ledger.close(taken, State.STORED, holder="b", images="[2]")

    def test_a_reopened_one_is_followed_by_no_other(self, ledger: Ledger, clock: Clock) -> None:
        ledger.reopen(bring_to(ledger, State.EXPIRED))
        assert isinstance(ledger.claim(intent(), holder="b", after=1), Busy)
        clock.advance(LEASE)
        assert not claimed_fresh(ledger)

    def test_one_without_an_id_is_not_opened(self, ledger: Ledger) -> None:
        attempt = begin(ledger)
        ledger.close(attempt, State.FAILED, holder="a")
        assert not ledger.reopen(attempt)
        assert latest(ledger).state is State.FAILED

    @pytest.mark.parametrize("state", [each for each in [*OPEN, *CLOSED] if each not in REOPENED])
    def test_nothing_else_is_opened(self, ledger: Ledger, state: State) -> None:
        attempt = bring_to(ledger, state)
        before = latest(ledger)
        assert not ledger.reopen(attempt)
        assert latest(ledger) == before

    def test_what_another_attempt_has_followed_is_not_opened(self, ledger: Ledger) -> None:
        first = bring_to(ledger, State.EXPIRED)
        second = begin(ledger, holder="b", after=1)
        assert not ledger.reopen(first)
        assert latest(ledger) == second

    def test_what_it_cost_stays_counted_once(self, ledger: Ledger) -> None:
        attempt = begin(ledger, budgets=(Budget("run:1", None),))
        ledger.accept(attempt, prediction_id="p1", reply="{}")
        ledger.close(attempt, State.EXPIRED, holder="a")
        ledger.reopen(attempt)
        assert ledger.spent_micros("run:1") == COST
        ledger.close(replace(attempt, state=State.ACCEPTED), State.STORED, holder="a")
        assert ledger.spent_micros("run:1") == COST


def claimed_fresh(ledger: Ledger) -> bool:
    """Whether a claim that may follow the first attempt writes a new one."""
    claimed(ledger.claim(intent(), holder="b", after=1), fresh=False)
    return latest(ledger).number != 1
