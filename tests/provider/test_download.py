"""Outputs are fetched without the key, from public hosts that are allowed, and bounded."""

import asyncio
import gzip
import logging
import re
import traceback
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import pytest

from flux_pipeline.errors import DownloadError
from flux_pipeline.prediction import Output
from flux_pipeline.provider.config import ProviderConfig, Timeouts
from flux_pipeline.provider.download import Downloads
from tests.provider.samples import KEY, http
from tests.provider.wire import (
    Connection,
    Script,
    Wire,
    answering,
    close_after_request,
    hang_after_request,
    partly,
    reset_after_request,
    trickling,
)

pytestmark = pytest.mark.anyio

Configured = Callable[..., ProviderConfig]
Wired = Callable[..., AbstractAsyncContextManager[Wire]]
IMAGE = b"RIFF" + bytes(range(256)) * 40
WHOLE = http(IMAGE, headers={"Content-Type": "image/webp"})


async def failing(downloads: Downloads, url: str) -> DownloadError:
    with pytest.raises(DownloadError) as refused:
        await downloads.fetch(Output(0, url))
    return refused.value


async def test_an_output_is_fetched_whole_and_without_the_key(
    wired: Wired, configured: Configured
) -> None:
    async with wired(answering(WHOLE)) as wire, Downloads(configured(wire.origin)) as downloads:
        body = await downloads.fetch(Output(0, f"{wire.origin}/output/a/out-0.webp?sig=a%2Fb"))
    assert body == IMAGE
    assert wire.targets == ["GET /output/a/out-0.webp?sig=a%2Fb"]
    request = wire.requests[0].lower()
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
    wired: Wired, configured: Configured, status: int, retryable: bool, gone: bool
) -> None:
    async with wired(partly(http(status=status), then="close")) as wire:
        async with Downloads(configured(wire.origin)) as downloads:
            error = await failing(downloads, f"{wire.origin}/out-0.webp")
    assert (error.retryable, error.gone) == (retryable, gone)
    assert str(error) == f"127.0.0.1: answered {status}"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(reset_after_request, id="reset"),
        pytest.param(close_after_request, id="closed without a reply"),
        pytest.param(hang_after_request, id="hangs"),
        pytest.param(partly(WHOLE[:-9], then="close"), id="cut with a length"),
        pytest.param(partly(WHOLE[:-9], then="reset"), id="reset in the body"),
        pytest.param(partly(WHOLE[:-9], then="hang"), id="hangs in the body"),
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
    wired: Wired, configured: Configured, script: Script
) -> None:
    async with wired(script) as wire:
        config = configured(wire.origin, timeouts=Timeouts(connect=1.0, read=0.2, download=0.5))
        async with Downloads(config) as downloads:
            error = await failing(downloads, f"{wire.origin}/out-0.webp?sig=secret")
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
    wired: Wired, configured: Configured, body: bytes, kind: str, words: str
) -> None:
    reply = http(body, headers={"Content-Type": kind})
    async with wired(answering(reply)) as wire, Downloads(configured(wire.origin)) as downloads:
        error = await failing(downloads, f"{wire.origin}/out-0.webp")
    assert str(error) == f"127.0.0.1: 200 OK but not an image {words}"
    assert error.retryable


async def test_a_compressed_output_is_refused_unread(
    wired: Wired, configured: Configured
) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    reply = http(bomb, headers={"Content-Encoding": "gzip", "Content-Type": "image/webp"})
    async with wired(answering(reply)) as wire, Downloads(configured(wire.origin)) as downloads:
        error = await failing(downloads, f"{wire.origin}/out-0.webp")
    assert "compressed" in str(error)
    assert not error.retryable


