"""The store's folder is moved away while predictions are open: nothing is lost or paid twice.

The commands run in processes of their own, on real folders, as a person would start them.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import Death, make_images_of, start_program

SETS = {
    "tale": "{king: a king, frog: a frog}",
    "map": "{north: the north, south: the south, east: the east}",
}
TEXT = """
model: lucataco/flux-schnell-lora
defaults: {{output_format: jpg, aspect_ratio: "1:1"}}
prompts: {}
"""
Command = Callable[..., tuple[int, str]]
Make = Callable[[str], None]


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    with EmulatorServer(
        EmulatorOptions(latency_median=1.0, latency_spread=0.0, render="cheap")
    ) as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    for name, prompts in SETS.items():
        (tmp_path / "configs" / f"{name}.yaml").write_text(TEXT.format(prompts))
    write_dagster_home(tmp_path)
    return tmp_path


@pytest.fixture
def make(folder: Path, server: EmulatorServer) -> Make:
    environ = {"FLUX_PROVIDER": server.origin, "FLUX_API_KEY": "test-key"}
    return lambda name: make_images_of([name], folder=folder, environ=environ)


@pytest.fixture
def command(folder: Path, server: EmulatorServer) -> Command:
    """Runs `flux-pipeline` in the folder; gives its exit code and all that it printed."""
    environ = {"FLUX_PROVIDER": server.origin, "FLUX_API_KEY": "test-key"}

    def run(*arguments: str, death: Death | None = None) -> tuple[int, str]:
        (folder / "errors.txt").unlink(missing_ok=True)
        program = start_program(arguments, folder=folder, environ=environ, death=death)
        code, printed = program.wait()
        return code, printed + (folder / "errors.txt").read_text()

    return run


@pytest.fixture
def left_open(folder: Path, command: Command, make: Make, server: EmulatorServer) -> int:
    """One set is stored; a run of the other one died when all of it was accepted."""
    make("tale")
    command("run", "map", death=Death("WriteAccepted", after=True, nth=3))
    age_claims(folder)
    assert server.usage().creates_accepted == 5
    return 5 - stored(folder)


def age_claims(folder: Path) -> None:
    """Let them be as old as those that a rescue takes over."""
    with closing(sqlite3.connect(folder / "data" / "ledger.db")) as ledger, ledger:
        ledger.execute("UPDATE flux_attempts SET claimed_at = claimed_at - 200")


def move_away(folder: Path) -> None:
    (folder / "data" / "store").rename(folder / "moved")


def bring_back(folder: Path) -> None:
    (folder / "moved").rename(folder / "data" / "store")


def spooled(folder: Path) -> int:
    return sum(1 for _ in (folder / "data" / "spool").glob("*.output"))


def stored(folder: Path) -> int:
    return sum(1 for _ in (folder / "data" / "store" / "images").rglob("*.jpg"))


def test_what_is_accepted_is_fetched_and_waits_until_the_store_is_back(
    folder: Path, command: Command, server: EmulatorServer, left_open: int
) -> None:
    move_away(folder)

    code, said = command("run")

    assert (code, spooled(folder)) == (1, left_open)
    assert not (folder / "data" / "store").exists()
    for words in ("was it moved away", "Bring it back", "data/spool", "paid, not stored yet"):
        assert words in said, said

    bring_back(folder)
    age_claims(folder)
    code, said = command("rescue")

    assert code == 0, said
    assert (stored(folder), spooled(folder)) == (5, 0)
    assert server.usage().creates_received == 5
    assert command("verify", "--deep")[0] == 0


def test_a_store_that_is_lost_for_good_can_be_gone_on_without(
    folder: Path, command: Command, server: EmulatorServer, left_open: int
) -> None:
    """What was paid and not stored yet is stored in the new one."""
    shutil.rmtree(folder / "data" / "store")
    code, said = command("reindex")
    assert (code, "reindex --take-store" in said) == (1, True)
    assert not (folder / "data" / "store").exists()

    assert command("reindex", "--take-store")[0] == 0
    code, said = command("run")

    assert code == 0, said
    assert stored(folder) == left_open
    assert server.usage().creates_received == 5
    code, said = command("verify")
    assert code == 1
    assert said.count("lost images/tale/") == 2


def files(folder: Path) -> dict[Path, Any]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_verify_writes_nothing_into_the_store_and_makes_none(
    folder: Path, command: Command, make: Make
) -> None:
    make("tale")
    before = files(folder / "data" / "store")

    assert command("verify")[0] == 0

    assert files(folder / "data" / "store") == before
    move_away(folder)
    code, said = command("verify")
    assert (code, said.count("lost images/tale/")) == (1, 2)
    assert not (folder / "data" / "store").exists()
