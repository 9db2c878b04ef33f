"""Finds a create again whose answer was lost: reads the provider's list and compares inputs.

A prediction is ours if its input holds the whole of ours and no other attempt holds its id; a seed
of its own makes a request's input unique, so one without a seed can't be settled this way. Not to
find it proves absence only where the list shows every input back to the moment of the create.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx

from flux_pipeline.outcomes import Absent, FindOutcome, Found, ListFailed, NoList
from flux_pipeline.prediction import Prediction
from flux_pipeline.provider.calls import ApiCalls
from flux_pipeline.provider.classify import THROTTLED
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.hints import retry_after
from flux_pipeline.provider.limiter import Limiter
from flux_pipeline.provider.matching import Match, matches
from flux_pipeline.provider.parse import parse_moment, parse_prediction
from flux_pipeline.provider.reading import Failure, Reading
from flux_pipeline.provider.reply import Reply
from flux_pipeline.request import Request

Known: TypeAlias = Collection[str] | Callable[[Sequence[str]], Collection[str]]

_MARGIN = 300.0  # s before ``since`` that are looked through: no clock is exact
_MARGIN_BLIND = 600.0  # s, where the provider sends no ``Date``
_JUMP = 30.0  # s by which our clock may drift from the steady one before it is mistrusted
_REACH = 3300.0  # s; inputs vanish after an hour, then nothing can be proven


class Listing:
    """The provider's list, for one event loop. ``clock`` is unix seconds."""

    def __init__(
        self,
        config: ProviderConfig,
        calls: ApiCalls,
        limiter: Limiter,
        *,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._calls = calls
        self._limiter = limiter
        self._clock = clock
        self._offset = clock() - time.monotonic()
        self._has_list = config.has_list
        self._first_page = asyncio.Lock()
        self._current = self._new_reading()

    async def find(
        self, request: Request, *, since: float, known: Known, not_before: float | None
    ) -> FindOutcome:
        """Look for one request; see ``Provider.find``."""
        if self._has_list is False or request.seed is None:
            return NoList()
        reading = self._reading(time.monotonic() if not_before is None else not_before)
        search = _Search(request, known, self._config.api_key)
        place = 0
        while True:
            failure = await self._read_beyond(reading, place)
            if failure is not None:
                return self._judge(failure)
            self._has_list = True
            bound = self._bound(since, reading)
            fresh = reading.entries[place:]
            place += len(fresh)
            if (found := await search.look_at(fresh, bound)) is not None:
                return Found(found)
            if (reading.ended and place == len(reading.entries)) or _is_before(fresh, bound):
                break
        if search.other_version is not None:
            return Found(search.other_version)
        if search.unclear or self._clock() - since > _REACH:
            return NoList()
        return Absent()

    async def recent(self) -> AsyncIterator[Prediction | Failure]:
        """See ``Provider.recent``."""
        if self._has_list is False:
            yield NoList()
            return
        reading = self._new_reading()
        while not reading.ended:
            failure = await reading.read_beyond(0)
            if failure is not None:
                yield self._judge(failure)
                return
            page = list(reading.entries)
            reading.entries.clear()  # nobody shares this reading
            for entry in page:
                prediction = parse_prediction(entry, self._config.api_key)
                if prediction is not None and prediction.id is not None:
                    yield prediction

    def _reading(self, not_before: float) -> Reading:
        """The current reading, if it began late enough (or has not begun), or a new one."""
        current = self._current
        too_early = current.started_at is not None and current.started_at < not_before
        if too_early or current.failure is not None:
            self._current = self._new_reading()
        return self._current

    def _new_reading(self) -> Reading:
        return Reading(
            self._fetch,
            clock=self._clock,
            secret=self._config.api_key,
            page_tries=self._config.page_tries,
        )

    async def _read_beyond(self, reading: Reading, place: int) -> Failure | None:
        """First pages are read one after the other: whoever waits for one shares it."""
        if reading.started_at is None:
            async with self._first_page:
                return await reading.read_beyond(place)
        return await reading.read_beyond(place)

    async def _fetch(self, query: Mapping[str, str]) -> Reply | httpx.HTTPError:
        sent_at = await self._limiter.acquire("call")
        answer = await self._calls.send(
            "GET",
            self._config.predictions_url,
            query=query,
            deadline=self._config.timeouts.call,
        )
        if isinstance(answer, Reply) and answer.status == THROTTLED:
            hint = retry_after(answer.headers, None, now=self._clock())
            await self._limiter.slow_down("call", hint, sent_at=sent_at)
        return answer

    def _judge(self, failure: Failure) -> Failure:
        """Believe that there is no list only where none was ever seen or promised."""
        if isinstance(failure, NoList):
            if self._has_list:
                return ListFailed("the list, which was there before, is not found")
            self._has_list = False
        return failure

    def _bound(self, since: float, reading: Reading) -> float:
        """The moment, by the provider's clock, before which the prediction can't have been made.

        Our clock may be wrong by a constant, which ``Date`` shows, or may have been set since then,
        which it hides; so the earlier of both readings counts. Where it was clearly set, all that
        the list can prove is looked through.
        """
        now = self._clock()
        skew = reading.skew or 0.0
        if since > now or abs(now - time.monotonic() - self._offset) > _JUMP:
            return now + min(skew, 0.0) - _REACH - _MARGIN_BLIND
        return min(since, since + skew) - (_MARGIN_BLIND if reading.skew is None else _MARGIN)


@dataclass(slots=True)
class _Search:
    """What one request has met so far in the list."""

    request: Request
    known: Known
    secret: str = field(repr=False)
    other_version: Prediction | None = None
    unclear: bool = False

    async def look_at(
        self, entries: Sequence[Mapping[str, Any]], bound: float
    ) -> Prediction | None:
        """Return the first prediction of exactly this version and input that nobody else holds."""
        for entry in entries:
            match = matches(entry, self.request)
            if match is Match.NO or _is_before([entry], bound):
                continue
            prediction = parse_prediction(entry, self.secret)
            if prediction is None or prediction.id is None:
                self.unclear = True
            elif not await self._is_known(prediction.id):
                if match is Match.OURS:
                    return prediction
                if match is Match.UNCLEAR:
                    self.unclear = True
                else:
                    self.other_version = self.other_version or prediction
        return None

    async def _is_known(self, prediction_id: str) -> bool:
        if callable(self.known):
            return prediction_id in await asyncio.to_thread(self.known, [prediction_id])
        return prediction_id in self.known


def _is_before(entries: Sequence[Mapping[str, Any]], bound: float) -> bool:
    """Whether the last of the entries, newest first, says that it was made before the bound."""
    created_at = parse_moment(entries[-1].get("created_at")) if entries else None
    return created_at is not None and created_at.timestamp() < bound
