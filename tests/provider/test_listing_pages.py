"""Pages are read newest first, shared, and never followed; every failure has its class."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from flux_pipeline.outcomes import Absent, AccessDenied, FindOutcome, Found, ListFailed, NoList
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


async def test_no_link_of_the_reply_is_followed_and_the_key_stays(configured: Configured) -> None:
    provider = ListOfPredictions(*(entry(number, at=1) for number in range(5)))
    assert await find(configured, provider, seed=99) == Absent()
    assert [str(each.url) for each in provider.asked] == [
        "https://api.example/v1/predictions",
        "https://api.example/v1/predictions?cursor=2",
        "https://api.example/v1/predictions?cursor=4",
    ]
    assert {each.headers["authorization"] for each in provider.asked} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("status", [404, 405, 501, 400, 301])
async def test_where_there_is_no_list_nothing_can_be_proven(
    configured: Configured, status: int
) -> None:
    provider = ListOfPredictions()
    provider.failing = {1: httpx.Response(status, stream=httpx.ByteStream(b""))}
    async with listing(configured, provider) as lists:
        for _ in range(2):
            outcome = await lists.find(make_request(), since=NOW, known=(), not_before=None)
            assert outcome == NoList()
    assert len(provider.asked) == 1


async def test_a_provider_that_is_known_to_have_no_list_is_not_asked(
    configured: Configured,
) -> None:
    provider = ListOfPredictions(entry(1, at=1))
    assert await find(configured, provider, has_list=False) == NoList()
    assert provider.asked == []


async def test_a_page_may_be_larger_than_any_other_reply(configured: Configured) -> None:
    """It shows every picture that was sent within an input."""
    inline = f"data:image/png;base64,{'A' * 5000}"
    fill = [entry(number, at=1, input={"image": inline}) for number in (7, 8)]
    provider = ListOfPredictions(*fill, entry(1, at=2), page=3)
    assert found_id(await find(configured, provider, max_reply_bytes=5000)) == "id1"
    assert isinstance(await find(configured, provider, max_page_bytes=5000), ListFailed)


async def test_a_list_that_was_promised_or_seen_is_believed_in(configured: Configured) -> None:
    provider = ListOfPredictions()
    provider.failing = {1: httpx.Response(404, stream=httpx.ByteStream(b""))}
    assert isinstance(await find(configured, provider, has_list=True), ListFailed)
    provider = ListOfPredictions()
    provider.failing = {2: httpx.Response(404, stream=httpx.ByteStream(b""))}
    async with listing(configured, provider) as lists:
        first = await lists.find(make_request(), since=NOW, known=(), not_before=None)
        second = await lists.find(make_request(), since=NOW, known=(), not_before=None)
        third = await lists.find(make_request(), since=NOW, known=(), not_before=None)
    assert first == Absent()
    assert isinstance(second, ListFailed)
    assert third == Absent()


Answer = Callable[[], httpx.Response | Exception]


def reply(status: int, body: bytes = b"", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda: httpx.Response(status, headers=named, stream=httpx.ByteStream(body))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (lambda: httpx.ReadError("Connection reset by peer"), ListFailed),
        (lambda: httpx.ConnectError("Connection refused"), ListFailed),
        (reply(500), ListFailed),
        (reply(503, b"<html>"), ListFailed),
        (reply(429, retry_after="9"), ListFailed),
        (reply(408), ListFailed),
        (reply(200, b"<html>log in</html>"), ListFailed),
        (reply(200, b'{"results": [{"id"'), ListFailed),
        (reply(200, b"[]"), ListFailed),
        (reply(200, b""), ListFailed),
        (reply(200, b'{"error": {"message": "Invalid URL"}}'), NoList),
        (reply(200, b'{"results": null}'), NoList),
        (reply(401), AccessDenied),
        (reply(402), AccessDenied),
        (reply(403, b'{"detail": "no"}'), AccessDenied),
    ],
)
@pytest.mark.parametrize("page", [1, 2])
async def test_every_failure_of_a_page_has_its_class(
    configured: Configured, answer: Answer, expected: type, page: int
) -> None:
    provider = ListOfPredictions(*(entry(number, at=1) for number in range(10, 14)))
    provider.failing = {page: answer()}
    outcome = await find(configured, provider)
    if page == 2 and expected is NoList:
        assert isinstance(outcome, ListFailed)
    else:
        assert isinstance(outcome, expected)


async def test_a_page_that_fails_is_asked_for_again_and_the_ones_before_it_are_kept(
    configured: Configured,
) -> None:
    provider = ListOfPredictions(*(entry(number, at=1) for number in range(10, 16)))
    provider.failing = {2: reply(500)(), 3: httpx.ReadError("reset"), 5: reply(200, b"<html>")()}
    assert await find(configured, provider, page_tries=3) == Absent()
    assert [each.url.params.get("cursor") for each in provider.asked] == [
        *(None, "2", "2", "2"),
        *("4", "4"),
    ]


async def test_a_page_that_keeps_failing_is_given_up(configured: Configured) -> None:
    provider = ListOfPredictions(entry(1, at=1))
    provider.failing = {number: reply(503)() for number in range(1, 9)}
    assert isinstance(await find(configured, provider, page_tries=3), ListFailed)
    assert len(provider.asked) == 3


async def test_a_throttled_page_carries_the_hint_and_slows_all_calls(
    configured: Configured,
) -> None:
    provider = ListOfPredictions()
    provider.failing = {1: reply(429, retry_after="9")()}
    assert await find(configured, provider) == ListFailed(
        "the list answered 429: 429, no type, 0 bytes", 9.0
    )


async def test_pages_that_repeat_themselves_are_not_read_for_ever(configured: Configured) -> None:
    class Looping(ListOfPredictions):
        def respond(self, body: Any, status: int = 200) -> httpx.Response:
            return super().respond({**body, "next": "https://x.invalid/?cursor=0"}, status)

    outcome = await find(configured, Looping(entry(9, at=1)))
    assert outcome == ListFailed("the list's pages repeat themselves")


@pytest.mark.parametrize("link", ["https://[/?cursor=1", "https://x.invalid/next", "?"])
async def test_a_next_link_without_a_cursor_is_no_end(configured: Configured, link: str) -> None:
    class Odd(ListOfPredictions):
        def respond(self, body: Any, status: int = 200) -> httpx.Response:
            return super().respond({**body, "next": link}, status)

    assert isinstance(await find(configured, Odd(entry(9, at=1))), ListFailed)


async def test_finds_at_the_same_time_share_readings(configured: Configured) -> None:
    provider = ListOfPredictions(*(entry(number, at=1) for number in range(40)), page=10)
    async with listing(configured, provider) as lists:
        outcomes = await asyncio.gather(
            *(
                lists.find(make_request(seed=seed), since=NOW - 5, known=(), not_before=None)
                for seed in range(60)
            )
        )
    assert [isinstance(each, Found) for each in outcomes] == [True] * 40 + [False] * 20
    assert len(provider.asked) <= 8


async def test_a_reading_counts_only_for_finds_that_came_before_it_began(
    configured: Configured,
) -> None:
    provider = ListOfPredictions()
    async with listing(configured, provider) as lists:

        async def look(not_before: float | None = None) -> FindOutcome:
            outcome: FindOutcome = await lists.find(
                make_request(seed=1), since=NOW - 5, known=(), not_before=not_before
            )
            return outcome

        begun = time.monotonic()
        assert await look() == Absent()
        provider.entries = [entry(1, at=1)]
        assert await look(not_before=begun) == Absent()
        assert len(provider.asked) == 1
        assert isinstance(await look(), Found)
        assert len(provider.asked) == 2


async def test_a_reading_that_failed_is_begun_anew(configured: Configured) -> None:
    provider = ListOfPredictions()
    provider.failing = {1: reply(500)()}
    async with listing(configured, provider) as lists:
        outcomes = [
            await lists.find(make_request(seed=1), since=NOW, known=(), not_before=0.0)
            for _ in range(2)
        ]
    assert isinstance(outcomes[0], ListFailed)
    assert outcomes[1] == Absent()


async def test_a_find_that_comes_while_a_page_is_under_way_gets_a_newer_one(
    configured: Configured,
) -> None:
    provider = ListOfPredictions()
    provider.gate = asyncio.Event()
    async with listing(configured, provider) as lists:
        first = asyncio.create_task(
            lists.find(make_request(seed=1), since=NOW, known=(), not_before=None)
        )
        await provider.reached.wait()
        second = asyncio.create_task(
            lists.find(make_request(seed=1), since=NOW, known=(), not_before=None)
        )
        third = asyncio.create_task(
            lists.find(make_request(seed=1), since=NOW, known=(), not_before=None)
        )
        await asyncio.sleep(0.01)
        provider.gate.set()
        await asyncio.gather(first, second, third)
    assert len(provider.asked) == 2


async def test_a_find_that_is_cancelled_does_not_spoil_the_others(configured: Configured) -> None:
    provider = ListOfPredictions(entry(1, at=1))
    provider.gate = asyncio.Event()
    async with listing(configured, provider) as lists:
        tasks = [
            asyncio.create_task(
                lists.find(make_request(seed=1), since=NOW, known=(), not_before=0.0)
            )
            for _ in range(3)
        ]
        await provider.reached.wait()
        tasks[0].cancel()
        provider.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [found_id(each) for each in outcomes[1:]] == ["id1", "id1"]  # type: ignore[arg-type]


async def test_recent_predictions_are_read_a_page_at_a_time(configured: Configured) -> None:
    provider = ListOfPredictions(
        *(entry(number, at=1) for number in range(5)), entry(9, at=1, id="a//b")
    )
    async with listing(configured, provider) as lists:
        ids = []
        async for each in lists.recent():
            ids.append((each.id, len(provider.asked)))  # noqa: PERF401 -- counted on the way
    assert ids == [("id0", 1), ("id1", 1), ("id2", 2), ("id3", 2), ("id4", 3)]


async def test_where_the_recent_ones_can_t_be_read_the_reason_comes_last(
    configured: Configured,
) -> None:
    provider = ListOfPredictions(*(entry(number, at=1) for number in range(5)))
    provider.failing = {2: reply(500)()}
    async with listing(configured, provider) as lists:
        seen = [each async for each in lists.recent()]
    assert [getattr(each, "id", type(each).__name__) for each in seen] == [
        *("id0", "id1"),
        "ListFailed",
    ]
    async with listing(configured, provider, has_list=False) as lists:
        assert [each async for each in lists.recent()] == [NoList()]
