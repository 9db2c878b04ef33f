"""The lineage table as a DataFrame: filtered, with the same columns and dtypes always."""

from datetime import date, timedelta
from typing import Any

import pandas as pd
import pytest

from flux_pipeline.errors import StoreError
from flux_pipeline.lineage import SCHEMA, ImageStatus, read_lineage
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import TIMES
from flux_pipeline.lineage.table import compact
from flux_pipeline.store import Store, open_store
from flux_pipeline.store.local import FolderStore
from tests.lineage.samples import NOON, a_failure, a_record

DAY = NOON.date()
NUMBERS = {
    "dhash": "UInt64",
    "lora_scale": "float64",
    "predict_seconds": "float64",
    "cost_usd": "float64",
    "measured_usd": "float64",
    **dict.fromkeys(TIMES, "datetime64[ms, UTC]"),
    **dict.fromkeys(
        (
            *("output_index", "take", "num_inference_steps", "num_outputs", "seed"),
            *("width", "height", "bytes", "attempts", "polls"),
        ),
        "Int64",
    ),
}
DTYPES = {name: NUMBERS.get(name, "string") for name in SCHEMA.names} | {"current": "boolean"}


def fill(store: Store) -> None:
    """Five images, three of them compacted."""
    later = NOON + timedelta(days=1)
    where = {"asset": "a", "partition": "", "day": DAY}
    records = [
        a_record("a"),
        a_record("b", prompt_set="summer", prompt="Ein SCHLOSS"),
        a_failure("c"),
    ]
    write_part(store, records, run_id="1", **where)
    compact(store)
    fresh = [a_record("d", run_id="run-2", requested_at=later), a_failure("e", requested_at=None)]
    write_part(store, fresh, run_id="2", **where)


def names(frame: pd.DataFrame) -> str:
    return "".join(name.removeprefix("prompt-") for name in frame["prompt_name"])


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, "abcde"),
        ({"prompt_set": "summer"}, "b"),
        ({"prompt": "CASTLE"}, "acde"),
        ({"run_id": "run-2"}, "d"),
        ({"status": "failed"}, "ce"),
        ({"status": ImageStatus.STORED, "prompt_set": "winter"}, "ad"),
        ({"day": DAY}, "abc"),
        ({"day": (DAY, DAY + timedelta(days=1))}, "abcd"),
        ({"day": (DAY + timedelta(days=1), date.max)}, "d"),
        ({"day": DAY, "status": "stored", "prompt": "number", "run_id": "run-1"}, "a"),
        ({"prompt_set": "autumn"}, ""),
    ],
)
def test_rows_meet_every_filter_and_keep_their_order(
    store: FolderStore, filters: dict[str, Any], found: str
) -> None:
    fill(store)
    frame = read_lineage(store, **filters)
    assert names(frame) == found
    assert list(frame.index) == list(range(len(found)))


@pytest.mark.parametrize("filters", [{}, {"prompt_set": "autumn"}])
def test_columns_and_dtypes_are_the_same_with_rows_and_without(
    store: FolderStore, filters: dict[str, Any]
) -> None:
    assert read_lineage(store).dtypes.astype(str).to_dict() == DTYPES
    fill(store)
    assert read_lineage(store, **filters).dtypes.astype(str).to_dict() == DTYPES


def test_values_come_as_they_were_recorded_and_missing_ones_are_missing(store: FolderStore) -> None:
    fill(store)
    frame = read_lineage(store).set_index("prompt_name")
    stored, failed = frame.loc["prompt-a"], frame.loc["prompt-c"]
    assert stored["dhash"] == a_record("a").dhash
    assert stored["requested_at"] == NOON
    assert stored["cost_usd"] == 0.003
    assert failed[["uri", "dhash", "width", "stored_at"]].isna().all()


def test_only_the_columns_asked_for_are_read_whatever_is_filtered(store: FolderStore) -> None:
    fill(store)
    frame = read_lineage(store, status="stored", day=DAY, columns=["seed", "prompt_name"])
    assert list(frame.columns) == ["seed", "prompt_name"]
    assert names(frame) == "ab"


def test_an_unknown_column_is_refused(store: FolderStore) -> None:
    with pytest.raises(KeyError, match="colour"):
        read_lineage(store, columns=["colour"])


def test_no_store_is_refused() -> None:
    with pytest.raises(StoreError, match="no such kind of store"):
        read_lineage("ftp://host/data")


def test_a_folder_and_a_bucket_are_read_by_their_uri(store: FolderStore, bucket: str) -> None:
    bucket_uri = f"s3://{bucket}/pictures"
    for each in (store, open_store(bucket_uri)):
        fill(each)
    frames = [read_lineage(uri, prompt="castle") for uri in (store.uri, bucket_uri)]
    pd.testing.assert_frame_equal(*frames)
    assert names(frames[0]) == "acde"
