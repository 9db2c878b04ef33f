"""A signal drains a run, and the next one resumes it by id; a second signal ends it at once."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer

PROMPTS = 12
CONFIG = "model: lucataco/flux-schnell-lora\nprompts:\n" + "\n".join(
    f"  p{n}: picture {n}" for n in range(PROMPTS)
)


@pytest.fixture
def slow_server() -> Iterator[EmulatorServer]:
    options = EmulatorOptions(latency_median=4.0, latency_spread=0.1, render="cheap")
    with EmulatorServer(options) as running:
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
    while server.ledger().creates_accepted < count:
        try:
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(process.communicate())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_the_run_and_the_next_one_resumes_it(
    number: signal.Signals, slow_server: EmulatorServer, tmp_path: Path
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)

    first = start(tmp_path, slow_server)
    wait_for_creates(slow_server, PROMPTS, first)
    first.send_signal(number)
    _, errors = first.communicate(timeout=30)
    second = start(tmp_path, slow_server)
    output, _ = second.communicate(timeout=60)

    assert first.returncode == 130
    assert "predictions run on; the next run resumes them by id" in errors
    assert second.returncode == 0, output
    assert slow_server.ledger().creates_accepted == PROMPTS


def test_a_second_signal_ends_the_run_at_once(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)
    faults = FaultPlan(seed=1, create={"hang_after": 1.0})  # so that the drain has to wait
    with EmulatorServer(EmulatorOptions(render="cheap"), faults) as server:
        process = start(tmp_path, server)
        wait_for_creates(server, PROMPTS, process)
        for _ in range(14):  # well below the drain's own limit of 20 s
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            process.kill()
        process.communicate()

    assert process.returncode == 130
