"""SIGKILL around each effect of requests with pictures: each is made once, from the right bytes.

The model takes no seed, and every picture has two takes, which the provider's list can't tell
apart.
"""

import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.ledger.base import State
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.request import PICTURE_PREFIX, Request
from tests.produce.test_pictures import LARGE, draw, upscale
from tests.reliability.long_run import Load, open_producer, quick_policy, scene
from tests.servers.processes import Death, arm

EFFECTS = ["PrepareInput", "Send", "WriteAccepted"]
COLOURS = ("navy", "red", "olive")
LOAD = Load(
    predictions=2 * len(COLOURS),
    disturbances=0,
    faults={},
    concurrency=2,
    latency=0.05,
    list_delay=0.0,
    policy=quick_policy(visibility=0.3, expected_seconds=0.02),
)


def make_takes(folder: Path) -> list[Request]:
    """Two takes of each picture; the first of them is too large to be sent inline."""
    pictures = [
        draw(folder / f"{colour}.png", colour, at_least=0 if number else LARGE)
        for number, colour in enumerate(COLOURS)
    ]
    return [
        upscale(picture, Path(picture.uri).stem, take) for picture in pictures for take in (1, 2)
    ]


def work(folder: Path, origin: str, load: Load, run_id: str) -> None:
    with open_producer(folder, origin, load) as producer:
        run = RunContext(run_id, "set/images")
        with producer.stream([("p", make_takes(folder))], run=run) as reports:
            for _ in reports:
                pass


def work_until(death: Death, *arguments: Any) -> None:
    """One worker that dies at an effect."""
    arm(death)
    work(*arguments)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("effect", EFFECTS)
def test_pictures_of_a_killed_worker_are_each_made_once_from_the_right_bytes(
    effect: str, after: bool, tmp_path: Path
) -> None:
    with scene(tmp_path, LOAD) as here:
        killed = here.start(partial(work_until, Death(effect, after, nth=2)))
        killed.join()
        work(here.folder, here.origin, LOAD, "following")
        usage = here.server.usage()
        with here.ledger() as ledger:
            stored = ledger.in_state(State.STORED)

    assert killed.exitcode == -9
    assert (usage.creates_accepted, len(stored)) == (LOAD.predictions, LOAD.predictions)
    read = {made.id: [each.sha256 for each in made.pictures] for made in usage.predictions}
    named = {
        attempt.prediction_id: [_picture_of(attempt.intent.request_json)] for attempt in stored
    }
    assert named == read
    assert Counter(sha256 for (sha256,) in read.values()).most_common()[-1][1] == 2
    assert max(usage.uploads.values()) <= 2, "only where the first was not noted"


def _picture_of(request_json: str) -> str:
    return str(json.loads(request_json)["input"]["image"]).removeprefix(PICTURE_PREFIX)
