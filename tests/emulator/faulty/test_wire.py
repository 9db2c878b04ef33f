"""Abrupt ends, as the kernel shows them to a raw socket."""

import json
import socket

import pytest

from flux_pipeline.emulator.fault_replies import response_head
from flux_pipeline.emulator.faults import FaultPlan
from tests.emulator.api import KEY, PATIENCE, VERSION
from tests.emulator.conftest import Start


def exchange(origin: str) -> bytes:
    """Everything that comes back for one create, until the connection ends."""
    body = json.dumps({"version": VERSION, "input": {"prompt": "x"}}).encode()
    port = int(origin.rsplit(":", maxsplit=1)[-1])
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(
            b"POST /v1/predictions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n"
            b"authorization: Bearer %b\r\n\r\n%b" % (len(body), KEY.encode(), body)
        )
        received = b""
        while piece := connection.recv(65_536):
            received += piece
        return received


@pytest.mark.parametrize("fault", ["reset_before", "reset_after"])
def test_a_reset_is_a_real_rst(start: Start, fault: str) -> None:
    server, _ = start(FaultPlan.model_validate({"create": {fault: 1.0}}))
    with pytest.raises(ConnectionResetError):
        exchange(server.origin)


def test_a_cut_reply_ends_in_an_orderly_way_before_its_length(start: Start) -> None:
    server, _ = start(FaultPlan(create={"cut_after": 1.0}))
    start_of_reply, _, body = exchange(server.origin).partition(b"\r\n\r\n")
    length = int(start_of_reply.partition(b"content-length: ")[2].split()[0])
    assert start_of_reply.startswith(b"HTTP/1.1 201 Created\r\n")
    assert 0 < len(body) < length


def test_garbage_is_no_http(start: Start) -> None:
    server, _ = start(FaultPlan(create={"garbage_after": 1.0}))
    assert not exchange(server.origin).startswith(b"HTTP/")


def test_a_head_is_a_status_line_and_headers() -> None:
    expected = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\n\r\n"
    assert response_head("200 OK", content_type="image/png") == expected
