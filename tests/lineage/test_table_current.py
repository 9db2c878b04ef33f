"""Which rows are current: the rule, against a plain version of it."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.lineage.parts import part_day, part_key
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.lineage.schema import records_to_batch
from flux_pipeline.lineage.table import Candidates, is_any_of
from tests.lineage.samples import NOON, a_failure, a_record

LATER = NOON + timedelta(hours=1)


def part(number: int, day: int = 1) -> str:
    key = {"asset": "a", "partition": str(number), "run_id": ""}
    return part_key(**key, day=date(2026, 11, day))


def current(*rows: tuple[ImageRecord, str]) -> list[ImageRecord]:
    candidates = Candidates()
    for some in (rows[:2], rows[2:]):
        batch = records_to_batch(record for record, _ in some)
        candidates.add(pa.Table.from_batches([batch]), [key for _, key in some])
    kept = candidates.current()
    return [record for (record, _), keep in zip(rows, kept, strict=True) if keep]


def test_no_rows_are_no_rows() -> None:
    assert current() == []
    assert len(Candidates().groups()) == 0


def test_different_images_are_all_current() -> None:
    rows = [a_record("a"), a_record("a", output_index=1), a_record("b"), a_failure("c")]
    assert current(*((row, part(1)) for row in rows)) == rows


def test_the_row_stored_last_is_current_whatever_the_order_of_reading() -> None:
    early, late = a_record(stored_at=NOON), a_record(stored_at=LATER)
    assert current((early, part(1)), (late, part(2))) == [late]
    assert current((late, part(1)), (early, part(2))) == [late]


def test_a_failure_without_an_id_goes_when_something_came() -> None:
    failed, stored = a_failure(requested_at=NOON), a_record(stored_at=LATER)
    assert current((failed, part(1)), (stored, part(1))) == [stored]
    assert current((stored, part(1)), (failed, part(1))) == [stored]


def test_a_later_failure_without_an_id_stands_beside_what_was_stored() -> None:
    stored, failed = a_record(stored_at=NOON), a_failure(requested_at=LATER)
    assert current((stored, part(1)), (failed, part(1))) == [stored, failed]


def test_of_failures_without_an_id_the_last_stands() -> None:
    rows = [a_failure(requested_at=NOON + timedelta(hours=n), error=str(n)) for n in range(3)]
    assert current(*((row, part(1)) for row in rows)) == rows[2:]


def test_two_predictions_of_one_request_are_two_images() -> None:
    rows = [a_record(prediction_id="p1"), a_record(prediction_id="p2", stored_at=LATER)]
    assert current(*((row, part(1)) for row in rows)) == rows


def test_a_failure_of_another_output_is_not_superseded() -> None:
    rows = [a_failure(output_index=1), a_record(stored_at=LATER)]
    assert current(*((row, part(1)) for row in rows)) == rows


def test_without_any_time_the_day_of_the_part_counts() -> None:
    timeless = a_failure(requested_at=None, error="timeless")
    failed = a_failure(requested_at=datetime(2026, 11, 2, 0, 0, 1, tzinfo=UTC))
    assert current((timeless, part(1, day=3)), (failed, part(2, day=1))) == [timeless]
    assert current((timeless, part(1, day=2)), (failed, part(2, day=1))) == [failed]


def test_at_the_same_time_the_last_part_and_then_the_last_row_counts() -> None:
    keys = sorted([part(1), part(2)])
    rows = [a_record(polls=n) for n in range(2)]
    assert current((rows[0], keys[1]), (rows[1], keys[0])) == rows[:1]
    assert current((rows[0], keys[0]), (rows[1], keys[0])) == rows[1:]


ROWS = st.tuples(
    st.builds(
        a_record,
        st.sampled_from("ab"),
        output_index=st.integers(0, 1),
        prediction_id=st.sampled_from([None, "p1", "p2"]),
        stored_at=st.sampled_from([None, NOON, LATER]),
        completed_at=st.sampled_from([None, NOON]),
        requested_at=st.sampled_from([None, NOON - timedelta(hours=1)]),
        polls=st.integers(0, 3),
    ),
    st.sampled_from([part(1), part(2), part(1, day=2)]),
)


def plainly_current(rows: Sequence[tuple[ImageRecord, str]]) -> list[ImageRecord]:
    """The rule as it is written down, row against row."""

    def when(place: int) -> tuple[datetime, str, int]:
        row, key = rows[place]
        day = datetime.combine(part_day(key), time(), UTC)
        return row.stored_at or row.completed_at or row.requested_at or day, key, place

    def supersedes(later: int, earlier: int) -> bool:
        one, other = rows[later][0], rows[earlier][0]
        same_image = (one.request_sha256, one.output_index) == (
            other.request_sha256,
            other.output_index,
        )
        same_key = other.prediction_id is None or one.prediction_id == other.prediction_id
        return same_image and same_key and when(later) > when(earlier)

    places = range(len(rows))
    return [rows[one][0] for one in places if not any(supersedes(other, one) for other in places)]


@settings(deadline=None, max_examples=50)
@given(st.lists(ROWS, max_size=12))
def test_the_arrays_follow_the_rule(rows: list[tuple[ImageRecord, str]]) -> None:
    assert current(*rows) == plainly_current(rows)


@settings(deadline=None, max_examples=50)
@given(st.lists(ROWS, max_size=8), st.lists(ROWS, max_size=8))
def test_what_was_superseded_can_be_forgotten(
    earlier: list[tuple[ImageRecord, str]], later: list[tuple[ImageRecord, str]]
) -> None:
    """So a compacted table and the parts since it give what all parts together give."""
    kept = {id(row) for row in current(*earlier)}
    remembered = [pair for pair in earlier if id(pair[0]) in kept]
    assert current(*remembered, *later) == current(*earlier, *later)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-5, 5)), st.sets(st.integers(-5, 5)))
def test_membership_is_membership(values: list[int], known: set[int]) -> None:
    found = is_any_of(np.array(values, np.int64), np.array(sorted(known), np.int64))
    assert found.tolist() == [value in known for value in values]
