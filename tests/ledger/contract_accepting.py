"""Accepting: an id that was paid for is written, whatever happened before."""

from dataclasses import replace

import pytest

from flux_pipeline.ledger.base import Budget, Busy, Ledger, State
from tests.ledger.attempts import (
    CLOSED,
    COST,
    LEASE,
    OPEN,
    Clock,
    accepted,
    begin,
    bring_to,
    claimed,
    intent,
    latest,
    sha,
)

HOSTILE = "naïve 图 🖼 \x00 \ud800 '; DROP TABLE attempts; --"


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

    def test_a_lost_attempt_gives_way_to_what_others_began(self, ledger: Ledger) -> None:
        for request, state in enumerate([*OPEN, *CLOSED], start=1):
            attempt = replace(bring_to(ledger, state, request), number=2)
            answer = ledger.accept(attempt, prediction_id=f"lost {state}", reply="{}")
            assert answer is (State.DUPLICATE if state.is_open else State.ACCEPTED), state
            assert latest(ledger, request).number == (1 if state.is_open else 2), state
            assert ledger.known_ids([f"lost {state}"]) == {f"lost {state}"}

    def test_whatever_the_provider_answers_can_be_written(self, ledger: Ledger) -> None:
        attempt = begin(ledger)
        assert ledger.accept(attempt, prediction_id=HOSTILE, reply=HOSTILE) is State.ACCEPTED
        assert ledger.known_ids([HOSTILE]) == {HOSTILE}
        assert ledger.succeed(attempt, reply=HOSTILE)
        assert ledger.close(
            attempt, State.FAILED, holder="a", error=HOSTILE, images=HOSTILE, resolution=HOSTILE
        )
        assert "图 🖼 \\x00 \\ud800" in (latest(ledger).error or "")
