"""How long a claim stands, on clocks that may jump."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.ledger.leases import (
    UNREADABLE_CLOCK_SECONDS,
    HostClock,
    Moment,
    Stamp,
    current_boot,
    remaining,
)

HOUR = 3600.0
BOOT = "boot-1"


def nobody_is_dead(name: str) -> bool:
    return False


def everybody_is_dead(name: str) -> bool:
    return True


def left(stamp: Stamp, now: Moment, *, dead: bool = False) -> float:
    return remaining(stamp, now, is_dead=everybody_is_dead if dead else nobody_is_dead)


@given(
    age=st.floats(0, 99.9),
    jump=st.floats(-HOUR, HOUR),
    start=st.floats(0, 1e9),
)
def test_no_jump_of_the_wall_clock_ends_a_lease_on_one_host(
    age: float, jump: float, start: float
) -> None:
    stamp = Stamp(Moment(1e9, start, BOOT), 100.0, "lock")
    assert left(stamp, Moment(1e9 + age + jump, start + age, BOOT)) > 0


@given(age=st.floats(100.1, 1e6), jump=st.floats(-HOUR, HOUR))
def test_no_jump_of_the_wall_clock_prolongs_a_lease_on_one_host(age: float, jump: float) -> None:
    stamp = Stamp(Moment(1e9, 5.0, BOOT), 100.0, "lock")
    assert left(stamp, Moment(1e9 + age + jump, 5.0 + age, BOOT)) <= 0


@given(asked=st.floats(0, 1e6), wait=st.floats(0, 50), lag=st.floats(0, 300))
def test_the_holder_gives_up_before_others_may_take_over(
    asked: float, wait: float, lag: float
) -> None:
    lease, timeout = 100.0, 60.0
    claimed = asked + wait
    sends_at = claimed + lag
    may_send = sends_at - asked < lease - timeout
    ends_at = sends_at + timeout
    stamp = Stamp(Moment(0.0, claimed, BOOT), lease, "lock")
    if may_send:
        assert left(stamp, Moment(0.0, ends_at - 1e-6, BOOT)) > 0


@pytest.mark.parametrize("age", [0.0, 99.0, 1e6])
def test_the_dead_hold_nothing(age: float) -> None:
    stamp = Stamp(Moment(0.0, 0.0, BOOT), 100.0, "lock")
    assert left(stamp, Moment(age, age, BOOT), dead=True) == 0


def test_without_a_lock_nobody_is_dead() -> None:
    stamp = Stamp(Moment(0.0, 0.0, BOOT), 100.0, "")
    assert left(stamp, Moment(1.0, 1.0, BOOT), dead=True) == 99.0


@given(jump=st.floats(-2 * HOUR + 1, 2 * HOUR - 1))
def test_a_claim_of_another_boot_outlives_two_jumps_of_an_hour(jump: float) -> None:
    stamp = Stamp(Moment(1e9, 1e6, "boot-0"), 100.0, "lock")
    assert left(stamp, Moment(1e9 + jump, 3.0, BOOT)) > 0
    over = 100.0 + UNREADABLE_CLOCK_SECONDS
    assert left(stamp, Moment(1e9 + over, 3.0, BOOT)) <= 0


def test_a_steady_clock_that_ran_backwards_is_not_trusted() -> None:
    stamp = Stamp(Moment(1e9, 1e6, BOOT), 100.0, "lock")
    assert left(stamp, Moment(1e9 + 200.0, 3.0, BOOT)) > 0


def test_a_servers_clock_is_the_only_one() -> None:
    stamp = Stamp(Moment(1000.0), 100.0, "")
    assert left(stamp, Moment(1030.0)) == 70.0
    assert left(stamp, Moment(1100.0)) == 0.0


def test_time_is_measured_between_readings_of_one_boot_alone() -> None:
    first = Moment(1000.0, 5.0, BOOT)
    assert Moment(4600.0, 15.0, BOOT).seconds_since(first) == 10.0
    assert Moment(1010.0, 15.0, "boot-2").seconds_since(first) is None
    assert Moment(1010.0, 15.0, "").seconds_since(Moment(1000.0, 5.0, "")) is None
    assert Moment(1010.0, 4.0, BOOT).seconds_since(first) is None
    assert Moment(1010.0).seconds_since(first) is None
    assert Moment(1010.0, 15.0, BOOT).seconds_since(Moment(1000.0, None, BOOT)) is None


def test_the_clock_of_ages_goes_on_while_the_host_sleeps() -> None:
    """As far as a test can see it: it is never behind the clock that stands still then."""
    host = HostClock(boot=current_boot())
    steady = host.read().steady
    elapsed = host.read_elapsed().steady
    assert steady is not None
    assert elapsed is not None
    assert elapsed >= steady


def test_the_host_is_read_as_it_is() -> None:
    clock = HostClock(boot=current_boot())
    first, second = clock.read(), clock.read()
    assert first.steady is not None
    assert second.steady is not None
    assert first.steady <= second.steady
    assert first.boot == second.boot == current_boot()
    assert not re.search(r"\n", first.boot)
