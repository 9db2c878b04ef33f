"""Decides when a run may send one more request: by how those in flight get on.

Nobody sets how many are in flight. That follows from the rate and from what predictions take: at 10
a second and 60 s there are 600. Each model counts for itself. What is bounded are creates under way
and pictures in memory (``produce.downloads``); a prediction that is only waited for costs some
kilobytes.

Creates of a model pause where the provider makes fewer than the rate allows, or pictures come down
more slowly: every further one would only wait longer, and in the end longer than we or the provider
keep them. A new one would wait for as long as those in flight take to end, at the pace of the last
minute, and five minutes are too long. Until one has ended the pace is unknown: then creates pause
when half of those in flight are older than a minute. What the model itself takes comes on top.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import anyio

LONG_AGE = 60.0
"""s; half of a model's predictions in flight may be older, by what one takes at the provider."""
LONG_WAIT = 300.0
"""s until a new one would end, by twice what one takes at the provider."""
FEW = 64
"""So many of a model are in flight in any case."""
MANY = 10_000
"""No more are in flight in one run, to bound its memory."""
_PACE_WINDOW = 60.0
"""s in which ends are counted, by twice what a prediction takes."""
_PACE_KNOWN_AFTER = 10.0
"""s after the first end, or half of what a prediction takes: before, the quick ones alone ended."""


@dataclass(slots=True)
class InFlight:
    """What one run has sent and not finished, by model. Lives on one event loop.

    ``predict_seconds`` gives what a prediction of a model takes itself, s; 0 if it is not known.
    """

    predict_seconds: Callable[[str], float]
    clock: Callable[[], float] = anyio.current_time
    _models: dict[str, "_Model"] = field(default_factory=dict)
    _changed: anyio.Event | None = None
    """Set when one ends; None while nobody waits."""

    def add(self, model: str, holder: str) -> None:
        """A request (by the holder of its claim) is sent or resumed next; harmless to repeat."""
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = _Model()
        if holder not in known.begun:
            known.begun[holder] = self.clock()

    def remove(self, model: str, holder: str) -> None:
        """A request is not in flight any more; does nothing for one that was not."""
        known = self._models.get(model)
        if known is not None and holder in known.begun:
            known.end(holder, self.clock())
            if self._changed is not None:
                self._changed.set()
                self._changed = None

    def __len__(self) -> int:
        return sum(len(each.begun) for each in self._models.values())

    async def wait(self, model: str) -> None:
        """Wait while nothing more of the model should be sent."""
        while self._is_enough(model):
            if self._changed is None:
                self._changed = anyio.Event()
            await self._changed.wait()

    def _is_enough(self, model: str) -> bool:
        known = self._models.get(model)
        if known is None or len(known.begun) < FEW:
            return False
        if len(self) >= MANY:
            return True
        takes, now = self.predict_seconds(model), self.clock()
        if known.median_age(now) > LONG_AGE + takes:
            return True
        return known.expected_wait(now, takes) > LONG_WAIT + 2 * takes


@dataclass(slots=True)
class _Model:
    """The predictions of one model."""

    begun: dict[str, float] = field(default_factory=dict)
    """When each was sent, by its holder, oldest first."""
    ended: deque[float] = field(default_factory=deque)
    """When others have ended, while there were many: few say nothing of what could be made."""

    def end(self, holder: str, now: float) -> None:
        """One has ended."""
        del self.begun[holder]
        if len(self.begun) < FEW:
            self.ended.clear()
        else:
            self.ended.append(now)

    def median_age(self, now: float) -> float:
        """Seconds; only where there are any."""
        return now - next(islice(self.begun.values(), len(self.begun) // 2, None))

    def expected_wait(self, now: float, takes: float) -> float:
        """Seconds until a prediction that is sent now would end; 0 where the pace is not known."""
        while self.ended and self.ended[0] < now - _PACE_WINDOW - 2 * takes:
            self.ended.popleft()
        if not self.ended:
            return 0.0
        seconds = now - self.ended[0]
        if seconds < max(_PACE_KNOWN_AFTER, takes / 2):
            return 0.0
        return len(self.begun) * seconds / len(self.ended)
