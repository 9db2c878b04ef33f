"""Pruning: what was stored is removed under a claim, and then may be asked for again."""

from dataclasses import replace

import pytest

from flux_pipeline.ledger.base import Budget, Busy, Ledger, State
from tests.ledger.attempts import (
    CLOSED,
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

PRUNABLE = (State.STORED, State.PRUNED)


def stored(ledger: Ledger) -> None:
    """A stored request whose rows are in the lineage."""
    bring_to(ledger, State.STORED)
    ledger.mark_recorded([sha(1)])


class PruneContract:
    def test_what_is_being_removed_is_busy_until_it_ends(self, ledger: Ledger) -> None:
        stored(ledger)
        attempt = ledger.begin_pruning(latest(ledger), holder="p", images="[1]")
        assert attempt == latest(ledger)
        assert attempt.images == "[1]"
        assert isinstance(ledger.claim(intent(), holder="b"), Busy)
        assert ledger.renew(attempt, holder="p")
        assert ledger.close(attempt, State.PRUNED, holder="p", images="[2]", resolution="r")
        assert (latest(ledger).state, latest(ledger).images) == (State.PRUNED, "[2]")

    def test_what_was_removed_is_followed_by_a_new_attempt_which_is_paid(
        self, ledger: Ledger
    ) -> None:
        bring_to(ledger, State.PRUNED)
        second = begin(ledger, holder="b", after=1, budgets=(Budget("run:1", None),))
        assert (second.number, latest(ledger)) == (2, second)

    def test_a_removal_that_died_is_taken_over_and_undone_or_finished(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        for number, end in ((1, State.STORED), (2, State.PRUNED)):
            late = bring_to(ledger, State.PRUNING, number)
            clock.advance(LEASE + 1)
            taken = claimed(ledger.claim(intent(number), holder="b"), fresh=False)
            assert (taken.state, taken.images) == (State.PRUNING, late.images)
            assert not ledger.renew(late, holder="a")
            assert not ledger.close(late, State.PRUNED, holder="a")
            assert ledger.close(taken, end, holder="b")
            assert latest(ledger, number).state is end

    def test_only_what_is_stored_and_recorded_is_removed(self, ledger: Ledger) -> None:
        attempt = bring_to(ledger, State.STORED)
        assert ledger.begin_pruning(latest(ledger), holder="p", images="[]") is None
        ledger.mark_recorded([attempt.request_sha256])
        assert ledger.begin_pruning(latest(ledger), holder="p", images="[]") is not None

    @pytest.mark.parametrize("state", [each for each in [*OPEN, *CLOSED] if each not in PRUNABLE])
    def test_nothing_else_is_removed(self, ledger: Ledger, state: State) -> None:
        bring_to(ledger, state)
        before = latest(ledger)
        for seen in (before, replace(before, state=State.STORED)):
            assert ledger.begin_pruning(seen, holder="p", images="[]") is None
        assert latest(ledger) == before

    def test_what_was_claimed_since_it_was_read_is_not_removed(self, ledger: Ledger) -> None:
        stored(ledger)
        seen = latest(ledger)
        first = ledger.begin_pruning(seen, holder="p", images="[]")
        assert first is not None
        assert ledger.begin_pruning(seen, holder="q", images="[]") is None
        assert ledger.close(first, State.STORED, holder="p", images="[1]")
        ledger.mark_recorded([sha(1)])
        assert ledger.begin_pruning(seen, holder="q", images="[]") is None

    def test_a_removed_one_is_claimed_again_to_be_brought_back(self, ledger: Ledger) -> None:
        bring_to(ledger, State.PRUNED)
        back = ledger.begin_pruning(latest(ledger), holder="p", images="[]")
        assert back is not None
        assert ledger.close(back, State.STORED, holder="p", images="[1]")
        assert (latest(ledger).state, latest(ledger).recorded) == (State.STORED, False)

    @pytest.mark.parametrize("state", [each for each in CLOSED if each not in PRUNABLE])
    def test_a_removal_ends_as_stored_or_removed_alone(self, ledger: Ledger, state: State) -> None:
        attempt = bring_to(ledger, State.PRUNING)
        assert not ledger.close(attempt, state, holder="a")
        assert latest(ledger).state is State.PRUNING

    def test_a_removal_under_way_is_unfinished_and_a_finished_one_is_not(
        self, ledger: Ledger
    ) -> None:
        attempt = bring_to(ledger, State.PRUNING)
        assert [each.state for each in ledger.unfinished()] == [State.PRUNING]
        ledger.close(attempt, State.PRUNED, holder="a")
        assert ledger.unfinished() == []
