from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.produce import stored_keys
from flux_pipeline.produce.stored_keys import StoredKeys
from flux_pipeline.store.local import FolderStore
from flux_pipeline.store.unavailable import UnavailableStore


class CountingStore(FolderStore):
    """Counts the keys that its listings have read."""

    read = 0
    listings = 0

    def list(self, prefix: str = "") -> Iterator[str]:
        self.listings += 1
        for key in super().list(prefix):
            self.read += 1
            yield key


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    store = CountingStore(tmp_path)
    for name in ("images/ridge/a.webp", "images/ridge/b.webp", "images/other/c.webp"):
        store.put(name, b"picture", content_type="image/webp")
    return store


def key(name: str) -> str:
    return f"images/ridge/{name}.webp"


def answered(store: CountingStore, clock: Clock | None = None) -> StoredKeys:
    """Keys of a set for which the store has answered a few times."""
    keys = StoredKeys(store, clock or Clock())
    for number in range(4):
        assert keys.may_hold(key(f"first-{number}"))
        keys.note_answer(key(f"first-{number}"))
    return keys


def test_the_first_keys_of_a_set_are_asked_for_one_by_one(store: CountingStore) -> None:
    keys = StoredKeys(store)

    assert [keys.may_hold(key(f"new-{number}")) for number in range(100)] == [True] * 100
    assert store.listings == 0  # a store that has not answered yet may be one that can't be read


def test_then_one_listing_tells_which_keys_need_not_be_asked_for(store: CountingStore) -> None:
    keys = answered(store)

    assert [keys.may_hold(key(name)) for name in ("a", "b", "new", "newer")] == [
        True,
        True,
        False,
        False,
    ]
    assert (store.listings, store.read) == (1, 2)
    assert keys.is_known_absent(key("newest"))
    assert not keys.is_known_absent(key("a"))


def test_nothing_is_known_before_the_listing_nor_some_seconds_after(store: CountingStore) -> None:
    clock = Clock()
    keys = answered(store, clock)
    assert not keys.is_known_absent(key("new"))
    assert not keys.may_hold(key("new"))
    assert keys.is_known_absent(key("new"))

    clock.now = 5.1

    assert not keys.is_known_absent(key("new"))


def test_another_set_is_asked_about_on_its_own(store: CountingStore) -> None:
    keys = answered(store)

    assert keys.may_hold("images/other/new.webp")


def test_what_another_worker_stores_is_seen_after_some_seconds(store: CountingStore) -> None:
    clock = Clock()
    keys = answered(store, clock)
    assert not keys.may_hold(key("late"))

    store.put(key("late"), b"picture", content_type="image/webp")
    clock.now = 5.1

    assert keys.may_hold(key("late"))
    assert store.listings == 2


def test_a_large_set_is_not_read_to_its_end_nor_twice(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_keys, "_MOST", 1)
    keys = answered(store)

    assert [keys.may_hold(key(f"new-{number}")) for number in range(50)] == [True] * 50
    assert (store.listings, store.read) == (1, 2)
    assert not keys.is_known_absent(key("new"))


def test_a_set_that_can_not_be_listed_is_an_error_each_time() -> None:
    keys = StoredKeys(UnavailableStore("s3://bucket", "the bucket is gone"))
    for _ in range(4):
        keys.note_answer(key("first"))

    for _ in range(2):
        with pytest.raises(StoreError, match="gone"):
            keys.may_hold(key("new"))


def test_a_listing_is_due_until_it_is_made_and_again_when_it_is_old(store: CountingStore) -> None:
    clock = Clock()
    keys = answered(store, clock)
    assert keys.is_listing_due(key("new"))

    keys.may_hold(key("new"))
    assert not keys.is_listing_due(key("new"))

    clock.now = 5.1
    assert keys.is_listing_due(key("new"))


def test_of_a_large_set_no_listing_is_due(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_keys, "_MOST", 1)
    keys = answered(store)
    keys.may_hold(key("new"))

    assert not keys.is_listing_due(key("new"))


@pytest.mark.parametrize(("taken", "fresh"), [(0.01, 5.0), (0.1, 20.0), (0.2, 30.0), (60.0, 30.0)])
def test_a_listing_that_takes_long_counts_for_longer(
    store: CountingStore, monkeypatch: pytest.MonkeyPatch, taken: float, fresh: float
) -> None:
    clock = Clock()
    keys = answered(store, clock)
    read = store.list

    def slow(prefix: str = "") -> Iterator[str]:
        clock.now += taken
        return read(prefix)

    monkeypatch.setattr(store, "list", slow)
    keys.may_hold(key("new"))

    clock.now += fresh - 0.1
    assert keys.is_known_absent(key("new"))
    clock.now += 0.2
    assert not keys.is_known_absent(key("new"))
