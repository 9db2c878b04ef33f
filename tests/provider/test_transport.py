"""TLS that can't be trusted, or never comes about, means that nothing was sent."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flux_pipeline.outcomes import Ambiguous, NeverSent
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import Timeouts
from flux_pipeline.provider.http import ApiClient, Reply
from flux_pipeline.provider.transport import AiohttpTransport
from flux_pipeline.request import Request
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
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def serving(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


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
        "127.0.0.1: certificate: self-signed certificate; the request was not sent"
    )
    assert server.requests == []


async def test_a_server_without_tls_gets_nothing(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with serve(partly(b"", then="close"), answering(GOOD)) as server:
        config = configured(
            server.origin.replace("http", "https"), timeouts=Timeouts(connect=0.1, create=2.0)
        )
        async with Provider(config) as provider:
            outcome = await provider.create(request_)
    assert isinstance(outcome, NeverSent)
    assert server.requests == []


async def test_a_handshake_that_hangs_means_that_nothing_was_sent(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async with serve(hang_at_once) as server:
        config = configured(
            server.origin.replace("http", "https"), timeouts=Timeouts(connect=0.1, create=2.0)
        )
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
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with ScriptedServer(
        [reset_after_request, answering(GOOD)], tls=serving(certificate)
    ) as server:
        config = configured(server.origin)
        transport = AiohttpTransport(ssl_context=trusting)
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
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with ScriptedServer([answering(GOOD)], tls=context) as server:
        transport = AiohttpTransport(ssl_context=trusting)
        async with ApiClient(configured(server.origin), transport=transport) as calls:
            answer = await calls.send("GET", f"{server.origin}/v1", deadline=PATIENCE)
    assert isinstance(answer, Reply)
    assert server.requests[0].startswith(b"GET /v1 HTTP/1.1\r\n")
    assert not isinstance(answer, httpx.HTTPError)
