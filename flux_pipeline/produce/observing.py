"""Who watches a run from outside: results reach the terminal past Dagster, in the same process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias

from flux_pipeline.produce.report import Result

Observer: TypeAlias = Callable[[Result], None]
"""Called on the engine's thread, once a request; must not block."""


def ignore(_result: Result) -> None:
    """The observer of a run that nobody watches."""


_current: ContextVar[Observer] = ContextVar("observer", default=ignore)


def current_observer() -> Observer:
    """The observer of the running context."""
    return _current.get()


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Let ``observer`` see every result of the runs that are started in this block."""
    token = _current.set(observer)
    try:
        yield
    finally:
        _current.reset(token)
