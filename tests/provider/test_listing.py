"""A lost create is found, proven absent, or left unclear; wrong proof of absence pays twice."""

from typing import Any

import pytest

from flux_pipeline.outcomes import Absent, Found, NoList
from tests.provider.prediction_list import (
    NOW,
    Configured,
    ListOfPredictions,
    entry,
    find,
    found_id,
    listing,
)
from tests.provider.samples import KEY, make_request

pytestmark = pytest.mark.anyio


async def test_a_prediction_is_found_on_the_page_where_it_is(configured: Configured) -> None:
    provider = ListOfPredictions(*(entry(number, at=10 - number) for number in range(9, 0, -1)))
    assert found_id(await find(configured, provider, seed=1)) == "id1"
    assert len(provider.asked) == 5
    assert found_id(await find(configured, provider, seed=8)) == "id8"
    assert len(provider.asked) == 6


async def test_a_list_read_to_its_end_proves_absence(configured: Configured) -> None:
    assert await find(configured, ListOfPredictions(), seed=1) == Absent()
    assert await find(configured, ListOfPredictions(entry(2, at=1)), seed=1) == Absent()


async def test_reading_stops_where_entries_are_too_old_to_be_ours(configured: Configured) -> None:
    ages = [5, 60, 311, 400, 500, 600, 700]
    provider = ListOfPredictions(*(entry(number, at=age) for number, age in enumerate(ages)))
    assert await find(configured, provider, seed=99, ago=10.0) == Absent()
    assert len(provider.asked) == 2


async def test_ids_that_others_hold_are_passed_over(configured: Configured) -> None:
    provider = ListOfPredictions(entry(5, at=1, seed=1), entry(4, at=2, seed=1))
    assert found_id(await find(configured, provider)) == "id5"
    assert found_id(await find(configured, provider, known=["id5"])) == "id4"
    assert await find(configured, provider, known={"id4", "id5"}) == Absent()
    asked: list[list[str]] = []

    def ledger(ids: Any) -> set[str]:
        asked.append(list(ids))
        return {"id5"} & set(ids)

    assert found_id(await find(configured, provider, known=ledger)) == "id4"
    assert asked == [["id5"], ["id4"]]


async def test_an_exact_version_is_preferred_to_another_one(configured: Configured) -> None:
    other = entry(1, at=1, version="0" * 64)
    exact = entry(2, at=5, seed=1)
    fill = [entry(number, at=3) for number in (11, 12, 13)]
    assert found_id(await find(configured, ListOfPredictions(other, *fill, exact))) == "id2"
    assert found_id(await find(configured, ListOfPredictions(other, *fill))) == "id1"
    assert await find(configured, ListOfPredictions(other), known=["id1"]) == Absent()


async def test_an_entry_that_hides_its_input_leaves_it_unclear(configured: Configured) -> None:
    hidden = entry(9, at=1, input={})
    assert await find(configured, ListOfPredictions(hidden)) == NoList()
    assert found_id(await find(configured, ListOfPredictions(hidden, entry(1, at=2)))) == "id1"
    assert await find(configured, ListOfPredictions(hidden), known=["id9"]) == Absent()
    assert await find(configured, ListOfPredictions(entry(9, at=700, input={}))) == Absent()
    assert await find(configured, ListOfPredictions(entry(9, at=1, seed=1, id="a//b"))) == NoList()


async def test_a_seed_that_the_provider_may_have_drawn_leaves_it_unclear(
    configured: Configured,
) -> None:
    provider = ListOfPredictions(entry(1, at=1))
    assert await find(configured, provider, seed=None) == NoList()


async def test_what_was_sent_an_hour_ago_can_be_found_and_not_be_disproved(
    configured: Configured,
) -> None:
    provider = ListOfPredictions(entry(1, at=3400))
    assert found_id(await find(configured, provider, ago=3400)) == "id1"
    assert await find(configured, provider, seed=2, ago=3400) == NoList()


