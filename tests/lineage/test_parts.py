"""Parts: written again without harm, by many at once, and read in order."""

import dataclasses
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.errors import StoreError
from flux_pipeline.lineage.parts import (
    is_part_of,
    list_parts,
    part_day,
    part_key,
    read_part,
    read_parts,
    write_part,
)
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.lineage.schema import SCHEMA, batch_to_records
from flux_pipeline.store.base import Store, is_key
from flux_pipeline.store.local import FolderStore
from tests.lineage.samples import a_failure, a_record

DAY = date(2026, 11, 1)
NAMES = st.text(max_size=200) | st.sampled_from(["a", "a-b", "A", "a/b", "a_b", "b", "", "屋"])


def key_of(asset: str, partition: str, run_id: str, day: date = DAY) -> str:
    return part_key(asset=asset, partition=partition, run_id=run_id, day=day)


def write(store: Store, *records: ImageRecord, **where: Any) -> str:
    known: dict[str, Any] = {
        "asset": "winter/images",
        "partition": "castle",
        "run_id": "run-1",
        "day": DAY,
    }
    return write_part(store, records, **(known | where)).key


def rows(store: Store) -> list[ImageRecord]:
    tables = (table for _, table in read_parts(store, list_parts(store)))
    return [record for table in tables for record in batch_to_records(table)]


class TestKeys:
    def test_people_can_read_it(self) -> None:
        run_id = "3fa9c1d2-0000-4000-8000-000000000000"
        key = key_of("winter/images", "castle", run_id)
        assert key.startswith(f"lineage/dt=2026-11-01/winter-images-castle-{run_id}-")
        assert key.endswith(".parquet")

    def test_a_name_without_a_plain_letter_is_left_to_the_digest(self) -> None:
        assert key_of("屋", "", "R").startswith("lineage/dt=2026-11-01/r-")

    @settings(deadline=None)
    @given(NAMES, NAMES, NAMES)
    def test_it_is_always_a_key_of_its_day(self, asset: str, partition: str, run_id: str) -> None:
        key = key_of(asset, partition, run_id)
        assert is_key(key)
        assert part_day(key) == DAY

    @settings(deadline=None)
    @given(st.tuples(NAMES, NAMES, NAMES), st.tuples(NAMES, NAMES, NAMES))
    def test_two_parts_never_share_one(
        self, one: tuple[str, str, str], other: tuple[str, str, str]
    ) -> None:
        assert (key_of(*one) == key_of(*other)) == (one == other)

    def test_names_that_look_alike_are_kept_apart(self) -> None:
        alike = [
            ("a-b", "c", "d"),
            ("a", "b-c", "d"),
            ("a/b", "c", "d"),
            ("A-B", "c", "d"),
            ("a\0b", "c", "d"),
        ]
        assert len({key_of(*names) for names in alike}) == len(alike)


def test_a_part_comes_back(store: FolderStore) -> None:
    records = [a_record("a"), a_record("b"), a_failure("c")]
    write(store, *records)
    assert rows(store) == records


def test_a_part_without_rows_can_be_written(store: FolderStore) -> None:
    key = write(store)
    assert rows(store) == []
    assert list(list_parts(store)) == [key]


def test_writing_the_same_rows_again_changes_nothing(store: FolderStore) -> None:
    records = [a_record("a"), a_failure("b")]
    write(store, *records)
    before = {key: store.get(key) for key in store.list()}
    write(store, *records)
    assert {key: store.get(key) for key in store.list()} == before


def test_a_row_written_again_replaces_itself(store: FolderStore) -> None:
    write(store, a_record("a", polls=1), a_record("b"))
    write(store, a_record("a", polls=9), a_record("b"))
    assert rows(store) == [a_record("a", polls=9), a_record("b")]


def test_a_retried_run_that_writes_only_what_was_missing_loses_nothing(store: FolderStore) -> None:
    write(store, a_record("a"), a_failure("b"))
    write(store, a_record("c"))
    assert rows(store) == [a_record("a"), a_failure("b"), a_record("c")]


def test_other_partitions_runs_and_days_are_other_parts(store: FolderStore) -> None:
    for changes in ({}, {"partition": "x"}, {"run_id": "x"}, {"day": date(2026, 10, 1)}):
        write(store, a_record(str(changes)), **changes)
    keys = list(list_parts(store))
    assert len(keys) == 4
    assert [part_day(key) for key in keys] == sorted(part_day(key) for key in keys)


