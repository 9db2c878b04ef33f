"""What is sent and read over a connection; where TLS never comes about, nothing was sent."""

import asyncio
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest

from flux_pipeline.outcomes import Accepted, Ambiguous, NeverSent
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.http import ApiClient, Reply
from flux_pipeline.provider.transport import AiohttpTransport, Headers
from flux_pipeline.request import Request
from tests.provider.certificates import serving, trusting, write_certificate
from tests.provider.samples import KEY, PATIENCE, Configured, http, patience, prediction_fields
from tests.provider.scripted_server import (
    Connection,
    ScriptedServer,
    Serve,
    answering,
    hang_at_once,
    partly,
    reset_after_request,
)

pytestmark = pytest.mark.anyio

GOOD = http(prediction_fields(), status=201)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key."""
    return write_certificate(tmp_path_factory.mktemp("tls") / "server.pem")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_certificate_that_nobody_signed_is_refused_before_anything_is_sent(
    configured: Configured, certificate: Path, request_: Request
) -> None:
    async with (
        ScriptedServer([answering(GOOD)], tls=serving(certificate)) as server,
        Provider(configured(server.origin)) as provider,
    ):
        outcome = await provider.create(request_)
    assert outcome == NeverSent(
        "127.0.0.1: certificate: self-signed certificate; if an authority of your own has signed"
        " it, set SSL_CERT_FILE to its PEM file; the request was not sent"
    )
    assert server.requests == []


async def test_a_server_without_tls_gets_nothing(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with serve(partly(b"", then="close"), answering(GOOD)) as server:
        config = configured(server.origin.replace("http", "https"), timeouts=patience(connect=0.1))
        async with Provider(config) as provider:
            outcome = await provider.create(request_)
    assert isinstance(outcome, NeverSent)
    assert server.requests == []


async def test_a_handshake_that_hangs_means_that_nothing_was_sent(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with serve(hang_at_once) as server:
        config = configured(server.origin.replace("http", "https"), timeouts=patience(connect=0.1))
        async with Provider(config) as provider:
            outcome = await provider.create(request_)
    assert outcome == NeverSent("127.0.0.1: no connection in time; the request was not sent")


async def test_the_deadline_holds_for_the_handshake_too(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with serve(hang_at_once) as server:
        config = configured(server.origin.replace("http", "https"), timeouts=patience(create=0.1))
        async with Provider(config) as provider:
            async with asyncio.timeout(PATIENCE / 2):
                outcome = await provider.create(request_)
    assert isinstance(outcome, NeverSent)


async def test_what_breaks_after_the_handshake_may_have_been_sent(
    configured: Configured, certificate: Path, request_: Request
) -> None:
    async with ScriptedServer(
        [reset_after_request, answering(GOOD)], tls=serving(certificate)
    ) as server:
        config = configured(server.origin)
        transport = AiohttpTransport(ssl_context=trusting(certificate))
        async with Provider(config) as provider, ApiClient(config, transport=transport) as calls:
            provider._api = calls
            first = await provider.create(request_)
            answer = await calls.send("GET", config.predictions_url, deadline=PATIENCE)
    assert isinstance(first, Ambiguous)
    assert isinstance(answer, Reply)
    assert answer.status == 201
    assert len(server.requests) == 2


async def test_http2_is_never_offered(configured: Configured, certificate: Path) -> None:
    context = serving(certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with ScriptedServer([answering(GOOD)], tls=context) as server:
        transport = AiohttpTransport(ssl_context=trusting(certificate))
        async with ApiClient(configured(server.origin), transport=transport) as calls:
            answer = await calls.send("GET", f"{server.origin}/v1", deadline=PATIENCE)
    assert isinstance(answer, Reply)
    assert server.requests[0].startswith(b"GET /v1 HTTP/1.1\r\n")
    assert not isinstance(answer, httpx.HTTPError)


async def test_a_request_goes_out_as_it_is_written(serve: Serve, configured: Configured) -> None:
    async with serve(answering(GOOD)) as server, ApiClient(configured(server.origin)) as calls:
        url = f"{server.origin}/v1/predictions"
        await calls.send("POST", url, content=b"{}", query={"a": "b c"}, deadline=PATIENCE)
        await calls.send("POST", f"{url}/x%2Fy/cancel", deadline=PATIENCE)
        await calls.send("GET", f"{url}/x", deadline=PATIENCE)
    own = (
        f"Host: 127.0.0.1:{server.port}\r\nuser-agent: flux-pipeline/{version('flux-pipeline')}\r\n"
        f"accept: application/json\r\naccept-encoding: identity\r\nauthorization: Bearer {KEY}\r\n"
    )
    assert [each.decode() for each in server.requests] == [
        (
            f"POST /v1/predictions?a=b+c HTTP/1.1\r\n{own}content-type: application/json\r\n"
            "Content-Length: 2\r\n\r\n{}"
        ),
        f"POST /v1/predictions/x%2Fy/cancel HTTP/1.1\r\n{own}Content-Length: 0\r\n\r\n",
        f"GET /v1/predictions/x HTTP/1.1\r\n{own}\r\n",
    ]
    assert server.connections == 1


async def test_a_header_can_not_begin_another_one(serve: Serve) -> None:
    async with serve(answering(GOOD)) as server, AiohttpTransport() as transport:
        with pytest.raises(ValueError, match="control characters"):
            await transport.send(
                "GET",
                server.origin,
                headers=[("accept", "a\r\nauthorization: b")],
                content=None,
                deadline=PATIENCE,
                connect=None,
                silence=None,
            )
    assert server.connections == 0


async def test_heads_that_another_one_follows_are_passed_over(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with (
        serve(answering(hints + hints + GOOD)) as server,
        Provider(configured(server.origin)) as provider,
    ):
        assert isinstance(await provider.create(request_), Accepted)


async def test_an_answer_that_ends_with_its_connection_is_whole(
    serve: Serve, configured: Configured
) -> None:
    reply = b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_000)
    async with (
        serve(partly(reply, then="close")) as server,
        ApiClient(configured(server.origin)) as calls,
    ):
        answer = await calls.send("GET", f"{server.origin}/v1", deadline=PATIENCE)
    assert isinstance(answer, Reply)
    assert answer.body == bytes(100_000)


async def test_a_connection_is_not_kept_where_the_reply_came_before_the_request_was_written(
    serve: Serve, configured: Configured
) -> None:
    async def refuse(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        await connection.send(http(status=413))
        await connection.hang()

    async with (
        serve(refuse, answering(GOOD)) as server,
        ApiClient(configured(server.origin)) as calls,
    ):
        url = f"{server.origin}/v1/files"
        first = await calls.send("POST", url, content=bytes(2**25), deadline=PATIENCE)
        second = await calls.send("GET", url, deadline=PATIENCE)
    assert isinstance(first, Reply)
    assert first.status == 413
    assert isinstance(second, Reply)
    assert second.status == 201
    assert server.connections == 2


async def test_a_reply_that_nobody_asked_for_is_no_reply_to_the_next_request(
    serve: Serve, configured: Configured
) -> None:
    async def say_more(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(GOOD)
        await asked_again.wait()
        await connection.send(http(prediction_fields(id="of-another-request")))
        await connection.hang()

    asked_again = asyncio.Event()
    async with (
        serve(say_more, answering(GOOD)) as server,
        AiohttpTransport() as transport,
        ApiClient(configured(server.origin), transport=transport) as calls,
    ):
        url = f"{server.origin}/v1/predictions"
        await calls.send("POST", url, content=b"{}", deadline=PATIENCE)
        asked_again.set()
        assert transport._connector is not None
        ((kept, _),) = next(iter(transport._connector._conns.values()))
        async with asyncio.timeout(PATIENCE):
            while not len(kept):  # noqa: ASYNC110 - aiohttp tells nobody
                await asyncio.sleep(0)
        answer = await calls.send("POST", url, content=b"{}", deadline=PATIENCE)
    assert isinstance(answer, Reply)
    assert b"of-another-request" not in answer.body
    assert server.connections == 2


def test_headers_are_found_by_their_names_in_lower_case() -> None:
    headers = Headers([(b"Retry-After", b"1"), (b"RETRY-AFTER", b"2"), (b"Date", b"today")])
    assert dict(headers) == {"retry-after": "2", "date": "today"}
    assert len(headers) == 2
    assert headers.get("via") is None
