"""Headers of a create, and the token buckets that limit requests."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from flux_pipeline.emulator.records import State
from flux_pipeline.emulator.requests import LOW_CREDIT, bucket, wait_seconds
from tests.emulator.api import ManualClock
from tests.emulator.conftest import Start


def request(**headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw})


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait", 60),
        ("wait=5", 5),
        ("wait = 5", 5),
        ("respond-async, wait=7", 7),
        ("wait=999", 60),
        ("wait=" + "9" * 400, 60),
        ("respond-async", 0),
        ("waiting", 0),
        ("", 0),
    ],
)
def test_prefer_wait_is_read_and_bounded(prefer: str, seconds: float) -> None:
    assert wait_seconds(request(prefer=prefer)) == seconds


def test_without_prefer_there_is_no_wait() -> None:
    assert wait_seconds(request()) == 0


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1m1s", 3661)]
)
def test_cancel_after_counts_from_acceptance(
    start: Start, clock: ManualClock, text: str, seconds: float
) -> None:
    _, api = start(time_scale=1e6)
    made = api.post(headers={"Cancel-After": text}).json()["id"]
    clock.advance(seconds - 0.5)
    assert api.get(made)["status"] == "starting"
    clock.advance(0.5)
    assert api.get(made)["status"] == "aborted"


def test_a_bucket_gives_its_capacity_at_once_and_then_says_how_long() -> None:
    with State() as state, state.transaction() as connection:
        limit = bucket(60, burst_seconds=3)
        assert [limit.take(connection, "k", 0) for _ in range(4)] == [0, 0, 0, 1]
        assert limit.take(connection, "k", 1) == 0
        assert limit.take(connection, "another", 1) == 0


def test_a_bucket_holds_at_least_one_token() -> None:
    assert bucket(6, burst_seconds=0.1).capacity == 1
    assert (LOW_CREDIT.per_minute, LOW_CREDIT.capacity) == (6, 1)


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    with State() as state, state.transaction() as connection:
        limit = bucket(60, burst_seconds=2)
        assert limit.take(connection, "k", 100) == 0
        assert limit.take(connection, "k", 50) == 0


@settings(max_examples=30)
@given(
    per_minute=st.floats(1, 6000),
    burst=st.floats(0.1, 60),
    steps=st.lists(st.floats(0, 30), min_size=1, max_size=40),
)
def test_never_more_than_capacity_and_flow(
    per_minute: float, burst: float, steps: list[float]
) -> None:
    limit = bucket(per_minute, burst)
    now, taken = 0.0, 0
    with State() as state, state.transaction() as connection:
        for step in steps:
            now += step
            taken += limit.take(connection, "k", now) == 0
    assert taken <= limit.capacity + now * per_minute / 60 + 1e-6


@settings(max_examples=30)
@given(per_minute=st.floats(1, 6000), burst=st.floats(0.1, 60))
def test_the_named_wait_is_enough(per_minute: float, burst: float) -> None:
    limit = bucket(per_minute, burst)
    with State() as state, state.transaction() as connection:
        wait = 0.0
        while not wait:
            wait = limit.take(connection, "k", 0)
        assert limit.take(connection, "k", wait + 1e-6) == 0
