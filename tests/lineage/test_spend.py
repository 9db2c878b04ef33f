"""Spending: the lineage table made small, with every cent in it."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest

from flux_pipeline.lineage import table
from flux_pipeline.lineage.columns import SPEND_SOURCES
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.query import open_snapshot
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.lineage.schema import SCHEMA
from flux_pipeline.lineage.spend import (
    SPEND_SCHEMA,
    SUMS,
    By,
    group_spending,
    select_spending,
    spending,
    total,
)
from flux_pipeline.lineage.table import compact
from flux_pipeline.store.local import FolderStore
from tests.lineage.samples import NOON, a_failure, a_record, digest

DAY = date(2026, 11, 1)


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
    found = [(row["day"], row["prompt_set"], row["images"], row["usd"]) for row in rows(store)]
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
    assert (row["images"], row["failed"]) == (1, 0)


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


def four(word: str, **changes: Any) -> list[ImageRecord]:
    """The rows of one prediction of four images, as a producer records them."""
    shared = {"prediction_id": word, "request_sha256": digest(word), "num_outputs": 4}
    times = {"predict_seconds": 2.5, "cost_usd": 0.012 / 4}
    return [
        a_record(f"{word} {index}", output_index=index, **(shared | times | changes))
        for index in range(4)
    ]


def test_a_prediction_of_four_images_is_counted_and_timed_once(store: FolderStore) -> None:
    write(store, [*four("p"), *four("q")])
    (row,) = rows(store)
    assert (row["predictions"], row["images"], row["seconds"]) == (2, 8, 5.0)
    assert row["usd"] == pytest.approx(0.024)


def test_a_prediction_recorded_in_several_parts_is_counted_once(store: FolderStore) -> None:
    rows_of = four("p")
    write(store, [*rows_of[:2], a_failure("x", prediction_id="p", output_index=2)], "run-1")
    compact(store)
    write(store, rows_of[2:], "run-2")
    (row,) = rows(store)
    assert (row["predictions"], row["images"], row["seconds"]) == (1, 4, 2.5)


def test_a_prediction_is_timed_by_the_row_that_has_its_time(store: FolderStore) -> None:
    first, *others = four("p")
    write(store, [replace(first, predict_seconds=None), *others])
    assert rows(store)[0]["seconds"] == 2.5


def test_a_refused_create_is_no_prediction(store: FolderStore) -> None:
    no_id: dict[str, Any] = {"requested_at": None, "predict_seconds": None, "cost_usd": 0.0}
    write(store, [a_failure(1, **no_id), a_failure(2, **no_id)])
    (row,) = rows(store)
    assert (row["predictions"], row["failed"], row["seconds"]) == (0, 2, 0.0)


def test_what_a_budget_or_a_limit_kept_back_is_left_out(store: FolderStore) -> None:
    write(store, [a_record(1), a_failure(2, attempts=0, requested_at=None, cost_usd=0.0)])
    (row,) = rows(store)
    assert (row["images"], row["failed"]) == (1, 0)


def test_predictions_are_distinct_over_row_groups_and_tables(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_ROW_GROUP", 3)
    write(store, [row for word in "abcde" for row in four(word)])
    compact(store)
    write(store, four("f"), "run-2")
    (row,) = rows(store)
    assert (row["predictions"], row["images"], row["seconds"]) == (6, 24, 15.0)


def some(store: FolderStore) -> pa.Table:
    later = NOON + timedelta(days=1)
    write(
        store,
        [
            *four("a"),
            *four("b", prompt_set="summer", requested_at=later),
            *four("c", requested_at=later, model="other/model"),
            a_failure("d", requested_at=None, cost_usd=0.0),
        ],
    )
    return spending(open_snapshot(store))


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("day", [(DAY, 4), (DAY + timedelta(days=1), 8), (None, 0)]),
        ("set", [("summer", 4), ("winter", 8)]),
        ("model", [("lucataco/flux-schnell-lora", 8), ("other/model", 4)]),
    ],
)
def test_rows_are_added_up_by_one_thing(
    store: FolderStore, by: By, expected: list[tuple[object, int]]
) -> None:
    grouped = group_spending(some(store), by)
    found = [(row[grouped.column_names[0]], row["images"]) for row in grouped.to_pylist()]
    assert found == expected


def test_days_and_sets_are_chosen_with_both_ends(store: FolderStore) -> None:
    table = some(store)
    assert total(select_spending(table))["images"] == 12
    assert total(select_spending(table, prompt_sets=("winter",)))["images"] == 8
    assert total(select_spending(table, since=DAY, until=DAY))["images"] == 4
    assert total(select_spending(table, since=DAY + timedelta(days=1)))["predictions"] == 2
    assert total(select_spending(table, prompt_sets=("autumn",))) == dict.fromkeys(SUMS, 0)


def test_every_column_is_described_and_has_its_sources() -> None:
    assert list(SPEND_SOURCES) == SPEND_SCHEMA.names
    assert {name for names in SPEND_SOURCES.values() for name in names} <= set(SCHEMA.names)
    for field in SPEND_SCHEMA:
        assert len((field.metadata or {})[b"description"]) > 3


def test_what_a_prediction_came_to_counts_beside_the_estimate(store: FolderStore) -> None:
    estimated = a_record(1, cost_usd=0.01)
    measured = a_record(2, cost_usd=0.01, measured_usd=0.004)
    write(store, [estimated, measured])
    (row,) = rows(store)
    assert row["usd"] == pytest.approx(0.02)
    assert row["measured_usd"] == pytest.approx(0.014)
