"""A real HTTP proxy before an S3 server: it can forget headers, spoil bytes and answer itself.

Named by HTTP_PROXY, it is the server of every host; with a domain, hosts below it are buckets. With
TLS it also stands before the emulator, as the host that outputs lie on.
"""

import http.client
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "host", "transfer-encoding", "content-length", "server"}


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


def s3_error(
    status: int, code: str, details: dict[str, str] | None = None, *, after: bool = False
) -> Reply:
    """An error as S3 writes it."""
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in (details or {}).items())
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message>{inside}</Error>"
    return Reply(status, body.encode(), {"Content-Type": "application/xml"}, after=after)


@dataclass
class S3Proxy:
    endpoint: str
    backend: str
    """``host:port``."""
    forget: set[str] = field(default_factory=set)
    """Request headers, in lower case, that don't reach the server."""
    replies: dict[str, deque[Reply]] = field(default_factory=dict)
    """For each method the next answers, one for each request."""
    always: dict[str, Reply] = field(default_factory=dict)
    """For each method the answer to every request."""
    spoil_request: Callable[[bytes], bytes] = bytes
    spoil_answer: Callable[[bytes], bytes] = bytes
    choose: Callable[[Seen], Reply | None] = lambda _: None
    """The answer to one request, by its method and path; None: the server's."""
    before_forwarding: Callable[[str], object] = str
    """Called with the method before a request goes on."""
    domain: str = ""
    """``bucket.domain`` is a bucket's host, as ``host/bucket`` is its path."""
    seen: list[Seen] = field(default_factory=list)

    def reset(self) -> None:
        """Do nothing any more but pass on."""
        vars(self).update(vars(S3Proxy(self.endpoint, self.backend)))

    def answer_next(self, method: str, *replies: Reply) -> None:
        self.replies.setdefault(method, deque()).extend(replies)

    def reply(self, method: str) -> Reply | None:
        waiting = self.replies.get(method)
        return waiting.popleft() if waiting else self.always.get(method)

    def count(self, method: str) -> int:
        return sum(one.method == method for one in self.seen)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    proxy: S3Proxy

    def handle_one_request(self) -> None:
        """One request; whatever its method."""
        self.raw_requestline = self.rfile.readline(65_537)
        self.close_connection = not (self.raw_requestline and self.parse_request())
        self.wfile.flush()  # the "100 Continue" that boto3 waits for
        if self.close_connection:
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.path = self._path_of_bucket(headers["host"])
        seen = Seen(self.command, self.path, headers)
        self.proxy.seen.append(seen)
        reply = self.proxy.reply(self.command) or self.proxy.choose(seen)
        if reply is None or reply.after:
            self.proxy.before_forwarding(self.command)
            answer = self._forward(body, headers)
            reply = reply or answer
        self._answer(reply)

    def _path_of_bucket(self, host: str) -> str:
        """The path with the bucket in front, however the bucket was named."""
        parts = urlsplit(self.path)
        path = parts._replace(scheme="", netloc="").geturl() if parts.scheme else self.path
        domain = f".{self.proxy.domain}"
        is_bucket = self.proxy.domain and host.endswith(domain)
        return f"/{host.removesuffix(domain)}{path}" if is_bucket else path

    def _forward(self, body: bytes, headers: dict[str, str]) -> Reply:
        """Over a connection of its own: a kept one may be closed at the other end by now."""
        forgotten = _HOP | self.proxy.forget
        kept = {name: value for name, value in headers.items() if name not in forgotten}
        with closing(http.client.HTTPConnection(self.proxy.backend, timeout=300)) as backend:
            backend.request(self.command, self.path, self.proxy.spoil_request(body), kept)
            answer = backend.getresponse()
            content = self.proxy.spoil_answer(answer.read())
        given = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        if self.command == "HEAD":
            given["Content-Length"] = answer.headers.get("Content-Length", "0")
        return Reply(answer.status, content, given)

    def _answer(self, reply: Reply) -> None:
        self.close_connection = reply.reset or reply.missing > 0
        if reply.reset:
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in reply.headers:
            self.send_header("Content-Length", str(len(reply.body) + reply.missing))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


@contextmanager
def s3_proxy(backend: str, tls: ssl.SSLContext | None = None) -> Iterator[S3Proxy]:
    """A proxy before the server at this address, itself with TLS where that is given."""
    handler = type("Handler", (_Handler,), {})
    with _Server(("127.0.0.1", 0), handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        address = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
        handler.proxy = S3Proxy(address, urlsplit(backend).netloc)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield handler.proxy
        finally:
            server.shutdown()
            thread.join()
