"""Reading: what is found, listed and known."""

from flux_pipeline.ledger.base import Ledger, State
from tests.ledger.attempts import (
    CLOSED,
    OPEN,
    Clock,
    accepted,
    begin,
    bring_to,
    held,
    latest,
    sha,
)


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
