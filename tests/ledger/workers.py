"""What other processes do in the ledger's tests: each function runs in a child of its own."""

import os
import pwd
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from flux_pipeline.errors import LedgerError
from flux_pipeline.ledger.base import Budget, Claimed
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from tests.ledger.attempts import begin, intent
from tests.servers.fork_server import context

PATIENCE = 900
"""s; nothing is waited for as long, however slow the disk and the machine."""
LEASE = 3600.0
"""s; of claims by the real clock, which no test outlasts, also where it has to wait."""


@dataclass(frozen=True)
class Child:
    process: BaseProcess
    pipe: Connection

    def hear(self) -> Any:
        assert self.pipe.poll(PATIENCE), "the other process says nothing"
        return self.pipe.recv()

    def say(self, word: object = None) -> None:
        self.pipe.send(word)


@contextmanager
def child(work: Callable[..., None], *arguments: object) -> Iterator[Child]:
    """Run ``work(pipe, *arguments)`` in a new process, ended at the latest with the block."""
    spawning = context()
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Child(process, ours)
    finally:
        process.kill()
        process.join(PATIENCE)
        process.close()
        ours.close()


def open_patiently(url: str) -> SqlLedger:
    """Open a ledger that gives others all the time that they need."""
    return open_ledger(url, lease_seconds=LEASE, patience_seconds=PATIENCE)


def claim_many(pipe: Connection, url: str, holder: str, count: int) -> None:
    """Claim requests 1 to ``count`` when told to, and say which were fresh."""
    with open_patiently(url) as ledger:
        pipe.send("ready")
        pipe.recv()
        fresh = []
        for number in range(1, count + 1):
            answer = ledger.claim(intent(number), holder=holder)
            if isinstance(answer, Claimed) and answer.fresh:
                fresh.append(number)
        pipe.send(fresh)
        pipe.recv()


def claim_and_stay(pipe: Connection, url: str, holder: str, count: int) -> None:
    """Claim requests 1 to ``count``, say so, and live until told to end."""
    with open_patiently(url) as ledger:
        for number in range(1, count + 1):
            begin(ledger, number, holder=holder)
        pipe.send("claimed")
        pipe.recv()
    pipe.send("left")


def stay_within(pipe: Connection, url: str) -> None:
    """Stay in the middle of a transaction."""
    with open_patiently(url) as ledger, ledger.transaction() as tx:
        tx.claim(intent(1), holder="a")
        pipe.send("claimed, not committed")
        pipe.recv()


def spend(pipe: Connection, url: str, holder: str, numbers: range, limit: int) -> None:
    """Claim all the numbers under one budget, and say how many were granted."""
    with open_patiently(url) as ledger:
        pipe.send("ready")
        pipe.recv()
        budgets = [Budget("run:1", limit), Budget("month", None)]
        answers = [ledger.claim(intent(n), holder=holder, budgets=budgets) for n in numbers]
        pipe.send(sum(isinstance(each, Claimed) for each in answers))


def claim_until_full(pipe: Connection, url: str, most_bytes: int) -> None:
    """Claim with files limited in size, as by a quota; say what was granted, and the error."""
    granted: list[int] = []
    with open_patiently(url) as ledger:
        begin(ledger, 1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
        try:
            for number in range(2, 10_000):
                begin(ledger, number)
                granted.append(number)
        except LedgerError as error:
            pipe.send((granted, str(error)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


def die_after_claiming(pipe: Connection, url: str) -> None:
    """Say that a claim was granted, for the parent to kill this process at once."""
    ledger = open_patiently(url)
    for number in range(1, 1000):
        begin(ledger, number)
        pipe.send(number)


def read_then_write(pipe: Connection, url: str) -> None:
    """Read and then write as a user who may only read; root may write anywhere."""
    if os.geteuid() == 0:
        os.setuid(pwd.getpwnam("nobody").pw_uid)
    with open_patiently(url) as ledger:
        pipe.send([each.state for each in ledger.attempts()])
        try:
            begin(ledger, 2)
        except LedgerError as error:
            pipe.send(str(error))


def open_when_told(pipe: Connection, url: str, number: int) -> None:
    """Open a ledger that may not exist yet, and claim one request."""
    pipe.send("ready")
    pipe.recv()
    with open_patiently(url) as ledger:
        begin(ledger, number)
    pipe.send("done")


def claim_one(pipe: Connection, url: str) -> None:
    """Claim request 2 and end."""
    with open_patiently(url) as ledger:
        begin(ledger, 2)
    pipe.send("claimed")
