"""Rows and thumbnails of a run: many in an object, and no thumbnail is a reason to fail."""

import asyncio
import logging
from collections.abc import Iterator, Mapping
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.ledger.open import open_ledger
from flux_pipeline.ledger.sql import SqlLedger
from flux_pipeline.ledger.writer import LedgerWriter
from flux_pipeline.lineage.parts import list_parts, read_part
from flux_pipeline.lineage.thumbnails import list_packs, read_pack
from flux_pipeline.produce import recorder
from flux_pipeline.produce.effects import Stored
from flux_pipeline.produce.policy import RunContext
from flux_pipeline.produce.recorder import Recorder, Tracker
from flux_pipeline.store.base import Store, StoredObject
from flux_pipeline.store.local import FolderStore
from tests.defs.reports import build_result
from tests.lineage.samples import a_record, digest


def open_recorder(store: Store, ledger: Any = None) -> Recorder:
    return Recorder(store, cast("Any", ledger), RunContext("run-1"), lambda: None)


def ended(number: int) -> Tracker:
    """A partition whose one image was made."""
    tracker = Tracker(f"prompt-{number}", started=1, exhausted=True)
    tracker.end(build_result(images=[a_record(number)]), recorded=False)
    return tracker


def rows_by_part(store: Store) -> list[int]:
    return sorted(len(read_part(store, key)) for key in list_parts(store))


@pytest.fixture
def ledger(tmp_path: Any) -> Iterator[SqlLedger]:
    with open_ledger(f"sqlite:///{tmp_path}/ledger.db") as opened:
        yield opened


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


def test_partitions_that_end_together_share_a_part(store: FolderStore, ledger: SqlLedger) -> None:
    partitions = [ended(number) for number in range(9)]

    async def record() -> None:
        async with LedgerWriter(ledger) as writer, open_recorder(store, writer) as each:
            async with anyio.create_task_group() as group:
                for tracker in partitions:
                    group.start_soon(each.record, tracker)
            assert len(list(list_parts(store))) <= 2

    anyio.run(record)
    assert sum(rows_by_part(store)) == 9
    parts = {f"{store.uri}/{key}" for key in list_parts(store)}
    assert {tracker.report().lineage_uri for tracker in partitions} == parts


def test_rows_that_wait_are_written_when_the_run_is_stopped(
    store: FolderStore, ledger: SqlLedger
) -> None:
    async def stopped() -> None:
        async with LedgerWriter(ledger) as writer, open_recorder(store, writer) as each:
            await each.record(ended(1))
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(each.record, ended(2))
                    group.start_soon(each.record, ended(3))
                    await anyio.lowlevel.checkpoint()  # both wait
                    scope.cancel()
            assert rows_by_part(store) == [1]

    anyio.run(stopped)
    assert rows_by_part(store) == [1, 2]


def test_a_store_that_fails_is_told_at_the_end_and_no_partition_names_a_part(
    tmp_path: Any, ledger: SqlLedger
) -> None:
    (tmp_path / "lineage").write_text("a file where the folder should be")
    tracker = ended(1)

    async def record() -> None:
        async with (
            LedgerWriter(ledger) as writer,
            open_recorder(FolderStore(tmp_path), writer) as r,
        ):
            await r.record(tracker)

    with pytest.raises(StoreError):
        anyio.run(record)
    assert tracker.report().lineage_uri is None
