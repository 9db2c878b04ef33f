"""Downloads through a proxy: it resolves names, and all else is checked as without it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.network import Network
from flux_pipeline.prediction import Output
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.download import Downloader
from tests.provider.certificates import serving, write_authority
from tests.provider.samples import IMAGE, IMAGE_REPLY, Configured, failing, http
from tests.provider.scripted_server import ScriptedServer, answering
from tests.servers.connect_proxy import ConnectProxy, connect_proxy

pytestmark = pytest.mark.anyio

FILES = "files.company.test"
URL = f"https://{FILES}/out-0.webp"


@dataclass
class Reached:
    """A server of files, the proxy before it, and the file of its authority."""

    server: ScriptedServer
    proxy: ConnectProxy
    ca_file: str
    configured: Configured

    def config(self, no_proxy: str = "", **changes: Any) -> ProviderConfig:
        network = Network(
            proxy=f"http://{self.proxy.address}", no_proxy=no_proxy, ca_file=self.ca_file
        )
        given = {"output_hosts": (FILES,), **changes}
        return self.configured("https://api.company.test", network=network, **given)


@pytest.fixture
async def reached(configured: Configured, tmp_path: Path) -> AsyncIterator[Reached]:
    authority, shown = write_authority(tmp_path, FILES)
    async with ScriptedServer([answering(IMAGE_REPLY)], tls=serving(shown)) as server:
        proxy = ConnectProxy({f"{FILES}:443": server.port})
        with connect_proxy(proxy):
            yield Reached(server, proxy, str(authority), configured)


async def test_a_name_that_the_proxy_alone_knows_is_fetched(reached: Reached) -> None:
    async with Downloader(reached.config()) as downloads:
        assert await downloads.fetch(Output(0, URL)) == IMAGE
    assert reached.proxy.heads == [f"CONNECT {FILES}:443"]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://10.0.0.7/x.webp", "10.0.0.0/8"),
        ("https://127.0.0.1/x.webp", "127.0.0.0/8"),
        ("https://169.254.169.254/x", "link-local"),
        ("https://2130706433/x", "not a public one"),
        ("https://elsewhere.test/x", "FLUX_OUTPUT_HOSTS"),
        (f"http://{FILES}/x", "only https"),
    ],
)
async def test_what_is_refused_without_a_proxy_is_refused_before_the_proxy_is_asked(
    reached: Reached, url: str, words: str
) -> None:
    async with Downloader(reached.config()) as downloads:
        refused = await failing(downloads, url)
    assert words in str(refused)
    assert reached.proxy.heads == []


async def test_redirects_are_checked_through_a_proxy_too(
    configured: Configured, tmp_path: Path
) -> None:
    authority, shown = write_authority(tmp_path, FILES)
    away = http(status=302, headers={"Location": "https://10.0.0.7/x.webp"})
    async with ScriptedServer([answering(away)], tls=serving(shown)) as server:
        proxy = ConnectProxy({f"{FILES}:443": server.port})
        with connect_proxy(proxy):
            config = Reached(server, proxy, str(authority), configured).config()
            async with Downloader(config) as downloads:
                refused = await failing(downloads, URL)
    assert "FLUX_OUTPUT_NETWORKS=10.0.0.0/8" in str(refused)
    assert len(proxy.heads) == 1


async def test_a_host_that_needs_no_proxy_is_resolved_and_guarded_here(
    reached: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        assert host == FILES
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    async with Downloader(reached.config(no_proxy=".company.test")) as downloads:
        refused = await failing(downloads, URL)
    assert "FLUX_OUTPUT_NETWORKS=10.0.0.0/8" in str(refused)
    assert reached.proxy.heads == []


async def test_the_proxys_own_name_is_no_way_into_a_private_network(
    configured: Configured,
) -> None:
    network = Network(proxy="http://localhost:3128", no_proxy="*")
    config = configured("https://api.company.test", network=network, output_hosts=("*",))
    async with Downloader(config) as downloads:
        refused = await failing(downloads, "https://localhost:3128/x.webp")
    assert str(refused) == "localhost: the proxy itself is not fetched from"


async def test_a_proxy_that_refuses_may_let_a_later_try_pass(reached: Reached) -> None:
    reached.proxy.status = 503
    async with Downloader(reached.config()) as downloads:
        refused = await failing(downloads, URL)
    assert refused.retryable
    assert "answered 503 to CONNECT" in str(refused)
