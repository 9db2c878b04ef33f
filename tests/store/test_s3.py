import base64
import hashlib
from functools import partial
from typing import Any

import httpx
import pytest
from botocore.utils import parse_timestamp
from mypy_boto3_s3 import S3Client

from flux_pipeline.errors import StoreError
from flux_pipeline.models.signed_url import comparable_url
from flux_pipeline.store import s3
from flux_pipeline.store.base import Store
from flux_pipeline.store.open import open_store
from flux_pipeline.store.s3 import Bucket, S3Store, open_client, parse_moment
from flux_pipeline.store.s3_descriptions import DescriptionFiles
from tests.servers.s3_proxy import Reply, S3Proxy, s3_error
from tests.store.conftest import Open
from tests.store.contract import WEBP, StoreContract
from tests.store.pictures import IDS
from tests.store.pictures import put as put_at

put = partial(put_at, key="a.webp")


class TestS3Store(StoreContract):
    @pytest.fixture
    def store(self, client: S3Client, bucket: str, prefix: str) -> Store:
        return S3Store(Bucket(client, bucket, prefix))

    @pytest.fixture
    def reopened(self, client: S3Client, bucket: str, prefix: str) -> Store:
        return S3Store(Bucket(client, bucket, prefix))


def test_an_address_leads_to_a_bucket(variables: None, bucket: str, prefix: str) -> None:
    store = open_store(f"s3://{bucket}/{prefix}")
    store.check()
    assert put(store)
    assert store.get("a.webp") == b"picture"
    assert list(store.list()) == ["a.webp"]


def test_a_presigned_address_is_read_by_anybody_for_a_while(
    client: S3Client, bucket: str, prefix: str
) -> None:
    store = S3Store(Bucket(client, bucket, prefix))
    put(store)
    url = store.presigned("a.webp", 60)
    assert httpx.get(url).content == b"picture"
    assert comparable_url(url) == comparable_url(store.presigned("a.webp", 90))
    assert "Signature" not in comparable_url(url)


def test_a_store_may_have_the_whole_bucket(client: S3Client) -> None:
    client.create_bucket(Bucket="whole")
    store = S3Store(Bucket(client, "whole", ""))
    store.check()
    assert put(store, key="a/b.webp")
    found = store.head("a/b.webp")
    assert found is not None
    assert (found.uri, store.uri) == ("s3://whole/a/b.webp", "s3://whole")
    assert list(store.list()) == ["a/b.webp"]


def test_conditions_are_tried_once_for_each_store_and_cost_one_put_where_they_were_tried_before(
    proxy: S3Proxy, proxied: Open
) -> None:
    proxied().check()
    first = proxy.count("PUT")
    store = proxied()
    store.check()
    put(store)
    store.check()
    assert (first, proxy.count("PUT") - first) == (2, 2)
    assert {one.path for one in proxy.seen if one.method == "DELETE"} == set()


def test_the_checksum_goes_along_as_a_header_over_plain_bytes(
    proxy: S3Proxy, proxied: Open
) -> None:
    put(proxied())
    headers = [each for each in proxy.seen if each.method == "PUT"][-1].headers
    assert base64.b64decode(headers["x-amz-checksum-sha256"]) == hashlib.sha256(b"picture").digest()
    assert headers["x-amz-meta-sha256"] == hashlib.sha256(b"picture").hexdigest()
    assert headers["x-amz-meta-prediction-id"] == "p1"
    assert headers["if-none-match"] == "*"
    assert "x-amz-trailer" not in headers
    assert "x-amz-tagging" not in headers
    assert "content-encoding" not in headers
    assert not any("server-side-encryption" in name for name in headers)


def test_put_has_no_condition(proxy: S3Proxy, proxied: Open) -> None:
    proxied().put("a", b"x", content_type=WEBP)
    (put,) = (each for each in proxy.seen if each.method == "PUT")
    assert "if-none-match" not in put.headers


def test_bytes_changed_on_their_way_are_not_stored(proxy: S3Proxy, proxied: Open) -> None:
    store = proxied()
    store.check()
    proxy.spoil_request = lambda body: body.replace(b"picture", b"pictura")
    with pytest.raises(StoreError, match=r"a\.webp: .* on PutObject; the bytes were changed"):
        put(store)
    proxy.spoil_request = bytes
    assert store.head("a.webp") is None


def test_bytes_changed_in_the_store_are_found(proxy: S3Proxy, proxied: Open) -> None:
    store = proxied()
    put(store)
    proxy.spoil_answer = lambda body: body.replace(b"picture", b"pictura")
    with pytest.raises(StoreError) as caught:
        store.get("a.webp")
    for body in (b"picture", b"pictura"):
        assert hashlib.sha256(body).hexdigest() in str(caught.value)


def test_an_answer_that_is_cut_is_asked_for_again(proxy: S3Proxy, proxied: Open) -> None:
    store = proxied()
    put(store)
    proxy.answer_next("GET", *[Reply(body=b"pic", missing=4)] * 2)
    assert store.get("a.webp") == b"picture"
    proxy.always["GET"] = Reply(body=b"pic", missing=4)
    with pytest.raises(StoreError, match=r"a\.webp: \w+ on GetObject at 127\.0\.0\.1:\d+"):
        store.get("a.webp")


