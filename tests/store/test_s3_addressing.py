"""Path style and virtual-host style: either can be chosen, and the wrong one is named."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store.open import open_store
from flux_pipeline.store_options import StoreOptions
from tests.servers.s3 import S3Server
from tests.servers.s3_proxy import Reply, S3Proxy, Seen, s3_error, s3_proxy
from tests.store.contract import WEBP

HOST = "oss.example"
PATH, VIRTUAL = StoreOptions(addressing="path"), StoreOptions(addressing="virtual")
USE_VIRTUAL = rf"in path style \(http://{HOST}/shared\): .*set FLUX_S3_ADDRESSING=virtual$"
USE_PATH = rf"in virtual-host style \(http://shared\.{HOST}\): .*set FLUX_S3_ADDRESSING=path$"


@pytest.fixture
def server(
    s3_server: S3Server,
    variables: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    bucket: str,
) -> Iterator[S3Proxy]:
    """A server with a name, which knows its buckets by path and by host."""
    assert bucket == "shared"
    with s3_proxy(s3_server.endpoint) as proxy:
        proxy.domain = HOST
        monkeypatch.setenv("HTTP_PROXY", proxy.endpoint)
        for name in ("http_proxy", "NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{HOST}")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
        yield proxy


def is_virtual(seen: Seen) -> bool:
    return seen.headers["host"] == f"shared.{HOST}"


class Choice:
    """The refusal of one of both styles."""

    def __init__(self, refusal: Reply, *, takes_virtual: bool) -> None:
        self.refusal = refusal
        self.takes_virtual = takes_virtual

    def __call__(self, seen: Seen) -> Reply | None:
        return None if is_virtual(seen) == self.takes_virtual else self.refusal


@pytest.mark.parametrize("options", [PATH, VIRTUAL, StoreOptions()])
def test_a_bucket_is_asked_for_in_the_style_that_is_set(
    server: S3Proxy, prefix: str, options: StoreOptions
) -> None:
    store = open_store(f"s3://shared/{prefix}", options)
    store.check()
    store.put("a.webp", b"picture", content_type=WEBP)
    assert store.get("a.webp") == b"picture"
    assert list(store.list()) == ["a.webp"]
    assert {is_virtual(each) for each in server.seen} == {options is VIRTUAL}


def test_boto3s_own_setting_counts_where_ours_is_not_set(
    server: S3Proxy, prefix: str, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    open_store(f"s3://shared/{prefix}").check()
    assert {is_virtual(each) for each in server.seen} == {True}


@pytest.mark.parametrize(
    "refusal",
    [
        s3_error(403, "SecondLevelDomainForbidden"),
        s3_error(403, "PathStyleDomainForbidden"),
        s3_error(400, "InvalidPathAccess"),
        s3_error(403, "AccessDenied", {"Note": "Please use virtual hosted style to access."}),
        s3_error(301, "PermanentRedirect"),
        s3_error(404, "NoSuchBucket"),
        s3_error(405, "MethodNotAllowed"),
        Reply(400),
    ],
)
def test_a_server_that_takes_no_path_style_has_the_other_named(
    server: S3Proxy, prefix: str, refusal: Reply
) -> None:
    server.choose = Choice(refusal, takes_virtual=True)
    store = open_store(f"s3://shared/{prefix}")
    with pytest.raises(StoreError, match=USE_VIRTUAL):
        store.check()
    with pytest.raises(StoreError, match="set FLUX_S3_ADDRESSING=virtual"):
        store.put("a.webp", b"picture", content_type=WEBP)
    open_store(f"s3://shared/{prefix}", VIRTUAL).check()


@pytest.mark.parametrize(
    "refusal",
    [
        s3_error(404, "NoSuchBucket"),
        s3_error(400, "InvalidBucketName"),
        s3_error(405, "MethodNotAllowed"),
    ],
)
def test_a_server_that_takes_no_host_of_a_bucket_has_the_other_named(
    server: S3Proxy, prefix: str, refusal: Reply
) -> None:
    server.choose = Choice(refusal, takes_virtual=False)
    with pytest.raises(StoreError, match=USE_PATH):
        open_store(f"s3://shared/{prefix}", VIRTUAL).check()


def test_a_server_that_takes_the_bucket_for_nothing_is_noticed_by_the_first_write(
    server: S3Proxy, prefix: str
) -> None:
    """One that knows paths alone lists its buckets, and takes the prefix for a bucket."""
    server.domain = ""
    with pytest.raises(StoreError, match=USE_PATH):
        open_store(f"s3://shared/{prefix}", VIRTUAL).check()


@pytest.mark.usefixtures("no_waiting")
def test_a_host_of_a_bucket_that_is_no_name_is_named(
    variables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.invalid")
    no_such_host = r"at shared\.s3\.invalid; no connection.*set FLUX_S3_ADDRESSING=path$"
    with pytest.raises(StoreError, match=no_such_host):
        open_store("s3://shared", VIRTUAL).get("a.webp")


def test_a_host_that_no_bucket_can_stand_before_is_named(
    server: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.endpoint)
    server.choose = Choice(s3_error(403, "SecondLevelDomainForbidden"), takes_virtual=True)
    with pytest.raises(StoreError, match=r"in path style .*by name instead of a number") as wrong:
        open_store("s3://shared", VIRTUAL).check()
    assert "FLUX_S3_ADDRESSING" not in str(wrong.value)


def test_a_region_that_is_named_is_no_matter_of_style(server: S3Proxy, prefix: str) -> None:
    server.always["GET"] = s3_error(400, "AuthorizationHeaderMalformed", {"Region": "eu-west-1"})
    with pytest.raises(StoreError, match=r"set AWS_DEFAULT_REGION=eu-west-1$"):
        open_store(f"s3://shared/{prefix}").check()
