"""Many tasks' calls in one transaction: group commit, so that 64 slots share one fsync.

While a commit is under way, calls collect; they are the next transaction. A call waits for at most
two commits, and the faster the disk, the smaller the groups.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

import anyio

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Ledger

T = TypeVar("T")
Calls_co = TypeVar("Calls_co", bound=Ledger, covariant=True)


class TransactionalLedger(Protocol[Calls_co]):
    """A ledger that can take several calls in one transaction."""

    def transaction(self) -> AbstractContextManager[Calls_co]:
        """Open a transaction with the methods of ``Ledger``; commit it at the end."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    work: Callable[[Any], Any]
    answer: "asyncio.Future[Any]"


@dataclass(slots=True)
class _Batch:
    jobs: Sequence[_Job]
    at: int | None = None
    """The call under way; None while the transaction is opened or committed."""


class LedgerWriter(Generic[Calls_co]):
    """Async calls of a ledger, in groups; used as ``async with``, within one event loop.

    ``call`` is not cut short by a cancelled scope: it answers first, and the cancellation follows
    at the caller's next checkpoint. A task that is cancelled without a scope (``Task.cancel``)
    leaves at once and its call is made all the same. So a call is made whole or not at all, and
    an id that was paid for is never dropped on the way.
    """

    def __init__(self, ledger: TransactionalLedger[Calls_co], *, most: int = 256) -> None:
        self._ledger = ledger
        self._most = most
        self._waiting: list[_Job] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Wait for every call that was made, also when cancelled."""
        with anyio.CancelScope(shield=True):
            await self._idle.wait()
        self._thread.shutdown()

    async def call(self, work: Callable[[Calls_co], T]) -> T:
        """Run ``work`` on an open transaction and return its result once that is committed.

        ``work`` runs in another thread, and again from the start where another call of its group
        failed: it must do nothing but call the ledger it is given. What it raises goes to its
        caller alone, and its writes are undone.

        Raises:
            LedgerError: Where the database failed; at the commit, every caller of the group.
        """
        job = _Job(work, asyncio.get_running_loop().create_future())
        self._waiting.append(job)
        if self._idle.is_set():
            self._idle.clear()
            asyncio.get_running_loop().call_soon(self._start)  # after all tasks that are ready now
        with anyio.CancelScope(shield=True):
            answer: T = await job.answer
        return answer

    def _start(self) -> None:
        """Hand what is waiting to the thread, or be idle."""
        if not self._waiting:
            self._idle.set()
            return
        batch = _Batch(self._waiting[: self._most])
        del self._waiting[: self._most]
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._run, batch)
        running.add_done_callback(lambda done: self._finish(batch, done))

    def _run(self, batch: _Batch) -> list[Any]:
        with self._ledger.transaction() as calls:
            answers = []
            for number, job in enumerate(batch.jobs):
                batch.at = number
                answers.append(job.work(calls))
            batch.at = None
        return answers

    def _finish(self, batch: _Batch, done: "asyncio.Future[list[Any]]") -> None:
        """Answer the callers; where one call failed, run the rest of its group again."""
        error = done.exception()
        if error is None:
            for job, answer in zip(batch.jobs, done.result(), strict=True):
                _answer(job, answer)
        elif batch.at is None:
            for job in batch.jobs:
                _refuse(job, _copy(error))
        else:
            _refuse(batch.jobs[batch.at], error)
            self._waiting[:0] = [*batch.jobs[: batch.at], *batch.jobs[batch.at + 1 :]]
        self._start()


def _answer(job: _Job, answer: Any) -> None:
    if not job.answer.done():  # its caller was cancelled
        job.answer.set_result(answer)


def _refuse(job: _Job, error: BaseException) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)


def _copy(error: BaseException) -> BaseException:
    """Return an error of its own for each caller: tracebacks are written into the raised one."""
    return LedgerError(*error.args) if isinstance(error, LedgerError) else error
