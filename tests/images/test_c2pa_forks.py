"""Native calls and forks keep apart, and nobody waits for himself."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

from flux_pipeline.images.c2pa import ForkGate

PATIENCE = 60


def begun(pool: ThreadPoolExecutor, gate: ForkGate, leave: threading.Event) -> Future[None]:
    """A call that is under way in another thread until it is told to leave."""
    entered = threading.Event()

    def call() -> None:
        with gate.call():
            entered.set()
            assert leave.wait(PATIENCE)

    future = pool.submit(call)
    assert entered.wait(PATIENCE)
    return future


def forked(gate: ForkGate, seen: list[int]) -> None:
    gate.before()
    seen.append(gate.calls)
    gate.after_in_parent()


def until_it_waits(gate: ForkGate) -> None:
    while not gate._forks:
        time.sleep(0.001)


def test_a_fork_waits_for_every_call_and_the_next_call_for_the_fork() -> None:
    gate, leave, seen = ForkGate(), threading.Event(), list[int]()

    def later() -> None:
        with gate.call():
            seen.append(-1)

    with ThreadPoolExecutor(4) as pool:
        calls = [begun(pool, gate, leave) for _ in range(2)]
        fork = pool.submit(forked, gate, seen)
        until_it_waits(gate)
        following = pool.submit(later)
        leave.set()
        for each in (*calls, fork, following):
            each.result(PATIENCE)
    assert seen == [0, -1]


def test_calls_do_not_wait_for_each_other_or_for_one_around_them() -> None:
    gate, leave = ForkGate(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        other = begun(pool, gate, leave)
        with gate.call(), gate.call():
            assert gate.calls == 3
        leave.set()
        other.result(PATIENCE)
    assert gate.calls == 0


def test_a_call_within_a_call_does_not_wait_for_the_fork_that_waits_for_it() -> None:
    gate, seen = ForkGate(), list[int]()
    with ThreadPoolExecutor(1) as pool:
        with gate.call():
            fork = pool.submit(forked, gate, seen)
            until_it_waits(gate)
            with gate.call():
                pass
        fork.result(PATIENCE)
    assert seen == [0]


def test_threads_that_fork_within_their_calls_do_not_wait_for_each_other() -> None:
    gate, together, seen = ForkGate(), threading.Barrier(2), list[int]()

    def fork_within() -> None:
        with gate.call():
            together.wait(PATIENCE)
            forked(gate, seen)

    with ThreadPoolExecutor(2) as pool:
        for each in [pool.submit(fork_within) for _ in range(2)]:
            each.result(PATIENCE)
    assert len(seen) == 2
    assert gate.calls == 0


def test_a_child_knows_of_no_other_thread() -> None:
    gate, leave = ForkGate(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        other = begun(pool, gate, leave)
        with gate.call():
            gate.after_in_child()
            assert gate.calls == 1
        assert gate.calls == 0
        gate.before()
        gate.after_in_child()
        with gate.call():
            assert gate.calls == 1
        leave.set()
        other.result(PATIENCE)
