"""Keeps Python's garbage collector out of start-up, where it takes a fifth of the CPU.

While modules are loaded it looks through all of them again and again, and finds nothing, because
they stay until the process ends.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


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
