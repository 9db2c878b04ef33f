"""The rate limiter: calls wait for permits, so that the provider's limits are used up and kept.

Permits come from a RateStore that other workers may share. They are reserved a quarter of a second
ahead, and where calls come far more seldom than they may, as many as a second takes: so a database
is asked a few times a second at most, and not once a call. Waiting is first come, first served.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from flux_pipeline.provider.classify import LONGEST_WAIT
from flux_pipeline.rate_limit import Grant, Kind, RateState, RateStore, reserve, slow_down

_RESERVED_SECONDS = 0.25
_BLOCK_SECONDS = 1.0  # s that a block of permits should last, where so many may be reserved
_KEPT_SECONDS = 2.0  # s for which a few permits are kept that nobody has used yet
_DEFAULT_PAUSE = 1.0  # s; the pause after a refusal without a hint
_EARLY = 1e-6  # s; timers are not exact


@dataclass(slots=True)
class _Queue:
    """The calls that wait for permits of one kind, and the permits reserved for them."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    slots: deque[float] = field(default_factory=deque)
    """When each of the reserved permits starts."""
    interval: float = 0.0
    block: int = 1
    """How many permits were reserved last, at ``reserved_at``."""
    reserved_at: float = float("-inf")
    used_at: float = float("-inf")
    paused_until: float = 0.0
    refused_at: float = float("-inf")

    @property
    def ahead(self) -> int:
        """How many permits are reserved at once, at most."""
        return max(1, int(_RESERVED_SECONDS / self.interval)) if self.interval else 1

    @property
    def few(self) -> int:
        """How many permits may be used late without overflowing a minute: 1/960 of its permits."""
        return self.ahead // 4

    def wanted(self, now: float) -> int:
        """How many permits to reserve now: those waited for, and those that will be soon.

        Calls that come one by one in quick succession don't wait, so the last block tells: the next
        one is made to last a second, and at most doubled. At most as many as are few, because
        permits that nobody uses are lost to other workers.
        """
        lasted = max(now - self.reserved_at, _EARLY)
        soon = min(int(self.block * min(_BLOCK_SECONDS / lasted, 2.0)), self.few)
        return max(1, min(self.ahead, max(self.waiting - len(self.slots), soon)))

    def oldest(self, now: float) -> float:
        """The start of the oldest permit that may still be used."""
        kept = _KEPT_SECONDS if len(self.slots) <= self.few else _RESERVED_SECONDS
        return now - kept - self.interval

    def take_ready(self, now: float) -> bool:
        """Use a permit that is there, where nobody is before and nothing is to be waited for."""
        if self.waiting or not self.slots:
            return False
        if self.slots[0] < self.oldest(now) or self.due(self.slots[0]) > now + _EARLY:
            return False
        self.slots.popleft()
        self.used_at = now
        return True

    def due(self, slot: float) -> float:
        """When a permit may be used; permits that come late still keep a distance."""
        return max(slot, self.paused_until, self.used_at + self.interval / 2)


class Limiter:
    """Hands out permits in one event loop. ``clock`` is monotonic seconds."""

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
        """Wait for one permit; return when it was given, by ``clock``.

        Use it at once: a permit that is kept makes a later minute overflow. Raises LedgerError
        where the store is a database that does not answer.
        """
        queue = self._queues[kind]
        if queue.take_ready(self._clock()):  # as most calls of a high rate do
            return queue.used_at
        queue.waiting += 1
        try:
            async with queue.turn:
                slot = await self._next_slot(kind, queue)
                while (delay := queue.due(slot) - self._clock()) > _EARLY:
                    await self._sleep(delay)
                queue.used_at = self._clock()
                return queue.used_at
        finally:
            queue.waiting -= 1

    def paused(self, kind: Kind) -> float:
        """Seconds from now during which nothing of this kind may be sent; 0 for no pause."""
        return max(self._queues[kind].paused_until - self._clock(), 0.0)

    async def slow_down(self, kind: Kind, seconds: float, *, sent_at: float) -> None:
        """Obey one 429: nothing of this kind is sent for ``seconds``, and then less often.

        ``sent_at`` is what ``acquire`` returned for the refused call: calls that were on their
        way when an earlier refusal arrived only lengthen the pause.
        """
        queue = self._queues[kind]
        pause = min(seconds if seconds > 0 else _DEFAULT_PAUSE, LONGEST_WAIT)
        now = self._clock()
        until = now + pause
        late = sent_at <= queue.refused_at
        if late and not now < queue.paused_until < until:
            return
        queue.paused_until = max(queue.paused_until, until)
        queue.slots.clear()  # reserved at a rate that was too high
        if not late:
            queue.refused_at = now
        await asyncio.to_thread(self._rates.slow_down, kind, pause)

    async def _next_slot(self, kind: Kind, queue: _Queue) -> float:
        """Take the next reserved permit, and reserve more before the last one is used.

        So a store that answers slowly costs no permits.
        """
        now = self._clock()
        while queue.slots and queue.slots[0] < queue.oldest(now):
            queue.slots.popleft()  # its caller was cancelled, and it is too old to be used
        if not queue.slots:
            await self._reserve(kind, queue)
        slot = queue.slots.popleft()
        if len(queue.slots) <= queue.ahead // 2 and len(queue.slots) < queue.waiting - 1:
            await self._reserve(kind, queue)
        return slot

    async def _reserve(self, kind: Kind, queue: _Queue) -> None:
        """Reserve permits for the calls that wait, or will soon."""
        now = self._clock()
        count = queue.wanted(now)
        queue.block, queue.reserved_at = count, now
        grant = await asyncio.to_thread(self._rates.reserve, kind, count)
        start = self._clock() + grant.wait
        queue.interval = grant.interval
        queue.slots.extend(start + place * grant.interval for place in range(count))


class MemoryRates:
    """A RateStore for one process. ``clock`` is monotonic seconds."""

    def __init__(
        self, per_minute: Mapping[Kind, float], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = dict(per_minute)
        self._clock = clock
        self._states: dict[Kind, RateState] = {kind: RateState() for kind in per_minute}
        self._lock = threading.Lock()

    def reserve(self, kind: Kind, count: int) -> Grant:
        """See ``RateStore.reserve``."""
        with self._lock:
            self._states[kind], grant = reserve(
                self._states[kind],
                per_minute=self._per_minute[kind],
                count=count,
                now=self._clock(),
            )
        return grant

    def slow_down(self, kind: Kind, seconds: float) -> None:
        """See ``RateStore.slow_down``."""
        with self._lock:
            self._states[kind] = slow_down(
                self._states[kind],
                seconds=seconds,
                now=self._clock(),
            )
