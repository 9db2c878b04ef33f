"""An interrupt at any moment ends the run; none makes it hang."""

import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import anyio.from_thread
import pytest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.ledger.base import State
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.shutdown import end_streams, raise_signals, signals_deferred
from tests.produce.pipeline import Pipeline, make_requests

Open = Callable[..., Pipeline]


@pytest.fixture
def python_handles_signals() -> Iterator[None]:
    """Python's own handler: a shell that starts pytest in the background has interrupts ignored."""
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, kept)


@pytest.fixture
def interrupting_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the signal that a supervisor may send just while the event loop starts."""
    start = anyio.from_thread.run_eventloop

    def interrupted(*arguments: Any, **options: Any) -> Any:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return start(*arguments, **options)

    monkeypatch.setattr(anyio.from_thread, "run_eventloop", interrupted)


@pytest.mark.usefixtures("python_handles_signals", "interrupting_start")
def test_an_interrupt_while_the_loop_starts_ends_the_run_and_sends_nothing(
    pipeline: Pipeline,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(make_requests(3))

    assert pipeline.created == 0
    assert pipeline.ledger.in_state(State.INTENT) == []


def test_signals_that_waited_are_raised_afterwards_and_in_order() -> None:
    seen: list[int] = []
    kept = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with signals_deferred() as came:
            signal.raise_signal(signal.SIGTERM)
            assert seen == []
        raise_signals(came)
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert seen == [signal.SIGTERM]


def test_a_stream_that_nobody_closes_is_drained_and_can_be_closed_late(open_pipeline: Open) -> None:
    options = EmulatorOptions(time_scale=0.2, creates_per_minute=None)
    pipeline = open_pipeline(None, options)
    requests = make_requests(20)

    def left_open() -> Iterator[object]:
        work = [("first", requests[:1]), ("rest", requests[1:])]
        with pipeline.producer.stream(work, run=RunContext("run")) as reports:
            yield from reports

    step = left_open()
    next(step)
    end_streams()

    assert pipeline.ledger.in_state(State.INTENT) == []
    created = pipeline.created
    step.close()  # as the garbage collector may at last
    assert pipeline.created == created
