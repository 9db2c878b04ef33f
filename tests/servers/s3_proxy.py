"""A real HTTP proxy before an S3 server, which can forget headers, spoil bytes and answer itself."""

import http.client
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "host", "transfer-encoding", "content-length", "date", "server"}


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Reply:
    """An answer instead of the server's; ``after`` lets the server do the work first."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    reset: bool = False
    """No answer: the connection is closed."""
    missing: int = 0
    """Bytes that Content-Length promises and that don't come."""


def s3_error(status: int, code: str, *, after: bool = False, **details: str) -> Reply:
    """An error as S3 writes it."""
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in details.items())
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message>{inside}</Error>"
    return Reply(status, body.encode(), {"Content-Type": "application/xml"}, after=after)


@dataclass
class S3Proxy:
    endpoint: str
    forget: set[str] = field(default_factory=set)
    """Request headers, in lower case, that don't reach the server."""
    replies: dict[str, deque[Reply]] = field(default_factory=dict)
    """For each method the next answers, one for each request."""
    always: dict[str, Reply] = field(default_factory=dict)
    """For each method the answer to every request."""
    spoil_request: Callable[[bytes], bytes] = bytes
    spoil_answer: Callable[[bytes], bytes] = bytes
    before_forwarding: Callable[[str], None] = str
    """Called with the method before a request goes on."""
    seen: list[Seen] = field(default_factory=list)

    def answer_next(self, method: str, *replies: Reply) -> None:
        self.replies.setdefault(method, deque()).extend(replies)

    def reply(self, method: str) -> Reply | None:
        waiting = self.replies.get(method)
        return waiting.popleft() if waiting else self.always.get(method)

    def count(self, method: str) -> int:
        return sum(one.method == method for one in self.seen)


@contextmanager
def s3_proxy(backend: str) -> Iterator[S3Proxy]:
    """A proxy before the server at this address."""
    place = urlsplit(backend)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            proxy.seen.append(Seen(self.command, self.path, headers))
            reply = proxy.reply(self.command)
            if reply is not None and not reply.after:
                self._answer(reply)
                return
            proxy.before_forwarding(self.command)
            answer = self._forward(body, headers)
            self._answer(reply or answer)

        def _forward(self, body: bytes, headers: dict[str, str]) -> Reply:
            kept = {n: v for n, v in headers.items() if n not in _HOP and n not in proxy.forget}
            connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
            try:
                connection.request(self.command, self.path, proxy.spoil_request(body), kept)
                answer = connection.getresponse()
                content = proxy.spoil_answer(answer.read())
                given = {n: v for n, v in answer.getheaders() if n.lower() not in _HOP}
                if self.command == "HEAD":
                    given["Content-Length"] = answer.headers.get("Content-Length", "0")
                return Reply(answer.status, content, given)
            finally:
                connection.close()

        def _answer(self, reply: Reply) -> None:
            if reply.reset:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in reply.headers:
                self.send_header("Content-Length", str(len(reply.body) + reply.missing))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            self.close_connection = self.close_connection or reply.missing > 0

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        proxy = S3Proxy(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()
