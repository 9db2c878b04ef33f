"""Signals at two delicate moments: while a run's event loop starts, and while it drains."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
