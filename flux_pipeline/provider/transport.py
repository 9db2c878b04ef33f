"""An httpx transport over aiohttp that proves when a request was never sent.

Until a connection is ready to be written to, an error is ConnectError, ConnectTimeout or
PoolTimeout, and nothing has left this machine. From then on it is a read or a protocol error, and
the request may have arrived: a create may have been paid for.

httpx with its own connection pool costs six times the CPU. The ``httpx-aiohttp`` package is as
fast as this, but reports a connection that broke *after* the request was sent as ConnectTimeout: a
paid create would look as if it had never left.

aiohttp repeats a request by itself when a kept connection turns out to be closed, but idempotent
methods only; a POST is written once. Connections idle for longer than ``IDLE_SECONDS`` are not
used again, so that a POST seldom meets a server that is just closing one.

Through a proxy every call goes in a tunnel (CONNECT). Until TLS stands inside of it, whatever goes
wrong is a ConnectError: the proxy has seen the host's name and nothing of the request. ProxyRefused
is the one of them that would meet every call.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace, TracebackType
from typing import Self, TypeAlias

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from flux_pipeline.network import Network, Proxy
from flux_pipeline.provider.public_addresses import PrivateAddress
from flux_pipeline.provider.tls import describe_failure, verifying_context

IDLE_SECONDS = 3.0

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""The errors that prove that no byte of a request left this machine."""

_REFUSALS = (httpx.codes.FORBIDDEN, httpx.codes.PROXY_AUTHENTICATION_REQUIRED)
"""A proxy's answers to CONNECT that no second try changes."""
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientPayloadError, "the reply was cut"),
    (aiohttp.ServerDisconnectedError, "the server closed the connection without a reply"),
    (aiohttp.ClientResponseError, "the reply is no HTTP"),
)
"""aiohttp's errors in words of ours: its own hold URLs."""


class AddressRefused(httpx.ConnectError):
    """Raised where our own resolver refused to connect to a private ``address``."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is not a public address")
        self.address = address


class ProxyRefused(httpx.ConnectError):
    """Raised where the proxy lets nothing through until a person acts: it answered 403 or 407."""


RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Headers as they came, or are to be sent, in their order."""


