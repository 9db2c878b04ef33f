"""Fixtures of the stores' tests: one S3 server for all, an empty bucket for each test."""

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from flux_pipeline.store.bucket import Bucket, open_client
from flux_pipeline.store.s3 import S3Store
from tests.servers.s3 import S3Server, s3_server
from tests.servers.s3_proxy import S3Proxy, s3_proxy


@pytest.fixture(scope="session", name="s3_server")
def s3_server_for_all() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket; boto3's variables lead to its server."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    return s3_server.new_bucket()


@pytest.fixture
def proxy(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """A proxy before the server; boto3's variables lead to it."""
    with s3_proxy(s3_server.endpoint) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", running.endpoint)
        yield running


@pytest.fixture
def proxied(proxy: S3Proxy, bucket: str) -> Callable[..., S3Store]:
    """Open a store whose requests go through the proxy."""

    def open_one(**options: object) -> S3Store:
        return S3Store(Bucket(open_client(32), bucket, "p/"), **options)  # type: ignore[arg-type]

    return open_one


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """boto3 repeats at once."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", partial(max, 0.0))
