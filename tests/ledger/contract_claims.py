"""Claims: who may go on with a request, and for how long."""

from dataclasses import replace

import pytest

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Busy, Ledger, Over, State
from tests.ledger.attempts import (
    CLOSED,
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

    def test_an_attempt_is_as_old_as_its_intent_at_each_claim(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        assert begin(ledger).age == 0
        for claims in (1, 2):
            clock.advance(LEASE)
            taken = claimed(ledger.claim(intent(), holder="b"), fresh=False)
            assert taken.age == claims * LEASE
            assert latest(ledger).age == claims * LEASE

    def test_the_age_of_one_that_follows_is_its_own(self, ledger: Ledger, clock: Clock) -> None:
        bring_to(ledger, State.UNSENT)
        clock.advance(1000)
        assert begin(ledger, after=1).age == 0

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
