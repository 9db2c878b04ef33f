"""Has Python look for garbage in cycles less often while a run makes images.

Hundreds of requests in flight are objects that stay, and each is looked through again and again:
by Python's own setting that takes a tenth of an image's CPU. What is in no cycle is freed at once
all the same.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock

_NEW_OBJECTS = 50_000
"""How many more than were freed lead to a look; Python's own number is 700. Some 10 MB."""


@dataclass(slots=True)
class _Looks:
    """How many runs want fewer, and what the process had set before the first of them."""

    runs: int = 0
    before: tuple[int, int, int] = (0, 0, 0)
    lock: Lock = field(default_factory=Lock)


_looks = _Looks()


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Look less often within the block, in the whole process; the last one out restores it.

    A process that looks more seldom already, or never (0), is left as it is.
    """
    with _looks.lock:
        _looks.runs += 1
        if _looks.runs == 1:
            _looks.before = gc.get_threshold()
            if 0 < _looks.before[0] < _NEW_OBJECTS:
                gc.set_threshold(_NEW_OBJECTS, *_looks.before[1:])
    try:
        yield
    finally:
        with _looks.lock:
            _looks.runs -= 1
            if _looks.runs == 0:
                gc.set_threshold(*_looks.before)