class Answer:
    """A reply whose head has come. Within ``async with`` its body can be read; then it is closed.

    It has of an ``httpx.Response`` what is used here, at a quarter of its CPU.
    """

    def __init__(
        self,
        status: int,
        raw_headers: RawHeaders,
        chunks: AsyncIterable[bytes],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.chunks = chunks
        """The body as it comes over the wire."""
        self.close = close

    @property
    def headers(self) -> Mapping[str, str]:
        """By their names in lower case; the last one of a name."""
        return {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in self.raw_headers
        }

    async def read(self, limit: int) -> bytes | None:
        """Return the body as it came over the wire, or None as soon as it is over ``limit`` bytes.

        A declared length over the limit is enough: nothing of it is read then. Raises httpx errors.
        """
        for name, value in self.raw_headers:
            if name.lower() == b"content-length" and value.isdigit() and int(value[:19]) > limit:
                return None
        chunks: list[bytes] = []
        size = 0
        async for chunk in self.chunks:
            size += len(chunk)
            if size > limit:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


class AiohttpTransport(httpx.AsyncBaseTransport):
    """One pool of HTTP/1.1 connections: no cookie, no redirect, no decompression.

    ``network`` says which calls go through a proxy, and which authorities TLS trusts.

    Of an ``httpx.Request`` the ``total`` extension is its deadline in seconds, from the pool to the
    last byte of the reply; connect and read timeouts come from httpx's own ``timeout`` extension.
    ``send`` takes the same without such a request, which costs as much as the sending.
    """

    def __init__(
        self,
        *,
        connections: int = 100,
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
        network: Network | None = None,
    ) -> None:
        self._connections = connections
        self._resolver = resolver
        self._ssl_context = ssl_context
        self._network = network or Network()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # Both events come just before aiohttp writes the request: see _mark_connected.
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_mark_connected)
        trace.on_connection_reuseconn.append(_mark_connected)
        connector = aiohttp.TCPConnector(
            limit=self._connections,
            keepalive_timeout=IDLE_SECONDS,
            resolver=self._resolver,
            ssl=self._ssl_context or verifying_context(self._network.ca_file),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[trace],
            auto_decompress=False,
            trust_env=False,
        )
        return self

    async def aclose(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its reply with the body still to be read.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout: Nothing was sent.
            httpx.ReadError, httpx.ReadTimeout, httpx.RemoteProtocolError: It may have been.
        """
        timeout = request.extensions.get("timeout", {})
        answer = await self.send(
            request.method,
            str(request.url),
            headers=CIMultiDict(
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in request.headers.raw
            ),
            content=request.content or None,
            limits=aiohttp.ClientTimeout(
                total=request.extensions.get("total"),
                connect=timeout.get("pool"),
                sock_connect=timeout.get("connect"),
                sock_read=timeout.get("read"),
            ),
        )
        return httpx.Response(
            status_code=answer.status,
            headers=list(answer.raw_headers),
            stream=_Stream(answer),
            extensions={"http_version": b"HTTP/1.1"},
        )

    async def send(
        self,
        method: str,
        url: str,
        *,
        headers: "CIMultiDict[str]",
        content: bytes | None,
        limits: aiohttp.ClientTimeout,
    ) -> Answer:
        """Send one request; raises what ``handle_async_request`` raises."""
        if self._session is None:
            raise RuntimeError("enter the client before using it")
        progress = _Progress()
        proxy = self._network.proxy_for(url) if self._network.proxy else None
        try:
            reply = await self._session.request(
                method,
                URL(url, encoded=True),
                headers=headers,
                data=content,
                allow_redirects=False,
                timeout=limits,
                trace_request_ctx=progress,
                proxy=URL(proxy.url) if proxy else None,
                proxy_headers=_proxy_headers(proxy),
            )
        except (aiohttp.ClientError, OSError) as error:
            # Not chained: aiohttp's own texts hold whole URLs.
            raise _translate(error, connected=progress.connected, proxy=proxy) from None
        body = _Body(reply)
        return Answer(reply.status, reply.raw_headers, body, body.close)


@lru_cache(maxsize=64)
def limits_of(*, deadline: float, connect: float, silence: float | None) -> aiohttp.ClientTimeout:
    """The limits of one call, s: of all of it, of its way to a connection, and of a pause in it."""
    return aiohttp.ClientTimeout(
        total=deadline, connect=connect, sock_connect=connect, sock_read=silence
    )


def _proxy_headers(proxy: Proxy | None) -> dict[str, str] | None:
    """What CONNECT tells the proxy; the request inside of the tunnel has none of it."""
    if proxy is None or not proxy.authorization:
        return None
    return {"Proxy-Authorization": proxy.authorization}


@dataclass(slots=True)
class _Progress:
    """How far one request has come; set by aiohttp's trace."""

    connected: bool = False


async def _mark_connected(
    _session: aiohttp.ClientSession, context: SimpleNamespace, _params: object
) -> None:
    """Note that the request is written next: from here on it counts as sent."""
    context.trace_request_ctx.connected = True


class _Body:
    """The reply's bytes as they came, and the connection they come over."""

    def __init__(self, reply: aiohttp.ClientResponse) -> None:
        self._reply = reply

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._reply.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise _translate(error, connected=True) from None

    async def close(self) -> None:
        """Keep the connection if the body was read whole, else close it."""
        if self._reply.content.at_eof():
            self._reply.release()
        else:
            self._reply.close()


class _Stream(httpx.AsyncByteStream):
    """The body of an answer, for an ``httpx.Response``."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._answer.chunks:
            yield chunk

    async def aclose(self) -> None:
        """Close the answer."""
        await self._answer.close()


def _translate(
    error: Exception, *, connected: bool, proxy: Proxy | None = None
) -> httpx.TransportError:
    """Make the httpx error that says whether the request can have been sent, and why it failed."""
    reason = _reason(error)
    if not connected:
        if isinstance(error, asyncio.TimeoutError):
            through = f" through the proxy {proxy}" if proxy else ""
            return httpx.ConnectTimeout(f"no connection in time{through}")
        cause = getattr(error, "os_error", None)
        if isinstance(cause, PrivateAddress):
            return AddressRefused(cause.address)
        if proxy is not None:
            reason = _proxy_reason(error, proxy)
        refused = isinstance(error, aiohttp.ClientHttpProxyError) and error.status in _REFUSALS
        return (ProxyRefused if refused else httpx.ConnectError)(reason)
    if isinstance(error, asyncio.TimeoutError):
        return httpx.ReadTimeout("no whole reply in time")
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientResponseError)):
        return httpx.RemoteProtocolError(reason)
    return httpx.ReadError(reason)


def _reason(error: Exception) -> str:
    """The cause without any URL: the operating system's words, or the kind of error."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        cause = error.certificate_error
        if isinstance(cause, ssl.SSLCertVerificationError):
            return describe_failure(cause)
        return f"certificate: {type(cause).__name__}"
    if isinstance(error, (aiohttp.ClientConnectorDNSError, aiohttp.ClientConnectorSSLError)):
        return error.os_error.strerror or type(error.os_error).__name__
    for kind, words in _REASONS:
        if isinstance(error, kind):
            return words
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__


def _proxy_reason(error: Exception, proxy: Proxy) -> str:
    """Why there is no tunnel through the proxy to the host, and what to do about it."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        if error.status != httpx.codes.PROXY_AUTHENTICATION_REQUIRED:
            return (
                f"the proxy {proxy} answered {error.status} to CONNECT; have it allow this host, or"
                " add the host to NO_PROXY"
            )
        if proxy.authorization:
            return f"the proxy {proxy} refused the user and password in HTTPS_PROXY (407)"
        return (
            f"the proxy {proxy} wants a user and a password (407): write them before its host in"
            " HTTPS_PROXY"
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return f"the proxy {proxy} can't be reached ({_reason(error)}); correct HTTPS_PROXY"
    return f"through the proxy {proxy}: {_reason(error)}"
