"""A real HTTP proxy for tests: CONNECT over sockets, with Basic auth, from a thread of its own.

It resolves names itself, as a company's proxy does: every name leads to the server of ``routes``.
"""

import asyncio
import base64
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

_Serve: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class ConnectProxy:
    """``routes`` gives for ``host:port`` the port on this machine that it leads to."""

    routes: Mapping[str, int] = field(default_factory=dict)
    user: str = ""
    """``user:password`` that it wants; empty: anybody may."""
    status: int = 200
    """Of its answer to CONNECT; another one than 200 opens no tunnel."""
    hangs: bool = False
    """It reads CONNECT and says nothing."""
    cuts: bool = False
    """It closes the connection where it should answer."""
    breaks: bool = False
    """It says that the tunnel stands, and closes it."""
    established: str = "HTTP/1.1 200 Connection established\r\n\r\n"
    """Its answer where the tunnel stands."""
    port: int = 0
    heads: list[str] = field(default_factory=list)
    """What it was asked, without the headers' values."""
    tunnelled: int = 0
    """Bytes that it was given to pass on."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with _ending(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, target, _ = head.split(" ", 2)
            self.heads.append(f"{method} {target}")
            if self.hangs:
                await reader.read()
            elif not self.cuts:
                await self._answer(head, target, reader, writer)
            writer.close()
            await writer.wait_closed()

    async def _answer(
        self, head: str, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        lines = {each.partition(": ")[0].lower(): each for each in head.split("\r\n")}
        known = base64.b64encode(self.user.encode()).decode()
        if self.user and not lines.get("proxy-authorization", "").endswith(f": Basic {known}"):
            await _say(writer, 407, 'Proxy-Authenticate: Basic realm="proxy"\r\n')
        elif self.status != 200:
            await _say(writer, self.status)
        elif not head.startswith("CONNECT "):
            await _say(writer, 405)
        elif target not in self.routes:
            await _say(writer, 502)
        else:
            await self._tunnel(self.routes[target], reader, writer)

    async def _tunnel(
        self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        beyond, to = await asyncio.open_connection("127.0.0.1", port)
        with _ending(to):
            writer.write(self.established.encode())
            await writer.drain()
            if not self.breaks:
                await asyncio.gather(self.copy(reader, to, counted=True), self.copy(beyond, writer))

    async def copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool = False
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                self.tunnelled += len(data) if counted else 0
                writer.write(data)
                await writer.drain()
        writer.close()


@contextmanager
def _ending(writer: asyncio.StreamWriter) -> Iterator[None]:
    """Leave no connection open, however the block ends."""
    try:
        yield
    finally:
        writer.transport.abort()


async def _say(writer: asyncio.StreamWriter, status: int, headers: str = "") -> None:
    writer.write(f"HTTP/1.1 {status} Some\r\n{headers}Content-Length: 0\r\n\r\n".encode())
    await writer.drain()


async def _pass_on(port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    beyond, to = await asyncio.open_connection("127.0.0.1", port)
    plain = ConnectProxy()
    with _ending(to), _ending(writer):
        await asyncio.gather(plain.copy(reader, to), plain.copy(beyond, writer))


@contextmanager
def connect_proxy(proxy: ConnectProxy, *, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """Serve this proxy until the end of the block, over TLS where one is given."""
    with _listening(proxy.serve, tls) as proxy.port:
        yield


@contextmanager
def tls_before(port: int, tls: ssl.SSLContext) -> Iterator[int]:
    """A port that speaks TLS before a server on this machine that speaks none."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await _pass_on(port, reader, writer)

    with _listening(serve, tls) as found:
        yield found


@contextmanager
def _listening(serve: _Serve, tls: ssl.SSLContext | None) -> Iterator[int]:
    """Run a server's loop in a thread; its port."""
    ready, ports = threading.Event(), list[int]()
    loop = asyncio.new_event_loop()
    closing = asyncio.Event()

    async def serve_quietly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # by the end of the block
            await serve(reader, writer)

    async def run() -> None:
        server = await asyncio.start_server(serve_quietly, "127.0.0.1", 0, ssl=tls)
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        await closing.wait()
        server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for each in connections:
            each.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await asyncio.sleep(0)  # what was aborted is closed in the next turn of the loop

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait(60)
    try:
        yield ports[0]
    finally:
        loop.call_soon_threadsafe(closing.set)
        thread.join()
        loop.close()
