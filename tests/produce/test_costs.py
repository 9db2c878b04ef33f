"""What an image costs besides time: calls, tasks, statements, bytes and imports, all counted.

A figure that grows here makes every image dearer on every machine; one that shrank is lowered. The
Dagster events of a partition are counted in ``tests/defs/test_events.py``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from tests.servers.s3 import S3Server
from tests.test_imports import HEAVY

IMAGES = 60
OF_A_RUN = 10
"""Calls, whatever the number of images: probes, first looks, a listing, the lineage part."""
TASKS_OF_A_RUN = 30
"""The portal's own, and connections: each is opened by some."""
PROVIDER = EmulatorOptions(
    render="cheap",
    latency_median=0.05,
    latency_spread=0.0,
    creates_per_minute=None,
    calls_per_minute=None,
)


@pytest.fixture(scope="module")
def counted(s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The counts of ``benchmarks.structure``: of a run, and of the same run again."""
    folder = tmp_path_factory.mktemp("costs")
    store = f"s3://{s3_server.new_bucket()}/costs"
    with EmulatorServer(PROVIDER) as server:
        arguments = [server.origin, store, str(folder), str(IMAGES)]
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks.structure", *arguments],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **s3_server.environment()},
            capture_output=True,
            text=True,
            check=True,
        )
    return json.loads(run.stdout)


def test_an_image_takes_one_create_one_download_and_few_polls(counted: Any) -> None:
    made = counted["made"]
    assert made["POST to the provider"] == IMAGES
    assert made["GET to the provider"] <= 3 * IMAGES  # a busy machine may poll once more
    assert made["bytes sent to the provider"] <= 250 * IMAGES


def test_an_image_takes_one_put_and_no_question_before_it(counted: Any) -> None:
    made = counted["made"]
    assert IMAGES <= made["PUT to the store"] <= IMAGES + OF_A_RUN
    assert made["PUT to the store, over an open connection"] >= IMAGES - 8  # else by botocore
    # The first PUTs are looked at, and one in 32; the store is asked for the first four images.
    assert made["HEAD to the store"] <= 4 + 8 + IMAGES // 32
    assert made["GET to the store"] <= 6  # a listing, and one more every five seconds
    assert made["bytes sent to the store"] <= 12_500 * IMAGES  # 8,000 of them are the picture's


def test_an_image_takes_six_statements_beside_those_that_are_shared(counted: Any) -> None:
    made = counted["made"]
    # Six of its own: two to claim, its budgets, accepted, succeeded, stored; and each commit's.
    shared = made["statements"] - made["commits"]
    assert shared <= 7.5 * IMAGES + 40
    # Only what is accepted begins a transaction at once; the others share one each 50 ms.
    assert made["commits"] <= 3 * IMAGES


def test_what_is_unchanged_takes_no_call_and_one_look_at_the_ledger(counted: Any) -> None:
    unchanged = dict(counted["unchanged"])
    assert unchanged.pop("tasks of the event loop") <= TASKS_OF_A_RUN
    assert unchanged == {"statements": 2, "commits": 1}


def test_an_image_takes_one_task_of_the_event_loop(counted: Any) -> None:
    assert counted["made"]["tasks of the event loop"] <= IMAGES + TASKS_OF_A_RUN


def test_a_process_that_makes_images_loads_no_library_that_it_does_not_need(counted: Any) -> None:
    loaded = set(counted["modules"]) & set(HEAVY)
    assert loaded <= {
        *(
            "aiohttp",
            "boto3",
            "botocore",
            "httpx",
            "numpy",
            "PIL",
            "pyarrow",
            "pydantic",
            "sqlalchemy",
            "yaml",
        ),
        "rich",  # httpx imports it where it is installed
    }
