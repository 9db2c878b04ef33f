"""Calls through a proxy: until TLS stands in the tunnel, nothing was sent."""

import base64
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.emulator.options import EmulatorOptions
from flux_pipeline.emulator.server import EmulatorServer
from flux_pipeline.errors import ConfigError
from flux_pipeline.network import Network
from flux_pipeline.outcomes import (
    Accepted,
    Ambiguous,
    CreateOutcome,
    NeverSent,
    Polled,
    PollFailed,
    Stopped,
)
from flux_pipeline.prediction import Output
from flux_pipeline.provider.client import Provider
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.provider.download import is_image
from flux_pipeline.request import Request
from tests.provider.certificates import serving, write_authority, write_certificate
from tests.provider.samples import ID, Configured, http, patience, prediction_fields
from tests.provider.scripted_server import (
    Script,
    ScriptedServer,
    Serve,
    answering,
    close_after_request,
    reset_after_request,
)
from tests.servers.connect_proxy import ConnectProxy, connect_proxy, tls_before
from tests.servers.ports import free_port

pytestmark = pytest.mark.anyio

HOST = "api.company.test"
TARGET = f"{HOST}:443"
GOOD = http(prediction_fields(), status=201)
CANARY = "canary%40Kq7"
"""The encoded password of ``user``."""
USER = "user:canary@Kq7"
SECRETS = ("canary", base64.b64encode(USER.encode()).decode())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A company's authority, and what its servers show."""
    names = (HOST, "files.company.test", "proxy.company.test", "localhost")
    return write_authority(tmp_path_factory.mktemp("authority"), *names)


@pytest.fixture(autouse=True)
def nothing_logs_the_password(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    yield
    for secret in SECRETS:
        assert secret not in caplog.text


@asynccontextmanager
async def company(
    authority: tuple[Path, Path], *scripts: Script, **behaviour: Any
) -> AsyncIterator[tuple[ScriptedServer, ConnectProxy]]:
    """A server, and the proxy through which alone it is reached."""
    async with ScriptedServer(scripts or [answering(GOOD)], tls=serving(authority[1])) as server:
        proxy = ConnectProxy({TARGET: server.port}, **behaviour)
        with connect_proxy(proxy):
            yield server, proxy


def through(proxy: ConnectProxy, authority: tuple[Path, Path], user: str = "") -> Network:
    """The network of a machine that has this proxy and trusts this authority."""
    return Network(proxy=f"http://{user}{proxy.address}", ca_file=str(authority[0]))


async def create(config: ProviderConfig, request: Request) -> CreateOutcome:
    async with Provider(config) as provider:
        return await provider.create(request)


@pytest.mark.parametrize(
    "established",
    [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nProxy-agent: some\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
    ],
)
async def test_calls_go_through_one_tunnel_and_the_server_sees_nothing_of_the_proxy(
    configured: Configured, authority: tuple[Path, Path], request_: Request, established: str
) -> None:
    async with company(authority, user=USER, established=established) as (server, proxy):
        network = through(proxy, authority, f"user:{CANARY}@")
        async with Provider(configured(f"https://{HOST}", network=network)) as provider:
            outcomes = [await provider.create(request_), await provider.poll(ID)]
    assert [type(each) for each in outcomes] == [Accepted, Polled]
    assert proxy.heads == [f"CONNECT {TARGET}"]
    assert [each.lower().count(b"proxy") for each in server.requests] == [0, 0]


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("", "wants a user and a password (407): write them before its host in HTTPS_PROXY"),
        (f"user:{CANARY}x@", "refused the user and password in HTTPS_PROXY (407)"),
    ],
)
async def test_a_proxy_that_wants_another_user_gets_nothing_of_the_request(
    configured: Configured,
    authority: tuple[Path, Path],
    request_: Request,
    user: str,
    words: str,
) -> None:
    async with company(authority, user=USER) as (server, proxy):
        network = through(proxy, authority, user)
        outcome = await create(configured(f"https://{HOST}", network=network), request_)
    assert outcome == Stopped(
        "proxy", f"{HOST}: the proxy {proxy.address} {words}; nothing was sent"
    )
    assert (server.connections, proxy.tunnelled) == (0, 0)
    assert "canary" not in repr(outcome)


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"status": 502}, "the proxy {} answered 502 to CONNECT"),
        ({"status": 201}, "the proxy {} answered 201 to CONNECT"),
        ({"status": 302}, "the proxy {} answered 302 to CONNECT"),
        ({"cuts": True}, "through the proxy {}: the server closed the connection"),
        ({"breaks": True}, "through the proxy {}: "),
        ({"established": "SSH-2.0-some\r\n\r\n"}, "through the proxy {}: the reply is no HTTP"),
    ],
)
async def test_whatever_goes_wrong_before_the_tunnel_stands_means_that_nothing_was_sent(
    configured: Configured,
    authority: tuple[Path, Path],
    request_: Request,
    behaviour: dict[str, Any],
    words: str,
) -> None:
    async with company(authority, **behaviour) as (server, proxy):
        network = through(proxy, authority, f"user:{CANARY}@")
        outcome = await create(configured(f"https://{HOST}", network=network), request_)
    assert isinstance(outcome, NeverSent)
    assert outcome.reason.startswith(f"{HOST}: {words.format(proxy.address)}")
    assert outcome.reason.endswith("; the request was not sent")
    assert server.requests == []
    assert len(proxy.heads) == 1


