"""Several processes with one ledger: claims, deaths, stops, and one budget."""

import os
import signal
import time
from contextlib import ExitStack

import pytest

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Busy, State
from flux_pipeline.ledger.open import open_ledger
from tests.ledger.attempts import COST, claimed, intent, latest, sha
from tests.ledger.workers import (
    LEASE,
    child,
    claim_and_stay,
    claim_many,
    claim_until_full,
    die_after_claiming,
    open_patiently,
    open_when_told,
    spend,
    stay_within,
)
from tests.servers.pgbouncer import PgBouncer
from tests.servers.postgres import PostgresServer


@pytest.fixture(params=["sqlite", "postgres", "pgbouncer"])
def url(request: pytest.FixtureRequest, sqlite_url: str) -> str:
    """An empty ledger of each kind."""
    if request.param == "sqlite":
        return sqlite_url
    server: PostgresServer | PgBouncer = request.getfixturevalue(request.param)
    return server.create_database()


def test_two_processes_claim_each_request_once(url: str) -> None:
    count = 200
    with ExitStack() as stack:
        workers = [
            stack.enter_context(child(claim_many, url, holder, count)) for holder in ("a", "b")
        ]
        for worker in workers:
            assert worker.hear() == "ready"
        for worker in workers:
            worker.say()
        fresh = [worker.hear() for worker in workers]
        assert sorted(fresh[0] + fresh[1]) == list(range(1, count + 1))
        with open_ledger(url) as ledger:
            holders = {each.request_sha256: each.holder for each in ledger.attempts()}
        assert holders == {sha(n): h for h, each in zip("ab", fresh, strict=True) for n in each}


def test_one_budget_is_never_overspent_by_several_processes(url: str) -> None:
    granted, workers = 25, 3
    with ExitStack() as stack:
        children = [
            stack.enter_context(
                child(spend, url, f"w{n}", range(n * 20, n * 20 + 20), granted * COST + 1)
            )
            for n in range(workers)
        ]
        for each in children:
            assert each.hear() == "ready"
        for each in children:
            each.say()
        assert sum(each.hear() for each in children) == granted
    with open_ledger(url) as ledger:
        assert ledger.spent_micros("run:1") == ledger.spent_micros("month") == granted * COST
        assert len(list(ledger.attempts())) == granted


def test_a_killed_holder_loses_its_claims_at_once(sqlite_url: str) -> None:
    with (
        child(claim_and_stay, sqlite_url, "a", 3) as holder,
        open_patiently(sqlite_url) as ledger,
    ):
        holder.hear()
        assert isinstance(ledger.claim(intent(1), holder="b"), Busy)
        assert holder.process.pid is not None
        os.kill(holder.process.pid, signal.SIGKILL)
        holder.process.join()
        for number in (1, 2, 3):
            claimed(ledger.claim(intent(number), holder="b"), fresh=False)
        with open_patiently(sqlite_url) as third:
            assert isinstance(third.claim(intent(1), holder="c"), Busy)


def test_a_holder_that_ends_in_order_leaves_its_claims(sqlite_url: str) -> None:
    with (
        child(claim_and_stay, sqlite_url, "a", 1) as holder,
        open_patiently(sqlite_url) as ledger,
    ):
        holder.hear()
        holder.say()
        assert holder.hear() == "left"
        claimed(ledger.claim(intent(1), holder="b"), fresh=False)


