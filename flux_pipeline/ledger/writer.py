"""Writes the ledger calls of many tasks in shared transactions: group commit.

64 tasks share one fsync: the calls that come while a commit is under way are the next transaction.
So a call waits for at most two commits. A call that can wait, because nothing is lost where the
process dies before it, begins no transaction soon after another one: it shares the next one, which
comes within ``PAUSE_SECONDS``.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import anyio

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Ledger

T = TypeVar("T")
PAUSE_SECONDS = 0.05
"""From the start of one transaction to that of the next, where all that it would do can wait."""


class TransactionalLedger(Protocol):
    """A ledger that can take several calls in one transaction."""

    def transaction(self) -> AbstractContextManager[Ledger]:
        """Open a transaction with the methods of ``Ledger``; commit it at the end."""
        ...


class LedgerWriter:
    """Makes calls of a ledger from async code, in groups; ``async with``, within one event loop.

    ``call`` is not cut short by a cancelled scope: it answers first, and the cancellation follows
    at the caller's next checkpoint. A task that is cancelled without a scope (``Task.cancel``)
    leaves at once and its call is made all the same. So a call is made whole or not at all, and
    an id that was paid for is never dropped on the way.
    """

    def __init__(
        self, ledger: TransactionalLedger, *, most: int = 256, pause: float = PAUSE_SECONDS
    ) -> None:
        self._ledger = ledger
        self._most = most
        self._pause = pause
        self._waiting: list[_Call] = []
        self._is_urgent = False
        """Whether one of those that wait can't."""
        self._is_starting = False
        self._is_running = False
        self._timer: asyncio.TimerHandle | None = None
        self._started_at = -math.inf
        """By the event loop's clock."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Make every call that waits, and wait for their end, also when cancelled."""
        self._pause = 0.0
        self._plan()
        with anyio.CancelScope(shield=True):
            await self._idle.wait()
        self._thread.shutdown()

    async def call(self, work: Callable[[Ledger], T], *, can_wait: bool = False) -> T:
        """Run ``work`` on an open transaction and return its result once that is committed.

        ``work`` runs in another thread, and again from the start where another call of its group
        failed: it must do nothing but call the ledger it is given. What it raises goes to its
        caller alone, and its writes are undone. With ``can_wait`` it may begin ``pause`` seconds
        later, to share a transaction.

        Raises:
            LedgerError: Where the database failed; at the commit, every caller of the group.
        """
        call = _Call(work, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._is_urgent |= not can_wait
        self._idle.clear()
        self._plan()
        with anyio.CancelScope(shield=True):
            answer: T = await call.answer
        return answer

    def _plan(self) -> None:
        """Have the next transaction begin, when the one under way has ended; or be idle."""
        if self._is_running:
            return
        if not self._waiting:
            self._idle.set()
            return
        loop = asyncio.get_running_loop()
        begin_at = self._started_at + self._pause
        if self._is_urgent or loop.time() >= begin_at:
            if not self._is_starting:
                self._is_starting = True
                loop.call_soon(self._start)  # after all tasks that are ready now
        elif self._timer is None:
            self._timer = loop.call_at(begin_at, self._start)

    def _start(self) -> None:
        """Hand what is waiting to the thread."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._is_starting = False
        if self._is_running or not self._waiting:  # the timer was first
            return
        group = _Group(self._waiting[: self._most])
        del self._waiting[: self._most]
        self._is_urgent = bool(self._waiting)
        self._is_running = True
        loop = asyncio.get_running_loop()
        self._started_at = loop.time()
        running = loop.run_in_executor(self._thread, self._run, group)
        running.add_done_callback(lambda done: self._finish(group, done))

    def _run(self, group: "_Group") -> list[Any]:
        with self._ledger.transaction() as tx:
            answers = []
            for number, call in enumerate(group.calls):
                group.at = number
                answers.append(call.work(tx))
            group.at = None
        return answers

    def _finish(self, group: "_Group", done: "asyncio.Future[list[Any]]") -> None:
        """Answer the callers; where one call failed, run the rest of its group again."""
        self._is_running = False
        error = done.exception()
        if error is None:
            for call, answer in zip(group.calls, done.result(), strict=True):
                call.resolve(answer)
        elif group.at is None:
            for call in group.calls:
                call.reject(_copy(error))
        else:
            # The failed call undid the whole transaction: the others go first in the next one.
            group.calls[group.at].reject(error)
            self._waiting[:0] = [*group.calls[: group.at], *group.calls[group.at + 1 :]]
            self._is_urgent = True
        self._plan()


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    work: Callable[[Ledger], Any]
    answer: "asyncio.Future[Any]"
    """Done already where its caller was cancelled."""

    def resolve(self, answer: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)

    def reject(self, error: BaseException) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True)
class _Group:
    calls: Sequence[_Call]
    at: int | None = None
    """The call under way; None while the transaction is opened or committed."""


def _copy(error: BaseException) -> BaseException:
    """Return an error of its own for each caller: tracebacks are written into the raised one."""
    return LedgerError(*error.args) if isinstance(error, LedgerError) else error
