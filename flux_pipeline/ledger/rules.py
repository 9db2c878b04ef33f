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
_WITHOUT_ANSWER = frozenset({State.UNSENT, State.RESENT, State.HELD})
_PAID_FOR_SURE = frozenset({State.STORED, State.EXPIRED})
_NEVER_AFTER_HELD = frozenset({State.STORED, State.HELD})
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
    A closed attempt that no other one has followed is open again, because its images can still be
    had for the money: also one that was given up, and only then a duplicate is avoided.
    """
    if held is None:
        return State.ACCEPTED if latest else State.DUPLICATE
    if held != new:
        return None
    return State.DUPLICATE if state in GIVEN_UP else state


def may_follow(latest: Attempt, after: int) -> bool:
    """Return whether a new attempt may follow the latest one, of which the caller knows.

    The caller may have seen it in another state: what was stored or refused since then is over.
    What is held waits for a person: close it as unsent or resent first, so that it is accounted
    for.
    """
    over = latest.state is State.FAILED and not latest.retryable
    return latest.number == after and latest.state.may_be_followed and not over


def state_when_lost(attempt: Attempt, latest: Attempt | None) -> State:
    """Return the state of an accepted attempt that the ledger itself has lost."""
    if latest is None or (latest.number < attempt.number and not latest.state.is_open):
        return State.ACCEPTED
    return State.DUPLICATE


def states_to_close(seen: State, target: State) -> frozenset[State]:
    """Return the states from which an attempt may be closed by somebody who saw it in ``seen``.

    An attempt that has been accepted is never given up as unsent, resent or held, whatever its
    closer believes; and only an accepted one can be stored. What is held is changed by those who
    saw it held, and not by a worker that is late.

    Raises:
        ValueError: Where the target is no state that a caller may close an attempt in.
    """
    if target.is_open or target is State.DUPLICATE:
        raise ValueError(f"an attempt can't be closed as {target.value}")
    if seen is State.HELD:
        return _NOWHERE if target in _NEVER_AFTER_HELD else frozenset({State.HELD})
    if not seen.is_open:
        return _NOWHERE
    if target in _WITHOUT_ANSWER:
        return frozenset({State.INTENT}) if seen is State.INTENT else _NOWHERE
    return KNOWN if target in _PAID_FOR_SURE else KNOWN | {State.INTENT}
