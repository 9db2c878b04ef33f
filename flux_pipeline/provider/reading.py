"""One reading of the provider's list, newest first, page by page, shared by all who need it.

``created_after`` is not sent: a window that was computed from a wrong clock would hide exactly the
prediction that is looked for. The reader stops by himself where the entries are old enough. A
``next`` link is never followed: only its query is taken, onto our own URL.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, urlsplit

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt
from tenacity.wait import wait_random_exponential

from flux_pipeline.outcomes import AccessDenied, ListFailed, NoList
from flux_pipeline.provider.classify import DENIALS, THROTTLED, Answer
from flux_pipeline.provider.hints import retry_after, unix_time
from flux_pipeline.provider.refusal import error_text
from flux_pipeline.provider.reply import Reply, UnreadableReply, load_object
from flux_pipeline.redaction import redact_untrusted

Failure: TypeAlias = AccessDenied | ListFailed | NoList
_MOST_PAGES = 2000
_SERVER_ERROR, _NOT_IMPLEMENTED = 500, 501
_ASK_AGAIN = frozenset({408, 425, THROTTLED})


class Reading:
    """The entries read so far, and the way to the next page.

    ``fetch`` asks for one page by its query; ``secret`` is cut out of what is said.
    """

    def __init__(
        self,
        fetch: Callable[[Mapping[str, str]], Awaitable[Answer]],
        *,
        clock: Callable[[], float],
        secret: str,
        page_tries: int,
    ) -> None:
        self._fetch = fetch
        self._clock = clock
        self._secret = secret
        self._retrying = AsyncRetrying(
            retry=retry_if_result(self._may_pass),
            stop=stop_after_attempt(page_tries),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            retry_error_callback=_last_failure,
        )
        self._turn = asyncio.Lock()
        self._query: dict[str, str] | None = {}
        self._seen: set[str] = set()
        self.entries: list[Mapping[str, Any]] = []
        self.started_at: float | None = None
        """Monotonic seconds: what was accepted before is in the list, if it is listed at once."""
        self.skew: float | None = None
        """The provider's clock minus ours in seconds, by its ``Date`` header."""
        self.failure: Failure | None = None

    @property
    def ended(self) -> bool:
        """Whether there is no further page."""
        return self._query is None

    async def read_beyond(self, count: int) -> Failure | None:
        """Make sure that more than ``count`` entries are read, or that the list has ended.

        Returns what went wrong, for everybody who shares this reading.
        """
        async with self._turn:
            while len(self.entries) <= count and self._query is not None and not self.failure:
                if self.started_at is None:
                    self.started_at = time.monotonic()
                self.failure = await self._retrying(self._read_page)
        return self.failure

    async def _read_page(self) -> Failure | None:
        return self._take(await self._fetch(self._query or {}))

    def _may_pass(self, failure: Failure | None) -> bool:
        """Whether the page may come if it is asked for again; the limiter obeys a hint to wait."""
        return isinstance(failure, ListFailed) and self._query is not None

    def _take(self, answer: Answer) -> Failure | None:
        """Take in one page."""
        if isinstance(answer, httpx.HTTPError):
            return self._failed(f"the list: {answer}")
        try:
            body, unreadable = load_object(answer), ""
        except UnreadableReply as error:
            body, unreadable = {}, str(error)
        if not answer.succeeded:
            return self._refusal(answer, body)
        results = body.get("results")
        if not isinstance(results, list):
            return self._failed(f"the list: {unreadable}") if unreadable else NoList()
        self.entries += [each for each in results if isinstance(each, Mapping)]
        date = unix_time(answer.headers.get("date"))
        if self.skew is None and date is not None:
            self.skew = date - self._clock()
        return self._turn_page(body.get("next"))

    def _turn_page(self, link: object) -> ListFailed | None:
        """Note where the next page is, if there is one."""
        self._query = None
        if not isinstance(link, str) or not link:
            return None
        try:
            query = urlsplit(link).query
        except ValueError:
            return ListFailed("the list's next page has no readable cursor")
        if not query or query in self._seen or len(self._seen) >= _MOST_PAGES:
            return ListFailed("the list's pages repeat themselves")
        self._seen.add(query)
        self._query = dict(parse_qsl(query))
        return None

    def _refusal(self, answer: Reply, body: Mapping[str, Any]) -> Failure:
        status = answer.status
        detail = error_text(body, self._secret)
        if status in DENIALS:
            return AccessDenied(status, detail or redact_untrusted(answer.describe(), self._secret))
        if status not in _ASK_AGAIN and (status < _SERVER_ERROR or status == _NOT_IMPLEMENTED):
            return NoList()
        hint = retry_after(answer.headers, body, now=self._clock())
        return self._failed(f"the list answered {status}: {detail or answer.describe()}", hint)

    def _failed(self, reason: str, hint: float = 0.0) -> ListFailed:
        return ListFailed(redact_untrusted(reason, self._secret), hint)


def _last_failure(state: RetryCallState) -> Any:
    return state.outcome.result() if state.outcome else None
