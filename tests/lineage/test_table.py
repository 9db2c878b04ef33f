"""The compacted table: the current rows of all parts, however often and when it is made."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from io import BytesIO
from random import Random
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.lineage import table
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.lineage.schema import SCHEMA, batch_to_records, records_to_batch
from flux_pipeline.lineage.table import (
    COMPACTED,
    COMPACTED_SCHEMA,
    PART,
    CompactedTable,
    compact,
    load_compacted,
)
from flux_pipeline.store.base import Store, StoredObject
from flux_pipeline.store.local import FolderStore
from tests.lineage.samples import NOON, a_failure, a_record

DAY = date(2026, 11, 1)


def write(store: Store, *records: ImageRecord, **where: Any) -> str:
    known: dict[str, Any] = {"asset": "a", "partition": "", "run_id": "1", "day": DAY}
    return write_part(store, records, **(known | where)).key


def table_of(store: Store) -> CompactedTable:
    found = load_compacted(store)
    assert found is not None
    return found


def rows(store: Store) -> list[ImageRecord]:
    tables = table_of(store).read_all(SCHEMA.names)
    return [record for table in tables for record in batch_to_records(table)]


def names(store: Store) -> list[str]:
    return [row.prompt_name.removeprefix("prompt-") for row in rows(store)]


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups of three rows, so that few rows fill several."""
    monkeypatch.setattr(table, "_ROW_GROUP", 3)


def test_the_table_holds_the_current_rows_of_all_parts(store: FolderStore) -> None:
    again = a_record("a", stored_at=NOON + timedelta(hours=1))
    write(store, a_record("a"), a_failure("b"))
    write(store, again, a_record("b"), run_id="2")
    done = compact(store)
    assert sorted(names(store)) == ["a", "b"]
    assert again in rows(store)
    assert (done.rows, done.parts_read, done.changed) == (2, 2, True)
    assert done.uri == f"{store.uri}/{COMPACTED}"


def test_without_any_part_it_is_empty(store: FolderStore) -> None:
    assert compact(store).rows == 0
    assert rows(store) == []
    assert not compact(store).changed


def test_parts_without_rows_are_no_trouble(store: FolderStore) -> None:
    write(store)
    compact(store)
    write(store, run_id="2")
    assert compact(store).rows == 0


def test_compacting_again_changes_nothing(
    store: FolderStore, small_groups: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10):
        write(store, a_record(number), partition=str(number), day=DAY + timedelta(days=number))
    first = compact(store)
    body = store.get(COMPACTED)
    monkeypatch.setattr(store, "put", pytest.fail)
    second = compact(store)
    assert (first.changed, second.changed) == (True, False)
    assert (first.parts_read, second.parts_read, second.rows) == (10, 0, 10)
    assert store.get(COMPACTED) == body
    assert not compact(store, full=True).changed


def test_only_new_parts_and_recent_ones_with_other_bytes_are_read(store: FolderStore) -> None:
    for number in range(10):
        write(store, a_record(number), run_id=str(number), day=DAY + timedelta(days=number))
    compact(store)
    write(store, a_record("late"), run_id="late", day=DAY)
    assert compact(store).parts_read == 1
    write(store, a_record("more"), run_id="8", day=DAY + timedelta(days=8))
    assert compact(store).parts_read == 1
    assert compact(store).parts_read == 0
    assert sorted(names(store)) == [*"0123456789", "late", "more"]


