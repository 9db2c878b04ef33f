"""What may become of an attempt: pure decisions, for every implementation of the ledger."""

import hashlib

from flux_pipeline.ledger.base import Attempt, State

GIVEN_UP = frozenset({State.UNSENT, State.RESENT, State.DUPLICATE})
"""Closed in the belief that another attempt pays: an id that still turns up was paid besides."""

KNOWN = frozenset({State.ACCEPTED, State.SUCCEEDED})
"""Open, with a paid creation."""

FINISHED = frozenset({State.STORED, State.REFUSED, State.FAILED, State.EXPIRED})
"""Closed, and named in the lineage."""

_GIVES_BACK = frozenset({State.UNSENT, State.REFUSED})
_NEEDS_ACCEPTANCE = frozenset({State.STORED})
_PAID_FOR_SURE = frozenset({State.STORED, State.EXPIRED})
_NOWHERE: frozenset[State] = frozenset()


def acceptance_of(prediction_id: str | None, reply: str) -> str:
    """Return what tells one paid creation from another, also where the reply has no id."""
    if prediction_id is not None:
        return prediction_id
    return f"reply:{hashlib.sha256(reply.encode()).hexdigest()}"


def is_charged(state: State, *, accepted: bool) -> bool:
    """Return whether an attempt's cost counts in its budgets."""
    return accepted or state not in _GIVES_BACK


def state_when_accepted(state: State, held: str | None, new: str, *, latest: bool) -> State | None:
    """Return the state of an attempt in which a creation was accepted.

    None where it holds another creation: the new one is then kept in an attempt of its own.
    A closed attempt that nobody gave up (held, refused, failed) is open again, because its images
    can still be had for the money.
    """
    if held is not None and held != new:
        return None
    if state in GIVEN_UP or (held is None and not latest):
        return State.DUPLICATE
    if held is None:
        return State.ACCEPTED
    return state


def may_follow(latest: Attempt, after: int) -> bool:
    """Return whether a new attempt may follow the latest one, of which the caller knows.

    What is held waits for a person: close it as unsent or resent first, so that it is accounted
    for.
    """
    return latest.number == after and not latest.state.is_open and latest.state is not State.HELD


def state_when_lost(attempt: Attempt, latest: Attempt | None) -> State:
    """Return the state of an accepted attempt that the ledger itself has lost."""
    if latest is None or (latest.number < attempt.number and not latest.state.is_open):
        return State.ACCEPTED
    return State.DUPLICATE


def states_to_renew(seen: State) -> frozenset[State]:
    """Return the states in which a claim is renewed for somebody who saw it in ``seen``.

    Who saw an intent may be about to send it: never where it has been accepted meanwhile.
    """
    if seen is State.INTENT:
        return frozenset({State.INTENT})
    return KNOWN if seen in KNOWN else _NOWHERE


def states_to_close(seen: State, target: State) -> frozenset[State]:
    """Return the states from which an attempt may be closed by somebody who saw it in ``seen``.

    Who saw an intent knows of no id, and may not give up an attempt that has one by now. Only an
    accepted attempt can be stored.

    Raises:
        ValueError: Where the target is no state that a caller may close an attempt in.
    """
    if target.is_open or target is State.DUPLICATE:
        raise ValueError(f"an attempt can't be closed as {target.value}")
    if seen is State.INTENT:
        return KNOWN if target in _PAID_FOR_SURE else frozenset({State.INTENT})
    if seen in KNOWN:
        return KNOWN
    if seen is State.HELD and target not in _NEEDS_ACCEPTANCE | {State.HELD}:
        return frozenset({State.HELD})
    return _NOWHERE
