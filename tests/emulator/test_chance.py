"""Repeatable random numbers."""

from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.emulator import chance


@settings(max_examples=40)
@given(st.lists(st.one_of(st.text(), st.integers())))
def test_numbers_depend_on_the_parts_alone_and_stay_in_range(parts: list[object]) -> None:
    assert chance.uniform(*parts) == chance.uniform(*parts)
    assert 0 <= chance.uniform(*parts) < 1
    assert -7 < chance.normal(*parts) < 7
    assert 0 <= chance.number(*parts) < 2**64


def test_parts_are_not_run_together() -> None:
    assert chance.number("a", "b") != chance.number("ab")
    assert chance.number("a", "b") != chance.number("b", "a")


def test_numbers_are_spread_evenly() -> None:
    drawn = [chance.uniform("spread", i) for i in range(2000)]
    assert 0.47 < sum(drawn) / 2000 < 0.53
    assert 170 < sum(value < 0.1 for value in drawn) < 230
