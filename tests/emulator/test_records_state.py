"""The state outlives its process, and is shared among processes and threads."""

import json
import re
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from flux_pipeline.emulator.faults import FaultPlan
from flux_pipeline.emulator.records import FILE_NAME, State, count, tally
from flux_pipeline.emulator.usage import read_usage
from tests.emulator.api import PATIENCE, Api, ManualClock
from tests.emulator.conftest import Start
from tests.emulator.samples import UPSCALER, picture


def run_worker(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.emulator.worker", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )


def test_a_state_in_memory_ends_with_its_emulator(start: Start) -> None:
    first, api = start()
    made = api.create()["id"]
    _, other = start()
    assert other.fetch(made).status_code == 404
    assert first.usage().creates_accepted == 1


def test_a_state_of_an_earlier_release_goes_on(start: Start, tmp_path: Path) -> None:
    server, api = start(state_dir=tmp_path)
    made = api.create(seed=5)["id"]
    server.stop()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        for table in ("contents", "files", "fetched"):
            connection.execute(f"DROP TABLE {table}")
        for column in ("job", "pictures_at"):
            connection.execute(f"ALTER TABLE predictions DROP COLUMN {column}")
    _, again = start(state_dir=tmp_path)
    assert again.get(made)["status"] == "succeeded"
    url = again.upload(picture())["urls"]["get"]
    assert again.done(UPSCALER, {"image": url})["status"] == "succeeded"
    assert read_usage(tmp_path).creates_accepted == 2


def test_a_state_in_a_directory_goes_on_after_a_restart(
    start: Start, tmp_path: Path, clock: ManualClock
) -> None:
    server, api = start(state_dir=tmp_path, time_scale=1)
    made = api.create(seed=5)["id"]
    server.stop()
    clock.advance(10)
    _, again = start(state_dir=tmp_path, time_scale=1)
    done = again.get(made)
    assert done["status"] == "succeeded"
    assert again.download(done["output"][0]).status_code == 200
    assert len(again.list()["results"]) == 1


def test_two_emulators_on_one_directory_are_one_api(start: Start, tmp_path: Path) -> None:
    limits = {"state_dir": tmp_path, "creates_per_minute": 2}
    one, api = start(**limits)
    two, other = start(**limits)
    made = api.create(seed=1)["id"]
    assert other.get(made)["status"] == "succeeded"
    assert [reply.status_code for reply in (other.post(seed=2), api.post(seed=3))] == [201, 429]
    assert one.usage() == two.usage()


def test_faults_are_counted_over_all_emulators_of_a_directory(start: Start, tmp_path: Path) -> None:
    plan = FaultPlan(create={"server_error_before": 1.0}, cap=1)
    _, api = start(plan, state_dir=tmp_path)
    _, other = start(plan, state_dir=tmp_path)
    assert [api.post().status_code >= 500, other.post().status_code] == [True, 201]


def test_processes_that_open_one_directory_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = [run_worker("create", str(tmp_path), f"worker {number}", "25") for number in range(2)]
    told = []
    for process in workers:
        output, errors = process.communicate(timeout=10 * PATIENCE)
        assert (process.returncode, errors) == (0, "")
        told += output.split()
    usage = read_usage(tmp_path)
    assert sorted(told) == sorted(prediction.id for prediction in usage.predictions)
    assert (usage.creates_received, usage.creates_accepted) == (50, 50)
    assert usage.duplicates == ()


def test_a_killed_process_keeps_what_it_has_answered(tmp_path: Path) -> None:
    process = run_worker("serve", str(tmp_path))
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None
    api = Api(found.group())
    made = [api.create(seed=number)["id"] for number in range(20)]
    process.kill()
    process.communicate()
    api.close()
    usage = read_usage(tmp_path)
    assert [prediction.id for prediction in usage.predictions] == made
    assert usage.requests_by_route == {"POST /v1/predictions": 20}


def test_threads_share_one_state() -> None:
    with State() as state:

        def write() -> None:
            for _ in range(200):
                with state.transaction() as connection:
                    tally(connection, "kind", "name")

        threads = [threading.Thread(target=write) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with state.reading() as connection:
            assert count(connection, "kind", "name") == 800


def test_an_empty_directory_can_be_opened_by_many_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def write() -> None:
        together.wait()
        with State(tmp_path) as state, state.transaction() as connection:
            tally(connection, "kind", "name")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with State(tmp_path) as state, state.reading() as connection:
        assert count(connection, "kind", "name") == 8
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_transaction_that_fails_leaves_nothing() -> None:
    def fail(state: State) -> None:
        with state.transaction() as connection:
            tally(connection, "kind", "name")
            raise KeyError

    with State() as state:
        with pytest.raises(KeyError):
            fail(state)
        with state.reading() as connection:
            assert count(connection, "kind", "name") == 0


def test_ids_never_come_again_even_in_a_new_state(start: Start) -> None:
    ids = set()
    for _ in range(3):
        _, api = start()
        ids |= {api.create(seed=number)["id"] for number in range(5)}
    assert len(ids) == 15
    assert all(re.fullmatch(r"[0-9a-z]{26}", made) for made in ids)


def test_pictures_are_the_same_in_every_state(start: Start) -> None:
    files = set()
    for _ in range(2):
        _, api = start()
        files.add(api.download(api.finished(seed=3)["output"][0]).content)
    assert len(files) == 1


def test_the_usage_is_plain_json(start: Start) -> None:
    server, api = start()
    api.create()
    assert json.loads(server.usage().model_dump_json())["creates_accepted"] == 1
