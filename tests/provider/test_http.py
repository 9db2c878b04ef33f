"""The key goes to one origin; replies are capped, also those that unpack."""

import json
import zlib

import pytest

from flux_pipeline.outcomes import Accepted, Ambiguous, Refused
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.http import ApiClient
from flux_pipeline.request import Request
from tests.provider.encoded import aws_chunked, packed
from tests.provider.samples import Configured, http, prediction_fields
from tests.provider.scripted_server import Connection, Serve, answering

pytestmark = pytest.mark.anyio

GOOD = json.dumps(prediction_fields()).encode()


@pytest.mark.parametrize(
    "url",
    [
        "https://api.replicate.com/v1/predictions",
        "http://127.0.0.1:1/v1/predictions",
        "http://localhost:{port}/v1/predictions",
        "https://127.0.0.1:{port}/v1/predictions",
        "http://user@127.0.0.1.evil.example/",
        "/v1/predictions",
    ],
)
async def test_a_url_of_another_origin_is_never_sent_with_the_key(
    serve: Serve, configured: Configured, url: str
) -> None:
    async with serve(answering(http())) as server, ApiClient(configured(server.origin)) as calls:
        with pytest.raises(ValueError, match="the key is for the configured origin only"):
            await calls.send("GET", url.format(port=server.port), deadline=1.0)
    assert server.connections == 0


@pytest.mark.parametrize(
    "value", ["../cancel", "a/../b", "a//b", "", "a" * 256, "a?b", "a%2fb", "a\nb"]
)
async def test_what_is_no_id_is_not_asked_for(configured: Configured, value: str) -> None:
    async with Provider(configured("https://api.example")) as provider:
        for call in (provider.poll, provider.cancel):
            with pytest.raises(ValueError, match="not a prediction's id"):
                await call(value)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (packed(GOOD), "gzip"),
        (packed(GOOD), "GZIP"),
        (packed(packed(GOOD)), "gzip, gzip"),
        (packed(GOOD), "identity"),
        (zlib.compress(GOOD), "deflate"),
        (aws_chunked(GOOD), "aws-chunked"),
        (GOOD, "aws-chunked"),
        (GOOD, "utf-8"),
        (GOOD, ""),
        (GOOD, "gzip"),
        (GOOD, "br"),
        (b"\xef\xbb\xbf" + GOOD, "identity"),
    ],
)
async def test_the_bytes_decide_how_a_reply_is_encoded(
    serve: Serve, configured: Configured, request_: Request, body: bytes, encoding: str
) -> None:
    reply = http(body, status=201, headers={"Content-Encoding": encoding})
    async with serve(answering(reply)) as server, Provider(configured(server.origin)) as provider:
        assert isinstance(await provider.create(request_), Accepted)


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (packed(bytes(2_000_000)), "gzip", "too large"),
        (packed(GOOD)[:-20], "gzip", "no JSON"),
        (b"plain", "gzip", "no JSON"),
        (b"\x0b\x02\x80{}\x03", "br", "no JSON"),
    ],
)
async def test_a_reply_that_can_t_be_unpacked_is_ambiguous(
    serve: Serve,
    configured: Configured,
    request_: Request,
    *,
    body: bytes,
    encoding: str,
    words: str,
) -> None:
    reply = http(body, status=201, headers={"Content-Encoding": encoding})
    async with (
        serve(answering(reply)) as server,
        Provider(configured(server.origin, max_reply_bytes=1_000_000)) as provider,
    ):
        outcome = await provider.create(request_)
    assert isinstance(outcome, Ambiguous)
    assert words in outcome.reason


async def test_errors_are_read_up_to_a_mebibyte(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    reply = http(b" " * (2**20 + 1), status=422)
    async with serve(answering(reply)) as server, Provider(configured(server.origin)) as provider:
        assert await provider.create(request_) == Refused(422, "422, no type, too large")


async def test_a_reply_of_100_mb_is_not_read(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    sent = 0

    async def huge(connection: Connection) -> None:
        nonlocal sent
        await connection.read_request()
        await connection.send(b"HTTP/1.1 201 C\r\nContent-Length: 104857600\r\n\r\n")
        while sent < 104_857_600:
            await connection.send(b" " * 65536)
            sent += 65536

    async with serve(huge) as server, Provider(configured(server.origin)) as provider:
        outcome = await provider.create(request_)
    assert outcome == Ambiguous("127.0.0.1: the reply was not read (201, no type, too large)")
    assert sent < 10_000_000


async def test_an_endless_reply_is_cut_at_the_cap(
    serve: Serve, configured: Configured, request_: Request
) -> None:
    async def endless(connection: Connection) -> None:
        await connection.read_request()
        await connection.send(b"HTTP/1.1 201 C\r\n\r\n")
        while True:
            await connection.send(b" " * 65536)

    async with serve(endless) as server:
        config = configured(server.origin, max_reply_bytes=300_000)
        async with Provider(config) as provider:
            outcome = await provider.create(request_)
    assert isinstance(outcome, Ambiguous)
    assert "too large" in outcome.reason
