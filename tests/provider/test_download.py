"""Outputs are fetched without the key and bounded, or decoded from a data URI."""

import base64
import logging
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.errors import DownloadError
from flux_pipeline.prediction import Output
from flux_pipeline.provider.config import ProviderConfig, Timeouts
from flux_pipeline.provider.download import Downloader, decode_data_uri
from tests.provider.samples import IMAGE, IMAGE_REPLY, KEY, Configured, failing, http
from tests.provider.scripted_server import (
    Connection,
    Script,
    Serve,
    answering,
    close_after_request,
    hang_after_request,
    partly,
    reset_after_request,
    trickling,
)

pytestmark = pytest.mark.anyio


async def test_an_output_is_fetched_whole_and_without_the_key(
    serve: Serve, configured: Configured
) -> None:
    async with (
        serve(answering(IMAGE_REPLY)) as server,
        Downloader(configured(server.origin)) as downloads,
    ):
        body = await downloads.fetch(Output(0, f"{server.origin}/output/a/out-0.webp?sig=a%2Fb"))
    assert body == IMAGE
    assert server.targets == ["GET /output/a/out-0.webp?sig=a%2Fb"]
    request = server.requests[0].lower()
    assert KEY.encode() not in request
    assert b"authorization" not in request
    assert b"accept-encoding: identity" in request


@pytest.mark.parametrize(
    ("status", "retryable", "gone"),
    [
        *((status, False, True) for status in (401, 403, 404, 410)),
        *((status, True, False) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((status, False, False) for status in (204, 206, 300, 304, 400, 416, 451)),
    ],
)
async def test_every_status_says_what_may_help(
    serve: Serve, configured: Configured, status: int, *, retryable: bool, gone: bool
) -> None:
    async with (
        serve(partly(http(status=status), then="close")) as server,
        Downloader(configured(server.origin)) as downloads,
    ):
        error = await failing(downloads, f"{server.origin}/out-0.webp")
    assert (error.retryable, error.gone) == (retryable, gone)
    assert str(error) == f"127.0.0.1: answered {status}"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(reset_after_request, id="reset"),
        pytest.param(close_after_request, id="closed without a reply"),
        pytest.param(hang_after_request, id="hangs"),
        pytest.param(partly(IMAGE_REPLY[:-9], then="close"), id="cut with a length"),
        pytest.param(partly(IMAGE_REPLY[:-9], then="reset"), id="reset in the body"),
        pytest.param(partly(IMAGE_REPLY[:-9], then="hang"), id="hangs in the body"),
        pytest.param(
            partly(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nRIFFx\r\n", then="close"
            ),
            id="cut between chunks",
        ),
        pytest.param(
            trickling(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", seconds=0.05),
            id="one byte at a time",
        ),
    ],
)
async def test_what_breaks_on_the_way_may_be_tried_again(
    serve: Serve, configured: Configured, script: Script
) -> None:
    async with serve(script) as server:
        config = configured(
            server.origin, timeouts=Timeouts(connect=1.0, silence=0.1, download=0.3)
        )
        async with Downloader(config) as downloads:
            error = await failing(downloads, f"{server.origin}/out-0.webp?sig=secret")
    assert error.retryable
    assert not error.gone
    assert "secret" not in "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"<html>log in</html>", "text/html; charset=utf-8", "(text/html, 19 bytes)"),
        (b'{"detail": 1}', "application/json", "(application/json, 13 bytes)"),
        (b"", "image/webp", "(image/webp, 0 bytes)"),
    ],
)
async def test_what_is_no_image_is_named(
    serve: Serve, configured: Configured, body: bytes, kind: str, words: str
) -> None:
    reply = http(body, headers={"Content-Type": kind})
    async with (
        serve(answering(reply)) as server,
        Downloader(configured(server.origin)) as downloads,
    ):
        error = await failing(downloads, f"{server.origin}/out-0.webp")
    assert str(error) == f"127.0.0.1: 200 OK but not an image {words}"
    assert error.retryable


async def test_a_declared_length_over_the_cap_is_enough(
    serve: Serve, configured: Configured
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n"
    async with serve(partly(head, then="hang")) as server:
        config = configured(server.origin, max_download_bytes=1_000_000)
        async with Downloader(config) as downloads:
            error = await failing(downloads, f"{server.origin}/out-0.webp")
    assert str(error) == "127.0.0.1: more than 1000000 bytes"
    assert not error.retryable


async def test_an_endless_body_is_cut_at_the_cap(serve: Serve, configured: Configured) -> None:
    sent = 0

    async def endless(connection: Connection) -> None:
        nonlocal sent
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/webp\r\n\r\n")
        while True:
            await connection.send(b"x" * 65536)
            sent += 65536

    async with serve(endless) as server:
        config = configured(server.origin, max_download_bytes=500_000)
        async with Downloader(config) as downloads:
            error = await failing(downloads, f"{server.origin}/out-0.webp")
    assert "more than 500000 bytes" in str(error)
    assert sent < 20_000_000


async def test_no_query_is_ever_logged(
    serve: Serve, configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        serve(answering(IMAGE_REPLY)) as server,
        Downloader(configured(server.origin)) as downloads,
    ):
        await downloads.fetch(Output(0, f"{server.origin}/out-0.webp?sig=secret"))
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("uri", "body"),
    [
        ("data:image/webp;base64,aGFsbG8=", b"hallo"),
        ("data:image/webp;base64,aGFsbG8", b"hallo"),
        ("data:;base64,aGFs\nbG8=", b"hallo"),
        ("data:image/webp;base64,aGFsbG8%3D", b"hallo"),
        ("data:text/plain,a%20b", b"a b"),
        ("data:,", b""),
    ],
)
def test_data_uris_are_decoded(uri: str, body: bytes) -> None:
    assert decode_data_uri(uri, 1000) == body


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=300))
def test_every_body_comes_back(body: bytes) -> None:
    uri = "data:image/png;base64," + base64.b64encode(body).decode()
    assert decode_data_uri(uri, 300) == body


@pytest.mark.parametrize(
    ("uri", "retryable"),
    [
        ("data:image/webp;base64", True),
        ("data:image/webp;base64,a*b", True),
        ("data:image/webp;base64,aaaaa", True),
        ("data:image/webp;base64," + "A" * 2000, False),
    ],
)
def test_what_is_damaged_or_too_long_is_refused(uri: str, *, retryable: bool) -> None:
    with pytest.raises(DownloadError) as refused:
        decode_data_uri(uri, 1000)
    assert refused.value.retryable is retryable
    assert len(str(refused.value)) < 100


@pytest.mark.anyio
async def test_inline_outputs_need_no_network() -> None:
    config = ProviderConfig(base_url="https://provider.example", api_key=KEY)
    async with Downloader(config) as downloads:
        assert await downloads.fetch(Output(0, "data:;base64,aGFsbG8=")) == b"hallo"
