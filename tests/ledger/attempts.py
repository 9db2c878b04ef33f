"""Attempts in every state, for the tests of the ledger, and a clock that they set."""

from collections.abc import Callable
from dataclasses import replace

from flux_pipeline.ledger.base import Attempt, Budget, Claim, Claimed, Intent, Ledger, State
from flux_pipeline.ledger.schema import META, METADATA
from flux_pipeline.ledger.sql import SqlLedger

START = 1_750_000_000.0
LEASE = 100.0
COST = 3000
OPEN = [state for state in State if state.is_open]
CLOSED = [state for state in State if not state.is_open and state is not State.DUPLICATE]
"""Where a latest attempt can end: a duplicate is never the latest."""


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def sha(number: int) -> str:
    return f"{number:064x}"


def intent(number: int = 1, *, cost: int = COST) -> Intent:
    return Intent(sha(number), "winter", "run-1", cost, '{"prompt":"a castle"}')


def claimed(claim: Claim, *, fresh: bool | None = None) -> Attempt:
    """The attempt of a claim that must have been granted."""
    assert isinstance(claim, Claimed), claim
    assert fresh is None or claim.fresh is fresh
    return claim.attempt


def begin(
    ledger: Ledger,
    number: int = 1,
    *,
    holder: str = "a",
    after: int = 0,
    budgets: tuple[Budget, ...] = (),
) -> Attempt:
    """A fresh intent."""
    claim = ledger.claim(intent(number), holder=holder, after=after, budgets=budgets)
    return claimed(claim, fresh=True)


def accepted(ledger: Ledger, number: int = 1, *, id_: str | None = None) -> Attempt:
    attempt = begin(ledger, number)
    prediction = id_ or f"p{number}"
    state = ledger.accept(attempt, prediction_id=prediction, reply="{}")
    assert state is State.ACCEPTED
    return replace(attempt, state=state, prediction_id=prediction)


def held(ledger: Ledger, number: int = 1, *, budgets: tuple[Budget, ...] = ()) -> Attempt:
    attempt = begin(ledger, number, budgets=budgets)
    assert ledger.close(attempt, State.HELD, holder="a", error="no answer, and no list")
    return replace(attempt, state=State.HELD)


def _succeeded(ledger: Ledger, number: int) -> Attempt:
    attempt = accepted(ledger, number)
    assert ledger.succeed(attempt, reply='{"status":"succeeded"}')
    return replace(attempt, state=State.SUCCEEDED)


def _given_up(state: State) -> Callable[[Ledger, int], Attempt]:
    def bring(ledger: Ledger, number: int) -> Attempt:
        attempt = begin(ledger, number)
        assert ledger.close(attempt, state, holder="a")
        return replace(attempt, state=state)

    return bring


def _finished(state: State) -> Callable[[Ledger, int], Attempt]:
    def bring(ledger: Ledger, number: int) -> Attempt:
        attempt = _succeeded(ledger, number)
        assert ledger.close(attempt, state, holder="a", retryable=state is State.FAILED)
        return replace(attempt, state=state)

    return bring


def _pruning(ledger: Ledger, number: int) -> Attempt:
    _finished(State.STORED)(ledger, number)
    ledger.mark_recorded([sha(number)])
    begun = ledger.begin_pruning(latest(ledger, number), holder="a", images='["removed"]')
    assert begun is not None
    return begun


def _pruned(ledger: Ledger, number: int) -> Attempt:
    attempt = _pruning(ledger, number)
    assert ledger.close(attempt, State.PRUNED, holder="a", images='["removed"]')
    return replace(attempt, state=State.PRUNED)


_WAYS: dict[State, Callable[[Ledger, int], Attempt]] = {
    State.INTENT: begin,
    State.ACCEPTED: accepted,
    State.SUCCEEDED: _succeeded,
    State.HELD: held,
    State.UNSENT: _given_up(State.UNSENT),
    State.RESENT: _given_up(State.RESENT),
    State.REFUSED: _given_up(State.REFUSED),
    State.FAILED: _finished(State.FAILED),
    State.STORED: _finished(State.STORED),
    State.EXPIRED: _finished(State.EXPIRED),
    State.PRUNING: _pruning,
    State.PRUNED: _pruned,
}


def bring_to(ledger: Ledger, state: State, number: int = 1) -> Attempt:
    """Request ``number``'s first attempt in a state, as its holder ``a`` sees it."""
    return _WAYS[state](ledger, number)


def latest(ledger: Ledger, number: int = 1) -> Attempt:
    return ledger.find([sha(number)])[sha(number)]


def wipe(ledger: SqlLedger) -> None:
    """Empty every table, so that one open ledger serves many tests."""
    with ledger.transaction() as tx:
        for table in METADATA.sorted_tables:
            if table is not META:
                tx.connection.execute(table.delete())