async def test_a_declared_length_over_the_cap_is_enough(
    wired: Wired, configured: Configured
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n"
    async with wired(partly(head, then="hang")) as wire:
        config = configured(wire.origin, max_download_bytes=1_000_000)
        async with Downloads(config) as downloads:
            error = await failing(downloads, f"{wire.origin}/out-0.webp")
    assert str(error) == "127.0.0.1: more than 1000000 bytes"
    assert not error.retryable


async def test_an_endless_body_is_cut_at_the_cap(wired: Wired, configured: Configured) -> None:
    sent = 0

    async def endless(connection: Connection) -> None:
        nonlocal sent
        await connection.read_request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/webp\r\n\r\n")
        while True:
            await connection.send(b"x" * 65536)
            sent += 65536

    async with wired(endless) as wire:
        config = configured(wire.origin, max_download_bytes=500_000)
        async with Downloads(config) as downloads:
            error = await failing(downloads, f"{wire.origin}/out-0.webp")
    assert "more than 500000 bytes" in str(error)
    assert sent < 20_000_000


SPELLINGS = [
    "https://127.0.0.1/x",
    "https://127.1/x",
    "https://2130706433/x",
    "https://0177.0.0.1/x",
    "https://017700000001/x",
    "https://0x7f.0.0.1/x",
    "https://0x7f000001/x",
    "https://127.0.0.1./x",
    "https://0/x",
    "https://0.0.0.0/x",
    "https://10.0.0.1/x",
    "https://192.168.0.1:8443/x",
    "https://172.16.0.1/x",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/x",
    "https://224.0.0.1/x",
    "https://[::1]/x",
    "https://[::]/x",
    "https://[::ffff:127.0.0.1]/x",
    "https://[::ffff:7f00:1]/x",
    "https://[::127.0.0.1]/x",
    "https://[64:ff9b::7f00:1]/x",
    "https://[2002:7f00:1::]/x",
    "https://[fe80::1]/x",
    "https://[fe80::1%25eth0]/x",
    "https://[fd00::1]/x",
    "https://%31%32%37.0.0.1/x",
    "https://①②⑦.0.0.1/x",
    "https://127。0。0。1/x",
    "https://public.example@127.0.0.1/x",
    "https://127.0.0.1\\@public.example/x",
    "https://public.example\\@127.0.0.1/x",
    "https://127.0.0.1%00.public.example/x",
    "https://127.0.0.1\t.public.example/x",
    "https://public.example\n/x",
    "https://user:pw@public.example/x",
    "http://public.example/x",
    "http://127.0.0.1/x",
    "ftp://public.example/x",
    "file:///etc/passwd",
    "gopher://127.0.0.1/x",
    "//127.0.0.1/x",
    "https:///x",
    "https://",
    "https://[/x",
    "https://public.example:99999/x",
    "/etc/passwd",
    "",
    "https://public.example/" + "a" * 5000,
]


def image() -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(IMAGE))


