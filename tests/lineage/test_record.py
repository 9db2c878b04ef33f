"""Image records: as JSON for the ledger, exact both ways, and the ids stored with an object."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.lineage.record import (
    ImageRecord,
    object_metadata,
    records_from_json,
    records_to_json,
)
from flux_pipeline.store.base import check_metadata
from tests.lineage.samples import NOON, RECORDS, a_failure, a_record, digest


@settings(deadline=None, max_examples=50)
@given(st.lists(RECORDS, max_size=4))
def test_records_come_back_exactly_and_in_order(records: list[ImageRecord]) -> None:
    assert records_from_json(records_to_json(records)) == records


def test_no_records_are_an_empty_list() -> None:
    assert records_to_json([]) == "[]"
    assert records_from_json("[]") == []


def test_what_is_at_its_default_is_left_out() -> None:
    (found,) = json.loads(records_to_json([a_record(seed=None, polls=0)]))
    assert {"seed", "polls", "error"}.isdisjoint(found)
    assert found["prompt"] == "a beautiful castle, number a"
    assert len(records_to_json([a_record()])) < 1500


def test_times_are_written_in_utc() -> None:
    record = a_record(stored_at=NOON.astimezone(timezone(timedelta(hours=8))))
    written = records_to_json([record])
    assert '"stored_at":"2026-11-01T12:00:00+00:00"' in written
    assert records_from_json(written) == [record]


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="stored_at has no time zone"):
        records_to_json([a_record(stored_at=datetime(2026, 11, 1))])  # noqa: DTZ001 - the point


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Expecting"),
        ("{}", "not a JSON list"),
        ("[1]", "not a JSON object"),
        ("[{}]", "status|required|None"),
        ('[{"status":"stored"}]', "missing .* required"),
        ('[{"status":"lost"}]', "lost"),
        ('[{"colour":"red"}]', r"unknown fields \['colour'\]; written by a later version"),
    ],
)
def test_anything_else_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        records_from_json(text)


def test_ids_and_nothing_else_travel_with_an_object() -> None:
    assert object_metadata(a_record(), file_sha256=digest("file a")) == {
        "image-sha256": digest("image a"),
        "file-sha256": digest("file a"),
        "prediction-id": "prediction-a",
        "output-index": "0",
        "request-sha256": digest("request a"),
        "run-id": "run-1",
        "config-sha256": digest("config"),
        "seed": "7",
    }


def test_what_is_not_known_is_left_out() -> None:
    found = object_metadata(a_failure(seed=None, config_sha256=""), file_sha256=digest("file"))
    assert set(found) == {"file-sha256", "output-index", "request-sha256", "run-id"}


def test_a_seed_of_zero_is_known() -> None:
    assert object_metadata(a_record(seed=0), file_sha256="")["seed"] == "0"


@settings(deadline=None)
@given(
    st.integers(-(2**63), 2**63 - 1),
    st.text("aZ09-_.:~@=+,;!$&*()[]{}|^", min_size=1, max_size=255),
)
def test_a_store_takes_them(seed: int, prediction_id: str) -> None:
    record = a_record(seed=seed, prediction_id=prediction_id)
    check_metadata("image/webp", object_metadata(record, file_sha256=digest("file")))
