"""Signals at two delicate moments: while a run's event loop starts, and while it drains."""

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_deferred() -> Iterator[list[int]]:
    """Let signals wait in this block, and give the list of those that came, for ``raise_signals``.

    An interrupt while anyio waits for its loop to start leaves it waiting for ever.
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
    """Let the signals that had to wait do what they would have done."""
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


_OPEN: set[OpenStream] = set()


def end_streams() -> None:
    """End what this thread has begun and left: nothing new is sent, and ids are written."""
    for stream in [each for each in _OPEN if each.thread == threading.get_ident()]:
        stream()


atexit.register(end_streams)