def test_a_recent_part_whose_checksum_nobody_knows_is_read_each_time(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = write(store, a_record("a"))
    head = store.head

    def without(asked: str) -> StoredObject | None:
        found = head(asked)
        return replace(found, sha256="") if found and asked == key else found

    monkeypatch.setattr(store, "head", without)
    compact(store)
    again = compact(store)
    assert (again.parts_read, again.changed) == (1, False)


def test_a_recent_part_that_was_written_again_is_taken_as_it_is_now(store: FolderStore) -> None:
    key = write(store, a_record("a", polls=1), a_record("b"))
    compact(store)
    write(store, a_record("a", polls=9))
    compact(store)
    assert {row.prompt_name: row.polls for row in rows(store)} == {"prompt-a": 9, "prompt-b": 2}
    store.put(key, store.get(write(store, a_record("c"), run_id="2")), content_type="a/b")
    compact(store)
    assert sorted(names(store)) == ["c"]


def test_an_old_part_that_was_written_again_is_taken_by_a_full_compaction(
    store: FolderStore,
) -> None:
    write(store, a_record("a", polls=1))
    write(store, a_record("b"), day=DAY + timedelta(days=9))
    compact(store)
    write(store, a_record("a", polls=9))
    compact(store)
    assert {row.polls for row in rows(store)} == {1, 2}
    compact(store, full=True)
    assert {row.polls for row in rows(store)} == {9, 2}


@pytest.mark.parametrize("seed", range(3))
def test_compacting_bit_by_bit_gives_what_compacting_once_gives(
    store: FolderStore, small_groups: None, seed: int
) -> None:
    random = Random(seed)  # noqa: S311 - not a secret
    for step in range(9):
        records = [
            random.choice([a_record, a_failure])(
                random.choice("abcde"),
                output_index=random.randrange(2),
                stored_at=random.choice([None, NOON + timedelta(hours=random.randrange(99))]),
                polls=step,
            )
            for _ in range(random.randrange(5))
        ]
        write(store, *records, run_id=str(step), day=DAY + timedelta(days=random.randrange(9)))
        if random.random() < 0.5:
            compact(store)
    compact(store)
    bit_by_bit = rows(store)
    compact(store, full=True)
    assert sorted(map(repr, bit_by_bit)) == sorted(map(repr, rows(store)))
    assert not compact(store).changed


def test_each_row_names_its_part_and_the_table_all_parts(store: FolderStore) -> None:
    old = write(store, a_failure("a"))
    new = write(store, a_record("a"), run_id="2")
    compact(store)
    (table,) = table_of(store).read_all([PART])
    assert table.column(0).to_pylist() == [new]
    assert table_of(store).parts == {old, new}


def test_pandas_reads_it_as_it_is(store: FolderStore) -> None:
    write(store, a_record("a"), a_failure("b"))
    compact(store)
    frame = pd.read_parquet(BytesIO(store.get(COMPACTED)))
    assert list(frame.columns) == COMPACTED_SCHEMA.names
    assert frame["dhash"].iloc[0] == a_record("a").dhash
    assert list(frame["status"]) == ["stored", "failed"]


def test_descriptions_and_units_travel_with_it(store: FolderStore) -> None:
    compact(store)
    field = pq.read_schema(BytesIO(store.get(COMPACTED))).field("width")
    assert (field.metadata or {})[b"unit"] == b"px"


@pytest.mark.parametrize(
    "damage", [lambda body: body[:0], lambda body: body[:-30], lambda body: body[:4] * 9]
)
def test_a_damaged_table_is_made_again(
    store: FolderStore, damage: Callable[[bytes], bytes]
) -> None:
    write(store, a_record("a"))
    compact(store)
    whole = store.get(COMPACTED)
    store.put(COMPACTED, damage(whole), content_type="a/b")
    assert load_compacted(store) is None
    compact(store)
    assert store.get(COMPACTED) == whole


def test_another_kind_of_table_under_its_key_is_made_again(store: FolderStore) -> None:
    part = write(store, a_record("a"))
    store.put(COMPACTED, store.get(part), content_type="a/b")
    assert load_compacted(store) is None
    assert compact(store).changed
    assert names(store) == ["a"]


def test_a_table_of_an_earlier_version_is_made_again(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(store, a_record("a"))
    with monkeypatch.context() as earlier:
        fewer = COMPACTED_SCHEMA.remove(COMPACTED_SCHEMA.get_field_index("seed"))
        earlier.setattr(table, "COMPACTED_SCHEMA", fewer)
        result = BytesIO()
        table.write_compacted(result, [], ["a part"])
    store.put(COMPACTED, result.getvalue(), content_type="a/b")
    assert load_compacted(store) is None
    assert compact(store).parts_read == 1


def test_a_part_that_cannot_be_read_is_named_and_the_table_stays(store: FolderStore) -> None:
    write(store, a_record("a"))
    compact(store)
    bad = write(store, a_record("b"), run_id="2")
    store.put(bad, b"nothing", content_type="a/b")
    with pytest.raises(StoreError, match=bad):
        compact(store)
    assert names(store) == ["a"]


def test_row_groups_have_one_size_however_the_rows_come(
    store: FolderStore, small_groups: None
) -> None:
    for number in range(4):
        records = [a_record(f"{number}-{row}") for row in range(number * 3 + 1)]
        write(store, *records, partition=str(number))
    compact(store)
    sizes = [len(table) for table in table_of(store).read_all(["prompt"])]
    assert sizes == [3] * 7 + [1]


class Busy:
    """A store in which somebody writes a part at the worst moment."""

    def __init__(self, store: Store, at: str, act: Callable[[], object]) -> None:
        self._store = store
        self._at = at
        self._act = act

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name != self._at:
            return real
        self._at = ""

        def and_then(*arguments: Any, **named: Any) -> Any:
            found = real(*arguments, **named)
            found = iter(list(found)) if name == "list" else found
            self._act()
            return found

        return and_then


@pytest.mark.parametrize("moment", ["list", "get", "head", "put"])
def test_a_part_written_meanwhile_comes_now_or_next_time(store: FolderStore, moment: str) -> None:
    write(store, a_record("a"))
    compact(store)
    write(store, a_record("b"), run_id="2")
    busy = Busy(store, moment, lambda: write(store, a_record("c"), run_id="3"))
    compact(busy)
    assert {"a", "b"} <= set(names(store)) <= {"a", "b", "c"}
    compact(store)
    assert sorted(names(store)) == ["a", "b", "c"]


def test_compactions_and_writers_at_once_leave_a_right_table(store: FolderStore) -> None:
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for step in range(4):
            if number % 2:
                compact(store)
            else:
                write(store, a_record(f"{number} {step}"), run_id=f"{number} {step}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    compact(store)
    assert sorted(names(store)) == sorted(f"{n} {step}" for n in (0, 2) for step in range(4))


def test_many_rows_fill_real_row_groups() -> None:
    one = pa.Table.from_batches([records_to_batch([a_record()])])
    many = one.append_column(COMPACTED_SCHEMA.field(PART), pa.array(["part"])).take([0] * 16_400)
    result = BytesIO()
    assert table.write_compacted(result, [many], ["part"]) == 16_400
    groups = CompactedTable(pa.BufferReader(result.getvalue())).read_all(["prompt"])
    assert [len(group) for group in groups] == [16_384, 16]