async def test_a_proxy_that_forbids_the_host_stops_the_creates_and_no_poll(
    configured: Configured, authority: tuple[Path, Path], request_: Request
) -> None:
    async with company(authority, status=403) as (server, proxy):
        config = configured(f"https://{HOST}", network=through(proxy, authority))
        outcome = await create(config, request_)
        async with Provider(config) as provider:
            polled = await provider.poll(ID)
    words = f"{HOST}: the proxy {proxy.address} answered 403 to CONNECT; have it allow this host"
    assert isinstance(outcome, Stopped)
    assert outcome.reason.startswith(words)
    assert isinstance(polled, PollFailed)  # what is paid is asked for again
    assert (server.connections, proxy.tunnelled) == (0, 0)


async def test_a_proxy_that_hangs_means_that_nothing_was_sent(
    configured: Configured, authority: tuple[Path, Path], request_: Request
) -> None:
    async with company(authority, hangs=True) as (server, proxy):
        config = configured(
            f"https://{HOST}",
            network=through(proxy, authority),
            timeouts=patience(connect=0.1),
        )
        outcome = await create(config, request_)
    assert outcome == NeverSent(
        f"{HOST}: no connection in time through the proxy {proxy.address}; the request was not sent"
    )
    assert server.connections == 0


async def test_a_proxy_that_is_down_means_that_nothing_was_sent(
    configured: Configured, request_: Request
) -> None:
    address = f"127.0.0.1:{free_port()}"
    network = Network(proxy=f"http://user:{CANARY}@{address}")
    outcome = await create(configured(f"https://{HOST}", network=network), request_)
    assert outcome == NeverSent(
        f"{HOST}: the proxy {address} can't be reached (Connection refused); correct HTTPS_PROXY;"
        " the request was not sent"
    )


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_certificate_that_the_proxy_has_made_names_the_variable_to_set(
    configured: Configured, authority: tuple[Path, Path], request_: Request, tmp_path: Path
) -> None:
    other = write_certificate(tmp_path / "other.pem", HOST)
    async with company((authority[0], other)) as (server, proxy):
        network = Network(proxy=f"http://{proxy.address}")
        outcome = await create(configured(f"https://{HOST}", network=network), request_)
    assert isinstance(outcome, NeverSent)
    assert "set SSL_CERT_FILE to its PEM file; the request was not sent" in outcome.reason
    assert server.requests == []


@pytest.mark.parametrize("script", [reset_after_request, close_after_request])
async def test_what_breaks_in_the_tunnel_may_have_been_sent(
    configured: Configured, authority: tuple[Path, Path], request_: Request, script: Script
) -> None:
    async with company(authority, script) as (server, proxy):
        config = configured(f"https://{HOST}", network=through(proxy, authority))
        outcome = await create(config, request_)
    assert isinstance(outcome, Ambiguous)
    assert len(server.requests) == 1


async def test_a_407_inside_of_the_tunnel_is_the_servers_and_not_the_proxys(
    configured: Configured, authority: tuple[Path, Path], request_: Request
) -> None:
    async with company(authority, answering(http(b"", status=407))) as (_, proxy):
        config = configured(f"https://{HOST}", network=through(proxy, authority))
        outcome = await create(config, request_)
    assert not isinstance(outcome, NeverSent)


async def test_this_machine_is_called_without_the_proxy(
    configured: Configured, serve: Serve, request_: Request
) -> None:
    proxy = ConnectProxy()
    async with serve(answering(GOOD)) as server:
        with connect_proxy(proxy):
            network = Network(proxy=f"http://{proxy.address}")
            outcome = await create(configured(server.origin, network=network), request_)
    assert isinstance(outcome, Accepted)
    assert proxy.heads == []


async def test_a_proxy_is_spoken_to_over_tls_where_its_url_says_so(
    configured: Configured, authority: tuple[Path, Path], request_: Request
) -> None:
    async with ScriptedServer([answering(GOOD)], tls=serving(authority[1])) as server:
        proxy = ConnectProxy({TARGET: server.port}, user=USER)
        with connect_proxy(proxy, tls=serving(authority[1])):
            network = Network(
                proxy=f"https://user:{CANARY}@{proxy.address}", ca_file=str(authority[0])
            )
            outcome = await create(configured(f"https://{HOST}", network=network), request_)
    assert isinstance(outcome, Accepted)
    assert proxy.heads == [f"CONNECT {TARGET}"]


async def test_a_prediction_is_made_and_fetched_through_a_proxy_whose_name_is_private(
    configured: Configured, authority: tuple[Path, Path], request_: Request
) -> None:
    with (
        EmulatorServer(
            EmulatorOptions(time_scale=0.0, output_origin=f"https://{HOST}")
        ) as emulator,
        tls_before(int(emulator.origin.rpartition(":")[2]), serving(authority[1])) as port,
    ):
        proxy = ConnectProxy({TARGET: port}, user=USER)
        with connect_proxy(proxy):
            network = Network(
                proxy=f"http://user:{CANARY}@localhost:{proxy.port}", ca_file=str(authority[0])
            )
            async with Provider(configured(f"https://{HOST}", network=network)) as provider:
                created = await provider.create(request_)
                assert isinstance(created, Accepted)
                assert created.prediction.id is not None
                polled = await provider.poll(created.prediction.id)
                assert isinstance(polled, Polled)
                body = await provider.download(Output(0, polled.prediction.outputs[0].url))
    assert is_image(body)
    assert set(proxy.heads) == {f"CONNECT {TARGET}"}


def test_authorities_that_can_not_be_loaded_are_a_mistake_of_the_config(
    configured: Configured, tmp_path: Path
) -> None:
    none = tmp_path / "none.pem"
    none.write_text("no certificate")
    for file, words in ((none, "holds no certificate in PEM"), (tmp_path / "away", "No such file")):
        with pytest.raises(ConfigError, match=f"{words}.*SSL_CERT_FILE"):
            configured(f"https://{HOST}", network=Network(ca_file=str(file)))
