"""The prediction object: timestamps, metrics and logs."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.emulator import replies
from flux_pipeline.emulator.lifecycle import Moment, Plan
from flux_pipeline.emulator.records import Record

TRAP = "https://trap.invalid"


def record(**sent: object) -> Record:
    return Record(
        id="0" * 26,
        input_sha="sha",
        ordinal=0,
        created_at=100.0,
        model="",
        version="a" * 64,
        input={"prompt": "x", **sent},
        plan=Plan(starts_at=101, ends_at=103.5, seed=77, refused=(1,)),
        cost_usd=0.003,
    )


DONE = Moment("succeeded", started_at=101, completed_at=103.5, outputs=(0, 2))


@given(st.floats(0, 4e9), st.sampled_from([3, 6, 9]))
def test_timestamps_are_cut_and_never_later_than_the_moment(seconds: float, digits: int) -> None:
    text = replies.timestamp(seconds, digits)
    assert text is not None
    assert len(text.partition(".")[2]) == digits + 1
    shown = datetime.fromisoformat(text)
    assert shown.tzinfo == UTC
    assert -1e-6 <= seconds - shown.timestamp() < 10.0**-digits + 1e-6


def test_what_has_not_happened_has_no_time() -> None:
    assert replies.timestamp(None, 3) is None
    made = replies.prediction(record(), Moment("starting"), None, TRAP)
    assert (made["started_at"], made["completed_at"], made["metrics"]) == (None, None, {})


def test_metrics_are_in_seconds_and_count_images() -> None:
    metrics = replies.prediction(record(), DONE, [], TRAP)["metrics"]
    assert metrics == {"predict_time": 2.5, "total_time": 3.5, "image_count": 2}


def test_a_model_that_was_not_named_is_the_documented_one() -> None:
    assert replies.prediction(record(), DONE, [], TRAP)["model"] == replies.DEFAULT_MODEL


@pytest.mark.parametrize(("sent", "named"), [({}, True), ({"seed": 5}, False)])
def test_the_drawn_seed_is_in_the_logs(sent: dict[str, int], *, named: bool) -> None:
    logs = replies.prediction(record(**sent), DONE, [], TRAP)["logs"]
    assert ("Using seed: 77\n" in logs) is named
    assert "NSFW content detected in image 1" in logs


def test_removed_data_are_gone_from_every_member() -> None:
    gone = Moment("succeeded", started_at=101, completed_at=103.5, outputs=(0,), removed=True)
    shown = replies.prediction(record(), gone, None, TRAP)
    assert (shown["input"], shown["logs"], shown["output"]) == ({}, "", None)
    assert shown["data_removed"] is True
    assert shown["status"] == "succeeded"


def test_the_shape_without_an_id_has_nothing_else() -> None:
    assert replies.without_id(12.9, [{"url": "u"}]) == {"created": 12, "data": [{"url": "u"}]}
