"""Servers that keep other bytes than they were sent, or stop to honour conditions, are noticed."""

import hashlib
from functools import partial

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import check_readable
from flux_pipeline.store.s3 import S3Store
from tests.servers.s3_proxy import Reply, S3Proxy, Seen, s3_error
from tests.store.conftest import Open
from tests.store.contract import WEBP

BODY = b"a whole picture, of which half is kept"
IDS = {"request-sha256": "a" * 64}
CHECKSUMS = {"x-amz-checksum-sha256", "x-amz-sdk-checksum-algorithm"}
WRONG = r"a\.webp: this server keeps other bytes than it was sent \(19 bytes of 38\)"


def half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def answer_puts(etag: str, seen: Seen) -> Reply | None:
    """The server writes, and the answer shows this ETag; the probe is left alone."""
    if seen.method != "PUT" or seen.path.endswith(".probe"):
        return None
    return Reply(headers={"ETag": f'"{etag}"'}, after=True)


def put_new(store: S3Store, key: str = "a.webp", body: bytes = BODY) -> bool:
    return store.put_new(key, body, content_type=WEBP, metadata=IDS)[1]


@pytest.fixture
def store(proxy: S3Proxy, proxied: Open) -> S3Store:
    """A server that ignores checksums, and gives none back."""
    proxy.forget |= CHECKSUMS
    opened = proxied(sleep=lambda _: None)
    opened.check()
    return opened


def etag_of(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("etag", [etag_of(half(BODY)), etag_of(BODY), "0123", "f" * 32, ""])
def test_half_a_put_is_noticed_at_once_whatever_the_reply_says(
    proxy: S3Proxy, store: S3Store, etag: str
) -> None:
    proxy.choose = partial(answer_puts, etag)
    proxy.spoil_request = half

    with pytest.raises(StoreError, match=WRONG):
        put_new(store)
    with pytest.raises(StoreError, match=WRONG):
        store.put("a.webp", BODY, content_type=WEBP)


def test_what_was_kept_in_part_once_is_sent_again_and_whole(proxy: S3Proxy, store: S3Store) -> None:
    def spoil_once(body: bytes) -> bytes:
        proxy.spoil_request = bytes
        return half(body)

    proxy.spoil_request = spoil_once

    assert put_new(store)
    assert store.get("a.webp") == BODY


@pytest.mark.parametrize("later", [BODY, b"the same picture, signed at another time"])
def test_a_broken_object_is_replaced_when_its_request_comes_again(
    proxy: S3Proxy, store: S3Store, proxied: Open, later: bytes
) -> None:
    proxy.spoil_request = half
    with pytest.raises(StoreError):
        put_new(store)
    proxy.spoil_request = bytes

    again = proxied()
    assert put_new(again, body=later)
    assert again.get("a.webp") == later
    assert not put_new(again, body=later)


def test_a_broken_object_of_another_request_is_left_to_a_person(
    proxy: S3Proxy, store: S3Store
) -> None:
    proxy.spoil_request = half
    with pytest.raises(StoreError):
        store.put("a.webp", BODY, content_type=WEBP)
    proxy.spoil_request = bytes

    found, new = store.put_new("a.webp", BODY, content_type=WEBP, metadata=IDS)

    assert (found.size, new) == (19, False)


def test_without_conditions_half_a_put_is_noticed_too(proxy: S3Proxy, proxied: Open) -> None:
    proxy.forget |= {*CHECKSUMS, "if-none-match"}
    store = proxied(require_conditions=False)
    proxy.spoil_request = half
    with pytest.raises(StoreError, match=WRONG):
        put_new(store)


def test_other_bytes_of_the_same_size_are_found_by_reading_the_first_object_back(
    proxy: S3Proxy, store: S3Store
) -> None:
    proxy.choose = partial(answer_puts, "of-an-encrypted-object")
    proxy.spoil_request = bytes.upper
    with pytest.raises(StoreError, match="the same number of bytes, but others"):
        put_new(store)


def test_a_server_whose_etag_is_no_hash_is_read_back_once(proxy: S3Proxy, store: S3Store) -> None:
    proxy.choose = partial(answer_puts, "f" * 32)
    before = proxy.count("GET")

    for number in range(10):
        assert put_new(store, f"{number}.webp")

    assert proxy.count("GET") - before == 1
    assert proxy.count("HEAD") == 10


def test_a_reply_with_another_checksum_is_believed(proxy: S3Proxy, store: S3Store) -> None:
    wrong = {"ETag": f'"{etag_of(BODY)}"', "x-amz-checksum-sha256": "AAAA"}
    proxy.answer_next("PUT", *[Reply(headers=wrong, after=True)] * 2)
    with pytest.raises(StoreError, match=r"keeps other bytes than it was sent \(another checksum"):
        put_new(store)


def test_a_right_server_is_looked_at_now_and_then(store: S3Store, proxy: S3Proxy) -> None:
    for number in range(40):
        assert put_new(store, f"{number}.webp")

    assert proxy.count("HEAD") == 5


def test_an_object_that_shows_a_while_later_is_waited_for(proxy: S3Proxy, store: S3Store) -> None:
    proxy.answer_next("HEAD", Reply(404), Reply(404))
    assert put_new(store)


def test_what_another_writer_put_there_meanwhile_is_no_fault_of_the_server(
    proxy: S3Proxy, store: S3Store, proxied: Open
) -> None:
    def overtake(method: str) -> None:
        if method == "HEAD":
            proxy.before_forwarding = str
            proxied().put("a.json", b"of another run", content_type=WEBP)

    proxy.before_forwarding = overtake
    store.put("a.json", b"ours", content_type=WEBP)
    assert store.get("a.json") == b"of another run"


def test_a_server_that_begins_to_ignore_conditions_is_noticed_within_64_writes(
    proxy: S3Proxy, store: S3Store
) -> None:
    for number in range(10):
        put_new(store, f"{number}.webp")
    proxy.forget.add("if-none-match")
    for number in range(10, 64):
        put_new(store, f"{number}.webp")

    for _ in range(2):
        with pytest.raises(StoreError, match=r"has begun to ignore If-None-Match .* update it"):
            put_new(store, "1.webp", b"another")
    with pytest.raises(StoreError, match="ignores If-None-Match"):
        store.check()
    assert store.get("1.webp") == BODY


def test_a_store_that_may_only_be_read_is_read(proxy: S3Proxy, store: S3Store) -> None:
    assert put_new(store)
    proxy.always["PUT"] = s3_error(403, "AccessDenied")
    check_readable(store)
    assert list(store.list()) == ["a.webp"]
    with pytest.raises(StoreError, match="needs s3:PutObject"):
        store.put("b", b"", content_type=WEBP)
