"""Adopting: an id that the provider's list shows goes to one attempt, whoever else looks for it."""

from dataclasses import replace

import pytest

from flux_pipeline.ledger.base import Adoption, Attempt, Budget, Busy, Ledger, State
from tests.ledger.attempts import (
    COST,
    LEASE,
    Clock,
    accepted,
    begin,
    claimed,
    intent,
    latest,
    sha,
)

INPUT = "1" * 64
TAKE_1, TAKE_2, TAKE_3 = (replace(intent(number), input_sha256=INPUT) for number in (1, 2, 3))


def begin_take(ledger: Ledger, number: int, *, holder: str = "a") -> Attempt:
    """A fresh intent of one of several takes of one input."""
    take = replace(intent(number), input_sha256=INPUT)
    return claimed(ledger.claim(take, holder=holder), fresh=True)


def adopt(ledger: Ledger, attempt: Attempt, id_: str, *, holder: str = "a") -> Adoption:
    return ledger.adopt(attempt, holder=holder, prediction_id=id_, reply='{"id":1}')


class AdoptContract:
    def test_an_attempt_without_an_answer_adopts_an_id(self, ledger: Ledger) -> None:
        assert adopt(ledger, begin_take(ledger, 1), "p1") is Adoption.ADOPTED
        row = latest(ledger)
        assert (row.state, row.prediction_id, row.reply) == (State.ACCEPTED, "p1", '{"id":1}')

    def test_adopting_starts_the_lease_anew(self, ledger: Ledger, clock: Clock) -> None:
        attempt = begin_take(ledger, 1)
        clock.advance(LEASE / 2)
        adopt(ledger, attempt, "p1")
        clock.advance(LEASE / 2)
        assert isinstance(ledger.claim(TAKE_1, holder="b"), Busy)

    @pytest.mark.parametrize("other", [1, 2])
    def test_an_id_that_an_attempt_holds_is_taken(self, ledger: Ledger, other: int) -> None:
        if other == 1:  # an earlier attempt of the same request
            ledger.close(accepted(ledger, 1, id_="p1"), State.FAILED, holder="a", retryable=True)
            second = begin(ledger, holder="b", after=1)
        else:
            accepted(ledger, 2, id_="p1")
            second = begin(ledger, holder="b")
        assert adopt(ledger, second, "p1", holder="b") is Adoption.TAKEN
        assert latest(ledger).state is State.INTENT
        assert adopt(ledger, second, "p2", holder="b") is Adoption.ADOPTED

    def test_only_the_claim_that_looked_adopts(self, ledger: Ledger, clock: Clock) -> None:
        attempt = begin_take(ledger, 1)
        clock.advance(LEASE)
        taken = claimed(ledger.claim(TAKE_1, holder="b"))
        assert adopt(ledger, attempt, "p1") is Adoption.NOT_OURS
        assert latest(ledger).prediction_id is None
        assert adopt(ledger, taken, "p1", holder="b") is Adoption.ADOPTED

    def test_an_attempt_that_was_answered_meanwhile_adopts_no_other_id(
        self, ledger: Ledger
    ) -> None:
        attempt = begin_take(ledger, 1)
        ledger.accept(attempt, prediction_id="p1", reply="{}")
        assert adopt(ledger, attempt, "p2") is Adoption.NOT_OURS
        assert adopt(ledger, attempt, "p1") is Adoption.HELD
        assert ledger.known_ids(["p1", "p2"]) == {"p1"}

    def test_an_attempt_that_is_over_adopts_nothing(self, ledger: Ledger) -> None:
        attempt = begin_take(ledger, 1)
        ledger.close(attempt, State.UNSENT, holder="a")
        assert adopt(ledger, attempt, "p1") is Adoption.NOT_OURS

    def test_the_ids_of_an_input_are_those_of_all_its_takes(self, ledger: Ledger) -> None:
        first = begin_take(ledger, 1)
        adopt(ledger, first, "p1")
        ledger.accept(begin_take(ledger, 2), prediction_id="p2", reply="{}")
        begin_take(ledger, 3)
        accepted(ledger, 4, id_="another input")
        assert ledger.ids_of_input(INPUT) == {"p1", "p2"}
        assert ledger.ids_of_input("") == set()
        assert latest(ledger, 3).intent == TAKE_3


