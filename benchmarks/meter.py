"""Measures the CPU of this process, and the part of it that decoding images takes."""

import resource
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

from PIL.WebPImagePlugin import WebPImageFile


@dataclass(frozen=True)
class Reading:
    """What one round took. Seconds of user and system time, of this process alone."""

    cpu: float
    decoding: float


class Meter:
    """Reads the clocks around a round; counts decoding in whatever thread it happens.

    Both contestants decode with Pillow's ``WebPImageFile``, so it is the one place to look at. Its
    ``_open`` makes the decoder and its canvas, ``_get_next`` decodes, and ``load`` copies the
    result, which ours leaves out.
    """

    def __init__(self) -> None:
        self._decoding = 0.0
        self._lock = threading.Lock()
        self._within = threading.local()
        for part in ("_open", "_get_next", "load"):
            setattr(WebPImageFile, part, self._counted(getattr(WebPImageFile, part)))

    def measure(self, work: Callable[[], None]) -> Reading:
        """Run a round."""
        cpu, decoding = time.process_time(), self._decoding
        work()
        return Reading(time.process_time() - cpu, self._decoding - decoding)

    def _counted(self, part: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(part)
        def counted(image: WebPImageFile) -> Any:
            if getattr(self._within, "part", False):  # of another part, which is counted whole
                return part(image)
            self._within.part = True
            begun = time.thread_time()
            try:
                return part(image)
            finally:
                spent = time.thread_time() - begun
                self._within.part = False
                with self._lock:
                    self._decoding += spent

        return counted


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)
