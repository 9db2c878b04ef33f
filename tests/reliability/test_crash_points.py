"""SIGKILL before and after each effect, through real Dagster: the next run completes the plan."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from tests.servers.processes import Death, run_command

PROMPTS = 5
CONFIG = """
model: lucataco/flux-schnell-lora
defaults: {output_format: jpg, aspect_ratio: "9:21"}
prompts:
""" + "\n".join(f"  prompt{n}: picture number {n}" for n in range(PROMPTS))

EFFECTS = [
    "AwaitPermit",
    "ClaimAttempt",
    "Send",
    "WriteAccepted",
    "AwaitPoll",
    "Poll",
    "WriteSucceeded",
    "StoreOutput",
    "Close",
]


@pytest.fixture
def server() -> Iterator[EmulatorServer]:
    options = EmulatorOptions(time_scale=0.1, render="cheap")
    with EmulatorServer(options) as running:
        yield running


def environment(server: EmulatorServer) -> dict[str, str]:
    return {
        "FLUX_PROVIDER": server.origin,
        "FLUX_API_KEY": "key-of-the-tests",
        "FLUX_SETTLE_SECONDS": "0.3",
        "FLUX_CONCURRENCY": "3",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)
    return tmp_path


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_killed_run_is_completed_by_the_next_one(
    effect: str, after: bool, server: EmulatorServer, folder: Path
) -> None:
    arguments, environ = ["run", "--json"], environment(server)

    killed, _ = run_command(
        arguments, folder=folder, environ=environ, death=Death(effect, after, nth=2)
    )
    code, done = run_command(arguments, folder=folder, environ=environ)
    again, unchanged = run_command(arguments, folder=folder, environ=environ)

    assert (killed, code, again) == (-9, 0, 0)
    total = done["total"]
    assert total["stored"] + total["unchanged"] == PROMPTS
    assert unchanged["total"]["unchanged"] == PROMPTS
    ledger = server.usage()
    assert ledger.creates_accepted == PROMPTS
    assert ledger.duplicates == ()
    with open_ledger(f"sqlite:///{folder}/data/ledger.db") as ours:
        stored = {a.prediction_id for a in ours.attempts() if a.state is State.STORED}
        assert stored == {prediction.id for prediction in ledger.predictions}
        assert ours.unfinished() == []
