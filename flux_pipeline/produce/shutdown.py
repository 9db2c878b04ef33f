"""Ends runs in order: signals while the event loop starts or drains, and streams left open.

A stream may be left by its owner: Dagster leaves the generator of an interrupted step to the
garbage collector, which may run when the process ends. By then the event loop's thread is gone, and
waiting for it would hang. So open streams are ended before that, by ``end_streams``.
"""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_OPEN: set["OpenStream"] = set()


@contextmanager
def signals_deferred() -> Iterator[list[int]]:
    """Defer signals during this block; yields the list of those that came, for ``raise_signals``.

    An interrupt while anyio waits for its loop to start would leave it waiting for ever.
    """
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    previous = {
        number: signal.signal(number, lambda number, _: came.append(number)) for number in _SIGNALS
    }
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def raise_signals(numbers: Sequence[int]) -> None:
    """Raise the signals that were deferred."""
    for number in numbers:
        signal.raise_signal(number)


@contextmanager
def second_signal_exits() -> Iterator[None]:
    """End the process at once if it is interrupted in this block.

    Nothing is lost by it that SIGKILL would not lose too: what was accepted and not written down is
    settled with the provider by the next run. Only the main thread can do this; elsewhere it has no
    effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _exit) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _exit(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


@dataclass(eq=False, slots=True)
class OpenStream:
    """Ends one stream, once: called by its owner, or by ``end_streams``."""

    end: Callable[[], None]
    thread: int = field(default_factory=threading.get_ident)
    """The thread that opened it."""

    def __post_init__(self) -> None:
        _OPEN.add(self)

    def __call__(self) -> None:
        """End the stream; does nothing the second time."""
        if self in _OPEN:
            _OPEN.discard(self)
            self.end()


def end_streams() -> None:
    """End the streams that this thread has left open: nothing more is sent, ids are written."""
    for stream in [each for each in _OPEN if each.thread == threading.get_ident()]:
        stream()


atexit.register(end_streams)
