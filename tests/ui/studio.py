"""A whole installation as a user has it: prompt sets, a provider, Dagster's web interface.

`dagster dev` runs on the shipped prompt sets and one more, whose prompts the provider refuses, in a
folder of its own. It is a process group of its own and dies as one, with its code server and runs.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import httpx
import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
START_SECONDS = 300
POLL_SECONDS = 0.25
Found = TypeVar("Found")

# One is drawn, one is refused by name, and one is refused too: what a person sees of both.
DOUBTFUL = """
description: Three prompts, of which the provider refuses two
model: lucataco/flux-schnell-lora
defaults: {output_format: jpg}
prompts:
  fine: a quiet lake
  torn: an unwanted picture
  worn: another unwanted picture
"""


# Two hundred, so that one is hard to find, and so that their run can be killed half-way.
CROWD = "model: lucataco/flux-schnell-lora\nprompts:\n" + "".join(
    f"  guest-{number:03d}: portrait number {number}\n" for number in range(200)
)
# Due every minute: fresh as soon as it was made once.
OFTEN = """
model: lucataco/flux-schnell-lora
prompts: {tick: the time on a station clock}
schedule: {cron: "* * * * *"}
"""


@dataclass(frozen=True)
class Studio:
    folder: Path
    url: str
    provider: EmulatorServer

    def ask(self, query: str, **variables: Any) -> Any:
        """Ask the web interface's own API."""
        body = {"query": query, "variables": variables}
        reply = httpx.post(f"{self.url}/graphql", json=body, timeout=300)
        answer = reply.json()
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

    def wait(self, ask: Callable[[], Found | None], what: str, seconds: float = 300) -> Found:
        """Ask again and again until there is an answer."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (found := ask()) is not None:
                return found
            time.sleep(POLL_SECONDS)
        raise TimeoutError(f"no {what} within {seconds} s:\n{self.log()[-3000:]}")

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")


def fill(folder: Path) -> None:
    """Copy what a checkout has, with the prompt set whose prompts are refused."""
    shutil.copytree(ROOT / "configs", folder / "configs")
    for name, text in (("doubtful", DOUBTFUL), ("crowd", CROWD), ("often", OFTEN)):
        (folder / "configs" / f"{name}.yaml").write_text(text)
    shutil.copy(ROOT / "workspace.yaml", folder)
    (folder / "home").mkdir()
    shutil.copy(ROOT / "dagster.yaml", folder / "home")


@contextmanager
def running_studio(folder: Path) -> Iterator[Studio]:
    """Start provider and web interface on this folder; stop both with all that they started."""
    refusals = FaultPlan(outcome={"failed_nsfw": 1.0}, only_prompts="unwanted")
    options = EmulatorOptions(time_scale=0, render="picture")
    port = free_port()
    with EmulatorServer(options, refusals) as provider:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "DAGSTER_HOME": str(folder / "home"),
            "FLUX_PROVIDER": f"{provider.origin}/replicate",
            "FLUX_API_KEY": "test-key",
            "PYTHONPATH": str(ROOT),
            "FLUX_UI_URL": f"http://127.0.0.1:{port}",
        }
        # The instance first: web interface and daemon that make it at the same time get in each
        # other's way.
        with chdir(folder), dg.DagsterInstance.from_config(str(folder / "home")) as instance:
            instance.get_runs_count()
        with _web_interface(folder, environment, port) as process:
            studio = Studio(folder, f"http://127.0.0.1:{port}", provider)
            studio.wait(lambda: _answers(studio, process), "web interface", START_SECONDS)
            yield studio


@contextmanager
def _web_interface(
    folder: Path, environment: Mapping[str, str], port: int
) -> Iterator["subprocess.Popen[bytes]"]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [PROGRAMS / "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(studio: Studio, process: "subprocess.Popen[bytes]") -> bool | None:
    if process.poll() is not None:
        if "address already in use" in studio.log().lower():
            pytest.skip(f"the port of {studio.url} was taken meanwhile")
        raise RuntimeError(f"dagster dev ended by itself:\n{studio.log()[-3000:]}")
    try:
        with urllib.request.urlopen(f"{studio.url}/server_info", timeout=5):
            return True
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None
