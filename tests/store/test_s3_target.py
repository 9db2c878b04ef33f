"""A target in a bucket: what is sent with each file, and how publishers keep each other out."""

from tempfile import TemporaryFile

import pytest
from mypy_boto3_s3 import S3Client

from flux_pipeline.errors import StoreError
from flux_pipeline.store.open import open_target
from flux_pipeline.store.s3 import Bucket
from flux_pipeline.store.s3_target import LOCK, TAKEN_OVER_AFTER, S3Target
from flux_pipeline.store.target import Kind, Target, TargetOptions
from flux_pipeline.store_options import StoreOptions
from tests.servers.s3_proxy import Reply, S3Proxy, s3_error
from tests.store.target_contract import TargetContract

PLAIN = TargetOptions()
_CONDITIONS = {"if-match", "if-none-match"}


class Clock:
    """A clock that stands still but for what is slept."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def opened(client: S3Client, bucket: str, prefix: str, clock: Clock | None = None) -> S3Target:
    place = Bucket(client, bucket, prefix)
    clock = clock or Clock()
    return S3Target(place, PLAIN, {}, clock=clock, sleep=clock.sleep)


class TestS3Target(TargetContract):
    @pytest.fixture
    def target(self, client: S3Client, bucket: str, prefix: str) -> Target:
        return S3Target(Bucket(client, bucket, prefix), PLAIN, {})

    @pytest.fixture
    def other(self, client: S3Client, bucket: str, prefix: str) -> Target:
        return S3Target(Bucket(client, bucket, prefix), PLAIN, {})


def test_pictures_indexes_and_private_files_are_sent_as_publish_says(
    proxy: S3Proxy, variables: None, bucket: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    proxy.forget = {"x-amz-acl"}  # which this server takes from no bucket
    options = TargetOptions(
        cache_control="public, max-age=86400", acl="public-read", storage_class="STANDARD_IA"
    )
    demanded = StoreOptions(acl="bucket-owner-full-control", sse="AES256", tags="team=shop")
    at = f"s3://{bucket}/{prefix}".rstrip("/")

    def sent(store_uri: str, kind: Kind) -> dict[str, str]:
        target = open_target(
            at, options, store_uri=store_uri, store_options=demanded, default="published/shop"
        )
        target.put("a.webp", b"x", content_type="image/webp", kind=kind)
        return [each for each in proxy.seen if each.method == "PUT"][-1].headers

    picture = sent("file:data", "picture")
    index, private = sent("file:data", "index"), sent("file:data", "private")
    assert picture["content-type"] == "image/webp"
    assert picture["cache-control"] == "public, max-age=86400"
    assert (picture["x-amz-acl"], picture["x-amz-storage-class"]) == ("public-read", "STANDARD_IA")
    assert len(picture["x-amz-meta-sha256"]) == 64
    assert (index["cache-control"], index["x-amz-acl"]) == ("no-cache", "public-read")
    assert not {"x-amz-acl", "cache-control", "x-amz-storage-class"} & private.keys()
    assert not {"x-amz-tagging", "x-amz-server-side-encryption"} & picture.keys()
    own = sent(f"s3://{bucket}/store", "private")
    assert own["x-amz-acl"] == "bucket-owner-full-control"
    assert (own["x-amz-tagging"], own["x-amz-server-side-encryption"]) == ("team=shop", "AES256")


def test_an_acl_that_the_bucket_refuses_is_named_as_the_prompt_set_has_it(
    proxy: S3Proxy, proxied_client: S3Client, bucket: str, prefix: str
) -> None:
    proxy.always["PUT"] = s3_error(400, "AccessControlListNotSupported")
    target = S3Target(Bucket(proxied_client, bucket, prefix), TargetOptions(acl="public-read"), {})
    with pytest.raises(StoreError, match=r"takes no ACL: unset publish\.acl"):
        target.put("a.webp", b"x")


def test_the_lock_of_a_publisher_that_died_is_taken_over_after_a_minute(
    client: S3Client, bucket: str, prefix: str
) -> None:
    dead = opened(client, bucket, prefix).exclusive()
    dead.__enter__()
    clock = Clock()
    told: list[float] = []
    with opened(client, bucket, prefix, clock).exclusive(lambda: told.append(clock())):
        assert clock() >= TAKEN_OVER_AFTER
    assert len(told) == 1
    assert client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}{LOCK}")["KeyCount"] == 0
    dead.__exit__(None, None, None)


def test_a_publisher_that_stood_still_finds_its_lock_lost_and_does_not_free_the_new_holders(
    client: S3Client, bucket: str, prefix: str
) -> None:
    slow, fast = Clock(), Clock()
    with opened(client, bucket, prefix, slow).exclusive() as keep:
        keep()
        with opened(client, bucket, prefix, fast).exclusive() as keep_other:
            slow.now += 100
            with pytest.raises(StoreError, match="another publisher took over"):
                keep()
            fast.now += 10
            keep_other()
        keep_again = opened(client, bucket, prefix).exclusive(pytest.fail)
        keep_again.__enter__()
    assert client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}{LOCK}")["KeyCount"] == 1
    keep_again.__exit__(None, None, None)


def test_a_holder_that_renews_in_time_keeps_others_out(
    client: S3Client, bucket: str, prefix: str
) -> None:
    clock = Clock()
    with opened(client, bucket, prefix, clock).exclusive() as keep:
        first = client.head_object(Bucket=bucket, Key=prefix + LOCK)["ETag"]
        clock.now += 20
        keep()
        assert client.head_object(Bucket=bucket, Key=prefix + LOCK)["ETag"] != first


def test_a_conditional_put_that_is_repeated_after_a_lost_answer_is_our_own(
    no_waiting: None, proxy: S3Proxy, proxied_client: S3Client, bucket: str, prefix: str
) -> None:
    target = S3Target(Bucket(proxied_client, bucket, prefix), PLAIN, {})
    tag = target.put("index.json", b"one", replacing="")
    proxy.answer_next("PUT", Reply(500, after=True))
    newer = target.put("index.json", b"two", replacing=tag)
    assert target.read("index.json") == (b"two", newer)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("checksum", ["SHA256", "SHA1", "CRC32", "MD5", "none"])
def test_a_file_is_sent_with_every_checksum_and_again_after_a_lost_answer(
    proxy: S3Proxy,
    proxied_client: S3Client,
    bucket: str,
    prefix: str,
    checksum: str,
) -> None:
    options = StoreOptions(checksum=checksum)
    target = S3Target(Bucket(proxied_client, bucket, prefix, options), PLAIN, {})
    body = bytes(range(256)) * 3000
    with TemporaryFile() as file:
        file.write(body)
        target.put("index.json", file)
        proxy.answer_next("PUT", Reply(500, after=True))
        tag = target.put("index.csv", file, replacing="")
    assert target.read("index.json") == (body, tag)
    assert target.read("index.csv") == (body, tag)


def test_a_file_whose_transfer_is_cut_is_fetched_again(
    no_waiting: None, proxy: S3Proxy, proxied_client: S3Client, bucket: str, prefix: str
) -> None:
    target = S3Target(Bucket(proxied_client, bucket, prefix), PLAIN, {})
    body = bytes(range(256)) * 3000
    tag = target.put("index.json", body)
    proxy.answer_next("GET", Reply(body=b"half", missing=100))
    with TemporaryFile() as file:
        assert target.fetch("index.json", file) == tag
        file.seek(0)
        assert file.read() == body


def test_a_server_without_conditions_still_takes_indexes(
    no_waiting: None, proxy: S3Proxy, proxied_client: S3Client, bucket: str, prefix: str
) -> None:
    refused = s3_error(501, "NotImplemented")
    proxy.choose = lambda seen: refused if _CONDITIONS & seen.headers.keys() else None
    target = S3Target(Bucket(proxied_client, bucket, prefix), PLAIN, {})
    with target.exclusive() as keep:
        keep()
        tag = target.put("index.json", b"one", kind="index", replacing="")
    assert target.read("index.json") == (b"one", tag)