def test_a_stopped_holder_keeps_its_claim_for_its_lease_and_no_longer(sqlite_url: str) -> None:
    before = time.monotonic()
    with child(claim_and_stay, sqlite_url, "a", 1) as holder:
        holder.hear()
        after = time.monotonic()
        assert holder.process.pid is not None
        os.kill(holder.process.pid, signal.SIGSTOP)
        with open_ledger(sqlite_url, clock=time.time, steady=lambda: before + LEASE - 1) as early:
            assert isinstance(early.claim(intent(1), holder="b"), Busy)
        with open_ledger(sqlite_url, clock=time.time, steady=lambda: after + LEASE) as late:
            claimed(late.claim(intent(1), holder="b"), fresh=False)
        os.kill(holder.process.pid, signal.SIGCONT)
        holder.say()
        assert holder.hear() == "left"


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_no_jump_of_the_wall_clock_frees_the_claim_of_a_live_holder(
    sqlite_url: str, jump: float
) -> None:
    with (
        child(claim_and_stay, sqlite_url, "a", 1) as holder,
        open_ledger(sqlite_url, clock=lambda: time.time() + jump, steady=time.monotonic) as ledger,
    ):
        holder.hear()
        answer = ledger.claim(intent(1), holder="b")
        assert isinstance(answer, Busy)
        assert 0 < answer.seconds <= LEASE


def test_a_leases_length_is_the_claimers(sqlite_url: str) -> None:
    with (
        child(claim_and_stay, sqlite_url, "a", 1) as holder,
        open_ledger(sqlite_url, lease_seconds=0.0) as hasty,
    ):
        holder.hear()
        assert isinstance(hasty.claim(intent(1), holder="b"), Busy)


def test_what_was_not_committed_dies_with_its_process(url: str) -> None:
    with child(stay_within, url) as other:
        other.hear()  # before opening: who finds no tables waits for the transaction to end
        with open_ledger(url) as ledger:
            assert not ledger.find([sha(1)])
            assert other.process.pid is not None
            os.kill(other.process.pid, signal.SIGKILL)
            other.process.join()
            claimed(ledger.claim(intent(1), holder="b"), fresh=True)


def test_a_writer_that_hangs_is_an_error_that_says_so(sqlite_url: str) -> None:
    with child(stay_within, sqlite_url) as other:
        other.hear()
        with open_ledger(sqlite_url, patience_seconds=0.1) as ledger:
            with pytest.raises(LedgerError, match=r"ledger\.db: was locked by another process"):
                ledger.claim(intent(2), holder="b")
            assert not ledger.find([sha(2)]), "reading waits for nobody"


def test_i5_a_claim_that_was_granted_survives_a_kill(sqlite_url: str) -> None:
    with child(die_after_claiming, sqlite_url) as other:
        last = 0
        while last < 20:
            last = other.hear()
        assert other.process.pid is not None
        os.kill(other.process.pid, signal.SIGKILL)
        other.process.join()
        while other.pipe.poll():
            try:
                last = other.pipe.recv()
            except EOFError:
                break
    with open_ledger(sqlite_url) as ledger:
        for number in range(1, last + 1):
            assert latest(ledger, number).state is State.INTENT
        # However young: their process is gone, and nobody else goes on with them.
        left = [int(each.request_sha256, 16) for each in ledger.unfinished(older_than=600.0)]
        assert left[:last] == list(range(1, last + 1))
        assert len(ledger.unfinished(older_than=600.0, limit=3)) == 3


def test_i5_a_full_disk_grants_nothing_and_loses_nothing(sqlite_url: str) -> None:
    with child(claim_until_full, sqlite_url, 200_000) as other:
        granted, message = other.hear()
        other.process.join()
    assert "nothing more is sent" in message
    assert granted
    with open_ledger(sqlite_url) as ledger:
        assert [int(each.request_sha256, 16) for each in ledger.attempts()] == [1, *granted]


def test_a_first_opening_by_many_processes_at_once_works(url: str) -> None:
    count = 4
    with ExitStack() as stack:
        workers = [stack.enter_context(child(open_when_told, url, n)) for n in range(count)]
        for worker in workers:
            assert worker.hear() == "ready"
        for worker in workers:
            worker.say()
        assert [worker.hear() for worker in workers] == ["done"] * count
    with open_ledger(url) as ledger:
        assert len(list(ledger.attempts())) == count
