"""What every store must do: the test class of each implementation inherits one of these."""

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.store.base import Store, StoredObject

WEBP = "image/webp"
WRITERS = 16


@dataclass(frozen=True)
class Put:
    """One writer's put_new and what came of it."""

    body: bytes
    found: StoredObject
    new: bool


def head(store: Store, key: str) -> StoredObject:
    """What lies under a key where something lies."""
    found = store.head(key)
    assert found is not None
    return found


def race(store: Store, key: str, body_of: Callable[[int], bytes]) -> list[Put]:
    """Let 16 threads put the same new key at once."""
    start = threading.Barrier(WRITERS)

    def put(writer: int) -> Put:
        body = body_of(writer)
        start.wait()
        metadata = {"writer": str(writer)}
        return Put(body, *store.put_new(key, body, content_type=WEBP, metadata=metadata))

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(put, range(WRITERS)))


class PutNewContract:
    """How ``put_new`` answers, whoever else writes."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError

    def test_a_new_object_is_described_as_it_was_written(self, store: Store) -> None:
        metadata = {"run-id": "3fa9", "seed": "-1", "note": 'a, b; c=d  "e" <f>'}
        found, new = store.put_new(
            "images/a/out-0.webp", b"abc", content_type=WEBP, metadata=metadata
        )
        assert new
        assert found == StoredObject(
            key="images/a/out-0.webp",
            uri=f"{store.uri}/images/a/out-0.webp",
            size=3,
            sha256=hashlib.sha256(b"abc").hexdigest(),
            content_type=WEBP,
            metadata=metadata,
        )
        assert found.metadata == metadata
        assert head(store, "images/a/out-0.webp") == found
        assert head(store, "images/a/out-0.webp").metadata == metadata

    def test_a_checksum_that_is_known_is_taken_over(self, store: Store) -> None:
        known = hashlib.sha256(b"abc").hexdigest()
        given, _ = store.put_new("given.webp", b"abc", content_type=WEBP, metadata={}, sha256=known)
        assert given.sha256 == known == head(store, "given.webp").sha256

    def test_the_content_type_is_kept(self, store: Store) -> None:
        for number, content_type in enumerate([WEBP, "text/html", "a/b; charset=utf-8"]):
            for key, metadata in ((f"{number}.webp", {}), (f"{number}-with.webp", {"id": "1"})):
                found, _ = store.put_new(key, b"", content_type=content_type, metadata=metadata)
                assert found.content_type == content_type
                assert head(store, key).content_type == content_type

    def test_what_lies_there_is_never_overwritten(self, store: Store) -> None:
        first, _ = store.put_new("a.webp", b"first", content_type=WEBP, metadata={"id": "1"})
        second, new = store.put_new("a.webp", b"second", content_type="image/png", metadata={})
        assert not new
        assert second == first
        assert second.metadata == {"id": "1"}
        assert store.get("a.webp") == b"first"

    def test_the_same_bytes_again_are_not_new(self, store: Store) -> None:
        first, _ = store.put_new("a.webp", b"same", content_type=WEBP, metadata={"id": "1"})
        again, new = store.put_new("a.webp", b"same", content_type=WEBP, metadata={"id": "1"})
        assert (again, new) == (first, False)

    def test_one_of_16_writers_wins_and_the_others_are_told_what_lies_there(
        self, store: Store
    ) -> None:
        for number in range(4):
            key = f"race/{number}.webp"
            puts = race(store, key, lambda writer: b"%d" % writer * (writer + 1))
            winners = [put for put in puts if put.new]
            assert len(winners) == 1
            assert store.get(key) == winners[0].body
            assert {put.found.sha256 for put in puts} == {winners[0].found.sha256}
            assert all(put.found.metadata == winners[0].found.metadata for put in puts)
            assert store.head(key) == winners[0].found

    def test_16_writers_of_the_same_bytes_agree(self, store: Store) -> None:
        puts = race(store, "race.webp", lambda _: b"the same")
        assert sum(put.new for put in puts) == 1
        assert all(put.found.metadata == puts[0].found.metadata for put in puts)
        assert head(store, "race.webp").metadata == puts[0].found.metadata

    def test_writers_of_different_keys_do_not_meet(self, store: Store) -> None:
        def put(number: int) -> bool:
            body = str(number).encode()
            return store.put_new(f"n/{number:02}", body, content_type=WEBP, metadata={})[1]

        with ThreadPoolExecutor(WRITERS) as pool:
            assert all(pool.map(put, range(32)))
        assert [store.get(key) for key in store.list("n/")] == [b"%d" % n for n in range(32)]


class StoreContract(PutNewContract):
    """All that a store does."""

    @pytest.fixture
    def reopened(self, store: Store) -> Store:
        """The same place, opened a second time."""
        raise NotImplementedError

    def test_put_replaces_bytes_type_and_metadata(self, store: Store) -> None:
        store.put_new("a", b"old and longer", content_type=WEBP, metadata={"id": "1"})
        written = store.put("a", b"new", content_type="text/html")
        assert written == store.head("a")
        assert written.sha256 == hashlib.sha256(b"new").hexdigest()
        assert (written.size, written.content_type, written.metadata) == (3, "text/html", {})
        assert head(store, "a").metadata == {}
        assert store.get("a") == b"new"

    def test_put_of_the_same_bytes_drops_their_metadata_too(self, store: Store) -> None:
        store.put_new("a.webp", b"x", content_type=WEBP, metadata={"id": "1"})
        store.put("a.webp", b"x", content_type=WEBP)
        found = head(store, "a.webp")
        assert (found.content_type, found.metadata) == (WEBP, {})

    def test_put_new_keeps_what_put_wrote(self, store: Store) -> None:
        written = store.put("a", b"x", content_type="text/html")
        found = store.put_new("a", b"y", content_type=WEBP, metadata={})
        assert found == (written, False)

    def test_readers_see_whole_objects_while_one_is_replaced(self, store: Store) -> None:
        bodies = {bytes([65 + n]) * 50_000 for n in range(8)}
        store.put("a", min(bodies), content_type=WEBP)
        with ThreadPoolExecutor(8) as pool:
            writes = [pool.submit(store.put, "a", body, content_type=WEBP) for body in bodies]
            reads = [pool.submit(store.get, "a") for _ in range(24)]
            assert all(write.result() for write in writes)
            assert {read.result() for read in reads} <= bodies

    def test_what_is_missing_has_no_head_and_cannot_be_got(self, store: Store) -> None:
        assert store.head("no/such.webp") is None
        with pytest.raises(StoreError) as caught:
            store.get("no/such.webp")
        assert str(caught.value).startswith(f"{store.uri}/no/such.webp: ")
        assert "no such object" in str(caught.value)

    def test_a_deleted_object_is_gone_and_its_key_is_free(self, store: Store) -> None:
        store.put_new("a/b.webp", b"x", content_type=WEBP, metadata={"id": "1"})
        store.put("a/c.webp", b"y", content_type=WEBP)
        for _ in range(2):  # again: it does nothing
            store.delete("a/b.webp")
            assert store.head("a/b.webp") is None
            assert list(store.list()) == ["a/c.webp"]
        found, new = store.put_new("a/b.webp", b"x", content_type=WEBP, metadata={"id": "2"})
        assert new
        assert found.metadata == head(store, "a/b.webp").metadata == {"id": "2"}

    def test_deleting_what_was_never_there_does_nothing(self, store: Store) -> None:
        store.delete("no/such.webp")
        with pytest.raises(ValueError, match="store key"):
            store.delete("../x")

    def test_an_empty_store_lists_nothing(self, store: Store) -> None:
        assert list(store.list()) == []
        assert list(store.list("images/")) == []

    def test_keys_are_listed_in_the_byte_order_of_the_whole_key(self, store: Store) -> None:
        keys = ["a-b", "a.b", "a/b", "a/b-c", "a/c.d/e", "a/c", "a0", "a=b", "ab", "a_b", "b", "0"]
        for key in keys:
            store.put(key, b"", content_type=WEBP)
        assert list(store.list()) == sorted(keys)
        assert list(store.list("a")) == sorted(key for key in keys if key.startswith("a"))
        for prefix in (
            "a/",
            "a/b",
            "a/c",
            "a/c.",
            "a/c.d/",
            "a/c.d/e",
            "a.",
            "ab",
            "zz",
            "a/zz/",
            "0",
        ):
            assert list(store.list(prefix)) == sorted(k for k in keys if k.startswith(prefix))

    @pytest.mark.parametrize("size", [0, 1, 5_000_000])
    def test_bytes_come_back_exactly(self, store: Store, size: int) -> None:
        body = (bytes(range(256)) * (size // 256 + 1))[:size]
        store.put_new("a", body, content_type="application/octet-stream", metadata={})
        assert store.get("a") == body
        found = head(store, "a")
        assert (found.size, found.sha256) == (size, hashlib.sha256(body).hexdigest())

    def test_the_longest_key_and_the_most_metadata_fit(self, store: Store) -> None:
        key = "/".join(["k" * 180] * 4 + ["k" * 76])
        metadata = {f"n{n}": "v" * 255 for n in range(7)} | {"last": "v" * (1950 - 7 * 257 - 4)}
        _, new = store.put_new(key, b"x", content_type=WEBP, metadata=metadata)
        assert new
        assert head(store, key).metadata == metadata
        assert list(store.list("kkk")) == [key]

    def test_a_key_that_some_store_would_read_otherwise_is_refused(self, store: Store) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: store.put_new("../x", b"x", content_type=WEBP, metadata={}),
            lambda: store.put("../x", b"x", content_type=WEBP),
            lambda: store.head("../x"),
            lambda: store.get("../x"),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="store key"):
                call()
        with pytest.raises(ValueError, match="store prefix"):
            list(store.list("../"))
        assert list(store.list()) == []

    def test_metadata_that_some_store_would_change_are_refused(self, store: Store) -> None:
        with pytest.raises(ValueError, match="metadata"):
            store.put_new("a", b"x", content_type=WEBP, metadata={"prompt": "château"})
        with pytest.raises(ValueError, match="content type"):
            store.put_new("a", b"x", content_type="webp", metadata={})
        with pytest.raises(ValueError, match="content type"):
            store.put("a", b"x", content_type="webp")
        assert list(store.list()) == []

    def test_check_passes_twice_and_leaves_nothing_to_see(self, store: Store) -> None:
        store.check()
        store.check()
        assert list(store.list()) == []

    def test_another_opening_sees_the_same(self, store: Store, reopened: Store) -> None:
        found, _ = store.put_new("a/b.webp", b"x", content_type=WEBP, metadata={"id": "1"})
        assert reopened.uri == store.uri
        assert reopened.head("a/b.webp") == found
        assert reopened.get("a/b.webp") == b"x"
        assert list(reopened.list()) == ["a/b.webp"]
