"""Computes when to poll a prediction: seldom enough for the rate limits, and soon after its end.

The first poll comes after the running median of the model's durations, each further one after
another 0.3 of the elapsed time, between 0.5 and 8 s; of a model that itself takes more than 32 s up
to a quarter of that. With a median of 2.5 s and 2 % cold starts of 40 to 120 s that is less than
2.5 polls a prediction.

Until predictions of a model have ended, nobody knows how long they take, and hundreds may be under
way. So only the first three are polled often. The others wait until two have ended, or a minute.

A cold start delays the first predictions of a model and none after them. So the first poll comes at
the latest 8 s plus twice the median of the pure prediction time, however long the earlier ones
waited for a machine. If that finds nothing, the model is still cold, and the second poll comes
after the median duration: one poll more.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass, field

import anyio

from flux_pipeline.prediction import Prediction, Status

_GROWTH = 0.3
"""Share of the elapsed time that passes before the next poll."""
_MIN_WAIT, _MAX_WAIT = 0.5, 8.0
"""s between two polls"""
_SLOW_MODEL_SHARE = 0.5
"""Of the time that a slow model takes itself: so long a wait may be then."""
_FAST_MODEL_MIN_WAIT = 0.02
"""s; the lower bound for models whose median is below 2.5 s"""
_SCOUTS, _KNOWN_ENDS = 3, 2
"""Predictions that are polled often until so many have ended: their median, where all go well."""
_SCOUT_GROWTH, _SCOUT_MAX_WAIT = 0.4, 16.0
"""As above, until one has ended: its time is known by a poll or two less."""
_UNKNOWN_WAIT = 60.0
"""s between two polls of the others."""
_WINDOW = 101
"""Durations that the median is taken of."""


class PollSchedule:
    """The waits between polls, by model, learnt from predictions that ended.

    ``expected`` is taken for a model's median, s, until one of its predictions has succeeded. Lives
    on one event loop.
    """

    def __init__(self, expected: float = 2.0) -> None:
        self._expected = expected
        self._models: dict[str, _Model] = {}

    def observe(self, model: str, prediction: Prediction, *, name: str = "") -> None:
        """Learn from a prediction that has ended; from its times only if it succeeded."""
        known = self._known(model)
        if prediction.status is Status.SUCCEEDED:
            seconds = _duration(prediction)
            if seconds is not None:
                known.durations.add(seconds)
            if prediction.predict_seconds is not None:
                known.predict_times.add(prediction.predict_seconds)
        known.end(name)

    def forget(self, model: str, name: str) -> None:
        """A prediction is not polled any more, however it stands: the others don't wait for it."""
        known = self._known(model)
        if name in known.scouts:
            known.end(name)

    def predict_seconds(self, model: str) -> float:
        """The median of the model's pure prediction time, s; 0 where none is known."""
        return self._known(model).predict_times.median

    async def pause(
        self,
        model: str,
        *,
        elapsed: float,
        polls: int,
        name: str,
        waited: float = 0.0,
        most: float = math.inf,
    ) -> bool:
        """Wait until a prediction's next poll is due, ``most`` s at the longest.

        False: it is not due yet, but ``most`` s are over, or it is known only now how long the
        model takes. Then ask again, with what was waited meanwhile as ``waited``, s. The other
        arguments are those of ``wait``, as they were in the beginning.
        """
        known = self._known(model)
        seconds = self.wait(model, elapsed=elapsed, polls=polls, name=name) - waited
        nap = max(min(seconds, most), 0.0)
        if known.is_known or not nap:
            await anyio.sleep(nap)
        else:
            with anyio.move_on_after(nap):
                await known.becomes_known()
                return False
        return nap >= seconds

    def wait(self, model: str, *, elapsed: float, polls: int, name: str = "") -> float:
        """Seconds to wait now, ``elapsed`` s after the prediction was accepted.

        ``polls`` counts those made already, and ``name`` is any text that only this prediction has.
        A median below 2.5 s shortens the waits in proportion.
        """
        known = self._known(model)
        if not known.is_known and not known.is_scout(name):
            return _UNKNOWN_WAIT - elapsed if elapsed < _UNKNOWN_WAIT else _UNKNOWN_WAIT
        median, latest = known.durations.median, known.latest_first_poll
        if polls == 0:
            return max(0.0, min(median, latest) - elapsed)
        if polls == 1 and latest < median and elapsed < median:
            return median - elapsed
        min_wait = min(_MIN_WAIT, max(median / 5, _FAST_MODEL_MIN_WAIT))
        if not known.ends:
            return min(max(_SCOUT_GROWTH * elapsed, min_wait), _SCOUT_MAX_WAIT)
        return min(max(_GROWTH * elapsed, min_wait), known.longest_wait)

    def _known(self, model: str) -> "_Model":
        known = self._models.get(model)
        if known is None:
            known = self._models[model] = _Model(Durations(self._expected))
        return known


class Durations:
    """The last durations of one model, and their median. Not thread-safe."""

    def __init__(self, expected: float = 0.0) -> None:
        self._expected = expected
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Count one duration, in seconds; only the last 101 are kept."""
        if len(self._recent) == _WINDOW:
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    @property
    def is_known(self) -> bool:
        """Whether there was any."""
        return bool(self._sorted)

    @property
    def median(self) -> float:
        """Seconds; what is expected before the first ``add``."""
        return self._sorted[len(self._sorted) // 2] if self._sorted else self._expected


@dataclass(slots=True)
class _Model:
    """What is known of one model."""

    durations: Durations
    predict_times: Durations = field(default_factory=Durations)
    """Without the wait for a machine."""
    ends: int = 0
    """How many predictions have ended, or are not polled any more; counted until it is known."""
    scouts: set[str] = field(default_factory=set)
    counted: set[str] = field(default_factory=set)
    """Names of those that have ended."""
    changed: anyio.Event | None = None
    """Set when it becomes known; None while nobody waits for that."""

    @property
    def is_known(self) -> bool:
        """Whether it is known when predictions end."""
        return self.ends >= _KNOWN_ENDS

    def end(self, name: str) -> None:
        """Note that a prediction has ended; a name counts once."""
        if self.is_known or name in self.counted:
            return
        if name:
            self.counted.add(name)
        self.ends += 1
        if self.is_known and self.changed is not None:
            self.changed.set()
            self.changed = None

    async def becomes_known(self) -> None:
        """Wait until it is known when predictions end."""
        if self.changed is None:
            self.changed = anyio.Event()
        await self.changed.wait()

    def is_scout(self, name: str) -> bool:
        """Whether this is one of the first predictions that ask."""
        if len(self.scouts) < _SCOUTS:
            self.scouts.add(name)
        return name in self.scouts

    @property
    def latest_first_poll(self) -> float:
        """Seconds; infinite where the pure prediction time is not known."""
        median = self.predict_times.median
        return _MAX_WAIT + 2 * median if self.predict_times.is_known else math.inf

    @property
    def longest_wait(self) -> float:
        """Seconds between two polls at most."""
        times = self.predict_times if self.predict_times.is_known else self.durations
        return max(_MAX_WAIT, _SLOW_MODEL_SHARE * times.median)


def _duration(prediction: Prediction) -> float | None:
    started, ended = prediction.created_at, prediction.completed_at
    if started is not None and ended is not None and ended >= started:
        return (ended - started).total_seconds()
    return prediction.predict_seconds