@pytest.mark.parametrize("url", SPELLINGS)
async def test_no_spelling_leads_into_our_own_network(configured: Configured, url: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return image()

    config = configured("https://provider.example", output_hosts=("*",))
    async with Downloads(config, transport=httpx.MockTransport(answer)) as downloads:
        error = await failing(downloads, url)
    assert not error.retryable
    assert asked == []


@pytest.mark.parametrize("url", [each for each in SPELLINGS if re.match("[a-z]+://[^/]", each)])
async def test_no_redirect_leads_into_our_own_network(configured: Configured, url: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(302, headers=[(b"location", url.encode())])

    config = configured("https://provider.example", output_hosts=("*",))
    async with Downloads(config, transport=httpx.MockTransport(answer)) as downloads:
        await failing(downloads, "https://public.example/out-0.webp")
    assert len(asked) == 1


async def test_a_name_of_our_own_network_is_not_connected_to(
    wired: Wired, configured: Configured
) -> None:
    async with wired(answering(WHOLE)) as wire:
        config = configured("https://provider.example", output_hosts=("*",))
        async with Downloads(config) as downloads:
            error = await failing(downloads, f"https://localhost:{wire.port}/x?sig=secret")
    assert str(error) == "localhost: not a public address"
    assert not error.retryable
    assert wire.connections == 0


async def test_a_name_is_resolved_once_and_that_address_is_connected_to(
    configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that answers differently the second time gains nothing."""
    loop = asyncio.get_running_loop()
    names: list[str] = []
    connected: list[Any] = []

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        names.append(host)
        address = "203.0.114.9" if len(names) == 1 else "127.0.0.1"
        return [(2, 1, 6, "", (address, port))]

    async def sock_connect(_: Any, address: Any) -> None:
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(loop, "sock_connect", sock_connect)
    config = configured("https://provider.example", output_hosts=("*",))
    async with Downloads(config) as downloads:
        first = await failing(downloads, "https://rebinding.example/x")
    assert first.retryable
    assert names == ["rebinding.example"]
    assert connected == [("203.0.114.9", 443)]


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("replicate.delivery", True),
        ("pbxt.replicate.delivery", True),
        ("a.b.replicate.delivery", True),
        ("evilreplicate.delivery", False),
        ("replicate.delivery.evil.example", False),
        ("replicate.com", False),
        ("8.8.8.8", False),
    ],
)
async def test_only_hosts_on_the_list_are_asked(
    configured: Configured, host: str, allowed: bool
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return image()

    config = configured("https://provider.example")
    async with Downloads(config, transport=httpx.MockTransport(answer)) as downloads:
        if allowed:
            assert await downloads.fetch(Output(0, f"https://{host}/out-0.webp")) == IMAGE
        else:
            error = await failing(downloads, f"https://{host}/out-0.webp?sig=secret")
            assert "output_hosts" in str(error)
            assert "secret" not in str(error)
    assert asked == [host] * allowed


def chain(*targets: str) -> tuple[httpx.MockTransport, list[str]]:
    """Redirect from one target to the next; the last one answers."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        place = len(asked) - 1
        if place < len(targets):
            return httpx.Response(302, headers={"location": targets[place]})
        return image()

    return httpx.MockTransport(answer), asked


START = "https://a.replicate.delivery/0"


async def test_three_redirects_are_followed_and_no_more(configured: Configured) -> None:
    config = configured("https://provider.example")
    transport, asked = chain("/1", "https://b.replicate.delivery/2", "3")
    async with Downloads(config, transport=transport) as downloads:
        assert await downloads.fetch(Output(0, START)) == IMAGE
    assert asked == [
        START,
        "https://a.replicate.delivery/1",
        "https://b.replicate.delivery/2",
        "https://b.replicate.delivery/3",
    ]
    transport, asked = chain("/1", "/2", "/3", "/4")
    async with Downloads(config, transport=transport) as downloads:
        error = await failing(downloads, START)
    assert "more than 3 redirects" in str(error)
    assert len(asked) == 4


@pytest.mark.parametrize(
    "target",
    [
        "https://127.0.0.1/x",
        "https://169.254.169.254/latest",
        "http://a.replicate.delivery/x",
        "file:///etc/passwd",
        "https://evil.example/x",
        "https://[",
    ],
)
async def test_each_hop_is_checked(configured: Configured, target: str) -> None:
    transport, asked = chain("/1", target)
    config = configured("https://provider.example")
    async with Downloads(config, transport=transport) as downloads:
        error = await failing(downloads, START)
    assert not error.retryable
    assert len(asked) == 2


async def test_a_server_on_this_machine_can_t_send_us_to_its_neighbours(
    wired: Wired, configured: Configured
) -> None:
    async with wired(answering(WHOLE)) as neighbour:
        moved = http(status=302, headers={"Location": f"{neighbour.origin}/out-0.webp"})
        async with wired(answering(moved)) as wire, Downloads(configured(wire.origin)) as downloads:
            error = await failing(downloads, f"{wire.origin}/out-0.webp")
    assert not error.retryable
    assert neighbour.connections == 0


@pytest.mark.parametrize(
    ("uri", "body"),
    [
        ("data:image/webp;base64,aGFsbG8=", b"hallo"),
        ("data:image/webp;base64,aGFsbG8", b"hallo"),
        ("data:;base64,aGFs\nbG8=", b"hallo"),
        ("data:image/webp;base64,aGFsbG8%3D", b"hallo"),
        ("data:text/plain,a%20b", b"a b"),
    ],
)
async def test_inline_outputs_are_decoded(configured: Configured, uri: str, body: bytes) -> None:
    async with Downloads(configured("https://provider.example")) as downloads:
        assert await downloads.fetch(Output(0, uri)) == body


@pytest.mark.parametrize(
    ("uri", "retryable"),
    [
        ("data:image/webp;base64", True),
        ("data:image/webp;base64,a*b", True),
        ("data:image/webp;base64,aaaaa", True),
        ("data:image/webp;base64," + "A" * 2000, False),
    ],
)
async def test_damaged_and_oversized_inline_outputs_are_refused(
    configured: Configured, uri: str, retryable: bool
) -> None:
    config = configured("https://provider.example", max_download_bytes=1000)
    async with Downloads(config) as downloads:
        error = await failing(downloads, uri)
    assert error.retryable is retryable
    assert len(str(error)) < 100


async def test_no_query_is_ever_logged(
    wired: Wired, configured: Configured, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with wired(answering(WHOLE)) as wire, Downloads(configured(wire.origin)) as downloads:
        await downloads.fetch(Output(0, f"{wire.origin}/out-0.webp?sig=secret"))
        logging.getLogger("httpx").setLevel(logging.DEBUG)
        await downloads.fetch(Output(0, f"{wire.origin}/out-0.webp?sig=secret"))
    assert "out-0.webp" in caplog.text
    assert "secret" not in caplog.text
