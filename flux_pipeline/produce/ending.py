"""Streams that are open in this process: each is ended by its owner, or by whoever cleans up.

An owner may never come to it. Dagster leaves the generator of an interrupted step to the garbage
collector, which may run when the process ends: by then the event loop's thread is gone, and to
wait for it would be to wait for ever.
"""

import atexit
import threading
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Ending:
    """What ends one stream, once."""

    end: Callable[[], None]
    thread: int = field(default_factory=threading.get_ident)
    """The one that began it."""

    def __post_init__(self) -> None:
        _OPEN.add(self)

    def __call__(self) -> None:
        """End the stream; does nothing the second time."""
        if self in _OPEN:
            _OPEN.discard(self)
            self.end()


_OPEN: set[Ending] = set()


def end_streams() -> None:
    """End what this thread has begun and left: nothing new is sent, and ids are written."""
    for ending in [each for each in _OPEN if each.thread == threading.get_ident()]:
        ending()


atexit.register(end_streams)
