"""What a second signal means while a run drains: go at once."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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
