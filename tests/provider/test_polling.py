"""When to ask again: few polls, little waiting."""

import random
import statistics
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.prediction import Prediction, Status
from flux_pipeline.provider.polling import Durations, PollSchedule
from tests.provider.virtual_loop import run_virtually

BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


def ended(seconds: float, *, predicted: float | None = None) -> Prediction:
    return Prediction(
        id="a",
        status=Status.SUCCEEDED,
        created_at=BEGUN,
        completed_at=BEGUN + timedelta(seconds=seconds),
        predict_seconds=predicted,
    )


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1000), min_size=1, max_size=300))
def test_the_median_is_that_of_the_last_hundred(seconds: list[float]) -> None:
    durations = Durations()
    for each in seconds:
        durations.add(each)
    assert durations.median == statistics.median_high(seconds[-101:])


def simulate(
    latencies: list[float], *, reply: float = 0.05, in_flight: int = 1
) -> tuple[float, float]:
    """Polls and seconds waited too long, a prediction, after the model is known."""
    schedule = PollSchedule()
    polls, wasted = [], []
    for latency in latencies:
        elapsed, count = 0.0, 0
        while True:
            elapsed += schedule.wait("m", elapsed=elapsed, polls=count) + reply
            count += 1
            if elapsed >= latency:
                break
        schedule.observe("m", ended(latency))
        polls.append(count)
        wasted.append(elapsed - latency)
    return statistics.mean(polls[20:]), statistics.mean(wasted[20:])


def draw(median: float, spread: float, cold: float, count: int = 2000) -> list[float]:
    chance = random.Random(1)  # noqa: S311 -- the same in every run
    return [
        chance.uniform(40, 120)
        if chance.random() < cold
        else median * chance.lognormvariate(0, spread)
        for _ in range(count)
    ]


@pytest.mark.parametrize("spread", [0.0, 0.25, 0.5])
@pytest.mark.parametrize("median", [0.3, 0.5, 2.5, 8.0])
def test_a_prediction_takes_at_most_two_and_a_half_polls(median: float, spread: float) -> None:
    polls, wasted = simulate(draw(median, spread, cold=0.02))
    assert polls <= 2.5
    assert wasted <= 0.35 * median + 0.2


def test_the_figures_of_the_default_model() -> None:
    polls, wasted = simulate(draw(2.5, 0.35, cold=0.02))
    assert polls < 2.4
    assert wasted < 0.9


def test_waits_stay_between_half_a_second_and_eight() -> None:
    schedule = PollSchedule()
    schedule.observe("m", ended(2.5))
    assert schedule.wait("m", elapsed=0, polls=0) == 2.5
    assert schedule.wait("m", elapsed=1.0, polls=1) == 0.5
    assert schedule.wait("m", elapsed=10.0, polls=2) == pytest.approx(3.0)
    assert schedule.wait("m", elapsed=500.0, polls=9) == 8.0


def test_a_cold_start_of_all_who_came_first_lets_nobody_after_them_wait_as_long() -> None:
    schedule = PollSchedule()
    for _ in range(64):  # all that were in flight while the model was booted
        schedule.observe("m", ended(90.0, predicted=1.5))
    assert schedule.wait("m", elapsed=0, polls=0) == 11.0
    assert schedule.wait("m", elapsed=20.0, polls=0) == 0.0


def test_a_queue_that_lasts_costs_one_poll_more() -> None:
    schedule = PollSchedule()
    for _ in range(64):
        schedule.observe("m", ended(60.0, predicted=1.5))
    elapsed, polls = 0.0, 0
    while elapsed < 60.0:
        elapsed += schedule.wait("m", elapsed=elapsed, polls=polls)
        polls += 1
    assert (elapsed, polls) == (60.0, 2)
    assert schedule.wait("m", elapsed=elapsed, polls=polls) == 8.0


def test_a_model_that_is_slow_itself_is_asked_after_its_own_time() -> None:
    schedule = PollSchedule()
    schedule.observe("m", ended(45.0, predicted=40.0))
    assert schedule.wait("m", elapsed=0, polls=0) == 45.0


def test_a_quick_model_is_asked_quickly() -> None:
    schedule = PollSchedule()
    schedule.observe("m", ended(0.3))
    assert schedule.wait("m", elapsed=0, polls=0) == pytest.approx(0.3)
    assert schedule.wait("m", elapsed=0.3, polls=1) == pytest.approx(0.09)


def test_what_is_known_of_one_model_says_nothing_of_another() -> None:
    schedule = PollSchedule()
    schedule.observe("m", ended(30))
    assert schedule.wait("other", elapsed=0, polls=0) == 2.0


def test_a_prediction_that_is_taken_over_late_is_asked_for_at_once() -> None:
    assert PollSchedule().wait("m", elapsed=60, polls=0) == 0.0


