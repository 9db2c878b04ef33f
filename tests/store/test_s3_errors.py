"""What S3 can refuse, over a real socket, and what the message says."""

import socket
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from mypy_boto3_s3 import S3Client

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from flux_pipeline.store.s3 import Bucket, S3Store, open_client
from tests.servers.s3_proxy import Reply, S3Proxy, s3_error
from tests.store.conftest import Open
from tests.store.contract import WEBP

SKEW = {"RequestTime": "20261101T101500Z", "ServerTime": "2026-11-01T10:35:00Z"}
REFUSALS = {
    "access denied": (
        s3_error(403, "AccessDenied"),
        (
            "AccessDenied on PutObject; needs s3:PutObject on arn:aws:s3:::{place}*; where the"
            " bucket's policy or the server demands more, or less, of a write: set FLUX_S3_SSE"
            " (with FLUX_S3_SSE_KMS_KEY_ID), FLUX_S3_STORAGE_CLASS, FLUX_S3_CHECKSUM, FLUX_S3_ACL"
            " or FLUX_S3_TAGS"
        ),
    ),
    "no bucket": (
        s3_error(404, "NoSuchBucket"),
        (
            "NoSuchBucket on PutObject; create the bucket or correct its name; the bucket was asked"
            " for in path style ({endpoint}/shared): where this server wants the other, set"
            " FLUX_S3_ADDRESSING=virtual"
        ),
    ),
    "wrong region": (
        s3_error(400, "AuthorizationHeaderMalformed", {"Region": "eu-west-1"}),
        (
            "AuthorizationHeaderMalformed on PutObject; the bucket lies in eu-west-1: set"
            " AWS_DEFAULT_REGION=eu-west-1"
        ),
    ),
    "unknown region": (
        s3_error(400, "IllegalLocationConstraintException"),
        (
            "IllegalLocationConstraintException on PutObject;"
            " the bucket lies in another region: set AWS_DEFAULT_REGION"
        ),
    ),
    "unknown key id": (
        s3_error(403, "InvalidAccessKeyId"),
        (
            "InvalidAccessKeyId on PutObject; the store knows no such key id:"
            " check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE"
        ),
    ),
    "wrong secret": (
        s3_error(403, "SignatureDoesNotMatch"),
        (
            "SignatureDoesNotMatch on PutObject; the secret does not belong to the key id: check"
            " AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_PROFILE"
        ),
    ),
    "clock": (
        s3_error(403, "RequestTimeTooSkewed", SKEW),
        "RequestTimeTooSkewed on PutObject; this machine's clock is 20 min off: set it",
    ),
    "clock, no times": (
        s3_error(403, "RequestTimeTooSkewed"),
        "RequestTimeTooSkewed on PutObject; this machine's clock is more than 15 min off: set it",
    ),
    "expired": (
        s3_error(400, "ExpiredToken"),
        (
            "ExpiredToken on PutObject; renew the credentials and run again: what was accepted is"
            " resumed"
        ),
    ),
    "busy": (
        s3_error(503, "SlowDown"),
        (
            "SlowDown on PutObject; the store is busy after 5 tries: lower the concurrency and run"
            " again, nothing is lost"
        ),
    ),
    "full": (
        s3_error(403, "QuotaExceeded"),
        "QuotaExceeded on PutObject; the bucket is full: free some space or raise its quota",
    ),
    "unknown word": (s3_error(418, "Tea pot&#9;&lt;b>"), "Teapotb on PutObject"),
    "a gateway's page": (
        Reply(502, b"<html>Bad gateway</html>", {"Content-Type": "text/html"}),
        "502 on PutObject",
    ),
}


def put(store: Store) -> None:
    store.put("a.webp", b"x", content_type=WEBP)


@pytest.mark.parametrize(("reply", "message"), REFUSALS.values(), ids=REFUSALS)
def test_a_refused_put_says_what_to_do(
    proxy: S3Proxy, proxied: Open, no_waiting: None, reply: Reply, message: str
) -> None:
    proxy.always["PUT"] = reply
    store = proxied()
    place = store.uri.removeprefix("s3://") + "/"
    message = message.format(place=place, endpoint=proxy.endpoint)
    with pytest.raises(StoreError) as caught:
        put(store)
    assert str(caught.value) == f"{store.uri}/a.webp: {message}"
    with pytest.raises(StoreError) as caught:
        store.put_new("a.webp", b"x", content_type=WEBP, metadata={})
    assert message in str(caught.value)


def test_a_bucket_in_another_region_is_named(proxy: S3Proxy, proxied: Open) -> None:
    moved = Reply(301, headers={"x-amz-bucket-region": "eu-west-1"})
    proxy.always |= {"HEAD": moved, "PUT": moved, "GET": moved}
    with pytest.raises(StoreError, match="the bucket lies in eu-west-1: set AWS_DEFAULT_REGION=eu"):
        put(proxied())


@pytest.mark.parametrize(
    ("call", "needs"),
    [
        (
            lambda store: store.check(),
            "ListObjectsV2; needs s3:ListBucket on arn:aws:s3:::shared",
        ),
        (lambda store: list(store.list("a")), "ListObjectsV2; needs s3:ListBucket on"),
        (
            lambda store: store.get("a"),
            "GetObject; needs s3:GetObject on arn:aws:s3:::{place}*",
        ),
    ],
)
def test_each_operation_names_its_right(
    proxy: S3Proxy, proxied: Open, call: Callable[[S3Store], object], needs: str
) -> None:
    proxy.always["GET"] = s3_error(403, "AccessDenied")
    store = proxied()
    place = store.uri.removeprefix("s3://") + "/"
    with pytest.raises(StoreError) as caught:
        call(store)
    assert f"AccessDenied on {needs.format(place=place)}" in str(caught.value)


