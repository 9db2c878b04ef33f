import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.lineage.record import (
    ImageRecord,
    record_from_json,
    record_to_json,
    records_from_json,
    records_to_json,
)
from tests.lineage.samples import NOON, RECORDS, a_record


@settings(deadline=None, max_examples=50)
@given(RECORDS)
def test_a_record_comes_back_exactly(record: ImageRecord) -> None:
    assert record_from_json(record_to_json(record)) == record


@settings(deadline=None, max_examples=50)
@given(st.lists(RECORDS, max_size=4))
def test_records_come_back_exactly_and_in_order(records: list[ImageRecord]) -> None:
    assert records_from_json(records_to_json(records)) == records


def test_no_records_are_an_empty_list() -> None:
    assert records_to_json([]) == "[]"
    assert records_from_json("[]") == []


def test_what_is_at_its_default_is_left_out() -> None:
    found = json.loads(record_to_json(a_record(seed=None, polls=0)))
    assert {"seed", "polls", "error"}.isdisjoint(found)
    assert found["prompt"] == "a beautiful castle, number a"
    assert len(record_to_json(a_record())) < 1500


def test_times_are_written_in_utc() -> None:
    local = NOON.astimezone(timezone(timedelta(hours=8)))
    record = a_record(stored_at=local)
    assert '"stored_at":"2026-11-01T12:00:00+00:00"' in record_to_json(record)
    assert record_from_json(record_to_json(record)) == record


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="stored_at has no time zone"):
        record_to_json(a_record(stored_at=datetime(2026, 11, 1)))  # noqa: DTZ001 - the point


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
