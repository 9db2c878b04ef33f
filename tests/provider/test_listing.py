"""A lost create is found, proven absent, or left unclear; wrong proof of absence pays twice."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from flux_pipeline.outcomes import Absent, AccessDenied, FindOutcome, Found, ListFailed, NoList
from flux_pipeline.provider.calls import ApiCalls
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.limiter import Limiter, MemoryRates
from flux_pipeline.provider.listing import Known, Listing
from tests.provider.samples import KEY, MODEL, VERSION, make_request

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
Configured = Callable[..., ProviderConfig]


def entry(number: int, *, at: float, seed: int | None = None, **changes: Any) -> dict[str, Any]:
    """One prediction of the list, made ``at`` seconds before NOW."""
    return {
        "id": f"id{number}",
        "model": MODEL,
        "version": VERSION,
        "status": "succeeded",
        "input": dict(make_request(seed=number if seed is None else seed).input),
        "output": None,
        "created_at": datetime.fromtimestamp(NOW - at, UTC).isoformat(),
        **changes,
    }


class Provider:
    """A list of predictions, newest first, some a page, and who asked for it."""

    def __init__(self, *entries: dict[str, Any], page: int = 2, skew: float = 0.0) -> None:
        self.entries = list(entries)
        self.page = page
        self.date: float | None = NOW + skew
        self.asked: list[httpx.Request] = []
        self.failing: dict[int, httpx.Response | Exception] = {}
        self.gate: asyncio.Event | None = None

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.gate is not None:
            await self.gate.wait()
        failure = self.failing.get(len(self.asked))
        if isinstance(failure, Exception):
            raise failure
        if failure is not None:
            return failure
        start = int(request.url.params.get("cursor", "0"))
        end = start + self.page
        more = f"https://trap.invalid/v1/predictions?cursor={end}"
        return self.respond(
            {
                "previous": None,
                "next": more if end < len(self.entries) else None,
                "results": self.entries[start:end],
            }
        )

    def respond(self, body: Any, status: int = 200) -> httpx.Response:
        headers: Mapping[str, str] = {}
        if self.date is not None:
            date = datetime.fromtimestamp(self.date, UTC)
            headers = {"date": format_datetime(date, usegmt=True)}
        reply = httpx.Response(status, json=body, headers=headers)
        return httpx.Response(
            status, headers=reply.headers, stream=httpx.ByteStream(reply.content)
        )


@asynccontextmanager
async def listing(configured: Configured, provider: Provider, **changes: Any) -> Any:
    config = configured("https://api.example", **changes)
    async with ApiCalls(config, transport=httpx.MockTransport(provider)) as calls:
        limits = Limiter(MemoryRates({"call": 1e6, "create": 1e6}))
        yield Listing(config, calls, limits, clock=lambda: NOW)


async def find(
    configured: Configured,
    provider: Provider,
    *,
    seed: int | None = 1,
    ago: float = 10.0,
    known: Known = (),
    **changes: Any,
) -> FindOutcome:
    async with listing(configured, provider, **changes) as lists:
        outcome: FindOutcome = await lists.find(
            make_request(seed=seed), since=NOW - ago, known=known, not_before=None
        )
    return outcome


def found_id(outcome: FindOutcome) -> str | None:
    assert isinstance(outcome, Found), outcome
    return outcome.prediction.id


async def test_a_prediction_is_found_on_the_page_where_it_is(configured: Configured) -> None:
    provider = Provider(*(entry(number, at=10 - number) for number in range(9, 0, -1)))
    assert found_id(await find(configured, provider, seed=1)) == "id1"
    assert len(provider.asked) == 5
    assert found_id(await find(configured, provider, seed=8)) == "id8"
    assert len(provider.asked) == 6


async def test_no_link_of_the_reply_is_followed_and_the_key_stays(configured: Configured) -> None:
    provider = Provider(*(entry(number, at=1) for number in range(5)))
    assert await find(configured, provider, seed=99) == Absent()
    assert [str(each.url) for each in provider.asked] == [
        "https://api.example/v1/predictions",
        "https://api.example/v1/predictions?cursor=2",
        "https://api.example/v1/predictions?cursor=4",
    ]
    assert {each.headers["authorization"] for each in provider.asked} == {f"Bearer {KEY}"}


async def test_a_list_read_to_its_end_proves_absence(configured: Configured) -> None:
    assert await find(configured, Provider(), seed=1) == Absent()
    assert await find(configured, Provider(entry(2, at=1)), seed=1) == Absent()


async def test_reading_stops_where_entries_are_too_old_to_be_ours(configured: Configured) -> None:
    ages = [5, 60, 311, 400, 500, 600, 700]
    provider = Provider(*(entry(number, at=age) for number, age in enumerate(ages)))
    assert await find(configured, provider, seed=99, ago=10.0) == Absent()
    assert len(provider.asked) == 2


async def test_ids_that_others_hold_are_passed_over(configured: Configured) -> None:
    provider = Provider(entry(5, at=1, seed=1), entry(4, at=2, seed=1))
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
    assert found_id(await find(configured, Provider(other, *fill, exact))) == "id2"
    assert found_id(await find(configured, Provider(other, *fill))) == "id1"
    assert await find(configured, Provider(other), known=["id1"]) == Absent()


async def test_an_entry_that_hides_its_input_leaves_it_unclear(configured: Configured) -> None:
    hidden = entry(9, at=1, input={})
    assert await find(configured, Provider(hidden)) == NoList()
    assert found_id(await find(configured, Provider(hidden, entry(1, at=2)))) == "id1"
    assert await find(configured, Provider(hidden), known=["id9"]) == Absent()
    assert await find(configured, Provider(entry(9, at=700, input={}))) == Absent()
    assert await find(configured, Provider(entry(9, at=1, seed=1, id="a/b"))) == NoList()


async def test_a_request_without_a_seed_can_t_be_settled(configured: Configured) -> None:
    provider = Provider(entry(1, at=1))
    assert await find(configured, provider, seed=None) == NoList()
    assert provider.asked == []


async def test_what_was_sent_an_hour_ago_can_be_found_and_not_be_disproved(
    configured: Configured,
) -> None:
    provider = Provider(entry(1, at=3400))
    assert found_id(await find(configured, provider, ago=3400)) == "id1"
    assert await find(configured, provider, seed=2, ago=3400) == NoList()


@pytest.mark.parametrize("skew", [-3600.0, -300.0, 0.0, 300.0, 3600.0])
async def test_a_clock_that_is_wrong_hides_nothing(configured: Configured, skew: float) -> None:
    """``since`` was read from our clock, the entry has the provider's time."""
    fill = [entry(number, at=1 - skew) for number in range(10, 20)]
    ours = entry(1, at=9 - skew)
    provider = Provider(*fill, ours, skew=skew)
    assert found_id(await find(configured, provider, ago=10.0)) == "id1"