@pytest.mark.parametrize("skew", [-3600.0, -300.0, 0.0, 300.0, 3600.0])
async def test_a_clock_that_is_wrong_hides_nothing(configured: Configured, skew: float) -> None:
    """``since`` was read from our clock, the entry has the provider's time."""
    fill = [entry(number, at=1 - skew) for number in range(10, 20)]
    ours = entry(1, at=9 - skew)
    provider = ListOfPredictions(*fill, ours, skew=skew)
    assert found_id(await find(configured, provider, ago=10.0)) == "id1"


@pytest.mark.parametrize("jump", [-3600.0, -600.0, 600.0, 3600.0])
async def test_a_clock_that_was_set_since_then_hides_nothing(
    configured: Configured, jump: float
) -> None:
    """Sent 10 s ago, when our clock differed from the provider's, and right now it does not."""
    fill = [entry(number, at=1) for number in range(10, 20)]
    provider = ListOfPredictions(*fill, entry(1, at=9))
    assert found_id(await find(configured, provider, ago=10.0 + jump)) == "id1"


@pytest.mark.parametrize("jump", [-300.0, -60.0, 60.0, 300.0])
async def test_a_clock_that_is_seen_to_jump_hides_nothing(
    configured: Configured, jump: float
) -> None:
    """Our clock was ahead by 500 s when it was sent ten minutes ago, and was set right since."""
    fill = [entry(number, at=1) for number in range(10, 20)]
    provider = ListOfPredictions(*fill, entry(8, at=450), entry(7, at=450), entry(1, at=600))
    async with listing(configured, provider) as lists:
        lists._clock_offset += jump
        outcome = await lists.find(make_request(seed=1), since=NOW - 100, known=(), not_before=None)
    assert found_id(outcome) == "id1"


async def test_a_clock_that_was_set_back_before_this_process_began_hides_nothing(
    configured: Configured,
) -> None:
    """Sent 2,400 s ago by a right clock, which now is 1,800 s late."""
    fill = [entry(number, at=-1799) for number in range(10, 20)]
    provider = ListOfPredictions(
        *fill, entry(8, at=-500), entry(7, at=-500), entry(1, at=599), skew=1800
    )
    assert found_id(await find(configured, provider, ago=600.0)) == "id1"


@pytest.mark.parametrize("leap", [-3600.0, 3600.0])
async def test_what_is_sent_before_our_clock_leaps_is_as_old_as_it_is(
    configured: Configured, leap: float
) -> None:
    """Sent 10 s ago by a clock that nobody sets; the entry of an hour before hides its input."""
    fill = [entry(number, at=1 + leap) for number in range(10, 20)]
    provider = ListOfPredictions(
        *fill, entry(1, at=9 + leap), entry(8, at=3700 + leap, input={}), skew=-leap
    )
    assert found_id(await find(configured, provider, ago=10.0 + leap, age=10.0)) == "id1"
    assert await find(configured, provider, seed=2, ago=10.0 + leap, age=10.0) == Absent()


async def test_a_steady_clock_that_stood_still_hides_nothing(configured: Configured) -> None:
    """Sent half an hour ago; the virtual machine was paused, and its wall clock is right."""
    provider = ListOfPredictions(entry(8, at=1), entry(1, at=1799), entry(9, at=3500))
    assert found_id(await find(configured, provider, ago=1800.0, age=5.0)) == "id1"


async def test_without_a_date_the_margin_is_wider(configured: Configured) -> None:
    provider = ListOfPredictions(
        entry(9, at=1), entry(8, at=500), entry(1, at=550), entry(7, at=700)
    )
    provider.date = None
    assert found_id(await find(configured, provider, ago=10.0)) == "id1"


async def test_what_is_found_holds_no_key(configured: Configured) -> None:
    provider = ListOfPredictions(entry(1, at=1, logs=f"used {KEY}"))
    outcome = await find(configured, provider)
    assert isinstance(outcome, Found)
    assert KEY not in outcome.prediction.raw + outcome.prediction.logs
