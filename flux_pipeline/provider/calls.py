"""One call to the API: the key for our own origin only, a deadline, a capped body, no retry.

A call ends as a Reply, whatever its status, or as the httpx error that says whether anything was
sent. Nothing is followed, cached or tried again here.
"""

import zlib
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

import httpx

from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.reply import ERROR_BYTES, Reply
from flux_pipeline.provider.session import Session, read_body
from flux_pipeline.provider.transport import AiohttpTransport

_SPARE_CONNECTIONS = 8
_GZIP = 16 + zlib.MAX_WBITS


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
