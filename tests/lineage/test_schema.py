"""Records as Arrow and back, with descriptions and units."""

import dataclasses
import struct
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.lineage.record import TIMES, ImageRecord
from flux_pipeline.lineage.schema import SCHEMA, batch_to_records, records_to_batch
from tests.lineage.samples import NOON, RECORDS, a_failure, a_record

TYPES = {
    "dhash": "uint64",
    "output_index": "int8",
    "take": "int32",
    "lora_scale": "double",
    "num_inference_steps": "int16",
    "num_outputs": "int8",
    "seed": "int64",
    "width": "int32",
    "height": "int32",
    "bytes": "int64",
    "requested_at": "timestamp[ms, tz=UTC]",
    "completed_at": "timestamp[ms, tz=UTC]",
    "stored_at": "timestamp[ms, tz=UTC]",
    "removed_at": "timestamp[ms, tz=UTC]",
    "predict_seconds": "float",
    "attempts": "int16",
    "polls": "int16",
    "cost_usd": "double",
    "measured_usd": "double",
}


def back(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    return list(batch_to_records(records_to_batch(records)))


def as_stored(record: ImageRecord) -> ImageRecord:
    """With times cut to milliseconds and seconds to 32 bits."""
    changes: dict[str, Any] = {}
    for name in TIMES:
        if time := getattr(record, name):
            changes[name] = time.replace(microsecond=time.microsecond // 1000 * 1000)
    if record.predict_seconds is not None:
        changes["predict_seconds"] = struct.unpack("f", struct.pack("f", record.predict_seconds))[0]
    return dataclasses.replace(record, **changes)


def test_the_columns_are_the_fields_of_a_record_in_their_order() -> None:
    assert SCHEMA.names == [field.name for field in dataclasses.fields(ImageRecord)]


def test_the_types_are_as_documented() -> None:
    assert {field.name: str(field.type) for field in SCHEMA if str(field.type) != "string"} == TYPES


def test_what_may_be_missing_is_what_may_be_none() -> None:
    missing = {field.name for field in SCHEMA if field.nullable}
    record = a_failure(
        hf_lora=None, lora_scale=None, aspect_ratio=None, seed=None, predict_seconds=None
    )
    none = {name for name in SCHEMA.names if getattr(record, name) is None}
    assert none <= missing
    assert {"request_sha256", "output_index", "prompt", "status", "run_id"}.isdisjoint(missing)


def test_every_column_is_described_and_measures_have_a_unit() -> None:
    for field in SCHEMA:
        assert len((field.metadata or {})[b"description"]) > 3
    units = {
        name: (SCHEMA.field(name).metadata or {})[b"unit"].decode()
        for name in ("width", "height", "bytes", "predict_seconds", "cost_usd", "stored_at")
    }
    assert units == {
        "width": "px",
        "height": "px",
        "bytes": "bytes",
        "predict_seconds": "s",
        "cost_usd": "USD",
        "stored_at": "UTC, ms",
    }


@settings(deadline=None, max_examples=50)
@given(st.lists(RECORDS, max_size=5))
def test_records_come_back_but_for_what_the_types_cut(records: list[ImageRecord]) -> None:
    assert back(records) == [as_stored(record) for record in records]


def test_times_of_any_zone_are_the_same_moment() -> None:
    local = NOON.astimezone(timezone(timedelta(hours=-5)))
    assert back([a_record(stored_at=local)])[0].stored_at == NOON


@pytest.mark.parametrize(
    ("changes", "column"),
    [
        ({"output_index": 128}, "output_index"),
        ({"attempts": 2**15}, "attempts"),
        ({"dhash": -1}, "dhash"),
        ({"dhash": 2**64}, "dhash"),
        ({"seed": 2**63}, "seed"),
        ({"prompt": None}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "\ud800"}, "prompt"),
        ({"width": "wide"}, "width"),
        ({"stored_at": datetime(2026, 11, 1)}, "stored_at"),  # noqa: DTZ001 - the point
    ],
)
def test_what_does_not_fit_is_refused_with_its_column(changes: dict[str, Any], column: str) -> None:
    with pytest.raises(ValueError, match=f"image record: {column}"):
        records_to_batch([a_record(), a_record(**changes)])
