"""Many tasks' calls in one transaction: whole or not at all, each with its own answer."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio
import pytest

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Budget, Claim, Claimed, Ledger, OverBudget, State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.ledger.transaction import Transaction
from flux_pipeline.ledger.writer import LedgerWriter
from tests.ledger.attempts import COST, Clock, intent, latest, sha
from tests.ledger.memory import MemoryLedger
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def ledger(sqlite_url: str) -> Iterator[SqlLedger]:
    with open_ledger(sqlite_url, patience_seconds=0.1) as ledger:
        yield ledger


class Watched:
    """A ledger whose transactions are counted, and whose next commit may fail."""

    def __init__(self, ledger: SqlLedger) -> None:
        self._ledger = ledger
        self.transactions = 0
        self.fail_commit = False
        self.opened: Callable[[], None] = lambda: None

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._ledger.transaction() as tx:
            self.transactions += 1
            self.opened()
            yield tx
            if self.fail_commit:
                raise LedgerError("the commit failed")


def claim(number: int, *budgets: Budget) -> Callable[[Ledger], Claim]:
    return partial(_claim, number, budgets)


def _claim(number: int, budgets: tuple[Budget, ...], tx: Ledger) -> Claim:
    return tx.claim(intent(number), holder="a", budgets=budgets)


async def test_every_caller_gets_its_own_answer(ledger: SqlLedger) -> None:
    answers: dict[int, Claim] = {}

    async def slot(number: int) -> None:
        answers[number] = await writer.call(claim(number))

    async with LedgerWriter(ledger) as writer, anyio.create_task_group() as tasks:
        for number in range(64):
            tasks.start_soon(slot, number)
    for number, answer in answers.items():
        assert isinstance(answer, Claimed)
        assert answer.attempt == latest(ledger, number)
    assert len(answers) == 64


async def test_many_callers_share_few_transactions(ledger: SqlLedger) -> None:
    watched = Watched(ledger)
    async with LedgerWriter(watched) as writer, anyio.create_task_group() as tasks:
        for number in range(64):
            tasks.start_soon(writer.call, claim(number))
    assert watched.transactions <= 2
    assert len(list(ledger.attempts())) == 64


async def test_a_group_has_a_largest_size(ledger: SqlLedger) -> None:
    watched = Watched(ledger)
    async with LedgerWriter(watched, most=10) as writer, anyio.create_task_group() as tasks:
        for number in range(64):
            tasks.start_soon(writer.call, claim(number))
    assert watched.transactions == 7
    assert len(list(ledger.attempts())) == 64


async def test_a_call_that_can_wait_shares_the_transaction_of_one_that_can_not(
    ledger: SqlLedger,
) -> None:
    watched = Watched(ledger)
    async with LedgerWriter(watched, pause=3600) as writer:
        await writer.call(claim(1))
        waiting = asyncio.create_task(writer.call(claim(2), can_wait=True))
        await asyncio.sleep(0)
        await writer.call(claim(3))
        assert isinstance(await waiting, Claimed)
    assert watched.transactions == 2


async def test_a_call_that_can_wait_has_its_own_transaction_after_a_pause(
    ledger: SqlLedger,
) -> None:
    watched = Watched(ledger)
    async with LedgerWriter(watched, pause=0.01) as writer:
        for number in range(3):
            assert isinstance(await writer.call(claim(number), can_wait=True), Claimed)
    assert watched.transactions == 3


async def test_a_call_that_can_wait_does_not_where_nothing_was_written_before(
    ledger: SqlLedger,
) -> None:
    async with LedgerWriter(ledger, pause=3600) as writer:
        assert isinstance(await writer.call(claim(1), can_wait=True), Claimed)


async def test_a_call_that_can_wait_is_made_again_at_once_where_another_failed(
    ledger: SqlLedger,
) -> None:
    def bad(_tx: Ledger) -> None:
        raise KeyError("bad")

    async with LedgerWriter(ledger, pause=3600) as writer:
        await writer.call(claim(1))
        waiting = asyncio.create_task(writer.call(claim(2), can_wait=True))
        await asyncio.sleep(0)
        with pytest.raises(KeyError):
            await writer.call(bad)
        assert isinstance(await waiting, Claimed)


async def test_leaving_makes_the_calls_that_wait(ledger: SqlLedger) -> None:
    async with LedgerWriter(ledger, pause=3600) as writer:
        await writer.call(claim(1))
        waiting = asyncio.create_task(writer.call(claim(2), can_wait=True))
        await asyncio.sleep(0)
    assert isinstance(await waiting, Claimed)
    assert len(list(ledger.attempts())) == 2


async def test_calls_of_one_group_see_each_other(ledger: SqlLedger) -> None:
    limit = Budget("run:1", 2 * COST)
    async with LedgerWriter(ledger) as writer:
        answers = await asyncio.gather(*(writer.call(claim(n, limit)) for n in (1, 2, 3)))
    assert [isinstance(each, OverBudget) for each in answers] == [False, False, True]


async def test_one_bad_call_spoils_no_other(ledger: SqlLedger) -> None:
    def bad(tx: Ledger) -> None:
        tx.claim(intent(99), holder="a", budgets=[Budget("run:1", None)])
        raise KeyError("bad")

    def follow_nothing(tx: Ledger) -> Claim:
        return tx.claim(intent(3), holder="a", after=7)

    async with LedgerWriter(ledger) as writer:
        calls = [claim(1), bad, claim(2), follow_nothing, claim(4)]
        gathered = asyncio.gather(*map(writer.call, calls), return_exceptions=True)
        answers = await asyncio.wait_for(gathered, timeout=60)
    assert [type(each) for each in answers] == [Claimed, KeyError, Claimed, LedgerError, Claimed]
    assert {each.request_sha256 for each in ledger.attempts()} == {sha(1), sha(2), sha(4)}
    assert ledger.spent_micros("run:1") == 0


async def test_a_failed_commit_is_every_callers_error(ledger: SqlLedger) -> None:
    watched = Watched(ledger)
    watched.fail_commit = True
    async with LedgerWriter(watched) as writer:
        failed = await asyncio.gather(
            *(writer.call(claim(number)) for number in range(5)), return_exceptions=True
        )
        assert all(isinstance(each, LedgerError) for each in failed)
        assert len({id(each) for each in failed}) == 5
        assert not list(ledger.attempts())
        watched.fail_commit = False
        assert isinstance(await writer.call(claim(1)), Claimed)


async def test_a_locked_database_is_every_callers_error(ledger: SqlLedger, sqlite_url: str) -> None:
    async with LedgerWriter(ledger) as writer:
        with open_ledger(sqlite_url) as other, other.transaction():
            failed = await asyncio.gather(
                *(writer.call(claim(number)) for number in range(5)), return_exceptions=True
            )
        assert all("was locked" in str(each) for each in failed)


async def test_a_connection_that_is_cut_spoils_no_other_call(postgres: PostgresServer) -> None:
    def cut(tx: Transaction) -> None:
        tx.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with open_ledger(postgres.create_database()) as ledger:
        async with LedgerWriter(ledger) as writer:
            answers = await asyncio.gather(
                writer.call(claim(1)),
                writer.call(cut),
                writer.call(claim(2)),
                return_exceptions=True,
            )
        assert [type(each) for each in answers] == [Claimed, LedgerError, Claimed]
        assert len(list(ledger.attempts())) == 2


async def test_a_cancelled_scope_lets_the_call_answer_first(ledger: SqlLedger) -> None:
    watched = Watched(ledger)
    answers: list[State] = []

    async def send(claimed: Claimed) -> None:
        watched.opened = scope.cancel_called_from_another_thread
        state = await writer.call(
            lambda tx: tx.accept(claimed.attempt, prediction_id="p1", reply="{}")
        )
        answers.append(state)
        await anyio.lowlevel.checkpoint()
        answers.append(State.FAILED)

    async with LedgerWriter(watched) as writer:
        claimed = await writer.call(claim(1))
        assert isinstance(claimed, Claimed)
        with anyio.CancelScope() as inner:
            scope = Cancel(inner)
            await send(claimed)
    assert inner.cancelled_caught
    assert answers == [State.ACCEPTED]
    assert latest(ledger).prediction_id == "p1"


async def test_a_task_that_is_cancelled_bare_leaves_a_whole_write(ledger: SqlLedger) -> None:
    async with LedgerWriter(ledger) as writer:
        tasks = [asyncio.create_task(writer.call(claim(number))) for number in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in results] == [asyncio.CancelledError, Claimed] * 5
    assert len(list(ledger.attempts())) == 10


async def test_leaving_waits_for_calls_under_way(ledger: SqlLedger) -> None:
    async with LedgerWriter(ledger) as writer:
        tasks = [asyncio.create_task(writer.call(claim(number))) for number in range(10)]
        await asyncio.sleep(0)
    assert all(task.done() or not task.cancelled() for task in tasks)
    assert len(list(ledger.attempts())) == 10
    await asyncio.gather(*tasks)


async def test_leaving_without_a_call_is_fine(ledger: SqlLedger) -> None:
    async with LedgerWriter(ledger):
        pass


async def test_the_memory_ledger_can_be_written_too(clock: Clock) -> None:
    memory = MemoryLedger(clock=clock)
    async with LedgerWriter(memory) as writer:
        assert isinstance(await writer.call(claim(1)), Claimed)


class Cancel:
    """Cancels a scope from the thread that the transaction runs in."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope
        self._loop = asyncio.get_running_loop()

    def cancel_called_from_another_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._scope.cancel)
