"""SIGKILL before and after each effect: the next run completes the plan and pays nothing twice."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.ledger.base import State
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.produce import effects as fx
from tests.reliability.long_run import Load, make_all, quick_policy, read_books, scene, work
from tests.servers.dagster_home import write_dagster_home
from tests.servers.processes import Death, arm, run_command

NOT_REACHED = {
    "RenewClaim",
    "WriteFound",
    "ReadHistory",
    "TakeResend",
    "FindInList",
    "FindImage",
    "Cancel",
    "Sleep",
    "EndRemoval",
    "BringBack",
}
"""Effects of a resumed, overdue or lost request; of none that a first run brings to its end; and of
pictures that were pruned, which tests/audit/test_prune.py kills at every write."""
EFFECTS = [effect.__name__ for effect in get_args(fx.Effect) if effect.__name__ not in NOT_REACHED]
LOAD = Load(
    predictions=5,
    disturbances=0,
    faults={},
    concurrency=3,
    latency=0.05,
    list_delay=0.0,
    policy=quick_policy(visibility=0.3, expected_seconds=0.02),
)


def work_until(death: Death, *arguments: Any) -> None:
    """One worker that dies at an effect."""
    arm(death)
    work(*arguments)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_a_killed_worker_is_completed_by_the_next_one(
    effect: str, after: bool, tmp_path: Path
) -> None:
    with scene(tmp_path, LOAD) as here:
        killed = here.start(partial(work_until, Death(effect, after, nth=2)))
        killed.join()
        make_all(here.folder, here.origin, LOAD, "following")
        books = read_books(here)

    assert killed.exitcode == -9
    assert (books.created, books.images, books.paid_twice) == (5, 5, 0)
    assert books.states - Counter({State.UNSENT: 5}) == Counter({State.STORED: 5})


PROMPTS = 12
CONFIG = """
model: lucataco/flux-schnell-lora
defaults: {output_format: jpg, aspect_ratio: "9:21"}
prompts:
""" + "\n".join(f"  prompt{n}: picture number {n}" for n in range(PROMPTS))
# From a lost create to an image that is stored and noted.
DEATHS = [
    Death("Send", after=True, nth=2),
    Death("WriteAccepted", after=True, nth=2),
    Death("StoreOutput", after=False, nth=2),
    Death("Close", after=True, nth=2),
]


def test_runs_of_the_command_line_that_are_killed_are_completed_by_the_next_one(
    tmp_path: Path,
) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "tale.yaml").write_text(CONFIG)
    write_dagster_home(tmp_path)
    with EmulatorServer(EmulatorOptions(time_scale=0.1, render="cheap")) as server:
        environ = {
            "FLUX_PROVIDER": server.origin,
            "FLUX_API_KEY": "key-of-the-tests",
            "FLUX_SETTLE_SECONDS": "0.3",
            "FLUX_CONCURRENCY": "3",
        }
        run = partial(run_command, ["run", "--json"], folder=tmp_path, environ=environ)
        killed = [run(death=death)[0] for death in DEATHS]
        code, done = run()
        again, unchanged = run()
        usage = server.usage()

    assert (killed, code, again) == ([-9] * len(DEATHS), 0, 0)
    assert done["total"]["stored"] + done["total"]["unchanged"] == PROMPTS
    assert unchanged["total"]["unchanged"] == PROMPTS
    assert (usage.creates_accepted, usage.duplicates) == (PROMPTS, ())
    with open_ledger(f"sqlite:///{tmp_path}/data/ledger.db") as ledger:
        stored = {a.prediction_id for a in ledger.attempts() if a.state is State.STORED}
        assert stored == {prediction.id for prediction in usage.predictions}
        assert ledger.unfinished() == []