def test_rows_come_oldest_day_first(store: FolderStore) -> None:
    days = [DAY + timedelta(days=n) for n in range(12)]
    for day in reversed(days):
        write(store, a_record(day), day=day)
    assert [row.prompt_name for row in rows(store)] == [f"prompt-{day}" for day in days]


def test_what_is_no_part_is_left_alone(store: FolderStore) -> None:
    for key in (
        "lineage/dt=2026-11-01/notes.txt",
        "lineage/dt=2026-13-01/a.parquet",
        "lineage/dt=today/a.parquet",
        "lineage/current.parquet",
        "lineage/a.parquet",
    ):
        store.put(key, b"", content_type="text/plain")
    assert list(list_parts(store)) == []
    assert rows(store) == []


def test_a_part_that_cannot_be_read_is_named(store: FolderStore) -> None:
    key = write(store, a_record())
    for body in (b"", b"PAR1 nothing PAR1", store.get(key)[:-50]):
        store.put(key, body, content_type="text/plain")
        with pytest.raises(StoreError, match=rf"{key}: no readable lineage part .*; move it away"):
            rows(store)


def test_a_part_with_a_column_of_another_type_is_named(store: FolderStore) -> None:
    key = write(store, a_record())
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"width": ["wide"]}), sink)
    store.put(key, sink.getvalue().to_pybytes(), content_type="text/plain")
    with pytest.raises(StoreError, match="no readable lineage part"):
        rows(store)


def test_parts_of_earlier_and_later_versions_can_be_read(store: FolderStore) -> None:
    key = write(store, a_record())
    table = pq.ParquetFile(pa.BufferReader(store.get(key))).read()
    changed = table.drop_columns(["served_version", "credentials"]).append_column(
        "colour", pa.array(["red"])
    )
    sink = pa.BufferOutputStream()
    pq.write_table(changed, sink)
    store.put(key, sink.getvalue().to_pybytes(), content_type="text/plain")
    assert rows(store) == [a_record()]
    assert read_part(store, key).schema == SCHEMA


def test_a_record_that_does_not_fit_writes_nothing(store: FolderStore) -> None:
    with pytest.raises(ValueError, match="polls"):
        write(store, a_record(polls=2**20))
    assert list(store.list()) == []


class Counting:
    """A store that counts how many of its answers nobody has taken yet."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self.got = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, key: str) -> bytes:
        with self._lock:
            self.got += 1
        return self._store.get(key)


def test_only_a_few_parts_are_fetched_ahead(store: FolderStore) -> None:
    for number in range(30):
        write(store, a_record(number), partition=str(number))
    counting = Counting(store)
    parts: Iterator[Any] = read_parts(counting, list_parts(store))
    seen = [next(parts)[0] for _ in range(5)]
    assert counting.got <= 5 + 16
    assert seen + [key for key, _ in parts] == list(list_parts(store))


def test_many_writers_of_different_parts_need_no_lock(store: FolderStore) -> None:
    def write_one(number: int) -> None:
        for count in range(1, 6):
            records = [a_record(f"{number} {n}") for n in range(count)]
            write(store, *records, partition=str(number))

    with ThreadPoolExecutor(4) as pool:
        writes = [pool.submit(write_one, number) for number in range(4)]
        while not all(one.done() for one in writes):
            rows(store)
    assert not any(one.exception() for one in writes)
    assert len(rows(store)) == 20


def test_every_row_keeps_all_its_fields(store: FolderStore) -> None:
    record = a_record(hf_lora="a/b", lora_scale=0.5, aspect_ratio="16:9", error="x", take=3)
    write(store, record)
    (found,) = rows(store)
    assert dataclasses.asdict(found) == dataclasses.asdict(record)


def test_a_key_tells_whose_part_it_can_not_be() -> None:
    key = part_key(asset="winter/images", partition="castle", run_id="Run-7", day=date(2026, 11, 1))
    assert is_part_of(key, asset="winter/images")
    assert is_part_of(key, asset="winter/images", run_id="Run-7")
    assert not is_part_of(key, asset="summer/images")
    assert not is_part_of(key, run_id="Run-8")
