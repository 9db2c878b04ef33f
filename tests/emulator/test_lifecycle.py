"""States as a function of plan and time."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.emulator.lifecycle import End, Interruption, Life, Plan, Timing
from flux_pipeline.emulator.options import EmulatorOptions, realistic

HOUR = 3600.0
PLAN = Plan(starts_at=10, ends_at=20, seed=1)
ORDER = {"starting": 0, "processing": 1, "succeeded": 2, "failed": 2, "canceled": 2, "aborted": 2}

ends = st.sampled_from(["succeeded", "failed", "canceled", "aborted", "stuck"])
moments = st.one_of(st.none(), st.floats(0, 40))


@pytest.mark.parametrize(
    ("now", "status"),
    [
        (0, "starting"),
        (9.9, "starting"),
        (10, "processing"),
        (19.9, "processing"),
        (20, "succeeded"),
    ],
)
def test_it_starts_runs_and_ends(now: float, status: str) -> None:
    assert Life(PLAN, images=1).at(now, HOUR).status == status


def test_a_prediction_that_will_be_aborted_never_runs() -> None:
    life = Life(Plan(10, 20, 1, end="aborted"), images=1)
    assert life.at(19, HOUR).status == "starting"
    assert (life.at(20, HOUR).status, life.at(20, HOUR).started_at) == ("aborted", None)


def test_a_stuck_one_starts_for_ever_until_it_is_cancelled() -> None:
    plan = Plan(10, 20, 1, end="stuck")
    assert Life(plan, images=1).at(1e9, HOUR).status == "starting"
    assert Life(plan, 1, Interruption(canceled_at=50)).at(51, HOUR).status == "canceled"
    assert Life(plan, 1, Interruption(deadline_at=50)).at(51, HOUR).status == "aborted"


def test_whatever_comes_first_decides() -> None:
    early = Interruption(canceled_at=12, deadline_at=11)
    assert Life(PLAN, 1, early).at(30, HOUR).status == "canceled"
    assert Life(PLAN, 1, early).at(30, HOUR).completed_at == 11
    assert Life(PLAN, 1, Interruption(canceled_at=21, deadline_at=21)).at(30, HOUR).status == (
        "succeeded"
    )


def test_refused_images_keep_the_numbers_of_the_others() -> None:
    life = Life(Plan(0, 0, 1, refused=(2,)), images=4)
    assert life.at(0, HOUR).outputs == (0, 1, 3)


def test_output_may_come_after_the_end() -> None:
    assert Life(Plan(0, 0, 1, late_seconds=2), 1).at(1.9, HOUR).outputs is None
    assert Life(Plan(0, 0, 1, late_seconds=2), 1).at(2, HOUR).outputs == (0,)
    assert Life(Plan(0, 0, 1, null_reads=1), 1, reads=0).at(5, HOUR).outputs is None
    assert Life(Plan(0, 0, 1, null_reads=1), 1, reads=1).at(5, HOUR).outputs == (0,)
    assert Life(Plan(0, 0, 1, null_reads=math.inf), 1, reads=99).at(5, HOUR).outputs is None


def test_data_vanish_after_the_retention_or_when_they_expire() -> None:
    assert not Life(PLAN, 1).at(20 + HOUR - 1, HOUR).removed
    assert Life(PLAN, 1).at(20 + HOUR, HOUR).removed
    assert Life(PLAN, 1, expired=True).at(21, HOUR).removed


@given(end=ends, canceled=moments, deadline=moments, times=st.lists(st.floats(0, 50), min_size=2))
def test_time_never_leads_back(
    end: End, canceled: float | None, deadline: float | None, times: list[float]
) -> None:
    life = Life(Plan(10, 20, 1, end=end), 1, Interruption(canceled, deadline))
    seen = [life.at(now, HOUR) for now in sorted(times)]
    assert [ORDER[moment.status] for moment in seen] == sorted(ORDER[m.status] for m in seen)
    final = {moment.status for moment in seen if moment.completed_at is not None}
    assert len(final) <= 1


@given(end=ends, canceled=moments, deadline=moments, now=st.floats(0, 50))
def test_only_what_has_ended_has_an_end_and_only_success_has_outputs(
    end: End, canceled: float | None, deadline: float | None, now: float
) -> None:
    moment = Life(Plan(10, 20, 1, end=end), 1, Interruption(canceled, deadline)).at(now, HOUR)
    assert (moment.completed_at is not None) == (ORDER[moment.status] == 2)
    assert (moment.outputs is not None) == (moment.status == "succeeded")
    assert moment.completed_at is None or moment.completed_at <= now


def drawn(options: EmulatorOptions, count: int = 400) -> list[float]:
    return sorted(Timing.drawn(options, 0, "input", i).ends_at for i in range(count))


def test_a_model_may_have_a_latency_of_its_own() -> None:
    options = EmulatorOptions(latency_median=1, latency_spread=0, latency_by_model={"a/slow": 9})
    assert drawn(options.of_model("a/slow", "hidden"), 1) == [9.0]
    assert drawn(options.of_model("", "a/slow"), 1) == [9.0]
    assert drawn(options.of_model("a/fast", "hidden"), 1) == [1.0]


def test_latency_has_the_median_and_spread_asked_for() -> None:
    latencies = drawn(EmulatorOptions(latency_median=2, latency_spread=0.5))
    assert 1.8 < latencies[200] < 2.2
    assert 2.8 < latencies[336] < 3.9  # one deviation up: 2 e^0.5 = 3.3
    assert drawn(EmulatorOptions(latency_median=2, latency_spread=0)) == [2.0] * 400


def test_by_default_a_picture_takes_about_half_a_second() -> None:
    latencies = drawn(EmulatorOptions())
    assert 0.28 < latencies[20] < latencies[380] < 0.85


def test_cold_starts_come_at_their_rate_and_scale_with_time() -> None:
    cold = [latency for latency in drawn(realistic(), 2000) if latency > 30]
    assert 20 < len(cold) < 65
    assert 40 < min(cold) < max(cold) < 130
    assert max(drawn(realistic().model_copy(update={"time_scale": 0.01}), 2000)) < 1.3


def test_the_same_identity_takes_the_same_time_in_every_run() -> None:
    assert drawn(EmulatorOptions(seed=3)) == drawn(EmulatorOptions(seed=3))
    assert drawn(EmulatorOptions(seed=3)) != drawn(EmulatorOptions(seed=4))
