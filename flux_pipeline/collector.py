"""Keeps Python's garbage collector out of start-up, where it takes a fifth of the CPU.

While modules are loaded it looks through all of them again and again, and finds nothing, because
they stay until the process ends.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
