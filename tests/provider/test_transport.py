"""TLS that can't be trusted, or never comes about, means that nothing was sent."""

import asyncio
from pathlib import Path

import httpx
import pytest

from flux_pipeline.outcomes import Ambiguous, NeverSent
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.http import ApiClient, Reply
from flux_pipeline.provider.transport import AiohttpTransport
from flux_pipeline.request import Request
from tests.provider.certificates import serving, trusting, write_certificate
from tests.provider.samples import PATIENCE, Configured, http, patience, prediction_fields
from tests.provider.scripted_server import (
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
