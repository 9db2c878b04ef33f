"""S3 through a company's proxy: what boto3 reads itself, as docs/configuration.md says."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.network import CA_VARIABLES
from flux_pipeline.store.open import open_store
from tests.provider.certificates import serving, write_authority
from tests.servers.connect_proxy import ConnectProxy, connect_proxy, tls_before
from tests.servers.s3 import S3Server

HOST = "s3.company.test"


@pytest.fixture
def hidden(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[ConnectProxy, str]]:
    """The S3 server behind TLS and a proxy that alone knows its name; the authority's file."""
    authority, shown = write_authority(tmp_path, HOST)
    with _proxied(s3_server, shown, user="user:canary@Kq7") as proxy:
        for name, value in s3_server.environment().items():
            monkeypatch.setenv(name, value)
        for name in (*CA_VARIABLES, "AWS_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"https://{HOST}")
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:canary%40Kq7@{proxy.address}")
        yield proxy, str(authority)


@contextmanager
def _proxied(server: S3Server, shown: Path, **behaviour: Any) -> Iterator[ConnectProxy]:
    with tls_before(int(server.endpoint.rpartition(":")[2]), serving(shown)) as port:
        proxy = ConnectProxy({f"{HOST}:443": port}, **behaviour)
        with connect_proxy(proxy):
            yield proxy


@pytest.mark.parametrize("variable", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_a_bucket_is_reached_through_https_proxy_and_with_an_authority_of_ones_own(
    hidden: tuple[ConnectProxy, str],
    s3_server: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    proxy, authority = hidden
    bucket = s3_server.new_bucket()
    monkeypatch.setenv(variable, authority)
    store = open_store(f"s3://{bucket}")
    store.put("a.txt", b"a", content_type="text/plain")
    assert store.get("a.txt") == b"a"
    assert set(proxy.heads) == {f"CONNECT {HOST}:443"}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_other_variables_are_not_read_and_the_message_names_the_right_one(
    hidden: tuple[ConnectProxy, str], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, hidden[1])
    with pytest.raises(StoreError, match="name the server's CA in AWS_CA_BUNDLE") as refused:
        open_store("s3://bucket").get("a.txt")
    assert "canary" not in str(refused.value)


@pytest.mark.usefixtures("no_waiting")
def test_a_proxy_that_refuses_shows_no_password(
    hidden: tuple[ConnectProxy, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", hidden[1])
    hidden[0].user = "other:one"
    with pytest.raises(StoreError, match="ProxyConnectionError") as refused:
        open_store("s3://bucket").get("a.txt")
    assert "canary" not in str(refused.value)
