"""Fixtures of the stores' tests: one S3 server, proxy and client for all, a place for each test.

Building a boto3 client costs more than a whole test, so the clients are shared.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from mypy_boto3_s3 import S3Client

from flux_pipeline.store.local import FolderStore
from flux_pipeline.store.s3 import Bucket, S3Store, open_client
from flux_pipeline.store_options import StoreOptions
from tests.servers.s3 import S3Server
from tests.servers.s3_proxy import S3Proxy, s3_proxy

Open = Callable[..., S3Store]
OpenWith = Callable[[StoreOptions], S3Store]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(root: Path) -> FolderStore:
    return FolderStore(root)


def client_of(server: S3Server, endpoint: str) -> S3Client:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        patch.delenv("AWS_PROFILE", raising=False)
        return open_client(32)


@pytest.fixture(scope="session")
def client(s3_server: S3Server) -> S3Client:
    return client_of(s3_server, s3_server.endpoint)


@pytest.fixture(scope="session")
def bucket(client: S3Client) -> str:
    """The name of a bucket that all tests share."""
    client.create_bucket(Bucket="shared")
    return "shared"


@pytest.fixture
def prefix() -> str:
    """Where only this test writes."""
    return f"{uuid4().hex}/"


@pytest.fixture
def variables(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3's variables lead to the server."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


@pytest.fixture(scope="session")
def shared_proxy(s3_server: S3Server) -> Iterator[S3Proxy]:
    with s3_proxy(s3_server.endpoint) as running:
        yield running


@pytest.fixture
def proxy(shared_proxy: S3Proxy) -> Iterator[S3Proxy]:
    """A proxy before the server, which does as it is told by one test."""
    shared_proxy.reset()
    yield shared_proxy
    shared_proxy.reset()


@pytest.fixture(scope="session")
def proxied_client(s3_server: S3Server, shared_proxy: S3Proxy) -> S3Client:
    return client_of(s3_server, shared_proxy.endpoint)


@pytest.fixture
def proxied(proxied_client: S3Client, proxy: S3Proxy, bucket: str, prefix: str) -> Open:
    """Open a store whose requests go through the proxy, always at the same place."""
    return partial(S3Store, Bucket(proxied_client, bucket, prefix))


@pytest.fixture
def opened_with(proxied_client: S3Client, proxy: S3Proxy, bucket: str, prefix: str) -> OpenWith:
    """Open a store with options, through the proxy and always at the same place."""

    def open_with(options: StoreOptions) -> S3Store:
        place = Bucket(proxied_client, bucket, prefix, options)
        return S3Store(place, require_conditions=options.writers != "one", sleep=lambda _: None)

    return open_with


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 repeats at once."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", partial(max, 0.0))
