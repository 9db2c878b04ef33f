"""Spending: the lineage table made small, with every cent in it."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from flux_pipeline.lineage.compact import compact
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.lineage.snapshot import open_snapshot
from flux_pipeline.lineage.spending import Totals, spending, total_of
from flux_pipeline.store.folder import FolderStore
from tests.lineage.samples import NOON, a_failure, a_record

DAY = date(2026, 11, 1)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def write(store: FolderStore, records: Iterable[ImageRecord], run_id: str = "run-1") -> None:
    write_part(store, records, asset="winter/images", partition="a", run_id=run_id, day=DAY)


def rows(store: FolderStore) -> list[dict[str, object]]:
    return spending(open_snapshot(store)).to_pylist()


def test_rows_are_counted_by_day_set_and_model(store: FolderStore) -> None:
    later = NOON + timedelta(days=1)
    write(
        store,
        [
            a_record(1),
            a_record(2),
            a_record(3, prompt_set="summer"),
            a_record(4, requested_at=later),
            a_failure(5),
            a_failure(6, status=ImageStatus.REFUSED, cost_usd=0.0),
        ],
    )
    found = [(row["day"], row["prompt_set"], row["stored"], row["usd"]) for row in rows(store)]
    assert found == [
        (DAY, "summer", 1, pytest.approx(0.003)),
        (DAY, "winter", 2, pytest.approx(0.009)),
        (DAY + timedelta(days=1), "winter", 1, pytest.approx(0.003)),
    ]
    winter = rows(store)[1]
    assert (winter["failed"], winter["refused"]) == (1, 1)


def test_an_image_recorded_again_is_counted_once(store: FolderStore) -> None:
    write(store, [a_failure(1, prediction_id="p")], "run-1")
    compact(store)
    write(store, [a_record(1, prediction_id="p")], "run-2")
    (row,) = rows(store)
    assert (row["stored"], row["failed"]) == (1, 0)


def test_compacting_changes_no_figure(store: FolderStore) -> None:
    write(store, [a_record(number) for number in range(20)])
    before = rows(store)
    compact(store)
    assert rows(store) == before


def test_a_row_without_any_time_is_counted_under_no_day(store: FolderStore) -> None:
    write(store, [a_failure(1, requested_at=None)])
    (row,) = rows(store)
    assert (row["day"], row["failed"]) == (None, 1)


def test_the_day_is_that_of_the_request_in_utc(store: FolderStore) -> None:
    midnight = datetime(2026, 11, 2, tzinfo=UTC)
    write(store, [a_record(1, requested_at=midnight - timedelta(seconds=1), stored_at=midnight)])
    (row,) = rows(store)
    assert row["day"] == DAY


def test_nothing_is_an_empty_table_with_the_same_columns(store: FolderStore) -> None:
    empty = spending(open_snapshot(store))
    write(store, [a_record(1)])
    assert len(empty) == 0
    assert spending(open_snapshot(store)).schema == empty.schema


def test_one_set_is_added_up(store: FolderStore) -> None:
    write(store, [a_record(1), a_record(2, requested_at=NOON + timedelta(days=9)), a_failure(3)])
    table = spending(open_snapshot(store))
    assert total_of(table, "winter") == Totals(2, 1, pytest.approx(0.009))
    assert total_of(table, "summer") == Totals(0, 0, 0.0)
