"""Faulty replies to creates, polls, lists and cancels, as a client on a socket meets them."""

import asyncio
import json
import socket
from contextlib import AbstractContextManager, nullcontext
from email.utils import parsedate_to_datetime
from typing import get_args

import httpx
import pytest

from flux_pipeline.emulator.app import create_app
from flux_pipeline.emulator.emulator import Emulator
from flux_pipeline.emulator.fault_replies import response_head
from flux_pipeline.emulator.faults import CallFault, CreateFault, FaultPlan
from flux_pipeline.emulator.records import State
from flux_pipeline.emulator.server import EmulatorServer
from tests.emulator.api import KEY, PATIENCE, VERSION, Api, ManualClock, impatient
from tests.emulator.conftest import Start

NO_REPLY = {"reset": httpx.ReadError, "hang": httpx.ReadTimeout, "cut": httpx.RemoteProtocolError}
NO_REPLY |= {"garbage": httpx.RemoteProtocolError}


def bare(name: str) -> str:
    return name.removesuffix("_before").removesuffix("_after")


def until_it_hangs(name: str, server: EmulatorServer, api: Api) -> AbstractContextManager[None]:
    """A client that gives up where this fault would keep it waiting, once the fault has come."""
    if bare(name) != "hang":
        return nullcontext()
    return impatient(api.http, lambda: server.usage().faults)


@pytest.mark.parametrize("fault", get_args(CreateFault))
def test_a_fault_before_buys_nothing_and_the_second_try_gets_through(
    start: Start, fault: CreateFault
) -> None:
    server, api = start(FaultPlan(create={fault: 1.0}, cap=1))
    bought = fault.endswith("_after") or fault in ("other_version", "data_uri")
    if bare(fault) in NO_REPLY:
        with until_it_hangs(fault, server, api), pytest.raises(NO_REPLY[bare(fault)]):
            api.post()
    else:
        api.post()
    usage = server.usage()
    assert (usage.creates_received, usage.creates_accepted) == (1, int(bought))
    assert usage.charged_usd == pytest.approx(0.003 * bought)
    assert usage.faults == {f"create.{fault}": 1}
    assert api.create()["status"] in ("starting", "processing", "succeeded")
    assert len(server.usage().duplicates) == int(bought)


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("server_error_before", lambda reply: reply.status_code in (500, 502, 503, 504)),
        ("timeout_after", lambda reply: reply.status_code == 408),
        ("html_before", lambda reply: reply.status_code == 200 and "<html>" in reply.text),
        ("empty_after", lambda reply: reply.status_code == 201 and reply.content == b""),
        ("no_id_after", lambda reply: "id" not in reply.json() and "status" in reply.json()),
        (
            "error_object",
            lambda reply: reply.status_code == 200 and list(reply.json()) == ["error"],
        ),
        ("unauthorized", lambda reply: reply.status_code == 401),
        ("payment_required", lambda reply: reply.status_code == 402),
        ("throttled_header", lambda reply: reply.headers["retry-after"] == "3"),
        ("throttled_body", lambda reply: reply.json()["retry_after"] == 3),
        ("throttled_detail", lambda reply: "resets in ~3s" in reply.json()["detail"]),
        ("throttled_reset", lambda reply: reply.headers["ratelimit-reset"] == "3"),
        ("throttled_none", lambda reply: reply.status_code == 429),
        ("throttled_huge", lambda reply: reply.headers["retry-after"] == str(3 * 86_400)),
        (
            "throttled_date",
            lambda reply: parsedate_to_datetime(reply.headers["retry-after"]).year == 2027,
        ),
    ],
)
def test_a_faulty_reply_is_what_its_name_says(start: Start, fault: str, check: object) -> None:
    _, api = start(FaultPlan.model_validate({"create": {fault: 1.0}, "hint_seconds": 3}))
    assert callable(check)
    assert check(api.post())


