"""Thumbnails of a run: packed many to an object, and never a reason for a run to fail."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, cast

import anyio
import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.lineage.thumbnails import list_packs, read_pack
from flux_pipeline.produce import recorder
from flux_pipeline.produce.effects import Stored
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.recorder import Recorder
from flux_pipeline.store.base import Store, StoredObject
from flux_pipeline.store.local import FolderStore
from tests.lineage.samples import a_record, digest


def open_recorder(store: Store) -> Recorder:
    return Recorder(store, cast("Any", None), RunContext("run-1"), lambda: None)


async def keep(store: Store, count: int, **changes: Any) -> None:
    async with open_recorder(store) as each:
        for number in range(count):
            await each.add_thumbnail(Stored(a_record(number, **changes), b"webp"))


def packed(store: Store) -> list[Mapping[str, bytes]]:
    return [dict(read_pack(store, key)) for key in list_packs(store, "winter")]


@pytest.fixture
def store(tmp_path: Any) -> FolderStore:
    return FolderStore(tmp_path)


def test_they_are_written_many_at_once_and_the_rest_at_the_end(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "PACK_SIZE", 4)
    anyio.run(keep, store, 9)
    packs = packed(store)
    assert sorted(map(len, packs)) == [1, 4, 4]
    assert {image for pack in packs for image in pack} == {
        digest(f"image {number}") for number in range(9)
    }


def test_what_waits_is_written_when_the_run_is_stopped(store: FolderStore) -> None:
    async def stopped() -> None:
        with anyio.CancelScope() as scope:
            async with open_recorder(store) as each:
                await each.add_thumbnail(Stored(a_record(1), b"webp"))
                scope.cancel()
                await anyio.sleep_forever()

    anyio.run(stopped)
    assert packed(store) == [{digest("image 1"): b"webp"}]


@pytest.mark.parametrize("changes", [{"dhash": None}, {"image_sha256": None}])
def test_an_image_that_we_did_not_see_gets_no_thumbnail(
    store: FolderStore, changes: dict[str, Any]
) -> None:
    anyio.run(lambda: keep(store, 1, **changes))
    assert packed(store) == []


def test_a_store_that_fails_costs_thumbnails_alone(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Full(FolderStore):
        def put(self, key: str, body: bytes, *, content_type: str) -> StoredObject:
            raise StoreError(f"{key}: no space left")

    with caplog.at_level(logging.WARNING):
        asyncio.run(keep(Full(tmp_path), 3))
    assert "3 thumbnails were not stored" in caplog.text
