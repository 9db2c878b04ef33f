"""Packs of thumbnails: what was written is read, and what is broken costs nothing else."""

from datetime import date

import pytest

from flux_pipeline.lineage.thumbnails import list_packs, read_pack, write_pack
from flux_pipeline.store.base import Store
from tests.lineage.samples import digest

DAY = date(2026, 11, 1)
PICTURES = {digest(number): b"RIFF....WEBP" + bytes([number]) * 50 for number in range(3)}


def test_a_pack_gives_back_what_it_was_given(store: Store) -> None:
    written = write_pack(store, "winter", PICTURES, day=DAY)
    assert list(list_packs(store, "winter")) == [written.key]
    assert dict(read_pack(store, written.key)) == PICTURES


def test_writing_the_same_again_replaces_it_and_anything_else_is_another_pack(
    store: Store,
) -> None:
    keys = [write_pack(store, "winter", PICTURES, day=DAY).key for _ in range(2)]
    other = write_pack(store, "winter", dict(list(PICTURES.items())[:2]), day=DAY).key
    assert sorted(list_packs(store, "winter")) == sorted({*keys, other})
    assert len({*keys, other}) == 2


def test_packs_of_sets_that_begin_alike_are_apart(store: Store) -> None:
    write_pack(store, "winter_2", PICTURES, day=DAY)
    assert list(list_packs(store, "winter")) == []


@pytest.mark.parametrize("body", [b"", b"PAR1PAR1", b"no parquet"])
def test_a_broken_pack_has_nothing(store: Store, body: bytes) -> None:
    key = "thumbnails/winter/2026-11-01-broken.parquet"
    store.put(key, body, content_type="application/vnd.apache.parquet")
    assert list(read_pack(store, key)) == []
    assert list(read_pack(store, "thumbnails/winter/none.parquet")) == []