def test_truncated_json_is_a_whole_reply_of_half_an_object(start: Start) -> None:
    _, api = start(FaultPlan(create={"truncated_after": 1.0}))
    reply = api.post()
    assert reply.status_code == 201
    with pytest.raises(json.JSONDecodeError):
        reply.json()


def test_server_errors_come_as_json_and_as_pages(start: Start) -> None:
    _, api = start(FaultPlan(create={"server_error_before": 1.0}))
    replies = [api.post(seed=number) for number in range(20)]
    assert {reply.status_code for reply in replies} == {500, 502, 503, 504}
    assert {reply.headers["content-type"].split(";")[0] for reply in replies} == {
        "application/json",
        "text/html",
    }


def test_another_version_is_served_and_shown_everywhere(start: Start) -> None:
    server, api = start(FaultPlan(create={"other_version": 1.0}))
    made = api.create()
    asked = server.usage().predictions[0].version
    assert made["version"] != asked
    assert api.get(made["id"])["version"] == made["version"]
    assert api.list()["results"][0]["version"] == made["version"]


def test_an_output_can_come_at_once_under_processing(start: Start) -> None:
    _, api = start(FaultPlan(create={"data_uri": 1.0}), time_scale=1)
    reply = api.post(num_outputs=2)
    assert (reply.status_code, reply.json()["status"]) == (201, "processing")
    assert [uri[:23] for uri in reply.json()["output"]] == ["data:image/webp;base64,"] * 2
    assert api.get(reply.json()["id"])["status"] == "succeeded"


@pytest.mark.parametrize("fault", get_args(CallFault))
def test_a_poll_goes_wrong_and_the_next_gets_through(start: Start, fault: CallFault) -> None:
    server, api = start(FaultPlan(poll={fault: 1.0}, cap=1))
    made = api.create()
    if fault in NO_REPLY:
        with until_it_hangs(fault, server, api), pytest.raises(NO_REPLY[fault]):
            api.fetch(made["id"])
    else:
        reply = api.fetch(made["id"])
        assert reply.status_code != 200 or "status" not in reply.text or fault == "truncated"
    assert api.get(made["id"])["status"] == "succeeded"
    assert server.usage().faults == {f"poll.{fault}": 1}
    assert server.usage().creates_accepted == 1


def test_lists_and_cancels_go_wrong_as_well(start: Start, clock: ManualClock) -> None:
    plan = FaultPlan(list={"html": 1.0}, cancel={"server_error": 1.0}, cap=1)
    _, api = start(plan, time_scale=1)
    made = api.create()["id"]
    assert "<html>" in api.http.get(api.path).text
    assert len(api.list()["results"]) == 1
    assert api.cancel(made).status_code >= 500
    assert api.get(made)["status"] == "canceled"  # the reply was lost, the cancel was not


def test_only_the_named_prompts_are_hit(start: Start) -> None:
    plan = FaultPlan(
        only_prompts="storm",
        create={"server_error_before": 1.0},
        outcome={"failed_permanent": 1.0},
        poll={"html": 1.0},
    )
    server, api = start(plan)
    assert api.finished("a calm harbour")["status"] == "succeeded"
    assert api.post("a stormy harbour").status_code >= 500
    assert server.usage().faults == {"create.server_error_before": 1}


def test_a_hanging_call_is_reset_when_its_time_is_over(start: Start) -> None:
    _, api = start(FaultPlan(create={"hang_before": 1.0}, hang_seconds=0.05))
    with pytest.raises(httpx.ReadError):
        api.post()


def test_without_a_socket_a_reset_is_an_error_of_the_connection() -> None:
    async def post(state: State) -> None:
        app = create_app(Emulator(state, faults=FaultPlan(create={"reset_before": 1.0})))
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": "Bearer k"}
        async with httpx.AsyncClient(transport=transport, headers=headers) as client:
            body = {"version": "a" * 64, "input": {"prompt": "x"}}
            await client.post("http://emulator/v1/predictions", json=body)

    with State() as state, pytest.raises(ConnectionResetError):
        asyncio.run(post(state))


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
