"""Requests over botocore's open connections, to a server on a socket that says what is given."""

import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.httpsession import URLLib3Session

from flux_pipeline.store.s3_connections import OpenConnections
from tests.provider.certificates import serving, write_authority

BODY = b"picture"
PLAIN = b'HTTP/1.1 200 OK\r\nETag: "abc"\r\nContent-Length: 0\r\n\r\n'


@dataclass
class Server:
    """A server that answers each request by the next of its replies, or closes without one."""

    port: int
    replies: list[bytes]
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def serve(self, connection: socket.socket) -> None:
        while self.replies and (request := read_request(connection)):
            self.requests.append(request)
            reply = self.replies.pop(0)
            connection.sendall(reply)
            if not reply.endswith(b"\n"):  # cut on purpose
                return


def read_request(connection: socket.socket) -> bytes:
    """A head and its body; empty where the other end has closed."""
    received = b""
    while not received.endswith(b"\r\n\r\n" + BODY):
        piece = connection.recv(65_536)
        if not piece:
            return b""
        received += piece
        if received.endswith(b"\r\n\r\n") and b"expect" in received.lower():
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    return received


@contextmanager
def serving_replies(
    replies: Sequence[bytes], tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(listener.getsockname()[1], list(replies))

    def accept() -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                plain, _ = listener.accept()
                server.connections += 1
                with plain if tls is None else tls.wrap_socket(plain, server_side=True) as found:
                    server.serve(found)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def session() -> Iterator[URLLib3Session]:
    opened = URLLib3Session(timeout=20)
    yield opened
    opened.close()


def put_to(address: str) -> AWSPreparedRequest:
    headers = {"content-length": str(len(BODY)), "user-agent": "test", "x-amz-meta-a": "b"}
    return AWSPreparedRequest("PUT", f"{address}/bucket/a%20b", headers, BODY, stream_output=False)


def test_nothing_is_sent_before_botocore_has_opened_a_connection(session: URLLib3Session) -> None:
    with serving_replies([PLAIN]) as server:
        assert OpenConnections(session).send(put_to(f"http://127.0.0.1:{server.port}")) is None
        assert (server.connections, server.requests) == (0, [])


def test_many_requests_go_over_one_connection(session: URLLib3Session) -> None:
    with serving_replies([PLAIN] * 4) as server:
        request = put_to(f"http://127.0.0.1:{server.port}")
        session.send(request)
        opened = OpenConnections(session)

        replies = [opened.send(request) for _ in range(3)]

        assert [(each.status_code, each.headers["etag"]) for each in replies if each] == [
            (200, '"abc"')
        ] * 3
        assert server.connections == 1
        first, *others = server.requests
        assert {lines(first)} == {lines(each) for each in others}
        session.close()


def lines(request: bytes) -> frozenset[str]:
    """What a request says, whatever the order and the case of its headers."""
    return frozenset(request.decode().lower().split("\r\n"))


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (b"HTTP/1.1 200 OK\nETag: x\nContent-Length: 0\n\n", 200),
        (b"HTTP/1.1 102 Processing\r\n\r\n" + PLAIN, 200),
        (b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 9\r\n\r\n<Error/>\n", 412),
    ],
    ids=["bare line ends", "announced", "with a body"],
)
def test_a_short_reply_is_read_to_its_end(
    session: URLLib3Session, reply: bytes, status: int
) -> None:
    with serving_replies([PLAIN, reply, PLAIN]) as server:
        request = put_to(f"http://127.0.0.1:{server.port}")
        session.send(request)
        opened = OpenConnections(session)

        first, second = opened.send(request), opened.send(request)

        assert first is not None
        assert second is not None
        assert (first.status_code, second.status_code, server.connections) == (status, 200, 1)
        session.close()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        PLAIN + PLAIN,
        b"HTTP/1.1 503 Slow Down\r\nContent-Length: 9\r\n\r\n<Error/>\n",
    ],
    ids=["chunked", "closing", "two at once", "an error"],
)
def test_a_connection_is_closed_where_the_end_of_the_reply_is_not_known(
    session: URLLib3Session, reply: bytes
) -> None:
    with serving_replies([PLAIN, reply, PLAIN]) as server:
        request = put_to(f"http://127.0.0.1:{server.port}")
        session.send(request)
        opened = OpenConnections(session)

        found = opened.send(request)

        assert found is not None
        assert found.status_code == int(reply[9:12])
        assert opened.send(request) is None
        assert session.send(request).status_code == 200
        assert server.connections == 2
        session.close()


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nETag", b"HTTP/0.9 what\r\n\r\n"])
def test_a_reply_that_is_cut_is_an_error(session: URLLib3Session, reply: bytes) -> None:
    with serving_replies([PLAIN, reply]) as server:
        request = put_to(f"http://127.0.0.1:{server.port}")
        session.send(request)
        opened = OpenConnections(session)
        with pytest.raises(ConnectionError):
            opened.send(request)
        assert opened.send(request) is None


def test_a_connection_that_the_server_has_closed_is_not_used(session: URLLib3Session) -> None:
    with serving_replies([PLAIN]) as server:  # it closes after its last reply
        request = put_to(f"http://127.0.0.1:{server.port}")
        session.send(request)
    assert OpenConnections(session).send(request) is None


def test_tls_is_that_of_the_connection_which_botocore_has_verified(tmp_path: Path) -> None:
    authority, shown = write_authority(tmp_path, "localhost")
    session = URLLib3Session(verify=str(authority), timeout=20)
    with serving_replies([PLAIN] * 2, serving(shown)) as server:
        request = put_to(f"https://localhost:{server.port}")
        session.send(request)

        reply = OpenConnections(session).send(request)

        assert reply is not None
        assert (reply.status_code, server.connections) == (200, 1)
        session.close()


@pytest.mark.parametrize("without", ["_manager", "_get_conn"])
def test_where_the_private_names_are_gone_nothing_is_open(
    session: URLLib3Session, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    with serving_replies([PLAIN]) as server:
        request = put_to(f"http://127.0.0.1:{server.port}")
        session.send(request)
        if without == "_manager":
            monkeypatch.delattr(session, "_manager")
        else:
            monkeypatch.delattr("urllib3.connectionpool.HTTPConnectionPool._get_conn")
        assert OpenConnections(session).send(request) is None


def test_behind_a_proxy_botocore_sends() -> None:
    with serving_replies([PLAIN]) as server:  # as the proxy
        session = URLLib3Session(proxies={"http": f"http://127.0.0.1:{server.port}"}, timeout=20)
        request = put_to("http://s3.example.test")
        session.send(request)
        assert OpenConnections(session).send(request) is None
        session.close()
