"""A signal drains a run, and the next one resumes it by id; a second signal ends it at once."""

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import Running, start_program

PROMPTS = 12
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)
    write_dagster_home(tmp_path)
    return tmp_path


def start(folder: Path, server: EmulatorServer, *options: str) -> Running:
    environ = {"FLUX_PROVIDER": server.origin, "FLUX_API_KEY": "test-key"}
    return start_program(["run", *options], folder=folder, environ=environ)


def wait_for_creates(server: EmulatorServer, count: int, running: Running) -> None:
    while server.usage().creates_accepted < count:
        running.process.join(0.05)
        assert running.process.is_alive(), running.wait()


@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGINT, ()), (signal.SIGTERM, ("--json",))]
)
def test_a_signal_drains_the_run_and_the_next_one_resumes_it(
    number: signal.Signals,
    options: tuple[str, ...],
    slow_server: EmulatorServer,
    clock: Clock,
    folder: Path,
) -> None:
    first = start(folder, slow_server, *options)
    wait_for_creates(slow_server, PROMPTS, first)
    first.send_signal(number)
    code, printed = first.wait()
    errors = first.errors.read_text()
    if not options:
        check_an_interrupted_rescue(folder, slow_server)
    clock.ahead = 1200.0
    second, output = start(folder, slow_server).wait()

    assert code == 130
    assert ("total" in json.loads(printed)) if options else (printed == "")
    # The first line says what is used; progress may come between.
    lines = [line for line in errors.splitlines() if " images, " not in line]
    assert len(lines) == 2, errors
    assert lines[1] == f"{PROMPTS} predictions run on; the next run resumes them"
    assert second == 0, output
    assert slow_server.usage().creates_accepted == PROMPTS


def check_an_interrupted_rescue(folder: Path, server: EmulatorServer) -> None:
    """It says in one line what runs on, as a run does."""
    environ = {"FLUX_PROVIDER": server.origin, "FLUX_API_KEY": "test-key"}
    before = (folder / "errors.txt").read_text()
    asked = sum(server.usage().requests_by_route.values())
    rescue = start_program(["rescue"], folder=folder, environ=environ)
    while sum(server.usage().requests_by_route.values()) < asked + PROMPTS:
        rescue.process.join(0.05)
        assert rescue.process.is_alive(), rescue.wait()
    rescue.send_signal(signal.SIGINT)
    code, printed = rescue.wait()
    assert (code, printed) == (130, "")
    _, *said = rescue.errors.read_text().removeprefix(before).splitlines()
    assert said == [f"{PROMPTS} predictions run on; the next run or rescue resumes them"]


def test_a_second_signal_ends_the_run_at_once(folder: Path) -> None:
    faults = FaultPlan(seed=1, create={"hang_after": 1.0})  # so that the drain has to wait
    with EmulatorServer(EmulatorOptions(render="cheap"), faults) as server:
        running = start(folder, server)
        wait_for_creates(server, PROMPTS, running)
        for _ in range(600):  # a guard against hanging alone
            running.send_signal(signal.SIGINT)
            running.process.join(1)
            if not running.process.is_alive():
                break
        code, printed = running.wait()

    assert code == 130
    assert printed == "", "a drain that came to its own end says what it left"
