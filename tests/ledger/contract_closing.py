"""Closing: who may end an attempt, from where, and that repeating it is harmless."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from flux_pipeline.ledger.base import Budget, Ledger, State
from tests.ledger.attempts import (
    CLOSED,
    accepted,
    begin,
    bring_to,
    held,
    latest,
    sha,
)


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

    def test_an_intent_can_not_end_as_paid(self, ledger: Ledger) -> None:
        attempt = begin(ledger)
        for target in (State.STORED, State.EXPIRED):
            assert not ledger.close(attempt, target, holder="a")
        assert latest(ledger).state is State.INTENT

    def test_what_was_accepted_can_not_be_given_up(self, ledger: Ledger) -> None:
        attempt = accepted(ledger)
        for target in (State.UNSENT, State.RESENT, State.HELD):
            assert not ledger.close(attempt, target, holder="a")
        assert latest(ledger).state is State.ACCEPTED

    @pytest.mark.parametrize("state", [state for state in CLOSED if state is not State.HELD])
    def test_what_is_closed_stays_closed(self, ledger: Ledger, state: State) -> None:
        attempt = bring_to(ledger, state)
        before = latest(ledger)
        for target in CLOSED:
            for seen in (attempt, replace(attempt, state=State.INTENT)):
                assert not ledger.close(seen, target, holder="a", images="[1]"), target
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

    def test_an_attempt_is_not_closed_in_an_open_state(self, ledger: Ledger) -> None:
        attempt = begin(ledger)
        for target in (State.INTENT, State.ACCEPTED, State.SUCCEEDED, State.DUPLICATE):
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


class ReplayContract:
    @pytest.mark.parametrize("given_up", [None, State.UNSENT, State.RESENT, State.HELD])
    @pytest.mark.parametrize("end", [State.STORED, State.FAILED])
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