@pytest.mark.parametrize("jump", [-3600.0, -600.0, 600.0, 3600.0])
async def test_a_clock_that_was_set_since_then_hides_nothing(
    configured: Configured, jump: float
) -> None:
    """Sent 10 s ago, when our clock differed from the provider's, and right now it does not."""
    fill = [entry(number, at=1) for number in range(10, 20)]
    provider = Provider(*fill, entry(1, at=9))
    assert found_id(await find(configured, provider, ago=10.0 + jump)) == "id1"


@pytest.mark.parametrize("jump", [-300.0, -60.0, 60.0, 300.0])
async def test_a_clock_that_is_seen_to_jump_hides_nothing(
    configured: Configured, jump: float
) -> None:
    """Our clock was ahead by 500 s when it was sent ten minutes ago, and was set right since."""
    fill = [entry(number, at=1) for number in range(10, 20)]
    provider = Provider(*fill, entry(8, at=450), entry(7, at=450), entry(1, at=600))
    async with listing(configured, provider) as lists:
        lists._offset += jump
        outcome = await lists.find(
            make_request(seed=1), since=NOW - 100, known=(), not_before=None
        )
    assert found_id(outcome) == "id1"


async def test_without_a_date_the_margin_is_wider(configured: Configured) -> None:
    provider = Provider(entry(9, at=1), entry(8, at=500), entry(1, at=550), entry(7, at=700))
    provider.date = None
    assert found_id(await find(configured, provider, ago=10.0)) == "id1"


