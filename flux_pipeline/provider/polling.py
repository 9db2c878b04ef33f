"""When to ask for a prediction again: seldom enough for the limits, soon enough for the user.

The first poll comes after the running median of the model's own durations, the next ones after
0.3 of the time passed, between 0.5 and 8 s. With a median of 2.5 s and 2 % cold starts of 40 to
120 s that is less than 2.5 polls a prediction. Nothing here waits or reads a clock.

A model that was cold lets all who came first wait, and nobody after them: where a prediction itself
is quick, the first poll comes 8 s and twice its time later at the latest, whatever the others took.
If it finds nothing, the wait is the queue's, and the second comes after the median: one poll more.
"""

import math
from bisect import bisect_left, insort
from collections import deque

from flux_pipeline.prediction import Prediction

_GROWTH = 0.3
_SHORTEST, _LONGEST = 0.5, 8.0  # s between two polls
_AT_LEAST = 0.02  # s, however quick the model is
_REMEMBERED = 101
_FIRST_GUESS = 2.0  # s, until a model has shown its own


class Durations:
    """The last durations of one model, and their median. Not thread-safe."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, seconds: float) -> None:
        """Count one duration; only the last 101 are remembered."""
        if len(self._recent) == _REMEMBERED:
            oldest = self._recent.popleft()
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._recent.append(seconds)
        insort(self._sorted, seconds)

    @property
    def median(self) -> float:
        """Seconds; 2 until something was counted."""
        return self._sorted[len(self._sorted) // 2] if self._sorted else _FIRST_GUESS


class PollSchedule:
    """The waits between polls, model by model, learnt from predictions that ended."""

    def __init__(self) -> None:
        self._durations: dict[str, Durations] = {}
        self._predicting: dict[str, Durations] = {}
        """Without the time that they waited for a machine."""

    def observe(self, model: str, prediction: Prediction) -> None:
        """Learn from a prediction that succeeded, by the provider's own times."""
        seconds = _duration(prediction)
        if seconds is not None:
            self._of(model).add(seconds)
        if prediction.predict_seconds is not None:
            self._predicting.setdefault(model, Durations()).add(prediction.predict_seconds)

    def wait(self, model: str, *, elapsed: float, polls: int) -> float:
        """Seconds to wait now, ``elapsed`` s after the prediction was accepted.

        ``polls`` counts those made already. A median below 2.5 s shortens the waits with it.
        """
        median = self._of(model).median
        latest = self._latest_first(model)
        if polls == 0:
            return max(0.0, min(median, latest) - elapsed)
        if polls == 1 and latest < median and elapsed < median:
            return median - elapsed
        shortest = min(_SHORTEST, max(median / 5, _AT_LEAST))
        return min(max(_GROWTH * elapsed, shortest), _LONGEST)

    def _latest_first(self, model: str) -> float:
        predicting = self._predicting.get(model)
        return math.inf if predicting is None else _LONGEST + 2 * predicting.median

    def _of(self, model: str) -> Durations:
        return self._durations.setdefault(model, Durations())


def _duration(prediction: Prediction) -> float | None:
    begun, ended = prediction.created_at, prediction.completed_at
    if begun is not None and ended is not None and ended >= begun:
        return (ended - begun).total_seconds()
    return prediction.predict_seconds
