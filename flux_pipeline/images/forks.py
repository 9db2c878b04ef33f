"""Keeps forks and native calls apart: a child can't free a lock that a thread of its parent holds.

The native library has a lock for all threads. Of those, only the one that forks lives on in the
child; did another hold the lock at that moment, the child's first call waits for ever.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class ForkGate:
    """Lets calls of any number of threads in at once, and no fork while there is one.

    The trap: a fork waits for calls under way, as long as a timestamp authority takes. It does not
    wait for a call of the thread that forks, whose child is on its own.
    """

    def __init__(self) -> None:
        self._mine = threading.local()
        self._reset(0)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Hold off forks; waits for one that is under way or waiting itself."""
        depth = self._depth
        with self._changed:
            while self._forks and not depth:
                self._changed.wait()
            self._inside += 1
        self._mine.depth = depth + 1
        try:
            yield
        finally:
            self._mine.depth = depth
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @property
    def calls(self) -> int:
        """How many calls are under way."""
        return self._inside

    def before(self) -> None:
        """Wait for the calls of other threads, and let no more of them in."""
        self._changed.acquire()
        self._forks += 1
        self._forks_inside += self._depth
        while self._inside > self._forks_inside:
            self._changed.wait()

    def after_in_parent(self) -> None:
        """Let calls in again."""
        self._forks -= 1
        self._forks_inside -= self._depth
        self._changed.notify_all()
        self._changed.release()

    def after_in_child(self) -> None:
        """Forget the threads that are not here."""
        self._reset(self._depth)

    @property
    def _depth(self) -> int:
        """How many calls within each other this thread has under way."""
        depth: int = getattr(self._mine, "depth", 0)
        return depth

    def _reset(self, inside: int) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside = inside
        self._forks = 0
        self._forks_inside = 0
        """Calls of threads that fork from within them: two of those don't wait for each other."""


GATE = ForkGate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=GATE.before,
        after_in_parent=GATE.after_in_parent,
        after_in_child=GATE.after_in_child,
    )
