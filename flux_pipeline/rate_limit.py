"""The arithmetic of a rate limit that many workers share: a generic cell rate algorithm (GCRA).

Permits are evenly spaced, refusals (HTTP 429) space them wider, and time narrows the spacing again.
The whole state of one kind of call is five numbers, so any number of workers share a limit by
sharing one row: they load it, apply ``reserve`` or ``slow_down``, and write it back in one
transaction (see ``RateStore``).

A refusal always pauses. It widens the spacing only where more than one permit in fifty is refused:
fewer are the price of using the whole limit, and may have other reasons. The spacing narrows the
faster, the longer nothing is refused. Times are seconds by the store's clock.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol, TypeAlias

Kind: TypeAlias = Literal["create", "call"]
"""A paid create, or any other call: providers limit them apart."""
_SLACK = 0.998  # leaves 0.12 s a minute for permits that are used late, so that no minute overflows
_FARTHEST = 120.0  # s; a clock that is set back must not stop the permits for longer

# Refusals. Calls that were on their way are refused for the same reason: together they are a round.
_ROUND = 2.0  # s
_ROUND_COST, _MOST_SAVED = 50.0, 100.0  # permits that a round costs, and that are saved for it
_CUT, _DEEP_CUT = 0.95, 0.85  # of the share; deep where the last round is not long ago
_NOT_LONG = 10.0  # s
_FLOOR = 0.1  # of the configured rate: below that the pauses alone keep a limit

# Recovery: share after t seconds = share * exp(growth * (t + t² / growth time))
_GROWTH = 0.0007  # 1/s
_GROWTH_TIME = 20.0  # s


@dataclass(frozen=True, slots=True)
class RateState:
    """One kind of call; the default is a limiter that has not been used yet."""

    next_at: float = 0.0
    """When the next free permit starts."""
    share: float = 1.0
    """Of the configured rate, right after the last refusal; grows back with time."""
    slowed_at: float = 0.0
    """When the last round of refusals began; 0 for never."""
    paused_until: float = 0.0
    """When that round's pause ends: refusals before it belong to the same round."""
    granted: float = 0.0
    """Permits granted, less 50 for each round of refusals; between 0 and 100."""


class Grant(NamedTuple):
    """Permits that were reserved: the first starts ``wait`` s from now, then every ``interval``."""

    wait: float
    interval: float


def reserve(
    state: RateState, *, per_minute: float, count: int, now: float
) -> tuple[RateState, Grant]:
    """Reserve ``count`` permits after all those reserved before; return the new state with them.

    At most ``per_minute`` permits, rounded up, start in any 60 s, whoever reserves them.
    """
    interval = 60.0 / (per_minute * _SLACK * _share_at(state, now))
    start = min(max(state.next_at, now), now + _FARTHEST + 64 * interval)
    granted = min(state.granted + count, _MOST_SAVED)
    following = replace(state, next_at=start + count * interval, granted=granted)
    return following, Grant(wait=start - now, interval=interval)


def slow_down(state: RateState, *, seconds: float, now: float) -> RateState:
    """Apply one refusal: no permit starts for ``seconds``, and then they may be spaced wider.

    Refusals within the pause of an earlier one, or 2 s after it, only lengthen the pause: workers
    with many requests in flight are refused many times for one reason.
    """
    until = now + max(0.0, seconds)
    paused = replace(
        state,
        next_at=max(state.next_at, until),
        paused_until=max(state.paused_until, until),
    )
    if now < max(state.paused_until, state.slowed_at + _ROUND):
        return paused
    share, left = _share_at(state, now), state.granted - _ROUND_COST
    if left < 0:
        cut = _DEEP_CUT if now - state.slowed_at < _NOT_LONG else _CUT
        share = max(share * cut, _FLOOR)
    return replace(paused, share=share, slowed_at=now, granted=max(left, 0.0))


def _share_at(state: RateState, now: float) -> float:
    """The share of the configured rate in use now, between the floor and 1.

    A small share grows more slowly, because its refusals are fewer in the same time.
    """
    if state.share >= 1.0:
        return 1.0
    rested = min(max(0.0, now - state.paused_until), 3600.0) * state.share**0.25
    return min(1.0, state.share * math.exp(_GROWTH * (rested + rested**2 / _GROWTH_TIME)))


class RateStore(Protocol):
    """Where the state lives. Blocking and thread-safe; each method is one transaction.

    An implementation knows the configured rate of each kind, keeps one ``RateState`` a kind, and
    applies the two functions above by a clock that all its users share.
    """

    def reserve(self, kind: Kind, count: int) -> Grant:
        """Reserve permits of one kind."""
        ...

    def slow_down(self, kind: Kind, seconds: float) -> None:
        """Apply one refusal with its hint in seconds."""
        ...
