"""What can become of an accepted prediction."""

import pytest

from flux_pipeline.emulator.faults import ERROR_MESSAGES, FaultPlan
from tests.emulator.api import ManualClock
from tests.emulator.conftest import Start


@pytest.mark.parametrize("fault", ERROR_MESSAGES)
def test_each_failure_has_its_message(start: Start, fault: str) -> None:
    server, api = start(FaultPlan.model_validate({"outcome": {fault: 1.0}}))
    failed = api.finished()
    assert (failed["status"], failed["output"]) == ("failed", None)
    assert failed["error"] == ERROR_MESSAGES[fault]
    assert "Traceback" in failed["logs"]
    assert server.usage().faults == {f"outcome.{fault}": 1}


def test_failures_carry_the_codes_that_clients_look_for() -> None:
    for code in ("code: PA", "E9828", "E6716", "E8765", "E9243", "E1001", "NSFW content detected"):
        assert any(code in (message or "") for message in ERROR_MESSAGES.values())
    assert None in ERROR_MESSAGES.values()


def test_a_transient_failure_ends_and_nsfw_comes_again(start: Start) -> None:
    _, api = start(FaultPlan(outcome={"failed_e9828": 1.0}, cap=1))
    assert [api.finished()["status"] for _ in range(2)] == ["failed", "succeeded"]
    _, api = start(FaultPlan(outcome={"failed_nsfw": 1.0}, cap=1))
    assert [api.finished()["status"] for _ in range(2)] == ["failed", "failed"]


@pytest.mark.parametrize("status", ["aborted", "canceled"])
def test_it_can_end_without_anybody_asking(start: Start, status: str) -> None:
    _, api = start(FaultPlan.model_validate({"outcome": {status: 1.0}}))
    assert api.finished()["status"] == status


def test_it_can_get_stuck_in_starting(start: Start, clock: ManualClock) -> None:
    _, api = start(FaultPlan(outcome={"stuck": 1.0}))
    made = api.create()["id"]
    clock.advance(10_000)
    assert api.get(made)["status"] == "starting"
    assert api.cancel(made).json()["status"] == "canceled"


def test_refused_images_are_left_out_and_the_others_keep_their_numbers(start: Start) -> None:
    _, api = start(FaultPlan(outcome={"images_refused": 1.0}))
    gaps = 0
    for seed in range(12):
        done = api.finished(num_outputs=4, seed=seed)
        numbers = [int(url.rsplit("out-")[-1][0]) for url in done["output"]]
        assert 1 <= len(numbers) <= 3
        assert numbers == sorted(set(numbers))
        assert done["metrics"]["image_count"] == len(numbers)
        assert done["logs"].count("NSFW") == 4 - len(numbers)
        assert all(api.download(url).status_code == 200 for url in done["output"])
        left_out = next(number for number in range(4) if number not in numbers)
        name = f"out-{left_out}.webp"
        assert api.download(done["output"][0].rsplit("/", 1)[0] + "/" + name).status_code == 404
        gaps += numbers != list(range(len(numbers)))
    assert gaps


def test_the_same_input_has_the_same_images_refused(start: Start) -> None:
    plan = FaultPlan(outcome={"images_refused": 1.0})
    _, api = start(plan)
    names = [
        [url.rsplit("/")[-1] for url in api.finished(num_outputs=4, seed=1)["output"]]
        for _ in range(3)
    ]
    assert names[0] == names[1] == names[2]


def test_refusing_the_only_image_is_a_failure(start: Start) -> None:
    _, api = start(FaultPlan(outcome={"images_refused": 1.0}))
    assert api.finished(num_outputs=1)["error"] == ERROR_MESSAGES["failed_nsfw"]


def test_output_can_be_null_once_or_for_good(start: Start) -> None:
    _, api = start(FaultPlan(outcome={"null_output_once": 1.0}))
    made = api.create()["id"]
    outputs = [api.get(made)["output"] for _ in range(3)]
    assert [output is None for output in outputs] == [True, False, False]
    _, api = start(FaultPlan(outcome={"null_output": 1.0}))
    made = api.create()["id"]
    assert [api.get(made)["output"] for _ in range(5)] == [None] * 5
    assert api.get(made)["status"] == "succeeded"


def test_the_list_does_not_use_up_the_null_read(start: Start) -> None:
    _, api = start(FaultPlan(outcome={"null_output_once": 1.0}))
    made = api.create()["id"]
    api.list()
    assert api.get(made)["output"] is None


def test_output_can_come_late(start: Start, clock: ManualClock) -> None:
    _, api = start(FaultPlan(outcome={"late_output": 1.0}, late_seconds=2))
    made = api.finished()
    assert (made["status"], made["output"]) == ("succeeded", None)
    clock.advance(2)
    assert len(api.get(made["id"])["output"]) == 1


def test_the_same_plan_gives_the_same_outcomes_in_every_run(start: Start) -> None:
    plan = FaultPlan(seed=3, outcome={"failed_pa": 0.3, "aborted": 0.3})
    runs = []
    for _ in range(2):
        _, api = start(plan)
        runs.append([api.finished(seed=seed)["status"] for seed in range(12)])
    assert runs[0] == runs[1]
    assert set(runs[0]) == {"failed", "aborted", "succeeded"}
