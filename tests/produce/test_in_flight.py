"""How many predictions are in flight: as many as get on."""

import anyio
import pytest

from flux_pipeline.produce.in_flight import FEW, LONG_AGE, LONG_WAIT, MANY, InFlight
from tests.provider.virtual_loop import run_virtually


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def is_enough(in_flight: InFlight, model: str = "m") -> bool:
    """Whether one that asks now has to wait."""

    async def ask() -> bool:
        with anyio.move_on_after(1.0) as scope:
            await in_flight.wait(model)
        return scope.cancelled_caught

    return run_virtually(ask())


@pytest.fixture
def clock() -> Clock:
    return Clock()


def filled(clock: Clock, count: int, *, takes: float = 0.0, model: str = "m") -> InFlight:
    in_flight = InFlight(lambda _model: takes, clock)
    for number in range(count):
        in_flight.add(model, f"{model}{number}")
    return in_flight


def test_a_few_are_in_flight_however_long_they_take(clock: Clock) -> None:
    in_flight = filled(clock, FEW - 1)
    clock.now += 3600.0
    assert not is_enough(in_flight)


def test_when_half_of_them_are_old_no_more_of_that_model_are_sent(clock: Clock) -> None:
    in_flight = filled(clock, FEW)
    clock.now += LONG_AGE - 1
    assert not is_enough(in_flight)
    clock.now += 2
    assert is_enough(in_flight)
    assert not is_enough(in_flight, "other")
    for number in range(FEW + 1):
        in_flight.add("m", f"young{number}")
    assert not is_enough(in_flight)


def test_what_the_model_itself_takes_is_no_sign_that_they_don_t_get_on(clock: Clock) -> None:
    in_flight = filled(clock, FEW, takes=300.0)
    clock.now += LONG_AGE + 299
    assert not is_enough(in_flight)


def test_a_wait_that_would_be_long_at_the_pace_of_those_that_ended_is_not_begun(
    clock: Clock,
) -> None:
    in_flight = filled(clock, 400)
    for number in range(21):  # one a second
        clock.now += 1.0
        in_flight.remove("m", f"m{number}")
    assert LONG_WAIT < 379 < LONG_AGE * 10
    assert is_enough(in_flight)
    for number in range(21, 121):
        in_flight.remove("m", f"m{number}")
    assert not is_enough(in_flight)


def test_a_pace_of_a_few_seconds_is_not_believed(clock: Clock) -> None:
    in_flight = filled(clock, 1000)
    for number in range(5):
        clock.now += 1.0
        in_flight.remove("m", f"m{number}")
    assert not is_enough(in_flight)


def test_a_time_in_which_little_was_asked_for_is_no_pace(clock: Clock) -> None:
    in_flight = filled(clock, FEW + 1)
    in_flight.remove("m", "m0")  # counts
    in_flight.remove("m", "m1")  # too few: forgotten
    clock.now += 50.0
    for number in range(FEW * 8):
        in_flight.add("m", f"new{number}")
    assert not is_enough(in_flight)


def test_all_models_together_are_bounded(clock: Clock) -> None:
    in_flight = filled(clock, MANY // 2)
    for number in range(MANY // 2):
        in_flight.add("other", f"other{number}")
    assert len(in_flight) == MANY
    assert is_enough(in_flight)
    in_flight.remove("other", "other0")
    assert not is_enough(in_flight)


def test_who_waits_goes_on_when_enough_have_ended(clock: Clock) -> None:
    in_flight = filled(clock, FEW)
    clock.now += LONG_AGE + 1

    async def main() -> list[str]:
        said: list[str] = []

        async def ask() -> None:
            await in_flight.wait("m")
            said.append("sent")

        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await anyio.sleep(1.0)
            said.append("ended")
            in_flight.remove("m", "unknown")
            in_flight.remove("m", "m0")
            in_flight.remove("m", "m0")
        return said

    assert run_virtually(main()) == ["ended", "sent"]


def test_to_be_taken_over_again_keeps_the_time(clock: Clock) -> None:
    in_flight = filled(clock, FEW)
    clock.now += LONG_AGE + 1
    for number in range(FEW):
        in_flight.add("m", f"m{number}")
    assert is_enough(in_flight)
