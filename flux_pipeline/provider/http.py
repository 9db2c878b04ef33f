"""One call to the API: the key for our own origin only, a deadline, a capped body, no retry.

A call ends as a Reply, whatever its status, or as the httpx error that says whether anything was
sent. Nothing is followed, cached or tried again here.
"""

import json
import logging
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx

from flux_pipeline.errors import FluxPipelineError
from flux_pipeline.provider.config import ProviderConfig, Timeouts
from flux_pipeline.provider.transport import AiohttpTransport

_SPARE_CONNECTIONS = 8
_GZIP = 16 + zlib.MAX_WBITS
_HTTP_LOGGER = logging.getLogger("httpx")
ERROR_BYTES = 2**20
"""Cap on every reply that is no success."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers with lower-case names, and at most as many bytes as allowed."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)
    unread: str = ""
    """Why the body was not read, or not to its end; empty where it was."""

    @property
    def succeeded(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004

    def describe(self) -> str:
        """Status, type and size, for a message."""
        kind = self.headers.get("content-type", "no type").partition(";")[0].strip()[:40]
        size = self.unread or f"{len(self.body)} bytes"
        return f"{self.status}, {kind}, {size}"


class ApiCalls:
    """The client that holds the key. ``transport`` is replaced in tests alone."""

    def __init__(
        self, config: ProviderConfig, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._config = config
        self._session = Session(
            transport or AiohttpTransport(connections=config.concurrency + _SPARE_CONNECTIONS),
            config.timeouts,
            accept="application/json",
        )

    async def __aenter__(self) -> Self:
        await self._session.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._session.__aexit__(exc_type, exc_value, traceback)

    async def send(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        content: bytes | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Reply | httpx.HTTPError:
        """Make one request and read its reply.

        Raises:
            ValueError: For a URL that is not under the configured base: the key would leave it.
        """
        if not url.startswith(f"{self._config.base_url}/"):
            raise ValueError("the key is for the configured origin only")
        headers = [("authorization", f"Bearer {self._config.api_key}")]
        if content is not None:
            headers.append(("content-type", "application/json"))
        request = self._session.plan(
            method,
            f"{url}?{urlencode(query)}" if query else url,
            deadline=deadline,
            headers=headers,
            content=content,
        )
        try:
            response = await self._session.send(request, stream=True)
            try:
                return await _read(response, self._config.max_reply_bytes)
            finally:
                await response.aclose()
        except httpx.HTTPError as error:
            return error


async def _read(response: httpx.Response, limit: int) -> Reply:
    """Read at most ``limit`` bytes of a success, 1 MiB of anything else.

    Of a reply that is no success the status alone decides, so a body that breaks off is let go.
    """
    status = response.status_code
    headers = {
        name.decode("latin-1").lower(): value.decode("latin-1")
        for name, value in response.headers.raw
    }
    if Reply(status).succeeded:
        return _decoded(status, headers, await read_body(response, limit), limit)
    try:
        body = await read_body(response, ERROR_BYTES)
    except httpx.HTTPError:
        return Reply(status, headers, unread="cut")
    return _decoded(status, headers, body, ERROR_BYTES)


def _decoded(status: int, headers: Mapping[str, str], body: bytes | None, limit: int) -> Reply:
    """Undo gzip within the limit: some gateways compress what was asked for as it is."""
    if body is None:
        return Reply(status, headers, unread="too large")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        return Reply(status, headers, body)
    if encoding not in {"gzip", "x-gzip"}:
        return Reply(status, headers, unread="encoded in a way that was not asked for")
    try:
        plain = zlib.decompressobj(_GZIP).decompress(body, limit + 1)
    except zlib.error:
        return Reply(status, headers, unread="no gzip")
    if len(plain) > limit:
        return Reply(status, headers, unread="too large")
    return Reply(status, headers, plain)


class Session(httpx.AsyncClient):
    """One pool of connections. ``accept`` is the kind of content that is asked for."""

    def __init__(
        self, transport: httpx.AsyncBaseTransport, timeouts: Timeouts, *, accept: str
    ) -> None:
        super().__init__(transport=transport, follow_redirects=False, trust_env=False)
        _hide_urls()
        self._no_cookies = _Forgetful()
        self._headers_sent = [
            ("user-agent", f"flux-pipeline/{version('flux-pipeline')}"),
            ("accept", accept),
            ("accept-encoding", "identity"),
        ]
        self._connect = timeouts.connect

    @property
    def cookies(self) -> httpx.Cookies:
        """Always empty: whatever a server sets is forgotten at once."""
        return self._no_cookies

    @cookies.setter
    def cookies(self, _cookies: object) -> None:
        """Forget these too."""

    def plan(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        silence: float | None = None,
        headers: Sequence[tuple[str, str]] = (),
        content: bytes | None = None,
    ) -> httpx.Request:
        """Build a request with no header but ours, to be ended within ``deadline`` seconds.

        ``silence`` is the longest pause in the reply; the deadline where it is not given.
        Built here and not by httpx, whose merging of defaults takes longer than sending.
        """
        return httpx.Request(
            method,
            url,
            headers=[*self._headers_sent, *headers],
            content=content,
            extensions={
                "timeout": {"connect": self._connect, "pool": self._connect, "read": silence},
                "total": deadline,
            },
        )


class _Forgetful(httpx.Cookies):
    """Cookies that are never taken."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """Leave them where they are."""


async def read_body(response: httpx.Response, limit: int) -> bytes | None:
    """Return the body as it came over the wire, or None as soon as it is over ``limit`` bytes.

    A declared length over the limit is enough: nothing of it is read then.
    """
    declared = response.headers.get("content-length", "")
    if declared.isdecimal() and int(declared[:19]) > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > limit:
            return None
        chunks.append(chunk)
    return b"".join(chunks)


class _UrlsHidden(logging.Filter):
    """Cuts the query out of the URLs that httpx logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_without_query, record.args))
        return True


def _without_query(value: Any) -> Any:
    return value.copy_with(query=None, userinfo=b"") if isinstance(value, httpx.URL) else value


def _hide_urls() -> None:
    """Silence httpx below warnings, and cut the queries out of whatever it may still log."""
    if not any(isinstance(each, _UrlsHidden) for each in _HTTP_LOGGER.filters):
        _HTTP_LOGGER.addFilter(_UrlsHidden())
        if _HTTP_LOGGER.level < logging.WARNING:
            _HTTP_LOGGER.setLevel(logging.WARNING)


class UnreadableReply(FluxPipelineError):
    """Raised inside the provider for a body that is unread or no JSON object."""


def load_object(reply: Reply) -> dict[str, Any]:
    """Return the reply's JSON object; NaN and infinities in it become None.

    Raises:
        UnreadableReply: For a body that was not read, is cut, too deep, or something else.
    """
    if reply.unread:
        raise UnreadableReply(f"the reply was not read ({reply.describe()})")
    try:
        value = json.loads(reply.body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise UnreadableReply(f"the reply is no JSON ({reply.describe()})") from None
    if not isinstance(value, dict):
        raise UnreadableReply(f"the reply is no JSON object ({reply.describe()})")
    return value
