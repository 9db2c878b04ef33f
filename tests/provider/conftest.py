"""What the provider's tests share: an event loop, a request, configurations, servers on sockets."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from flux_pipeline.provider import transport
from flux_pipeline.provider.config import ProviderConfig
from flux_pipeline.request import Request
from tests.provider.samples import KEY, PATIENCE, make_request, patience
from tests.provider.scripted_server import Script, ScriptedServer


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def kept_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for some seconds parts no test from its connection."""
    monkeypatch.setattr(transport, "IDLE_SECONDS", PATIENCE)


@pytest.fixture
def request_() -> Request:
    return make_request(seed=7)


@pytest.fixture
def configured() -> Callable[..., ProviderConfig]:
    """Build a config for a base URL, without limits that a test would meet."""

    def build(base_url: str, **changes: object) -> ProviderConfig:
        fields: dict[str, object] = {
            "base_url": base_url,
            "api_key": KEY,
            "creates_per_minute": 1e6,
            "calls_per_minute": 1e6,
            "timeouts": patience(),
        }
        return ProviderConfig(**{**fields, **changes})  # type: ignore[arg-type]

    return build


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[ScriptedServer]]:
    """Start a server that does, byte for byte, what its scripts say."""

    @asynccontextmanager
    async def start(*scripts: Script) -> AsyncIterator[ScriptedServer]:
        async with ScriptedServer(scripts) as server:
            yield server

    return start