def test_a_head_without_a_reason_names_all_of_them(proxy: S3Proxy, proxied: Open) -> None:
    proxy.always["HEAD"] = Reply(403)
    with pytest.raises(StoreError, match=r"403 on HeadObject; needs s3:GetObject .* s3:ListBucket"):
        proxied().head("a")


def test_a_store_that_can_be_listed_and_not_written_does_not_pass(
    proxy: S3Proxy, proxied: Open
) -> None:
    proxy.always["PUT"] = s3_error(403, "AccessDenied")
    with pytest.raises(StoreError, match="needs s3:PutObject"):
        proxied().check()


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "needs s3:DeleteObject on arn:aws:s3:::"),
        (409, "FileImmutable", "FileImmutable on DeleteObject; a lock or retention rule of the b"),
        (403, "RetentionPolicyNotMet", "on DeleteObject; a lock or retention rule of the bucket"),
    ],
)
def test_a_bucket_that_keeps_an_object_says_so(
    proxy: S3Proxy, proxied: Open, status: int, code: str, said: str
) -> None:
    proxy.always["DELETE"] = s3_error(status, code)
    store = proxied()
    with pytest.raises(StoreError, match=r"^s3://.*/a\.webp: ") as caught:
        store.delete("a.webp")
    assert said in str(caught.value)
    assert "a lock or retention rule of the bucket keeps this object" in str(caught.value)


def test_a_bucket_with_versions_shows_a_deleted_object_no_more(
    client: S3Client, variables: None
) -> None:
    client.create_bucket(Bucket="versions")
    client.put_bucket_versioning(Bucket="versions", VersioningConfiguration={"Status": "Enabled"})
    store = open_store("s3://versions")
    put(store)
    store.delete("a.webp")
    store.delete("a.webp")
    assert store.head("a.webp") is None
    assert list(store.list()) == []
    assert len(client.list_object_versions(Bucket="versions").get("Versions", [])) == 1
    assert store.put_new("a.webp", b"new", content_type=WEBP, metadata={})[1]  # the key is free


def test_a_missing_bucket_is_found_by_check(client: S3Client) -> None:
    with pytest.raises(
        StoreError, match=r"^s3://no-such-bucket/: NoSuchBucket on ListObjectsV2; cr"
    ):
        S3Store(Bucket(client, "no-such-bucket", "")).check()


def test_missing_credentials_are_named(
    variables: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StoreError, match="no credentials were found: check AWS_ACCESS_KEY_ID"):
        open_store("s3://shared").check()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    with pytest.raises(StoreError, match="s3: PartialCredentialsError"):
        open_store("s3://shared").check()


def test_a_profile_that_does_not_exist_is_an_error(
    variables: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match="ProfileNotFound"):
        open_store("s3://shared")


def test_a_server_that_is_away_is_named(
    variables: None, monkeypatch: pytest.MonkeyPatch, no_waiting: None
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://user:pass@{address}")
        with pytest.raises(StoreError, match="no connection: is the server up") as caught:
            put(open_store("s3://shared"))
    assert f" at {address}" in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_a_broken_connection_is_named(proxy: S3Proxy, proxied: Open, no_waiting: None) -> None:
    proxy.always["PUT"] = Reply(reset=True)
    with pytest.raises(StoreError, match=r"on PutObject at .*; the connection broke"):
        put(proxied())


def test_an_endpoint_that_is_no_address_is_named(
    variables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "not an address")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL is no"):
        open_client(1)


@pytest.mark.parametrize(
    "password", ["p@canary/x", "canary/x", "12/canary", "canary#1", "p%zcanary"]
)
def test_an_ambiguous_endpoint_is_refused_without_a_part_of_it(
    variables: None, monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://user:{password}@127.0.0.1:1")
    with pytest.raises(StoreError, match="AWS_ENDPOINT_URL is ambiguous: encode @") as caught:
        open_store("s3://shared")
    assert "canary" not in repr(caught.getrepr(chain=True, style="native"))


def test_no_error_holds_a_secret(
    proxy: S3Proxy, variables: None, monkeypatch: pytest.MonkeyPatch, no_waiting: None
) -> None:
    canaries = {"AWS_ACCESS_KEY_ID": "AKIACANARY", "AWS_SECRET_ACCESS_KEY": "CANARYsecret"}
    canaries |= {"AWS_SESSION_TOKEN": "CANARYtoken", "AWS_ENDPOINT_URL_S3": proxy.endpoint}
    for name, value in canaries.items():
        monkeypatch.setenv(name, value)
    store = S3Store(Bucket(open_client(1), "shared", ""))
    leaky = {"AWSAccessKeyId": "AKIACANARY", "StringToSign": "CANARYsecret", "Region": "<b>"}
    for code in ("SignatureDoesNotMatch", "InvalidAccessKeyId", "Strange"):
        for method in ("PUT", "GET", "HEAD"):
            proxy.always[method] = s3_error(403, code, leaky)
        for call in (
            lambda: put(store),
            lambda: store.put_new("a", b"", content_type=WEBP, metadata={}),
            lambda: store.get("a"),
            lambda: store.head("a"),
            lambda: list(store.list()),
        ):
            with pytest.raises(StoreError) as caught:
                call()
            text = "".join(traceback.format_exception(caught.value)) + repr(caught.value)
            assert "CANARY" not in text
