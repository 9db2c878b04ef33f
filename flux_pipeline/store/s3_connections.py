"""Sends requests over the connections that botocore has open: less CPU than through urllib3.

botocore opens every connection, with its timeouts and its authorities of TLS, and sees which of
them the server has closed since. Only the request and its short reply are written and read here,
as HTTP/1.1 says (RFC 9112). Behind a proxy there is nothing to find: its connections are kept
elsewhere, and botocore sends.
"""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest

_READ = frozenset({HTTPStatus.OK, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED})
"""Statuses of replies that are read to their end; after others the connection is closed."""
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
_LONGEST = 1 << 16
"""Bytes of a reply's head, and of a body that is read so that the connection can be kept."""


class Socket(Protocol):
    """The part of a socket that is used, with TLS or without."""

    def sendall(self, data: bytes, /) -> None:
        """Send all of it. Raises OSError."""
        ...

    def recv(self, size: int, /) -> bytes:
        """Some bytes; none where the other end has closed. Raises OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """The part of a reply that is read."""

    status_code: int
    headers: Mapping[str, str]
    """By their names in lower case; of one that comes twice the last."""


class OpenConnections:
    """The open connections of one session of botocore's. Thread-safe."""

    def __init__(self, session: object) -> None:
        # Neither botocore nor urllib3 has public names for a session's connections. Should these
        # ones go, none is found to be open.
        self._manager: Any = getattr(session, "_manager", None)
        self._pools: dict[str, Any] = {}

    def send(self, request: AWSPreparedRequest) -> Reply | None:
        """Send a request and read its reply; None where nothing is open, and nothing was sent.

        Raises OSError where no reply came that can be read.
        """
        parts = urlsplit(request.url)
        pool = self._find_pool(f"{parts.scheme}://{parts.netloc}")
        if pool is None:
            return None
        connection = pool._get_conn()  # noqa: SLF001
        is_reusable = connection.sock is None
        try:
            if connection.sock is None:
                return None
            connection.sock.sendall(_head(request, parts.path, parts.netloc))
            connection.sock.sendall(request.body)
            reply, is_reusable = _read_reply(connection.sock)
            return reply
        finally:
            if not is_reusable:
                connection.close()
            pool._put_conn(connection)  # noqa: SLF001

    def _find_pool(self, origin: str) -> Any:
        """urllib3's pool of connections to this server; None where there is no such thing."""
        pool = self._pools.get(origin)
        if getattr(pool, "pool", None) is None:  # not looked up yet, or closed since
            with suppress(AttributeError):
                pool = self._pools[origin] = self._manager.connection_from_url(origin)
        return pool if hasattr(pool, "_get_conn") and hasattr(pool, "_put_conn") else None


def _head(request: AWSPreparedRequest, target: str, host: str) -> bytes:
    """The request's first lines. Its values come from a request that http.client has checked."""
    lines = [f"{request.method} {target} HTTP/1.1", f"host: {host}", "accept-encoding: identity"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _read_reply(sock: Socket) -> tuple[Reply, bool]:
    """The reply, and whether the connection can be used again."""
    received = b""
    while True:
        end = _END_OF_HEAD.search(received)
        if end is None:
            received += _receive(sock)
            if len(received) > _LONGEST:
                raise ConnectionError("the reply's head is too long")
            continue
        reply = _parse(received[: end.start()])
        received = received[end.end() :]
        if reply.status_code >= HTTPStatus.OK:  # lower ones announce another reply
            return reply, reply.status_code in _READ and _read_body(sock, reply, len(received))


def _parse(head: bytes) -> Reply:
    first, *lines = head.decode("latin-1").splitlines()
    version, _, status = first.partition(" ")
    if version != "HTTP/1.1" or not status[:3].isdecimal():
        raise ConnectionError("no reply of HTTP/1.1")
    parts = (line.partition(":") for line in lines)
    return Reply(int(status[:3]), {name.lower(): value.strip() for name, _, value in parts})


def _read_body(sock: Socket, reply: Reply, received: int) -> bool:
    """Read the rest of a short body; whether the next reply begins right behind it."""
    length = reply.headers.get("content-length", "")
    left = int(length) - received if length.isdecimal() else -1
    is_coded = "transfer-encoding" in reply.headers
    if is_coded or left > _LONGEST or reply.headers.get("connection", "").lower() == "close":
        return False
    while left > 0:
        left -= len(_receive(sock))
    return left == 0


def _receive(sock: Socket) -> bytes:
    found = sock.recv(_LONGEST)
    if not found:
        raise ConnectionError("the connection was closed before the reply had ended")
    return found
