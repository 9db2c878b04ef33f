"""Bounds how many requests of a run are at one stage at once, by what each stage costs.

Those that are prepared may hold a picture to send, creates and polls a connection. Those that are
waited for cost little, and are as many as get on (``produce.in_flight``). What holds an image is
bounded by ``produce.downloads``.
"""

from dataclasses import dataclass, field

import anyio

from flux_pipeline.produce import effects as fx
from flux_pipeline.produce.in_flight import InFlight

PREPARED = 64
"""Requests that are prepared, or wait for their permit."""
SENDING = 256
"""Creates under way: some providers answer only when the prediction has ended."""
RECORDING = 256
"""Partitions that have ended, whose rows are being written or whose report nobody has taken."""
_PREPARING = frozenset({fx.BringBack, fx.FindStored, fx.PrepareInput})
_FOLLOWING = frozenset(
    {fx.FindInList, fx.AwaitPoll, fx.Poll, fx.Cancel, fx.StoreOutput, fx.FindImage}
)


@dataclass(slots=True)
class Bounds:
    """How many requests of one run may be at which stage at once; lives on one event loop."""

    in_flight: InFlight
    cap: anyio.Semaphore | None = None
    """For requests at any stage, where a number was set."""
    preparing: anyio.Semaphore = field(
        default_factory=lambda: anyio.Semaphore(PREPARED, fast_acquire=True)
    )
    sending: anyio.Semaphore = field(
        default_factory=lambda: anyio.Semaphore(SENDING, fast_acquire=True)
    )
    recording: anyio.Semaphore = field(
        default_factory=lambda: anyio.Semaphore(RECORDING, fast_acquire=True)
    )


@dataclass(slots=True)
class Place:
    """What one request holds of the bounds."""

    bounds: Bounds
    model: str
    holder: str
    is_preparing: bool = True
    is_sending: bool = False

    async def make_room(self, effect: fx.Effect) -> None:
        """Wait until the effect may be performed; give back what its stage does not need."""
        kind = type(effect)
        if kind in _PREPARING:
            # Given back first: who holds both, or is in flight, must not wait for the other.
            self._end_sending()
            self.bounds.in_flight.remove(self.model, self.holder)
            if not self.is_preparing:
                await self.bounds.preparing.acquire()
                self.is_preparing = True
        elif kind is fx.AwaitPermit:
            await self.bounds.in_flight.wait(self.model)
            if not self.is_sending:
                await self.bounds.sending.acquire()
                self.is_sending = True
        elif kind is fx.Send:
            self.bounds.in_flight.add(self.model, self.holder)
            self._end_preparing()
        elif kind in _FOLLOWING:
            self.bounds.in_flight.add(self.model, self.holder)
            self._end_preparing()
            self._end_sending()

    def leave(self) -> None:
        """Give everything back."""
        self._end_preparing()
        self._end_sending()
        self.bounds.in_flight.remove(self.model, self.holder)
        if self.bounds.cap is not None:
            self.bounds.cap.release()

    def _end_preparing(self) -> None:
        if self.is_preparing:
            self.is_preparing = False
            self.bounds.preparing.release()

    def _end_sending(self) -> None:
        if self.is_sending:
            self.is_sending = False
            self.bounds.sending.release()
