"""One POST against servers that misbehave: was it never sent, refused, or may it have been paid?"""

import asyncio
import json
import socket
from dataclasses import replace
from typing import Any

import pytest

from flux_pipeline.outcomes import (
    Accepted,
    AccessDenied,
    Ambiguous,
    NeverSent,
    Polled,
    Refused,
    Rejected,
    Throttled,
)
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import Timeouts
from flux_pipeline.provider.transport import AiohttpTransport
from flux_pipeline.request import OFFICIAL, Request
from tests.provider.samples import (
    ID,
    KEY,
    MODEL,
    VERSION,
    Configured,
    http,
    make_request,
    patience,
    prediction_fields,
)
from tests.provider.scripted_server import (
    Connection,
    Script,
    Serve,
    answering,
    close_after_request,
    hang_after_request,
    hang_at_once,
    partly,
    reset_after_request,
    reset_at_once,
    time_stands_still_until,
    trickling,
)

pytestmark = pytest.mark.anyio

GOOD = http(prediction_fields(), status=201)


async def test_the_request_is_sent_to_the_letter_and_the_id_is_read(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with (
        serve(answering(GOOD)) as server,
        Provider(configured(server.origin + "/replicate/")) as provider,
    ):
        outcome = await provider.create(request_)
    assert isinstance(outcome, Accepted)
    assert outcome.prediction.id == ID
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /replicate/v1/predictions HTTP/1.1"
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert fields["authorization"] == f"bearer {KEY}".lower()
    assert fields["accept-encoding"] == "identity"
    assert fields["user-agent"].startswith("flux-pipeline/")
    assert fields["content-type"] == "application/json"
    assert not {"cookie", "prefer", "expect", "transfer-encoding"} & fields.keys()
    assert json.loads(body) == {"version": f"{MODEL}:{VERSION}", "input": dict(request_.input)}


async def test_what_is_sent_may_have_addresses_and_secrets_filled_in(
    serve: Serve, configured: Configured
) -> None:
    request = replace(
        make_request(image="sha256:" + "0" * 64, token="env:TOKEN", mode="env:MODE"),
        secret_inputs=("token", "mode"),
    )
    sent = {
        **request.input,
        "image": "https://a.example/f1?sig=x",
        "token": "canary-token",
        "mode": "a",
    }
    echo = prediction_fields(input=sent, logs="token canary-token", error="canary-token")
    async with (
        serve(answering(http(echo, status=201), http(echo))) as server,
        Provider(configured(server.origin)) as provider,
    ):
        created = await provider.create(request, sent_input=sent)
        polled = await provider.poll(ID)
    body = json.loads(server.requests[0].partition(b"\r\n\r\n")[2])
    assert body == {"version": f"{MODEL}:{VERSION}", "input": sent}
    for outcome in (created, polled):
        assert isinstance(outcome, (Accepted, Polled))
        shown = repr(outcome) + outcome.prediction.raw + outcome.prediction.logs
        assert "canary" not in shown
        assert "sig=x" not in shown
        assert outcome.prediction.input["mode"] == "a"  # too short to be told from other words


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (reset_after_request, Ambiguous),
        (close_after_request, Ambiguous),
        (reset_at_once, Ambiguous),
        (answering(http(b"<html>", status=502)), Ambiguous),
        (answering(http(b"<html>", status=201)), Ambiguous),
        (answering(http({"detail": "not found"}, status=404)), Rejected),
        (answering(http({"detail": "slow"}, status=429)), Throttled),
        (answering(GOOD), Accepted),
    ],
)
async def test_the_second_route_is_as_safe_as_the_first(
    serve: Serve, configured: Configured, script: Script, kind: type[Any]
) -> None:
    request = replace(make_request(), version=OFFICIAL)
    outcomes = []
    for route in ("predictions", "models"):
        async with (
            serve(script) as server,
            Provider(configured(server.origin, route=route)) as provider,
        ):
            outcomes.append(await provider.create(request))
    assert server.targets in ([], [f"POST /v1/models/{MODEL}/predictions"])
    assert [type(each) for each in outcomes] == [kind, kind]


async def test_a_seed_of_another_name_is_compared_with_the_replys(
    serve: Serve, configured: Configured
) -> None:
    request = replace(make_request(seed=None, noise=5), seed_input="noise")
    for shown, kind in ((5, Accepted), (6, Ambiguous)):
        reply = http(prediction_fields(input={"noise": shown, "seed": 7}), status=201)
        async with (
            serve(answering(reply)) as server,
            Provider(configured(server.origin)) as provider,
        ):
            assert isinstance(await provider.create(request), kind)