def test_a_write_whose_answer_was_lost_is_found_and_not_new(
    proxy: S3Proxy, proxied: Open, no_waiting: None
) -> None:
    for key, lost in (
        ("a", s3_error(500, "InternalError", after=True)),
        ("b", Reply(reset=True, after=True)),
        ("c", s3_error(503, "SlowDown", after=True)),
    ):
        store = proxied()
        store.check()
        proxy.answer_next("PUT", lost)
        found, new = store.put_new(key, b"picture", content_type=WEBP, metadata=IDS)
        assert not new
        assert found.sha256 == hashlib.sha256(b"picture").hexdigest()
        assert found.metadata == IDS


def test_foreign_bytes_under_our_key_are_returned_with_their_checksum(
    proxy: S3Proxy, proxied: Open
) -> None:
    put(proxied(), b"theirs")
    found, new = proxied().put_new("a.webp", b"ours", content_type=WEBP, metadata={})
    assert not new
    assert found.sha256 == hashlib.sha256(b"theirs").hexdigest()


def test_an_object_that_another_tool_wrote_has_no_checksum(
    client: S3Client, bucket: str, prefix: str
) -> None:
    client.put_object(Bucket=bucket, Key=f"{prefix}a", Body=b"theirs", Metadata={"Who_Ever": "x"})
    store = S3Store(Bucket(client, bucket, prefix))
    found, new = store.put_new("a", b"ours", content_type=WEBP, metadata={})
    assert (found.sha256, found.size, new) == ("", 6, False)
    assert store.get("a") == b"theirs"


def test_foreign_keys_are_not_listed(client: S3Client, bucket: str, prefix: str) -> None:
    for key in ("a.webp", "A.webp", "a b", ".probe", "folder/", "x/.../y"):
        client.put_object(Bucket=bucket, Key=prefix + key, Body=b"")
    assert list(S3Store(Bucket(client, bucket, prefix)).list()) == ["a.webp"]


def test_a_long_list_comes_in_pages(
    proxy: S3Proxy, proxied: Open, proxied_client: S3Client, bucket: str, prefix: str
) -> None:
    keys = [f"a/{number}" for number in range(7)]
    for key in keys:
        proxied().put(key, b"", content_type=WEBP)
    before = proxy.count("GET")
    assert list(Bucket(proxied_client, bucket, prefix).list("a/", page=3)) == keys
    assert proxy.count("GET") - before == 3


def test_a_prefix_ends_at_its_slash(client: S3Client, bucket: str, prefix: str) -> None:
    put(S3Store(Bucket(client, bucket, f"{prefix}ab/")))
    assert list(S3Store(Bucket(client, bucket, f"{prefix}a/")).list()) == []


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-30T23:59:59.123Z",
        "2026-11-30T23:59:59Z",
        "Mon, 30 Nov 2026 23:59:59 GMT",
        "2026-11-30T23:59:59+01:00",
        "1796083199",
        1796083199,
    ],
)
def test_a_time_in_a_reply_is_read_as_botocore_reads_it(value: Any) -> None:
    assert parse_moment(value) == parse_timestamp(value)


def test_a_listing_leaves_no_time_to_botocore(
    variables: None, bucket: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"s3://{bucket}/{prefix}")
    put(store)
    monkeypatch.setattr(s3, "parse_timestamp", None)
    assert list(store.list()) == ["a.webp"]


class TestConflicts:
    """409: another conditional write of the key is under way."""

    CONFLICT = s3_error(409, "ConditionalRequestConflict")

    def test_it_is_tried_again(self, proxy: S3Proxy, proxied: Open) -> None:
        waits: list[float] = []
        store = proxied(sleep=waits.append)
        store.check()
        proxy.answer_next("PUT", self.CONFLICT, self.CONFLICT)
        assert put(store)
        assert waits == [0.05, 0.1]

    def test_what_the_other_wrote_is_returned(self, proxy: S3Proxy, proxied: Open) -> None:
        put(proxied(), b"theirs")
        store = proxied(sleep=pytest.fail)
        store.check()
        proxy.answer_next("PUT", self.CONFLICT)
        assert not put(store, b"ours")

    def test_it_ends(self, proxy: S3Proxy, proxied: Open) -> None:
        waits: list[float] = []
        store = proxied(sleep=waits.append)
        store.check()
        proxy.always["PUT"] = self.CONFLICT
        with pytest.raises(StoreError, match="ConditionalRequestConflict on PutObject, 6 times"):
            put(store)
        assert sum(waits) < 4

    def test_a_delete_in_between_is_a_conflict(self, proxy: S3Proxy, proxied: Open) -> None:
        store = proxied(sleep=lambda _: None)
        store.check()
        proxy.answer_next("PUT", s3_error(404, "NoSuchKey"), s3_error(412, "PreconditionFailed"))
        assert put(store)


def test_requests_are_repeated_five_times_at_most(
    proxy: S3Proxy, proxied: Open, no_waiting: None
) -> None:
    proxy.always["PUT"] = s3_error(503, "SlowDown")
    with pytest.raises(StoreError, match="SlowDown on PutObject; the store is busy after 5 tries"):
        proxied().put("a", b"", content_type=WEBP)
    assert proxy.count("PUT") == 5


def test_the_client_is_bounded_and_wide_enough(variables: None) -> None:
    config: Any = open_client(64).meta.config
    assert (config.connect_timeout, config.read_timeout, config.max_pool_connections) == (5, 30, 64)
    assert config.signature_version == "s3v4"
    assert config.request_checksum_calculation == "when_required"
    assert config.response_checksum_validation == "when_required"
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}


def test_a_second_client_parses_no_description_again_and_looks_for_its_own_credentials(
    variables: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_client(1)
    monkeypatch.setattr(DescriptionFiles, "load_file", None)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")

    address = open_client(1).generate_presigned_url("list_buckets")

    assert "another" in address
