"""A server that does exactly what a script says, one script a connection, byte for byte.

A script is a coroutine that is given the connection. What it returns normally closes the
connection in order; ``reset`` cuts it.
"""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Self, TypeAlias

import pytest

from tests.provider.samples import PATIENCE

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


class Connection:
    """One accepted connection."""

    def __init__(
        self, server: "ScriptedServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def read_request(self) -> bytes:
        """One whole request, which is counted; raises IncompleteReadError at the end."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await self.reader.readexactly(int(length[1])) if length else b""
        self.server.requests.append(head + body)
        self.server.received.set()
        return head + body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Close with RST, as a machine does that dies."""
        handle = self.writer.get_extra_info("socket")
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang(self) -> None:
        await self.server.closing.wait()


Script: TypeAlias = Callable[[Connection], Awaitable[None]]


class ScriptedServer:
    """Listens on loopback; the n-th connection runs the n-th script, the last one repeats."""

    def __init__(self, scripts: Sequence[Script], *, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[None]] = set()
        self.closing = asyncio.Event()
        self.received = asyncio.Event()
        self.connections = 0
        self.requests: list[bytes] = []
        self.port = 0

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def targets(self) -> list[str]:
        """Method and target of every request that was read whole."""
        return [each.split(b" HTTP/1.1", 1)[0].decode() for each in self.requests]

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self.closing.set()
        self._server.close()
        if self._running:
            await asyncio.wait(self._running)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(Connection(self, reader, writer))
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[ScriptedServer]]
"""The fixture ``serve``."""


@contextmanager
def time_stands_still_until(reached: Callable[[], object]) -> Iterator[None]:
    """The running loop's timers begin to run when this is reached, however long it takes.

    So a short limit can't end what comes before the moment that it is there for.
    """
    loop = asyncio.get_running_loop()
    real, held = loop.time, loop.time()
    lost: float | None = None

    def time() -> float:
        nonlocal lost
        if lost is None:
            if not reached() and real() - held < PATIENCE:
                return held
            lost = real() - held
        return real() - lost

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "time", time)
        yield


def answering(*replies: bytes) -> Script:
    """Answer one request after the other on a connection; the last reply repeats."""

    async def script(connection: Connection) -> None:
        number = 0
        while True:
            await connection.read_request()
            await connection.send(replies[min(number, len(replies) - 1)])
            number += 1

    return script


async def reset_at_once(connection: Connection) -> None:
    """Cut the connection as soon as it stands."""
    connection.reset()


async def reset_after_request(connection: Connection) -> None:
    """Read the whole request, do the work, and cut the connection without a word."""
    await connection.read_request()
    connection.reset()


async def close_after_request(connection: Connection) -> None:
    """Read the whole request and close in order."""
    await connection.read_request()


async def hang_after_request(connection: Connection) -> None:
    """Read the whole request and say nothing."""
    await connection.read_request()
    await connection.hang()


async def hang_at_once(connection: Connection) -> None:
    """Accept and never read."""
    await connection.hang()


def partly(data: bytes, *, then: str) -> Script:
    """Send some bytes of a reply, and then ``close``, ``reset`` or ``hang``."""

    async def script(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(data)
        if then == "hang":
            await connection.hang()
        elif then == "reset":
            connection.reset()

    return script


def trickling(head: bytes, *, seconds: float) -> Script:
    """Send the head of a reply, and then one byte at a time for ever."""

    async def script(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(head)
        while not connection.server.closing.is_set():
            await connection.send(b"x")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(connection.server.closing.wait(), seconds)

    return script
