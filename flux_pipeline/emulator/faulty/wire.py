"""Replies that end where no reply should: reset, hung, cut, or no HTTP at all.

They are ordinary Starlette responses that reach through the ASGI scope to the connection, which the
server puts there. Without a server of ours beneath (an in-process transport), a reset is a
``ConnectionResetError``.
"""

import asyncio
import socket
import struct
from abc import abstractmethod
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_LINGER_NOT = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends RST instead of FIN."""


class Abrupt(Response):
    """A response that ends the connection instead of being sent."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End the connection; nothing is sent in the ordinary way."""
        del send
        await self.end(_transport(scope), receive)

    @abstractmethod
    async def end(self, transport: Any, receive: Receive) -> None:
        """Do to the connection what this response is for, and wait until the server noticed."""


class Reset(Abrupt):
    """The connection is reset (TCP RST) without a reply."""

    async def end(self, transport: Any, receive: Receive) -> None:
        """Reset, and return once the server has noticed."""
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT
        )
        transport.abort()
        await _disconnected(receive)


class Hang(Abrupt):
    """Nothing is answered; after ``seconds``, or when the client has gone, the connection ends."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def end(self, transport: Any, receive: Receive) -> None:
        """Wait for the client's patience to end, or ours."""
        try:
            await asyncio.wait_for(_disconnected(receive), self.seconds)
        except TimeoutError:
            await Reset().end(transport, receive)


class Raw(Abrupt):
    """These bytes and nothing else, then the connection is closed in an orderly way (FIN)."""

    def __init__(self, octets: bytes) -> None:
        super().__init__()
        self.octets = octets

    async def end(self, transport: Any, receive: Receive) -> None:
        """Write past the HTTP layer, and close."""
        transport.write(self.octets)
        transport.close()
        await _disconnected(receive)


def response_head(status: str, **headers: str) -> bytes:
    """A status line and headers, such as ``response_head("200 OK", content_type="image/png")``."""
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _transport(scope: Scope) -> Any:
    protocol = scope.get("state", {}).get("protocol")
    if protocol is None:
        raise ConnectionResetError("the emulator reset the connection")
    return protocol.transport


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
