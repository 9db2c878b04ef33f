"""Computes when to poll a prediction: seldom enough for the rate limits, and soon after its end.

The first poll comes after the running median of the model's durations, each further one after
another 0.3 of the elapsed time, between 0.5 and 8 s. With a median of 2.5 s and 2 % cold starts of
40 to 120 s that is less than 2.5 polls a prediction. Nothing here waits or reads a clock.

A cold start delays the first predictions of a model and none after them. So the first poll comes at
the latest 8 s plus twice the median of the pure prediction time, however long the earlier ones
waited for a machine. If that finds nothing, the model is still cold, and the second poll comes
after the median duration: one poll more.
"""

import math
from bisect import bisect_left, insort
from collections import deque

from flux_pipeline.prediction import Prediction

_GROWTH = 0.3
"""Share of the elapsed time that passes before the next poll."""
_MIN_WAIT, _MAX_WAIT = 0.5, 8.0
"""s between two polls"""
_FAST_MODEL_MIN_WAIT = 0.02
"""s; the lower bound for models whose median is below 2.5 s"""
_WINDOW = 101
"""Durations that the median is taken of."""


class PollSchedule:
    """The waits between polls, by model, learnt from predictions that ended.

    ``expected`` is taken for a model's median, s, until one of its predictions has ended.
    """

    def __init__(self, expected: float = 2.0) -> None:
        self._expected = expected
        self._durations: dict[str, Durations] = {}
        self._predict_times: dict[str, Durations] = {}
        """Without the wait for a machine."""

    def observe(self, model: str, prediction: Prediction) -> None:
        """Learn from the times in a prediction that succeeded."""
        seconds = _duration(prediction)
        if seconds is not None:
            self._durations_of(model).add(seconds)
        if prediction.predict_seconds is not None:
            self._predict_times.setdefault(model, Durations()).add(prediction.predict_seconds)

    def wait(self, model: str, *, elapsed: float, polls: int) -> float:
        """Seconds to wait now, ``elapsed`` s after the prediction was accepted.

        ``polls`` counts those made already. A median below 2.5 s shortens the waits in proportion.
        """
        median = self._durations_of(model).median
        latest = self._latest_first_poll(model)
        if polls == 0:
            return max(0.0, min(median, latest) - elapsed)
        if polls == 1 and latest < median and elapsed < median:
            return median - elapsed
        min_wait = min(_MIN_WAIT, max(median / 5, _FAST_MODEL_MIN_WAIT))
        return min(max(_GROWTH * elapsed, min_wait), _MAX_WAIT)

    def _latest_first_poll(self, model: str) -> float:
        times = self._predict_times.get(model)
        return math.inf if times is None else _MAX_WAIT + 2 * times.median

    def _durations_of(self, model: str) -> "Durations":
        return self._durations.setdefault(model, Durations(self._expected))


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
    def median(self) -> float:
        """Seconds; what is expected before the first ``add``."""
        return self._sorted[len(self._sorted) // 2] if self._sorted else self._expected


def _duration(prediction: Prediction) -> float | None:
    started, ended = prediction.created_at, prediction.completed_at
    if started is not None and ended is not None and ended >= started:
        return (ended - started).total_seconds()
    return prediction.predict_seconds
