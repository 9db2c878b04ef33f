"""One call to the API: the key for our own origin only, a deadline, a capped body, no retry.

A call ends as a Reply, whatever its status, or as the httpx error that says whether anything was
sent. Nothing is followed, decompressed, cached or tried again here.
"""

import logging
import zlib
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import httpx

from flux_pipeline.provider.config import ProviderConfig, origin_of
from flux_pipeline.provider.reply import ERROR_BYTES, Reply
from flux_pipeline.provider.transport import AiohttpTransport

_SPARE_CONNECTIONS = 8
_GZIP = 16 + zlib.MAX_WBITS


class ApiCalls:
    """The client that holds the key. ``transport`` is replaced in tests alone."""

    def __init__(
        self, config: ProviderConfig, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._config = config
        self._client = open_client(
            transport or AiohttpTransport(connections=config.concurrency + _SPARE_CONNECTIONS),
            config,
            accept="application/json",
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._client.__aexit__(exc_type, exc_value, traceback)

    async def send(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        content: bytes | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Reply | httpx.HTTPError:
        """Make one request and read its reply.

        Raises:
            ValueError: For a URL of another origin: the key would leave it.
        """
        if origin_of(url) != self._config.origin:
            raise ValueError("the key is for the configured origin only")
        headers = {"authorization": f"Bearer {self._config.api_key}"}
        if content is not None:
            headers["content-type"] = "application/json"
        request = self._client.build_request(
            method,
            url,
            content=content,
            params=params,
            headers=headers,
            extensions={"total": deadline},
        )
        try:
            response = await self._client.send(request, stream=True)
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
    headers = {name.lower(): value for name, value in response.headers.items()}
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


def open_client(
    transport: httpx.AsyncBaseTransport, config: ProviderConfig, *, accept: str
) -> httpx.AsyncClient:
    """Make a client without environment, redirects, cookies to send or compressed replies."""
    _hide_urls()
    timeouts = config.timeouts
    return httpx.AsyncClient(
        transport=transport,
        headers={
            "user-agent": f"flux-pipeline/{version('flux-pipeline')}",
            "accept": accept,
            "accept-encoding": "identity",
        },
        timeout=httpx.Timeout(timeouts.read, connect=timeouts.connect, pool=timeouts.connect),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )


class _UrlsHidden(logging.Filter):
    """Cuts the query out of the URLs that httpx logs."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_without_query(each) for each in record.args)
        return True


def _without_query(value: Any) -> Any:
    return value.copy_with(query=None, userinfo=b"") if isinstance(value, httpx.URL) else value


def _hide_urls() -> None:
    """Silence httpx below warnings, and cut the queries out of whatever it may still log."""
    logger = logging.getLogger("httpx")
    if not any(isinstance(each, _UrlsHidden) for each in logger.filters):
        logger.addFilter(_UrlsHidden())
    if logger.level < logging.WARNING:
        logger.setLevel(logging.WARNING)
