"""An httpx transport over aiohttp's connections that proves when a request was never sent.

Until a connection is ready to be written to, an error is ConnectError, ConnectTimeout or
PoolTimeout, and nothing has left this machine. From then on it is a read or a protocol error, and
the request may have arrived: a create may have been paid for.

httpx with its own connection pool costs six times the CPU. The ``httpx-aiohttp`` package reports a
connection that broke *after* the request was sent as ConnectTimeout: a paid create would look as if
it had never left. aiohttp's own session does for each request what is not wanted here (cookies,
redirects, authentication, traces, a task that writes), which costs as much as the rest. So aiohttp
resolves names, opens connections and tunnels, keeps them and parses replies; the request is written
here, in one piece.

A request with an idempotent method is repeated once where its connection turns out to be closed; a
POST is written once. Connections idle for longer than ``IDLE_SECONDS`` are not used again, so that
a POST seldom meets a server that is just closing one.

Through a proxy every call goes in a tunnel (CONNECT). Until TLS stands inside of it, whatever goes
wrong is a ConnectError: the proxy has seen the host's name and nothing of the request. ProxyRefused
is the one of them that would meet every call.
"""

import asyncio
import os
import ssl
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from functools import lru_cache
from types import TracebackType
from typing import Self, TypeAlias

import aiohttp
import httpx
from aiohttp.abc import AbstractResolver
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
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
    (HttpProcessingError, "the reply is no HTTP"),
    (aiohttp.ClientResponseError, "the reply is no HTTP"),
)
"""aiohttp's errors in words of ours: its own hold URLs."""
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE"})
"""Methods of which a second call does no more than the first."""
_WRITTEN_AT_ONCE = 2**16
"""Bytes; a larger body is not copied behind the head of its request."""
_MOST_ROUTES = 256
_INTERIM = frozenset(range(100, 200)) - {httpx.codes.SWITCHING_PROTOCOLS}
"""Statuses that another head follows."""


class AddressRefused(httpx.ConnectError):
    """Raised where our own resolver refused to connect to a private ``address``."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} is not a public address")
        self.address = address


class ProxyRefused(httpx.ConnectError):
    """Raised where the proxy lets nothing through until a person acts: it answered 403 or 407."""


RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Headers as they came, or are to be sent, in their order."""


class Headers(Mapping[str, str]):
    """Headers by their names in lower case; the last one of a name.

    Nothing is decoded before it is asked for, which it seldom is.
    """

    def __init__(self, raw: RawHeaders) -> None:
        self._raw = raw

    def __getitem__(self, name: str) -> str:
        wanted = name.encode("latin-1")
        for each, value in reversed(self._raw):
            if each.lower() == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1").lower() for name, _ in self._raw))

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._raw})


class Answer:
    """A reply whose head has come. Within ``async with`` its body can be read; then it is closed.

    It has of an ``httpx.Response`` what is used here, at a quarter of its CPU.
    """

    def __init__(
        self,
        status: int,
        raw_headers: RawHeaders,
        receive: Callable[[], Awaitable[bytes]],
        close: Callable[[], Awaitable[None]],
    ) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.headers = Headers(raw_headers)
        self.receive = receive
        """Waits for more of the body, and gives it as it came over the wire; empty at its end."""
        self.close = close

    async def read(self, limit: int) -> bytes | None:
        """Return the body as it came over the wire, or None as soon as it is over ``limit`` bytes.

        A declared length over the limit is enough: nothing of it is read then. Raises httpx errors.
        """
        for name, value in self.raw_headers:
            if name.lower() == b"content-length" and value.isdigit() and int(value[:19]) > limit:
                return None
        chunks: list[bytes] = []
        size = 0
        while chunk := await self.receive():
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
        self._connector: aiohttp.TCPConnector | None = None
        self._routes: dict[tuple[str, str | None, int | None], aiohttp.ClientRequest] = {}

    async def __aenter__(self) -> Self:
        self._connector = aiohttp.TCPConnector(
            limit=self._connections,
            keepalive_timeout=IDLE_SECONDS,
            resolver=self._resolver,
            ssl=self._ssl_context or verifying_context(self._network.ca_file),
        )
        return self

    async def aclose(self) -> None:
        """Close every connection."""
        if self._connector is not None:
            await self._connector.close()

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
            headers=[
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in request.headers.raw
                if name.lower() not in (b"host", b"content-length")
            ],
            content=request.content or None,
            deadline=request.extensions.get("total"),
            connect=timeout.get("connect"),
            silence=timeout.get("read"),
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
        headers: Iterable[tuple[str, str]],
        content: bytes | None,
        deadline: float | None,
        connect: float | None,
        silence: float | None,
    ) -> Answer:
        """Send one request; raises what ``handle_async_request`` raises.

        ``headers`` are all but ``Host`` and ``Content-Length``. ``deadline`` is for all of it,
        ``connect`` for the way to a connection, ``silence`` for a pause in the reply, in seconds;
        None is no limit.
        """
        address = URL(url, encoded=True)
        head = _request_head(method, address, headers, content)
        ends_at = None if deadline is None else asyncio.get_running_loop().time() + deadline
        may_repeat = method in _REPEATABLE
        while True:
            connection = await self._connect(address, _shortest(deadline, connect))
            try:
                exchange = _Exchange(connection, ends_at, silence, has_body=method != "HEAD")
                return await exchange.run(head, content)
            except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
                closed = isinstance(error, (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError))
                if not (may_repeat and closed):
                    raise _translate(error, connected=True) from None
                may_repeat = False

    async def _connect(self, address: URL, seconds: float | None) -> Connection:
        """Take a connection from the pool, or open one; nothing is sent where that fails.

        One over which a reply came that nobody has asked for is not used again: it would be taken
        for the reply to what is sent next.
        """
        if self._connector is None:
            raise RuntimeError("enter the client before using it")
        proxy = self._network.proxy_for(str(address)) if self._network.proxy else None
        try:
            while True:
                connection = await self._connector.connect(
                    self._route(address, proxy), [], _time_to_connect(seconds)
                )
                if not len(_protocol_of(connection)):
                    return connection
                connection.close()
        except (aiohttp.ClientError, OSError) as error:
            # Not chained: aiohttp's own texts hold whole URLs.
            raise _translate(error, connected=False, proxy=proxy) from None

    def _route(self, address: URL, proxy: Proxy | None) -> aiohttp.ClientRequest:
        """What tells the pool which connections lead to an address: aiohttp asks for a request.

        One for each origin; through a proxy one for each call, because aiohttp writes into it.
        """
        loop = asyncio.get_running_loop()
        if proxy is not None:
            return aiohttp.ClientRequest(
                "GET",
                address,
                loop=loop,
                proxy=URL(proxy.url),
                proxy_headers=_proxy_headers(proxy),
            )
        origin = address.scheme, address.raw_host, address.port
        route = self._routes.get(origin)
        if route is None:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            route = self._routes[origin] = aiohttp.ClientRequest("GET", address, loop=loop)
        return route


