"""Token buckets: what may be taken when."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.emulator.records import State
from flux_pipeline.emulator.requests import LOW_CREDIT, bucket


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
