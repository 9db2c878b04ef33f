"""HTTP for the provider: the client that holds the key, its replies, and the session below it.

An API call ends as a ``Reply``, whatever its status, or as the httpx error that says whether
anything was sent. It has a deadline and a capped body; redirects are not followed and nothing is
tried again. The key is sent to the configured origin alone. The downloader has a session of its
own: the two share this code, and no header, cookie or connection.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import httpx

from flux_pipeline.provider.config import ProviderConfig, Timeouts
from flux_pipeline.provider.encoding import undo_encoding
from flux_pipeline.provider.transport import AiohttpTransport, Answer

MAX_ERROR_BYTES = 2**20
"""Cap on the body of every reply that is no success."""
_SPARE_CONNECTIONS = 8


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
        return _is_success(self.status)

    def describe(self) -> str:
        """Status, type and size, for a message."""
        kind = self.headers.get("content-type", "no type").partition(";")[0].strip()[:40]
        size = self.unread or f"{len(self.body)} bytes"
        return f"{self.status}, {kind}, {size}"


class ConnectionOwner:
    """Opens the connections it was made with at ``async with``, and closes them at its end."""

    def __init__(self, *connections: AbstractAsyncContextManager[Any]) -> None:
        self._connections = connections
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        for each in self._connections:
            await self._opened.enter_async_context(each)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._opened.aclose()


class ApiClient(ConnectionOwner):
    """The client that holds the key. ``transport`` is replaced in tests alone."""

    def __init__(
        self, config: ProviderConfig, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._config = config
        self._session = Session(
            transport
            or AiohttpTransport(
                connections=config.concurrency + _SPARE_CONNECTIONS, network=config.network
            ),
            config.timeouts,
            accept="application/json",
        )
        super().__init__(self._session)

    async def send(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        content: bytes | None = None,
        content_type: str = "application/json",
        query: Mapping[str, str] | None = None,
        max_bytes: int | None = None,
    ) -> Reply | httpx.HTTPError:
        """Make one request and read its reply, within ``deadline`` seconds.

        ``content_type`` is that of ``content``; ``max_bytes`` limits a successful reply, and is the
        configured limit where it is None.

        Raises:
            ValueError: For a URL that is not under the configured base: the key would leave it.
        """
        if not url.startswith(f"{self._config.base_url}/"):
            raise ValueError("the key is for the configured origin only")
        headers = [("authorization", f"Bearer {self._config.api_key}")]
        if content is not None:
            headers.append(("content-type", content_type))
        # The error is an outcome to be classified, not a failure: it says whether a paid request
        # can have left.
        try:
            async with await self._session.send(
                method,
                f"{url}?{urlencode(query)}" if query else url,
                deadline=deadline,
                headers=headers,
                content=content,
            ) as answer:
                return await _read_reply(answer, max_bytes or self._config.max_reply_bytes)
        except httpx.HTTPError as error:
            return error


def load_object(reply: Reply) -> tuple[dict[str, Any], str]:
    """Return the reply's JSON object and an empty text, or an empty object and why there is none.

    NaN and infinities in it become None.
    """
    if reply.unread:
        return {}, f"the reply was not read ({reply.describe()})"
    try:
        value = json.loads(reply.body, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return {}, f"the reply is no JSON ({reply.describe()})"
    if not isinstance(value, dict):
        return {}, f"the reply is no JSON object ({reply.describe()})"
    return value, ""


def _is_success(status: int) -> bool:
    return 200 <= status < 300  # noqa: PLR2004


async def _read_reply(answer: Answer, limit: int) -> Reply:
    """Read at most ``limit`` bytes of a success, 1 MiB of anything else."""
    status, headers = answer.status, answer.headers
    if _is_success(status):
        return _decode_body(status, headers, await answer.read(limit), limit)
    # Of an error the status alone decides, so a body that breaks off is no reason to call the
    # outcome unknown.
    try:
        body = await answer.read(MAX_ERROR_BYTES)
    except httpx.HTTPError:
        return Reply(status, headers, unread="cut")
    return _decode_body(status, headers, body, MAX_ERROR_BYTES)


def _decode_body(status: int, headers: Mapping[str, str], body: bytes | None, limit: int) -> Reply:
    """Undo encodings within the limit: some gateways compress although ``identity`` was asked for.

    The bytes decide, because a reply that is not read may be a paid prediction's id.
    """
    plain = None if body is None else undo_encoding(body, limit, _is_json)
    if plain is None:
        return Reply(status, headers, unread="too large")
    return Reply(status, headers, plain)


def _is_json(body: bytes) -> bool:
    """Whether the bytes begin as a JSON object or list does."""
    return body[:64].lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"[")


class Session:
    """One pool of connections that follows no redirect and keeps no cookie; ``async with``.

    ``accept`` is the content type that is asked for. What httpx's client does between a request and
    its transport (redirects, cookies, authentication, hooks, its log of whole URLs) is not wanted
    here, and costs as much as the sending; its requests and replies as objects cost half of that,
    so only a transport that is not ours gets them.
    """

    def __init__(
        self, transport: httpx.AsyncBaseTransport, timeouts: Timeouts, *, accept: str
    ) -> None:
        self._transport = transport
        self._own_headers = [
            ("user-agent", _user_agent()),
            ("accept", accept),
            ("accept-encoding", "identity"),
        ]
        self._connect_timeout = timeouts.connect

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._transport.__aexit__(exc_type, exc_value, traceback)

    async def send(
        self,
        method: str,
        url: str,
        *,
        deadline: float,
        silence: float | None = None,
        headers: Sequence[tuple[str, str]] = (),
        content: bytes | None = None,
    ) -> Answer:
        """Send a request with no header but ours; close its answer after reading it.

        Both end within ``deadline`` seconds; ``silence`` is the longest pause in the reply, in
        seconds, None for no limit but the deadline. Raises the transport's httpx errors.
        """
        connect = self._connect_timeout
        if isinstance(self._transport, AiohttpTransport):
            return await self._transport.send(
                method,
                url,
                headers=(*self._own_headers, *headers),
                content=content,
                deadline=deadline,
                connect=connect,
                silence=silence,
            )
        timeout = {"connect": connect, "pool": connect, "read": silence}
        request = httpx.Request(
            method,
            url,
            headers=[*self._own_headers, *headers],
            content=content,
            extensions={"timeout": timeout, "total": deadline},
        )
        response = await self._transport.handle_async_request(request)
        chunks = response.aiter_raw()

        async def receive() -> bytes:
            async for chunk in chunks:
                if chunk:
                    return chunk
            return b""

        return Answer(response.status_code, response.headers.raw, receive, response.aclose)


@cache  # the version is looked up in a file
def _user_agent() -> str:
    return f"flux-pipeline/{version('flux-pipeline')}"