@pytest.mark.parametrize(
    ("prediction", "seconds"),
    [
        (ended(4.0, predicted=1.0), 4.0),
        (ended(-1.0, predicted=1.0), 1.0),
        (Prediction(id="a", status=Status.SUCCEEDED, predict_seconds=3.0), 3.0),
        (Prediction(id="a", status=Status.SUCCEEDED), 2.0),
    ],
)
def test_durations_come_from_the_providers_own_times(
    prediction: Prediction, seconds: float
) -> None:
    schedule = PollSchedule()
    schedule.observe("m", prediction)
    assert schedule.wait("m", elapsed=0, polls=0) == seconds


@settings(deadline=None, max_examples=60)
@given(elapsed=st.floats(0, 1e6), polls=st.integers(0, 100), median=st.floats(0, 1e5))
def test_a_wait_is_never_negative_and_never_long_after_the_first(
    elapsed: float, polls: int, median: float
) -> None:
    schedule = PollSchedule()
    schedule.observe("m", ended(median))
    wait = schedule.wait("m", elapsed=elapsed, polls=polls)
    assert wait >= 0
    assert polls == 0 or wait <= max(8.0, median / 2) + 1e-5


def first_polls(
    count: int, *, most: float = 1000.0, learn: Callable[[PollSchedule, int], None]
) -> list[tuple[float, bool]]:
    """When each of so many that are accepted at once is to be polled first, and whether it is due.

    ``learn`` is called with the number of each second.
    """

    async def main() -> list[tuple[float, bool]]:
        schedule, begun = PollSchedule(), anyio.current_time()
        waits: dict[int, tuple[float, bool]] = {}

        async def wait(number: int) -> None:
            due = await schedule.pause("m", elapsed=0, polls=0, name=str(number), most=most)
            waits[number] = round(anyio.current_time() - begun, 6), due

        async with anyio.create_task_group() as group:
            for number in range(count):
                group.start_soon(wait, number)
            for second in range(100):
                await anyio.sleep(1)
                learn(schedule, second)
        return [waits[number] for number in range(count)]

    return run_virtually(main())


def test_of_an_unknown_model_three_are_polled_and_the_others_wait_for_them() -> None:
    def nothing(_schedule: PollSchedule, _second: int) -> None:
        pass

    assert first_polls(5, learn=nothing) == [(2.0, True)] * 3 + [(60.0, True)] * 2
    assert first_polls(5, most=40.0, learn=nothing)[3:] == [(40.0, False)] * 2


def test_the_others_ask_again_as_soon_as_it_is_known_how_long_they_take() -> None:
    def learn(schedule: PollSchedule, second: int) -> None:
        if second in (9, 12):
            schedule.observe("m", ended(second), name=str(second))

    assert first_polls(5, learn=learn)[3:] == [(13.0, False)] * 2


def test_the_same_prediction_counts_once() -> None:
    def learn(schedule: PollSchedule, second: int) -> None:
        if second == 9:
            schedule.observe("m", ended(9), name="0")
            schedule.forget("m", "0")

    assert first_polls(5, learn=learn)[3:] == [(60.0, True)] * 2


@pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELED])
def test_failures_too_show_that_predictions_end_and_teach_no_duration(status: Status) -> None:
    def learn(schedule: PollSchedule, second: int) -> None:
        if second == 0:
            for name in "01":
                schedule.observe("m", replace(ended(50), status=status), name=name)
            assert schedule.wait("m", elapsed=0, polls=0) == 2.0

    assert first_polls(5, learn=learn)[3:] == [(1.0, False)] * 2


def test_nobody_waits_for_those_that_are_not_polled_any_more() -> None:
    def learn(schedule: PollSchedule, second: int) -> None:
        if second == 5:
            for name in ("0", "1", "4"):
                schedule.forget("m", name)

    assert first_polls(5, learn=learn)[3:] == [(6.0, False)] * 2


def test_a_slow_model_is_asked_seldom() -> None:
    schedule = PollSchedule()
    schedule.observe("m", ended(100, predicted=60.0))
    assert schedule.wait("m", elapsed=200, polls=3) == 30.0
    assert schedule.predict_seconds("m") == 60.0
    assert schedule.predict_seconds("other") == 0.0


def test_what_was_waited_already_is_not_waited_again() -> None:
    async def main() -> tuple[float, bool]:
        schedule = PollSchedule()
        for _ in range(2):
            schedule.observe("m", ended(100))
        begun = anyio.current_time()
        due = await schedule.pause("m", elapsed=10, polls=0, name="a", waited=60)
        return round(anyio.current_time() - begun, 6), due

    assert run_virtually(main()) == (30.0, True)
