"""A signal drains a run, and the next one resumes it by id; a second signal ends it at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer

PROMPTS = 12
PATIENCE = 600
"""s, against hanging alone."""
CONFIG = "model: lucataco/flux-schnell-lora\nprompts:\n" + "\n".join(
    f"  p{n}: picture {n}" for n in range(PROMPTS)
)


@dataclass
class Clock:
    """The emulator's: predictions take as long as the test wants, however busy the machine is."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def slow_server(clock: Clock) -> Iterator[EmulatorServer]:
    """One whose predictions end in ten minutes."""
    options = EmulatorOptions(latency_median=600.0, latency_spread=0.1, render="cheap")
    with EmulatorServer(options, clock=clock) as running:
        yield running


def start(folder: Path, server: EmulatorServer) -> "subprocess.Popen[str]":
    environ = os.environ | {"FLUX_PROVIDER": server.origin, "FLUX_API_KEY": "test-key"}
    return subprocess.Popen(
        [sys.executable, "-m", "flux_pipeline.cli", "run", "--json"],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_creates(server: EmulatorServer, count: int, process: "subprocess.Popen[str]") -> None:
    while server.usage().creates_accepted < count:
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(process.communicate())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_the_run_and_the_next_one_resumes_it(
    number: signal.Signals, slow_server: EmulatorServer, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)

    first = start(tmp_path, slow_server)
    wait_for_creates(slow_server, PROMPTS, first)
    first.send_signal(number)
    printed, errors = first.communicate(timeout=PATIENCE)
    clock.ahead = 1200.0
    second = start(tmp_path, slow_server)
    output, _ = second.communicate(timeout=PATIENCE)

    assert first.returncode == 130
    assert "total" in json.loads(printed)
    assert "predictions run on; the next run resumes them by id" in errors
    assert second.returncode == 0, output
    assert slow_server.usage().creates_accepted == PROMPTS


def test_a_second_signal_ends_the_run_at_once(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)
    faults = FaultPlan(seed=1, create={"hang_after": 1.0})  # so that the drain has to wait
    with EmulatorServer(EmulatorOptions(render="cheap"), faults) as server:
        process = start(tmp_path, server)
        wait_for_creates(server, PROMPTS, process)
        for _ in range(PATIENCE):
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            process.kill()
        printed, _ = process.communicate()

    assert process.returncode == 130
    assert printed == "", "a drain that came to its own end says what it left"