@pytest.mark.parametrize("status", [404, 405, 501, 400, 301])
async def test_where_there_is_no_list_nothing_can_be_proven(
    configured: Configured, status: int
) -> None:
    provider = Provider()
    provider.failing = {1: httpx.Response(status, stream=httpx.ByteStream(b""))}
    async with listing(configured, provider) as lists:
        for _ in range(2):
            outcome = await lists.find(make_request(), since=NOW, known=(), not_before=None)
            assert outcome == NoList()
    assert len(provider.asked) == 1


async def test_a_provider_that_is_known_to_have_no_list_is_not_asked(
    configured: Configured,
) -> None:
    provider = Provider(entry(1, at=1))
    assert await find(configured, provider, has_list=False) == NoList()
    assert provider.asked == []


async def test_a_list_that_was_promised_or_seen_is_believed_in(configured: Configured) -> None:
    provider = Provider()
    provider.failing = {1: httpx.Response(404, stream=httpx.ByteStream(b""))}
    assert isinstance(await find(configured, provider, has_list=True), ListFailed)
    provider = Provider()
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
    provider = Provider(*(entry(number, at=1) for number in range(10, 14)))
    provider.failing = {page: answer()}
    outcome = await find(configured, provider)
    if page == 2 and expected is NoList:
        assert isinstance(outcome, ListFailed)
    else:
        assert isinstance(outcome, expected)


async def test_a_throttled_page_carries_the_hint_and_slows_all_calls(
    configured: Configured,
) -> None:
    provider = Provider()
    provider.failing = {1: reply(429, retry_after="9")()}
    assert await find(configured, provider) == ListFailed(
        "the list answered 429: 429, no type, 0 bytes", 9.0
    )


async def test_pages_that_repeat_themselves_are_not_read_for_ever(configured: Configured) -> None:
    class Looping(Provider):
        def respond(self, body: Any, status: int = 200) -> httpx.Response:
            return super().respond({**body, "next": "https://x.invalid/?cursor=0"}, status)

    outcome = await find(configured, Looping(entry(9, at=1)))
    assert outcome == ListFailed("the list's pages repeat themselves")


@pytest.mark.parametrize("link", ["https://[/?cursor=1", "https://x.invalid/next", "?"])
async def test_a_next_link_without_a_cursor_is_no_end(configured: Configured, link: str) -> None:
    class Odd(Provider):
        def respond(self, body: Any, status: int = 200) -> httpx.Response:
            return super().respond({**body, "next": link}, status)

    assert isinstance(await find(configured, Odd(entry(9, at=1))), ListFailed)


async def test_finds_at_the_same_time_share_readings(configured: Configured) -> None:
    provider = Provider(*(entry(number, at=1) for number in range(40)), page=10)
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
    provider = Provider()
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


async def test_a_find_that_comes_while_a_page_is_under_way_gets_a_newer_one(
    configured: Configured,
) -> None:
    provider = Provider()
    provider.gate = asyncio.Event()
    async with listing(configured, provider) as lists:
        first = asyncio.create_task(
            lists.find(make_request(seed=1), since=NOW, known=(), not_before=None)
        )
        while not provider.asked:
            await asyncio.sleep(0)
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
    provider = Provider(entry(1, at=1))
    provider.gate = asyncio.Event()
    async with listing(configured, provider) as lists:
        tasks = [
            asyncio.create_task(
                lists.find(make_request(seed=1), since=NOW, known=(), not_before=0.0)
            )
            for _ in range(3)
        ]
        while not provider.asked:
            await asyncio.sleep(0)
        tasks[0].cancel()
        provider.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert [found_id(each) for each in outcomes[1:]] == ["id1", "id1"]  # type: ignore[arg-type]


async def test_what_is_found_holds_no_key(configured: Configured) -> None:
    provider = Provider(entry(1, at=1, logs=f"used {KEY}"))
    outcome = await find(configured, provider)
    assert isinstance(outcome, Found)
    assert KEY not in outcome.prediction.raw + outcome.prediction.logs