async def test_a_refused_connection_was_never_sent(
    configured: Configured, request_: Request
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        async with Provider(configured(f"http://127.0.0.1:{port}")) as provider:
            outcome = await provider.create(request_)
    assert outcome == NeverSent("127.0.0.1: Connection refused; the request was not sent")


async def test_an_unknown_name_was_never_sent(configured: Configured, request_: Request) -> None:
    async with Provider(configured("https://no-such-host.invalid")) as provider:
        outcome = await provider.create(request_)
    assert isinstance(outcome, NeverSent)
    assert "no-such-host.invalid" in outcome.reason


async def test_a_connection_that_never_stands_was_never_sent(
    configured: Configured, request_: Request
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        address = deaf.getsockname()
        queue = [socket.socket() for _ in range(4)]
        for each in queue:  # the queue of connections that nobody accepts is full
            each.settimeout(0)
            each.connect_ex(address)
        config = configured(f"http://127.0.0.1:{address[1]}", timeouts=patience(connect=0.2))
        async with Provider(config) as provider:
            outcome = await provider.create(request_)
        for each in queue:
            each.close()
    assert outcome == NeverSent("127.0.0.1: no connection in time; the request was not sent")


async def test_a_pool_without_a_free_connection_was_never_sent(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with serve(hang_after_request) as server:
        config = configured(
            server.origin, concurrency=1, timeouts=Timeouts(connect=0.1, create=0.3)
        )
        async with Provider(config) as provider:
            with time_stands_still_until(lambda: len(server.requests) == 9):
                outcomes = await asyncio.gather(
                    *(provider.create(request_, permitted=True) for _ in range(12))
                )
    assert len(server.requests) == 9  # the configured one and the spare ones
    assert sum(isinstance(each, NeverSent) for each in outcomes) == 3
    assert sum(isinstance(each, Ambiguous) for each in outcomes) == 9


@pytest.fixture
def standing(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """One entry for each connection that the client has got."""
    had: list[object] = []
    connect = AiohttpTransport._connect

    async def note(*arguments: Any) -> Any:
        connection = await connect(*arguments)
        had.append(connection)
        return connection

    monkeypatch.setattr(AiohttpTransport, "_connect", note)
    return had


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param(reset_at_once, "", id="reset before the request is read"),
        pytest.param(reset_after_request, "", id="reset after the whole request"),
        pytest.param(close_after_request, "without a reply", id="closed after the whole request"),
        pytest.param(hang_after_request, "in time", id="hangs after the whole request"),
        pytest.param(hang_at_once, "in time", id="never reads"),
        pytest.param(partly(GOOD[:20], then="close"), "", id="half the headers, closed"),
        pytest.param(partly(GOOD[:20], then="reset"), "", id="half the headers, reset"),
        pytest.param(partly(GOOD[:20], then="hang"), "in time", id="half the headers, hangs"),
        pytest.param(partly(GOOD[:-9], then="close"), "was cut", id="half the body, closed"),
        pytest.param(partly(GOOD[:-9], then="reset"), "", id="half the body, reset"),
        pytest.param(partly(GOOD[:-9], then="hang"), "in time", id="half the body, hangs"),
        pytest.param(partly(b"220 smtp ready\r\n\r\n", then="close"), "no HTTP", id="no HTTP"),
        pytest.param(
            partly(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", then="close"),
            "no HTTP",
            id="a length that is none",
        ),
        pytest.param(
            partly(b"HTTP/1.1 201 C\r\nX: " + b"a" * 70_000 + b"\r\n\r\n{}", then="close"),
            "no HTTP",
            id="an endless header",
        ),
        pytest.param(
            answering(http(b'{"id": "abc", "sta', headers={"Content-Length": "5"})),
            "",
            id="a length that is too short",
        ),
        pytest.param(
            trickling(b"HTTP/1.1 201 Created\r\nContent-Length: 1000\r\n\r\n", seconds=0.05),
            "in time",
            id="one byte at a time",
        ),
    ],
)
async def test_whatever_breaks_after_the_connection_stands_may_have_been_paid(
    serve: Serve,
    configured: Configured,
    request_: Request,
    standing: list[object],
    *,
    script: Script,
    words: str,
) -> None:
    limits = patience(create=0.15) if words == "in time" else patience()
    async with (
        serve(script) as server,
        Provider(configured(server.origin, timeouts=limits)) as provider,
    ):
        with time_stands_still_until(lambda: standing):
            outcome = await provider.create(request_, permitted=True)
    assert isinstance(outcome, Ambiguous), outcome
    assert words in outcome.reason
    assert len(server.requests) <= 1
    assert server.connections == 1


async def test_a_post_on_a_kept_connection_that_dies_is_ambiguous_and_not_repeated(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async def once_then_dead(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(GOOD)
        await connection.read_request()
        connection.reset()

    async with serve(once_then_dead) as server, Provider(configured(server.origin)) as provider:
        first = await provider.create(request_)
        second = await provider.create(request_)
    assert isinstance(first, Accepted)
    assert isinstance(second, Ambiguous)
    assert len(server.requests) == 2
    assert server.connections == 1


@pytest.mark.parametrize("delay", [0.0, 0.0001, 0.0003, 0.001, 0.003])
async def test_a_post_that_meets_a_closing_connection_is_counted_as_it_was_received(
    serve: Serve, configured: Configured, request_: Request, delay: float
) -> None:
    """The server closes its idle connection just as the POST arrives."""

    async def close_while_idle(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(GOOD)
        await asyncio.sleep(delay)

    async with serve(close_while_idle) as server, Provider(configured(server.origin)) as provider:
        for _ in range(20):
            before = len(server.requests)
            outcome = await provider.create(request_)
            received = len(server.requests) - before
            assert isinstance(outcome, (Accepted, Ambiguous))
            assert received <= 1
            assert received == 1 or isinstance(outcome, Ambiguous)


async def test_a_get_on_a_kept_connection_that_dies_is_repeated(
    serve: Serve, configured: Configured
) -> None:
    async def once_then_dead(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(GOOD)
        await connection.read_request()
        connection.reset()

    async with (
        serve(once_then_dead, answering(GOOD)) as server,
        Provider(configured(server.origin)) as provider,
    ):
        outcomes = [await provider.poll(ID) for _ in range(2)]
    assert [type(each).__name__ for each in outcomes] == ["Polled", "Polled"]
    assert server.targets == [f"GET /v1/predictions/{ID}"] * 3


async def test_redirects_are_not_followed(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with serve(answering(GOOD)) as other:
        moved = http(status=307, headers={"Location": f"{other.origin}/v1/predictions"})
        async with (
            serve(answering(moved)) as server,
            Provider(configured(server.origin)) as provider,
        ):
            assert isinstance(await provider.create(request_), Rejected)
            assert type(await provider.poll(ID)).__name__ == "PollFailed"
    assert other.connections == 0


async def test_cookies_are_not_sent_back(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    reply = http(prediction_fields(), status=201, headers={"Set-Cookie": "a=b; Path=/"})
    async with serve(answering(reply)) as server, Provider(configured(server.origin)) as provider:
        await provider.create(request_)
        await provider.create(request_)
    assert not any(b"ookie" in each for each in server.requests)


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (http({"detail": "no", "status": 401}, status=401), AccessDenied(401, "no")),
        (http({"title": "Pay", "detail": "first"}, status=402), AccessDenied(402, "Pay; first")),
        (http(b"", status=403), AccessDenied(403, "403, no type, 0 bytes")),
        (http({"detail": "bad"}, status=422), Refused(422, "bad")),
        (http({}, status=429, headers={"Retry-After": "7"}), Throttled(7.0)),
        (
            http({"error": {"message": "no"}}),
            Rejected(200, "no; look up on the provider's pages what it asks for"),
        ),
        (
            http(b"<html>", status=404),
            Rejected(
                404,
                "404, no type, 6 bytes;"
                " check FLUX_PROVIDER: the base URL with its prefix, without /v1;"
                " for an official model also FLUX_ROUTE",
            ),
        ),
    ],
)
async def test_refusals_are_read(
    serve: Serve, configured: Configured, request_: Request, reply: bytes, expected: object
) -> None:
    async with serve(answering(reply)) as server, Provider(configured(server.origin)) as provider:
        assert await provider.create(request_) == expected


async def test_an_error_status_decides_even_if_its_body_breaks_off(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    reply = http({"detail": "a detail that is longer than what arrives"}, status=422)
    async with (
        serve(partly(reply[:-9], then="reset")) as server,
        Provider(configured(server.origin)) as provider,
    ):
        outcome = await provider.create(request_)
    assert outcome == Refused(422, "422, application/json, cut")


async def test_a_cancelled_create_sends_nothing_more(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with serve(hang_after_request) as server, Provider(configured(server.origin)) as provider:
        task = asyncio.create_task(provider.create(request_))
        await server.received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(server.requests) == 1
