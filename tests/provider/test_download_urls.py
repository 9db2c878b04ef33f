"""Outputs come from public hosts that are allowed, whatever a URL or a redirect says."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from flux_pipeline.prediction import Output
from flux_pipeline.provider.download import Downloader
from tests.provider.samples import IMAGE, IMAGE_REPLY, Configured, failing, http
from tests.provider.scripted_server import (
    Serve,
    answering,
)

pytestmark = pytest.mark.anyio


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
    async with Downloader(config, transport=httpx.MockTransport(answer)) as downloads:
        error = await failing(downloads, url)
    assert not error.retryable
    assert asked == []


async def test_a_host_that_was_fetched_from_opens_no_other_spelling(configured: Configured) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return image()

    config = configured("https://provider.example", output_hosts=("*",))
    good = [f"https://public.example/out-{number}.webp" for number in range(3)]
    hidden = "https://public.example/\\@127.0.0.1/", "https://public.example/a b"
    async with Downloader(config, transport=httpx.MockTransport(answer)) as downloads:
        for url in good:
            await downloads.fetch(Output(0, url))
        for url in (*SPELLINGS, *hidden):
            await failing(downloads, url)
    assert asked == ["/out-0.webp", "/out-1.webp", "/out-2.webp"]


@pytest.mark.parametrize("url", [each for each in SPELLINGS if re.match("[a-z]+://[^/]", each)])
async def test_no_redirect_leads_into_our_own_network(configured: Configured, url: str) -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(302, headers=[(b"location", url.encode())])

    config = configured("https://provider.example", output_hosts=("*",))
    async with Downloader(config, transport=httpx.MockTransport(answer)) as downloads:
        await failing(downloads, "https://public.example/out-0.webp")
    assert len(asked) == 1


async def test_a_name_of_our_own_network_is_not_connected_to(
    serve: Serve, configured: Configured
) -> None:
    async with serve(answering(IMAGE_REPLY)) as server:
        config = configured("https://provider.example", output_hosts=("*",))
        async with Downloader(config) as downloads:
            error = await failing(downloads, f"https://localhost:{server.port}/x?sig=secret")
    assert str(error).startswith("localhost: its address ")
    assert "FLUX_OUTPUT_NETWORKS=" in str(error)
    assert not error.retryable
    assert server.connections == 0


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
    async with Downloader(config) as downloads:
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
    configured: Configured, host: str, *, allowed: bool
) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return image()

    config = configured("https://provider.example")
    async with Downloader(config, transport=httpx.MockTransport(answer)) as downloads:
        if allowed:
            assert await downloads.fetch(Output(0, f"https://{host}/out-0.webp")) == IMAGE
        else:
            error = await failing(downloads, f"https://{host}/out-0.webp?sig=secret")
            assert str(error).startswith(f"{host} is not one of the hosts")
            assert str(error).endswith(
                f"set FLUX_OUTPUT_HOSTS=replicate.delivery,*.replicate.delivery,{host}"
            )
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
    async with Downloader(config, transport=transport) as downloads:
        assert await downloads.fetch(Output(0, START)) == IMAGE
    assert asked == [
        START,
        "https://a.replicate.delivery/1",
        "https://b.replicate.delivery/2",
        "https://b.replicate.delivery/3",
    ]
    transport, asked = chain("/1", "/2", "/3", "/4")
    async with Downloader(config, transport=transport) as downloads:
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
    async with Downloader(config, transport=transport) as downloads:
        error = await failing(downloads, START)
    assert not error.retryable
    assert len(asked) == 2


async def test_a_server_on_this_machine_can_t_send_us_to_its_neighbours(
    serve: Serve, configured: Configured
) -> None:
    async with serve(answering(IMAGE_REPLY)) as neighbour:
        moved = http(status=302, headers={"Location": f"{neighbour.origin}/out-0.webp"})
        async with (
            serve(answering(moved)) as server,
            Downloader(configured(server.origin)) as downloads,
        ):
            error = await failing(downloads, f"{server.origin}/out-0.webp")
    assert not error.retryable
    assert neighbour.connections == 0
