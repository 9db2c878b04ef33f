"""Outputs on hosts and networks that a person has to allow: the refusal says exactly what to set.

The files lie on a server with TLS on this machine; ``getaddrinfo`` gives its names.
"""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.errors import DownloadError
from flux_pipeline.prediction import Output
from flux_pipeline.provider import transport
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.settings import Settings
from tests.provider.certificates import serving, trusting, write_certificate
from tests.provider.samples import IMAGE, IMAGE_REPLY, Configured, http
from tests.provider.scripted_server import ScriptedServer, Serve, answering

pytestmark = pytest.mark.anyio

NAME = "cdn.example"
PROVIDER = "https://provider.example"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_certificate(tmp_path_factory.mktemp("tls") / "server.pem", NAME, "localhost")


@pytest.fixture
async def files(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ScriptedServer]:
    """A server of files, whose certificate is trusted."""
    context = trusting(certificate)
    monkeypatch.setattr(transport, "verifying_context", lambda _: context)
    async with ScriptedServer([answering(IMAGE_REPLY)], tls=serving(certificate)) as server:
        yield server


@pytest.fixture
async def give_address(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give the name an address, as DNS does; all of its connections end on this machine.

    So does a proxy tool, which gives every name an address in 198.18.0.0/15 and tunnels what is
    sent there.
    """
    loop = asyncio.get_running_loop()
    real_connect = loop.sock_connect

    def give(address: str) -> None:
        async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            assert host == NAME
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

        async def sock_connect(sock: socket.socket, to: Any) -> None:
            assert to[0] == address
            await real_connect(sock, ("127.0.0.1", to[1]))

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
        monkeypatch.setattr(loop, "sock_connect", sock_connect)

    return give


async def fetch(config: ProviderConfig, url: str) -> bytes:
    async with Provider(config) as provider:
        return await provider.download(Output(0, url))


async def refusal(config: ProviderConfig, url: str) -> str:
    """Why an output was refused: it stays open, and the reason holds no query."""
    with pytest.raises(DownloadError) as refused:
        await fetch(config, f"{url}?sig=secret")
    assert not refused.value.gone
    assert "secret" not in str(refused.value)
    return str(refused.value)


def settings_in(message: str) -> dict[str, tuple[str, ...]]:
    """The fields of a config that a message says to set, as the settings read them."""
    found = re.search(r"set (FLUX_OUTPUT_\w+)=(\S+)$", message)
    assert found, message
    settings = Settings.from_environment({found[1]: found[2]})
    name = found[1].removeprefix("FLUX_").lower()
    return {name: getattr(settings, name)}


@pytest.mark.parametrize("hosts", [("replicate.delivery", "*.replicate.delivery"), ()])
async def test_a_host_that_is_not_allowed_is_fetched_from_once_its_advice_is_followed(
    files: ScriptedServer,
    configured: Configured,
    give_address: Callable[[str], None],
    hosts: tuple[str, ...],
) -> None:
    give_address("8.8.8.8")
    url = f"https://{NAME}:{files.port}/out-0.webp"
    message = await refusal(configured(PROVIDER, output_hosts=hosts), url)
    assert message == (
        f"{NAME} is not one of the hosts that outputs are fetched from; if it is your provider's,"
        f" set FLUX_OUTPUT_HOSTS={','.join([*hosts, NAME])}"
    )
    assert files.connections == 0
    assert await fetch(configured(PROVIDER, **settings_in(message)), url) == IMAGE


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("198.18.0.7", "198.18.0.0/15"),
        ("10.20.30.40", "10.0.0.0/8"),
        ("127.0.0.1", "127.0.0.0/8"),
    ],
)
async def test_a_name_in_a_private_network_is_fetched_from_once_its_advice_is_followed(
    files: ScriptedServer,
    configured: Configured,
    give_address: Callable[[str], None],
    *,
    address: str,
    network: str,
) -> None:
    give_address(address)
    url = f"https://{NAME}:{files.port}/out-0.webp"
    message = await refusal(configured(PROVIDER, output_hosts=(NAME,)), url)
    assert message.startswith(f"{NAME}: its address {address} is not a public one; ")
    assert message.endswith(f"set FLUX_OUTPUT_NETWORKS={network}")
    assert files.connections == 0
    config = configured(PROVIDER, output_hosts=(NAME,), **settings_in(message))
    assert await fetch(config, url) == IMAGE


async def test_a_literal_private_address_is_fetched_from_once_its_advice_is_followed(
    files: ScriptedServer, configured: Configured
) -> None:
    url = f"https://127.0.0.1:{files.port}/out-0.webp"
    config = configured(PROVIDER, output_hosts=("*",), output_networks=("198.18.0.0/15",))
    message = await refusal(config, url)
    assert message.startswith("127.0.0.1: its address 127.0.0.1 is not a public one; ")
    assert message.endswith("set FLUX_OUTPUT_NETWORKS=198.18.0.0/15,127.0.0.0/8")
    assert files.connections == 0
    mended = configured(PROVIDER, output_hosts=("*",), **settings_in(message))
    assert await fetch(mended, url) == IMAGE


async def test_a_network_opens_no_host_that_is_not_allowed(
    files: ScriptedServer, configured: Configured
) -> None:
    config = configured(PROVIDER, output_networks=("127.0.0.0/8",))
    message = await refusal(config, f"https://127.0.0.1:{files.port}/out-0.webp")
    assert "FLUX_OUTPUT_HOSTS=" in message
    assert files.connections == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "100.100.100.200"])
async def test_a_wide_network_opens_neither_this_machine_nor_metadata(
    files: ScriptedServer,
    configured: Configured,
    give_address: Callable[[str], None],
    *,
    address: str,
) -> None:
    give_address(address)
    wide = ("0.0.0.0/0", "::/0")
    config = configured(PROVIDER, output_hosts=("*",), output_networks=wide)
    for host in (NAME, address):
        message = await refusal(config, f"https://{host}:{files.port}/out-0.webp")
        assert f"its address {address} is not a public one" in message
        assert ("FLUX_OUTPUT_NETWORKS" in message) == (address == "127.0.0.1")
    assert files.connections == 0


@pytest.mark.parametrize("target", ["https://{}/x?sig=secret", "//{}/x?sig=secret"])
async def test_a_redirect_to_a_host_that_is_not_allowed_says_what_to_set(
    certificate: Path,
    configured: Configured,
    give_address: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    target: str,
) -> None:
    context = trusting(certificate)
    monkeypatch.setattr(transport, "verifying_context", lambda _: context)
    give_address("8.8.8.8")
    moved = http(status=302, headers={"Location": target.format("other.example")})
    async with ScriptedServer([answering(moved)], tls=serving(certificate)) as server:
        config = configured(PROVIDER, output_hosts=(NAME,))
        message = await refusal(config, f"https://{NAME}:{server.port}/out-0.webp")
    assert message.startswith("other.example is not one of the hosts")
    assert message.endswith(f"set FLUX_OUTPUT_HOSTS={NAME},other.example")
    assert len(server.requests) == 1


async def test_an_output_without_tls_says_that_https_is_needed(configured: Configured) -> None:
    config = configured(PROVIDER, output_hosts=("*",))
    assert await refusal(config, f"http://{NAME}/out-0.webp") == (
        f"{NAME}: only https is fetched; have the provider give such URLs"
    )


async def test_a_relative_redirect_stays_on_its_host(serve: Serve, configured: Configured) -> None:
    for target in ("/b/out-0.webp", "../b/out-0.webp", "?again=1"):
        moved = http(status=307, headers={"Location": target})
        async with serve(answering(moved, IMAGE_REPLY)) as server:
            url = f"{server.origin}/a/out-0.webp"
            assert await fetch(configured(server.origin), url) == IMAGE
        expected = {"?again=1": "GET /a/out-0.webp?again=1"}.get(target, "GET /b/out-0.webp")
        assert server.targets == ["GET /a/out-0.webp", expected]


async def test_a_redirect_loop_ends_and_stays_open(serve: Serve, configured: Configured) -> None:
    moved = http(status=302, headers={"Location": "/out-0.webp"})
    async with serve(answering(moved)) as server:
        message = await refusal(configured(server.origin), f"{server.origin}/out-0.webp")
    assert message == "127.0.0.1: more than 3 redirects"
    assert len(server.requests) == 4


async def test_a_redirect_without_a_target_stays_open(serve: Serve, configured: Configured) -> None:
    async with serve(answering(http(status=302))) as server:
        message = await refusal(configured(server.origin), f"{server.origin}/out-0.webp")
    assert message == "127.0.0.1: answered 302"
