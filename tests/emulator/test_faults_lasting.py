"""Faults that last in time: no number of tries ends them, and the clock does."""

from pathlib import Path
from typing import get_args

import httpx
import pytest

from flux_pipeline.emulator.faults import (
    ERROR_MESSAGES,
    LASTING_BY_PHASE,
    FaultPlan,
    LastingFault,
    load_fault_plan,
)
from flux_pipeline.emulator.records import State
from tests.emulator.api import ManualClock
from tests.emulator.conftest import Start


@pytest.mark.parametrize("status", [400, 404, 405, 413, 415])
def test_creates_are_rejected_until_their_time_is_over(
    start: Start, clock: ManualClock, status: int
) -> None:
    server, api = start(FaultPlan.model_validate({"lasting": {f"creates_{status}": 20}}))
    assert [api.post(seed=seed).status_code for seed in range(5)] == [status] * 5
    clock.advance(19.9)
    assert api.post().status_code == status
    clock.advance(0.1)
    assert api.create()["status"] == "succeeded"
    usage = server.usage()
    assert (usage.creates_received, usage.creates_accepted) == (7, 1)
    assert usage.faults == {f"lasting.creates_{status}": 6}


def test_the_seconds_of_creates_count_from_the_first_that_arrived(
    start: Start, clock: ManualClock, tmp_path: Path
) -> None:
    plan = FaultPlan(lasting={"creates_404": 20})
    _, api = start(plan, state_dir=tmp_path)
    clock.advance(1000)
    assert api.post().status_code == 404
    clock.advance(15)
    _, again = start(plan, state_dir=tmp_path)  # a restart does not begin them anew
    assert again.post().status_code == 404
    clock.advance(5)
    assert again.post().status_code == 201


def test_creates_can_be_rejected_in_one_way_after_the_other(
    start: Start, clock: ManualClock
) -> None:
    _, api = start(FaultPlan(lasting={"creates_404": 5, "creates_413": 9}))
    seen = []
    for _ in range(4):
        seen.append(api.post().status_code)
        clock.advance(3)
    assert seen == [404, 404, 413, 201]


def test_polls_and_cancels_are_not_found_until_their_time_is_over(
    start: Start, clock: ManualClock
) -> None:
    server, api = start(FaultPlan(lasting={"polls_404": 38}))
    made = api.create()["id"]
    assert [api.fetch(made).status_code for _ in range(5)] == [404] * 5
    assert api.cancel(made).status_code == 404
    assert [each["id"] for each in api.list()["results"]] == [made]
    clock.advance(30)
    later = api.create(seed=2)["id"]
    clock.advance(8)
    assert api.get(made)["status"] == "succeeded"
    assert api.fetch(later).status_code == 404  # each has seconds of its own
    assert server.usage().faults == {"lasting.polls_404": 7}


@pytest.mark.parametrize("status", [403, 404])
def test_files_are_refused_until_their_time_is_over(
    start: Start, clock: ManualClock, status: int
) -> None:
    plan = FaultPlan.model_validate({"lasting": {f"downloads_{status}": 3}})
    _, api = start(plan, time_scale=1, latency_median=10, latency_spread=0)
    made = api.create()["id"]
    clock.advance(10)
    url = api.get(made)["output"][0]
    assert [api.download(url).status_code for _ in range(5)] == [status] * 5
    clock.advance(2.9)
    assert api.download(url).status_code == status
    clock.advance(0.2)
    assert api.download(url).status_code == 200


def test_outputs_are_elsewhere_until_their_time_is_over(start: Start, clock: ManualClock) -> None:
    server, api = start(FaultPlan(lasting={"outputs_elsewhere": 3}, other_origin="https://cdn.x"))
    made = api.create(num_outputs=2)["id"]
    wrong = api.get(made)["output"]
    assert [url.partition("/output/")[0] for url in wrong] == ["https://cdn.x"] * 2
    clock.advance(3)
    right = api.get(made)["output"]
    assert [httpx.URL(url).path for url in right] == [httpx.URL(url).path for url in wrong]
    assert [api.download(url).status_code for url in right] == [200, 200]
    assert right[0].startswith(server.origin)


def test_outputs_of_a_reply_without_an_id_are_elsewhere_too(start: Start) -> None:
    _, api = start(FaultPlan(lasting={"outputs_elsewhere": 3}), reply_shape="data_url")
    assert api.create()["data"][0]["url"].startswith("https://outputs.invalid/output/")


def test_predictions_fail_while_the_weights_are_missing(start: Start, clock: ManualClock) -> None:
    _, api = start(FaultPlan(lasting={"weights_missing": 60}))
    failed = [api.finished() for _ in range(3)]
    assert [each["status"] for each in failed] == ["failed"] * 3
    assert {each["error"] for each in failed} == {ERROR_MESSAGES["failed_weights"]}
    clock.advance(60)
    assert api.finished()["status"] == "succeeded"
    assert api.get(failed[0]["id"])["status"] == "failed"


def test_other_prompts_meet_none_of_it(start: Start) -> None:
    lasting: dict[LastingFault, float] = dict.fromkeys(get_args(LastingFault), 60.0)
    _, api = start(FaultPlan(lasting=lasting, only_prompts="storm"))
    done = api.finished("a calm harbour")
    assert api.download(done["output"][0]).status_code == 200
    assert api.post("a storm").status_code == 400


def test_a_lasting_fault_is_no_try_of_a_counted_one(start: Start, clock: ManualClock) -> None:
    plan = FaultPlan(lasting={"polls_404": 5}, poll={"server_error": 1.0}, cap=1)
    _, api = start(plan)
    made = api.create()["id"]
    assert [api.fetch(made).status_code for _ in range(3)] == [404] * 3
    clock.advance(5)
    assert api.fetch(made).status_code >= 500
    assert api.fetch(made).status_code == 200


def test_every_lasting_fault_belongs_to_a_phase(tmp_path: Path) -> None:
    named = [name for names in LASTING_BY_PHASE.values() for name in names]
    assert sorted(named) == sorted(get_args(LastingFault))
    file = tmp_path / "faults.yaml"
    file.write_text("lasting: {creates_404: 20, polls_404: 38.5}\n")
    assert load_fault_plan(file).lasting == {"creates_404": 20, "polls_404": 38.5}
    file.write_text("lasting: {polls_404: -1}\n")
    with pytest.raises(ValueError, match="polls_404"):
        load_fault_plan(file)


def test_a_state_from_before_these_faults_can_be_opened(
    start: Start, clock: ManualClock, tmp_path: Path
) -> None:
    with State(tmp_path) as state, state.transaction() as connection:
        connection.execute("DROP TABLE IF EXISTS moments")
    _, api = start(FaultPlan(lasting={"creates_405": 1}), state_dir=tmp_path)
    assert api.post().status_code == 405
    clock.advance(1)
    assert api.post().status_code == 201
