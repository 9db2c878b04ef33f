"""Keeps Python's garbage collector from looking again and again through what stays.

While modules are loaded it takes a fifth of the CPU and finds nothing, because they stay until the
process ends; while a run makes images it takes a tenth, because hundreds of requests are in flight.
What is in no cycle is freed at once all the same.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

_NEW_OBJECTS = 50_000
"""How many more than were freed lead to a look; Python's own number is 700. Some 10 MB."""


@contextmanager
def paused() -> Iterator[None]:
    """Collect nothing in this block, and leave the rest as it is: for a process of others."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def building() -> Iterator[None]:
    """Build definitions in this block, in Dagster's process: collect nothing, and leave them out.

    What is there by its end is never looked through again; else the collector is as it was.
    """
    with paused():
        yield
        gc.freeze()


@contextmanager
def loading() -> Iterator[None]:
    """Load modules and definitions in this block: nothing is collected before its end."""
    hold()
    try:
        yield
    finally:
        release()


def hold() -> None:
    """Collect nothing before ``release`` is called."""
    gc.disable()


def release() -> None:
    """Collect again after ``hold``, but never look through what is there by now."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def end() -> None:
    """Look through nothing more: Python does it several times before a process ends, in vain."""
    gc.freeze()


class _Sharing:
    """How many runs look less often, and what the process had set before the first of them."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.runs = 0
        self.before = (0, 0, 0)


_sharing = _Sharing()


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Look less often within the block, in the whole process; the last one out restores it.

    A process that looks more seldom already, or never (0), is left as it is.
    """
    with _sharing.lock:
        _sharing.runs += 1
        if _sharing.runs == 1:
            _sharing.before = gc.get_threshold()
            if 0 < _sharing.before[0] < _NEW_OBJECTS:
                gc.set_threshold(_NEW_OBJECTS, *_sharing.before[1:])
    try:
        yield
    finally:
        with _sharing.lock:
            _sharing.runs -= 1
            if _sharing.runs == 0:
                gc.set_threshold(*_sharing.before)