class AdoptedByAnotherContract:
    """The answer of a create arrives after another take has adopted its prediction."""

    def test_an_id_is_held_by_one_request(self, ledger: Ledger) -> None:
        first, second = begin_take(ledger, 1), begin_take(ledger, 2)
        adopt(ledger, first, "p2")
        assert ledger.accept(second, prediction_id="p2", reply="{}") is State.INTENT
        assert (latest(ledger, 1).prediction_id, latest(ledger, 2).prediction_id) == ("p2", None)
        assert latest(ledger, 2).state is State.INTENT

    def test_the_take_that_lost_it_is_claimed_at_once_to_find_another(self, ledger: Ledger) -> None:
        first, second = begin_take(ledger, 1), begin_take(ledger, 2)
        adopt(ledger, first, "p2")
        ledger.accept(second, prediction_id="p2", reply="{}")
        again = claimed(ledger.claim(TAKE_2, holder="a"), fresh=False)
        assert adopt(ledger, again, "p1") is Adoption.ADOPTED
        assert isinstance(ledger.claim(TAKE_2, holder="b"), Busy)

    def test_a_search_that_is_under_way_begins_anew(self, ledger: Ledger, clock: Clock) -> None:
        """It may have read the list before the exchange, and would prove what is not so."""
        first, second = begin_take(ledger, 1), begin_take(ledger, 2)
        clock.advance(LEASE)
        searching = claimed(ledger.claim(TAKE_2, holder="b"), fresh=False)
        claimed(ledger.claim(TAKE_1, holder="a"), fresh=False)
        first = latest(ledger, 1)
        adopt(ledger, first, "p2")
        assert ledger.accept(second, prediction_id="p2", reply="{}") is State.INTENT
        assert not ledger.renew(searching, holder="b")
        assert not ledger.close(searching, State.UNSENT, holder="b")
        claimed(ledger.claim(TAKE_2, holder="b"), fresh=False)

    def test_an_id_that_the_awaiting_take_will_find_is_left_to_it(self, ledger: Ledger) -> None:
        first = begin_take(ledger, 1)
        begin_take(ledger, 2)
        adopt(ledger, first, "p2")
        assert ledger.accept(first, prediction_id="p1", reply="{}") is State.INTENT
        assert ledger.known_ids(["p1"]) == set()
        assert len(ledger.history(sha(1))) == 1
        assert latest(ledger, 1).prediction_id == "p2"

    def test_an_id_that_no_take_waits_for_is_a_duplicate(self, ledger: Ledger) -> None:
        first, second = begin_take(ledger, 1), begin_take(ledger, 2)
        adopt(ledger, first, "p2")
        ledger.close(second, State.UNSENT, holder="a")
        assert ledger.accept(first, prediction_id="p1", reply="{}") is State.DUPLICATE
        assert ledger.known_ids(["p1"]) == {"p1"}

    def test_a_take_that_was_given_up_stays_so(self, ledger: Ledger) -> None:
        first, second = begin_take(ledger, 1), begin_take(ledger, 2)
        adopt(ledger, first, "p2")
        ledger.close(second, State.UNSENT, holder="a")
        assert ledger.accept(second, prediction_id="p2", reply="{}") is State.INTENT
        assert latest(ledger, 2).state is State.UNSENT

    def test_a_row_that_is_lost_is_not_written_with_an_id_that_is_held(
        self, ledger: Ledger
    ) -> None:
        adopt(ledger, begin_take(ledger, 1), "p2")
        lost = replace(latest(ledger, 1), request_sha256=sha(2), intent=TAKE_2)
        assert ledger.accept(lost, prediction_id="p2", reply="{}") is State.INTENT
        assert ledger.find([sha(2)]) == {}

    def test_each_pays_once(self, ledger: Ledger) -> None:
        budget = (Budget("run:1", None),)
        takes = [
            claimed(ledger.claim(take, holder="a", budgets=budget)) for take in (TAKE_1, TAKE_2)
        ]
        adopt(ledger, takes[0], "p2")
        ledger.accept(takes[1], prediction_id="p2", reply="{}")
        ledger.accept(takes[0], prediction_id="p1", reply="{}")
        assert ledger.spent_micros("run:1") == 2 * COST
