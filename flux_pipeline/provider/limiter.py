"""Makes calls wait for their permits, so that the provider's limits are used whole and kept.

Permits come from a RateStore that other workers may share; they are reserved a quarter of a second
ahead, so that a database is asked a few times a second and not once a call. Waiting is first come,
first served.
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from flux_pipeline.provider.hints import LONGEST_WAIT
from flux_pipeline.rates import Grant, Kind, RateState, RateStore, reserve, slow_down

_BATCH_SECONDS = 0.25
_UNHINTED = 1.0  # s; the pause after a refusal without a hint
_EARLY = 1e-6  # s; timers are not exact


class MemoryRates:
    """The RateStore of a single process. ``clock`` is seconds that never run backwards."""

    def __init__(
        self, per_minute: Mapping[Kind, float], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = dict(per_minute)
        self._clock = clock
        self._states: dict[Kind, RateState] = {kind: RateState() for kind in per_minute}
        self._lock = threading.Lock()

    def reserve(self, kind: Kind, count: int) -> Grant:
        """Reserve permits of one kind."""
        with self._lock:
            self._states[kind], grant = reserve(
                self._states[kind],
                per_minute=self._per_minute[kind],
                count=count,
                now=self._clock(),
            )
        return grant

    def slow_down(self, kind: Kind, seconds: float) -> None:
        """Apply one refusal with its hint in seconds."""
        with self._lock:
            self._states[kind] = slow_down(
                self._states[kind],
                per_minute=self._per_minute[kind],
                seconds=seconds,
                now=self._clock(),
            )


@dataclass(slots=True)
class _Queue:
    """Those who wait for permits of one kind, and the permits already reserved for them."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    left: int = 0
    next_at: float = 0.0
    interval: float = 0.0
    paused_until: float = 0.0
    refused_at: float = float("-inf")

    @property
    def due(self) -> float:
        return max(self.next_at, self.paused_until)


class Limiter:
    """Permits for one event loop. ``clock`` is monotonic seconds."""

    def __init__(
        self,
        rates: RateStore,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rates = rates
        self._clock = clock
        self._sleep = sleep
        self._queues: dict[Kind, _Queue] = {"create": _Queue(), "call": _Queue()}

    async def acquire(self, kind: Kind) -> float:
        """Wait for one permit; return the moment it was had, by our clock.

        Use it at once: a permit that is kept makes a later minute overflow. Raises LedgerError
        where the store is a database that does not answer.
        """
        queue = self._queues[kind]
        queue.waiting += 1
        try:
            async with queue.turn:
                if queue.left and self._clock() > queue.next_at + _BATCH_SECONDS + queue.interval:
                    queue.left = 0  # whoever waited for them is gone: they are too old to be used
                if not queue.left:
                    await self._reserve(kind, queue)
                while (delay := queue.due - self._clock()) > _EARLY:
                    await self._sleep(delay)
                return self._take(queue)
        finally:
            queue.waiting -= 1

    async def slow_down(self, kind: Kind, seconds: float, *, sent_at: float) -> None:
        """Obey one 429: nothing of this kind is sent for ``seconds``, and then less often.

        ``sent_at`` is what ``acquire`` returned for the refused call: calls that were on their
        way when an earlier refusal arrived only lengthen the pause.
        """
        queue = self._queues[kind]
        pause = min(seconds if seconds > 0 else _UNHINTED, LONGEST_WAIT)
        now = self._clock()
        until = now + pause
        late = sent_at <= queue.refused_at
        if late and not now < queue.paused_until < until:
            return
        queue.paused_until = max(queue.paused_until, until)
        if not late:
            queue.refused_at = now
        await asyncio.to_thread(self._rates.slow_down, kind, pause)

    async def _reserve(self, kind: Kind, queue: _Queue) -> None:
        """Reserve as many permits as are waited for, a quarter of a second's worth at most."""
        ahead = max(1, int(_BATCH_SECONDS / queue.interval)) if queue.interval else 1
        count = min(ahead, queue.waiting)
        grant = await asyncio.to_thread(self._rates.reserve, kind, count)
        queue.left, queue.interval = count, grant.interval
        queue.next_at = self._clock() + grant.wait

    def _take(self, queue: _Queue) -> float:
        """Use the next permit. Those that come after keep their distance from it."""
        now = self._clock()
        queue.left -= 1
        queue.next_at = max(queue.next_at + queue.interval, now + queue.interval / 2)
        return now
