"""A list of predictions as a provider serves it, and a search in it."""

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import httpx

from flux_pipeline.outcomes import FindOutcome, Found
from flux_pipeline.provider.http import ApiClient
from flux_pipeline.provider.limiter import Limiter, MemoryRates
from flux_pipeline.provider.listing import KnownIds, Listing, SentAs
from flux_pipeline.request import Request
from tests.provider.samples import MODEL, VERSION, Configured, make_request

NOW = 1_800_000_000.0


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


class ListOfPredictions:
    """A list of predictions, newest first, some a page, and who asked for it."""

    def __init__(self, *entries: dict[str, Any], page: int = 2, skew: float = 0.0) -> None:
        self.entries = list(entries)
        self.page = page
        self.date: float | None = NOW + skew
        self.asked: list[httpx.Request] = []
        self.failing: dict[int, httpx.Response | Exception] = {}
        self.gate: asyncio.Event | None = None
        self.reached = asyncio.Event()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        self.reached.set()
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
        return httpx.Response(status, headers=reply.headers, stream=httpx.ByteStream(reply.content))


@asynccontextmanager
async def listing(configured: Configured, provider: ListOfPredictions, **changes: Any) -> Any:
    config = configured("https://api.example", **{"page_tries": 1, **changes})
    async with ApiClient(config, transport=httpx.MockTransport(provider)) as calls:
        limits = Limiter(MemoryRates({"call": 1e6, "create": 1e6}))
        yield Listing(config, calls, limits, clock=lambda: NOW)


async def find(
    configured: Configured,
    provider: ListOfPredictions,
    *,
    seed: int | None = 1,
    ago: float = 10.0,
    age: float | None = None,
    known: KnownIds = (),
    request: Request | None = None,
    sent_as: SentAs | None = None,
    **changes: Any,
) -> FindOutcome:
    async with listing(configured, provider, **changes) as lists:
        outcome: FindOutcome = await lists.find(
            request or make_request(seed=seed),
            since=NOW - ago,
            age=age,
            known=known,
            not_before=None,
            sent_as=sent_as,
        )
    return outcome


def found_id(outcome: FindOutcome) -> str | None:
    assert isinstance(outcome, Found), outcome
    return outcome.prediction.id
