"""Emulators on real sockets, each with a state of its own, and a client for each."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.emulator.api import Api, ManualClock
from tests.emulator.trap import Trap

Start = Callable[..., tuple[EmulatorServer, Api]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def start(clock: ManualClock) -> Iterator[Start]:
    """Start an emulator: options by name, faults, and a client that speaks to it.

    Its latency is 0 unless a test asks for another, and its clock stands still.
    """
    with ExitStack() as stack:

        def build(
            faults: FaultPlan | None = None,
            *,
            state_dir: Path | None = None,
            prefix: str = "/v1",
            **options: Any,
        ) -> tuple[EmulatorServer, Api]:
            chosen = EmulatorOptions(**{"time_scale": 0, "render": "cheap", **options})
            server = stack.enter_context(
                EmulatorServer(chosen, faults, state_dir=state_dir, clock=clock)
            )
            api = Api(server.origin, prefix=prefix)
            stack.callback(api.close)
            return server, api

        yield build


@pytest.fixture
def trap() -> Iterator[Trap]:
    with Trap() as trap:
        yield trap
