"""An interrupt at any moment ends the run; none makes it hang."""

import signal
import threading
from typing import Any

import anyio.from_thread
import pytest

from flux_pipeline.ledger.base import State
from flux_pipeline.produce import signals
from tests.produce.conftest import Bench, make_requests


@pytest.fixture
def interrupting_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send the signal that a supervisor may send just while the event loop starts."""
    start = anyio.from_thread.run_eventloop

    def interrupted(*arguments: Any, **options: Any) -> Any:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return start(*arguments, **options)

    monkeypatch.setattr(anyio.from_thread, "run_eventloop", interrupted)


@pytest.mark.usefixtures("interrupting_start")
def test_an_interrupt_while_the_loop_starts_ends_the_run_and_sends_nothing(bench: Bench) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench.run(make_requests(3))

    assert bench.created == 0
    assert bench.ledger.in_state(State.INTENT) == []


def test_signals_that_waited_are_raised_afterwards_and_in_order() -> None:
    seen: list[int] = []
    kept = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        with signals.signals_deferred() as came:
            signal.raise_signal(signal.SIGTERM)
            assert seen == []
        signals.raise_signals(came)
    finally:
        signal.signal(signal.SIGTERM, kept)
    assert seen == [signal.SIGTERM]