class _Exchange:
    """One request and its reply on one connection, which is kept or closed at the end.

    ``ends_at`` is the deadline by the loop's clock, None for none.
    """

    def __init__(
        self,
        connection: Connection,
        ends_at: float | None,
        silence: float | None,
        *,
        has_body: bool,
    ) -> None:
        self._connection = connection
        self._protocol = _protocol_of(connection)
        self._content: aiohttp.StreamReader = aiohttp.EMPTY_PAYLOAD
        self._protocol.set_response_params(
            skip_payload=not has_body,
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=silence,
        )
        self._timer = (
            None if ends_at is None else asyncio.get_running_loop().call_at(ends_at, self._give_up)
        )

    async def run(self, head: bytes, content: bytes | None) -> Answer:
        """Write the request and wait for the head of its reply. Raises aiohttp's errors."""
        try:
            self._write(head, content)
            self._protocol.start_timeout()
            while True:
                message, self._content = await self._protocol.read()
                if message.code not in _INTERIM:
                    return Answer(message.code, message.raw_headers, self._receive, self._close)
        except BaseException:
            self._end(keep=False)
            raise

    def _write(self, head: bytes, content: bytes | None) -> None:
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was closed")
        if content is None or len(content) <= _WRITTEN_AT_ONCE:
            transport.write(head + (content or b""))
        else:
            transport.write(head)
            transport.write(content)

    async def _receive(self) -> bytes:
        """See ``Answer.receive``."""
        try:
            return await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise _translate(error, connected=True) from None

    async def _close(self) -> None:
        """Keep the connection if the reply was read whole, else close it."""
        transport = self._protocol.transport
        is_written = transport is not None and not transport.get_write_buffer_size()
        self._end(keep=is_written and self._content.at_eof())

    def _give_up(self) -> None:
        """The deadline has passed: whoever waits for the reply is told so."""
        error = aiohttp.SocketTimeoutError("no whole reply in time")
        self._protocol.set_exception(error)
        self._content.set_exception(error)

    def _end(self, *, keep: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if keep:
            self._connection.release()
        else:
            self._connection.close()


def _protocol_of(connection: Connection) -> ResponseHandler:
    """What reads from a connection: a queue of the replies that came over it."""
    protocol = connection.protocol
    if protocol is None:
        raise RuntimeError("a connection that was given back is used")
    return protocol


def _request_head(
    method: str, address: URL, headers: Iterable[tuple[str, str]], content: bytes | None
) -> bytes:
    """The first lines of a request, with the empty one behind them.

    Raises:
        ValueError: For control characters, which would begin another header or request.
    """
    lines = [f"{method} {address.raw_path_qs} HTTP/1.1", f"Host: {address.host_port_subcomponent}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if content is not None or method not in ("GET", "HEAD"):
        lines.append(f"Content-Length: {len(content or b'')}")
    if not "".join(lines).isprintable():
        raise ValueError("an address or a header holds control characters")
    return "\r\n".join((*lines, "\r\n")).encode()


def _shortest(*limits: float | None) -> float | None:
    """The shortest of some limits; None where there is none."""
    return min((limit for limit in limits if limit is not None), default=None)


@lru_cache(maxsize=64)
def _time_to_connect(seconds: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=seconds, sock_connect=seconds)


def _proxy_headers(proxy: Proxy | None) -> dict[str, str] | None:
    """What CONNECT tells the proxy; the request inside of the tunnel has none of it."""
    if proxy is None or not proxy.authorization:
        return None
    return {"Proxy-Authorization": proxy.authorization}


class _Stream(httpx.AsyncByteStream):
    """The body of an answer, for an ``httpx.Response``."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self._answer.receive():
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
    if isinstance(error, (aiohttp.ServerDisconnectedError, HttpProcessingError)):
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
