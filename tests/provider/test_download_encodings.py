"""The bytes of an output decide what it is, whatever type and encoding its headers name."""

import io
import zlib

import pytest
from PIL import Image

from flux_pipeline.emulator.fault_replies import gzip_bomb
from flux_pipeline.prediction import Output
from flux_pipeline.provider.download import Downloader
from tests.provider.encoded import SIGNATURE, aws_chunked, packed
from tests.provider.samples import Configured, failing, http
from tests.provider.scripted_server import Serve, answering

pytestmark = pytest.mark.anyio


def picture(image_format: str) -> bytes:
    """A whole small image."""
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").save(file, image_format)
    return file.getvalue()


PICTURES = {name: picture(name) for name in ("WEBP", "PNG", "JPEG")}
WEBP = PICTURES["WEBP"]


async def fetched(
    serve: Serve, configured: Configured, body: bytes, headers: dict[str, str]
) -> bytes:
    async with (
        serve(answering(http(body, headers=headers))) as server,
        Downloader(configured(server.origin)) as downloads,
    ):
        return await downloads.fetch(Output(0, f"{server.origin}/out-0.webp"))


@pytest.mark.parametrize("image_format", PICTURES)
@pytest.mark.parametrize(
    "encoding",
    ["aws-chunked", "utf-8", "UTF-8", "", "identity", "binary", "gzip", "deflate", "br", "a, b"],
)
async def test_an_encoding_that_is_not_there_costs_no_picture(
    serve: Serve, configured: Configured, encoding: str, image_format: str
) -> None:
    body = PICTURES[image_format]
    headers = {"Content-Encoding": encoding, "Content-Type": "image/webp"}
    assert await fetched(serve, configured, body, headers) == body


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (packed(WEBP), "gzip"),
        (zlib.compress(WEBP), "deflate"),
        (aws_chunked(WEBP), "aws-chunked"),
        (aws_chunked(WEBP, extension=SIGNATURE), "aws-chunked"),
        (aws_chunked(packed(WEBP), extension=SIGNATURE), "gzip,aws-chunked"),
        (packed(WEBP), "identity"),
    ],
)
async def test_an_encoding_that_is_there_is_undone(
    serve: Serve, configured: Configured, body: bytes, encoding: str
) -> None:
    headers = {"Content-Encoding": encoding, "Content-Type": "image/webp"}
    assert await fetched(serve, configured, body, headers) == WEBP


@pytest.mark.parametrize(
    "kind",
    ["text/html", "application/json", "application/octet-stream", "binary/octet-stream", ""],
)
async def test_a_wrong_type_costs_no_picture(
    serve: Serve, configured: Configured, kind: str
) -> None:
    assert await fetched(serve, configured, WEBP, {"Content-Type": kind}) == WEBP


async def test_a_bomb_within_the_cap_of_the_wire_is_refused_and_stays_open(
    serve: Serve, configured: Configured
) -> None:
    reply = http(gzip_bomb(), headers={"Content-Encoding": "gzip", "Content-Type": "image/webp"})
    assert len(reply) < 1_000_000
    async with serve(answering(reply)) as server:
        config = configured(server.origin, max_download_bytes=1_000_000)
        async with Downloader(config) as downloads:
            error = await failing(downloads, f"{server.origin}/out-0.webp")
    assert str(error) == "127.0.0.1: a compressed output of more than 1000000 bytes"
    assert not error.retryable
    assert not error.gone


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b"wait", {"Content-Type": "text/plain"}, "(text/plain, 4 bytes)"),
        (packed(b"wait"), {"Content-Encoding": "gzip"}, "(no type, gzip, 4 bytes)"),
        (packed(WEBP)[:-20], {"Content-Encoding": "gzip"}, "(no type, gzip, "),
        (b"\x0b\x02\x80x\x03", {"Content-Encoding": "br"}, "(no type, br, 5 bytes)"),
    ],
)
async def test_what_is_no_picture_is_tried_again_and_says_what_came(
    serve: Serve, configured: Configured, body: bytes, headers: dict[str, str], *, words: str
) -> None:
    async with (
        serve(answering(http(body, headers=headers))) as server,
        Downloader(configured(server.origin)) as downloads,
    ):
        error = await failing(downloads, f"{server.origin}/out-0.webp")
    assert f"not an image {words}" in str(error)
    assert error.retryable
    assert not error.gone
