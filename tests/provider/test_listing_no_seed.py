"""A lost create of a model without a seed: other takes, and other people, send the same input."""

from dataclasses import replace
from typing import Any

import pytest

from flux_pipeline.outcomes import Absent, NoList
from flux_pipeline.provider.listing import Match, matches
from flux_pipeline.request import OFFICIAL
from tests.provider.prediction_list import (
    Configured,
    ListOfPredictions,
    entry,
    find,
    found_id,
)
from tests.provider.samples import MODEL, VERSION, make_request

REQUEST = replace(
    make_request(seed=None),
    seed_input="",
    defaults={"guidance": 3.5, "mask": None, "go_fast": True},
)
LATER = replace(REQUEST, version=OFFICIAL)


def take(number: int, *, at: float, **changes: Any) -> dict[str, Any]:
    """One prediction of the input without a seed, made ``at`` seconds ago."""
    return entry(number, at=at, **{"input": dict(REQUEST.input), **changes})


def with_input(**changes: Any) -> dict[str, Any]:
    return {"model": MODEL, "version": VERSION, "input": {**REQUEST.input, **changes}}


@pytest.mark.anyio
class TestSearches:
    async def test_the_oldest_that_nobody_holds_is_found(self, configured: Configured) -> None:
        """It may be another take's; then that one finds the later one, which shows by then."""
        provider = ListOfPredictions(take(5, at=1), take(4, at=4), take(3, at=7), page=1)
        look = {"request": REQUEST, "ago": 10.0, "age": 10.0}
        assert found_id(await find(configured, provider, **look)) == "id3"
        assert found_id(await find(configured, provider, known={"id3"}, **look)) == "id4"
        assert found_id(await find(configured, provider, known={"id3", "id4"}, **look)) == "id5"
        assert await find(configured, provider, known={"id3", "id4", "id5"}, **look) == Absent()

    async def test_what_was_created_before_the_intent_is_somebody_elses(
        self, configured: Configured
    ) -> None:
        provider = ListOfPredictions(take(2, at=8), take(1, at=60), take(0, at=290))
        look = {"request": REQUEST, "ago": 10.0, "age": 10.0}
        assert found_id(await find(configured, provider, **look)) == "id2"
        assert await find(configured, provider, known={"id2"}, **look) == Absent()

    @pytest.mark.parametrize("skew", [-3600.0, -2.0, 0.0, 2.0, 3600.0])
    async def test_a_clock_that_is_wrong_makes_nothing_of_others_ours(
        self, configured: Configured, skew: float
    ) -> None:
        provider = ListOfPredictions(take(2, at=8 - skew), take(1, at=60 - skew), skew=skew)
        look = {"request": REQUEST, "ago": 10.0, "age": 10.0}
        assert found_id(await find(configured, provider, **look)) == "id2"
        assert await find(configured, provider, known={"id2"}, **look) == Absent()

    async def test_where_the_age_is_not_known_what_is_near_the_intent_stays_unclear(
        self, configured: Configured
    ) -> None:
        """Another machine wrote the intent, and its clock may have been wrong."""
        provider = ListOfPredictions(take(2, at=8), take(1, at=60), take(0, at=400))
        look = {"request": REQUEST, "ago": 10.0}
        assert found_id(await find(configured, provider, **look)) == "id2"
        assert await find(configured, provider, known={"id2"}, **look) == NoList()
        assert await find(configured, provider, known={"id2", "id1"}, **look) == Absent()

    async def test_after_a_leap_of_the_clock_nothing_is_certain(
        self, configured: Configured
    ) -> None:
        provider = ListOfPredictions(take(1, at=8))
        assert await find(configured, provider, request=REQUEST, ago=-600.0) == NoList()
        empty = ListOfPredictions(take(1, at=8, input={**REQUEST.input, "prompt": "another"}))
        assert await find(configured, empty, request=REQUEST, ago=-600.0) == Absent()

    async def test_another_version_of_the_same_input_is_not_taken_and_proves_nothing(
        self, configured: Configured
    ) -> None:
        provider = ListOfPredictions(take(1, at=5, version="0" * 64))
        look = {"request": REQUEST, "ago": 10.0, "age": 10.0}
        assert await find(configured, provider, **look) == NoList()
        assert await find(configured, provider, known={"id1"}, **look) == Absent()

    async def test_an_entry_without_a_moment_proves_nothing(self, configured: Configured) -> None:
        provider = ListOfPredictions(take(1, at=5, created_at=None))
        assert await find(configured, provider, request=REQUEST, age=10.0) == NoList()

    async def test_a_hidden_input_does_not_hide_one_that_is_shown(
        self, configured: Configured
    ) -> None:
        provider = ListOfPredictions(take(2, at=2, input={}), take(1, at=5))
        look = {"request": REQUEST, "ago": 10.0, "age": 10.0}
        assert found_id(await find(configured, provider, **look)) == "id1"
        assert await find(configured, provider, known={"id1"}, **look) == NoList()


@pytest.mark.parametrize(
    ("shown", "match"),
    [
        (with_input(), Match.OURS),
        (with_input(guidance=3.5, go_fast=True, mask=None), Match.OURS),
        (with_input(guidance=4), Match.NO),
        (with_input(mask="https://a.b/mask.png"), Match.NO),
        (with_input(prompt="another"), Match.NO),
        (with_input(new_input="x"), Match.UNCLEAR),
        (with_input(new_input=None), Match.OURS),
        ({**with_input(), "version": "0" * 64}, Match.OTHER_VERSION),
        ({**with_input(), "model": "other/model"}, Match.NO),
    ],
)
def test_an_input_without_a_seed_is_compared_whole(shown: dict[str, Any], match: Match) -> None:
    assert matches(shown, REQUEST) is match


def test_a_seed_that_the_provider_may_have_drawn_proves_nothing() -> None:
    request = replace(make_request(seed=None), defaults={"seed": None})
    assert matches(with_input(seed=5), request) is Match.UNCLEAR
    assert matches(with_input(), request) is Match.OURS


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"version": "hidden"}, Match.OURS),
        ({"version": "dp-1234"}, Match.OURS),
        ({"version": None}, Match.OURS),
        ({"version": VERSION}, Match.OURS),
        ({"model": None, "version": MODEL}, Match.OURS),
        ({"model": "", "version": f"{MODEL}:{VERSION}"}, Match.OURS),
        ({"model": None, "version": "hidden"}, Match.UNCLEAR),
        ({"model": None, "version": "other/model"}, Match.UNCLEAR),
        ({"model": "other/model", "version": "hidden"}, Match.NO),
    ],
)
def test_an_official_model_is_known_by_its_name(changes: dict[str, Any], match: Match) -> None:
    assert matches({**with_input(), **changes}, LATER) is match


def test_a_seed_may_have_another_name() -> None:
    request = replace(make_request(seed=None, noise=5), seed_input="noise")
    shown = {"model": MODEL, "version": VERSION, "input": dict(request.input)}
    assert matches(shown, request) is Match.OURS
    assert matches({**shown, "input": {**request.input, "noise": 6}}, request) is Match.NO
