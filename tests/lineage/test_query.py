"""Finding images again: in what is compacted, in what came since, and in both."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.lineage import table
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.query import (
    Snapshot,
    find_all,
    find_exact,
    find_similar,
    open_snapshot,
)
from flux_pipeline.lineage.record import ImageRecord
from flux_pipeline.lineage.table import compact
from flux_pipeline.store.base import Store
from flux_pipeline.store.local import FolderStore
from tests.lineage.samples import NOON, a_failure, a_record, digest

LATER = NOON + timedelta(hours=1)
RECORDS = [
    a_record("a", dhash=0b0),
    a_record("b", dhash=0b111, prompt_set="summer", prompt="Ein SCHLOSS am Fluß"),
    a_record("c", dhash=2**64 - 1, run_id="run-2", prompt="a castle (50%_off) [x]"),
    a_record("d", dhash=0b1, prediction_id=None, prompt="城堡"),
    a_failure("e"),
]


def write(store: Store, *records: ImageRecord, run_id: str = "1") -> None:
    write_part(store, records, asset="a", partition="", run_id=run_id, day=date(2026, 11, 1))


def words(records: list[ImageRecord]) -> list[str]:
    return [record.prompt_name.removeprefix("prompt-") for record in records]


def all_compacted(store: Store) -> None:
    write(store, *RECORDS)
    compact(store)


def none_compacted(store: Store) -> None:
    write(store, *RECORDS)


def half_compacted(store: Store) -> None:
    write(store, *RECORDS[:2])
    compact(store)
    write(store, *RECORDS[2:], run_id="2")


@pytest.fixture(autouse=True, scope="module")
def small_groups() -> Iterator[None]:
    """Row groups of two rows, so that few rows fill several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "_ROW_GROUP", 2)
        yield


@pytest.fixture(scope="module", params=[all_compacted, none_compacted, half_compacted])
def snapshot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    store = FolderStore(tmp_path_factory.mktemp("found"))
    request.param(store)
    return open_snapshot(store)


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [
        ("image_sha256", digest("image b"), "b"),
        ("file_sha256", digest("file a"), "a"),
        ("prediction_id", "prediction-c", "c"),
        ("request_sha256", digest("request d"), "d"),
        ("prompt_name", "prompt-e", "e"),
        ("prompt_set", "summer", "b"),
        ("prompt_set", "winter", "edca"),
        ("run_id", "run-2", "c"),
        ("status", "failed", "e"),
        ("uri", "s3://bucket/images/a.webp", "a"),
        ("image_sha256", digest("nothing"), ""),
        ("image_sha256", "", ""),
        ("run_id", "run", ""),
    ],
)
def test_an_exact_value(snapshot: Snapshot, column: Any, value: str, found: str) -> None:
    assert words(find_exact(snapshot, column, value)) == list(found)


def test_the_whole_record(snapshot: Snapshot) -> None:
    assert find_exact(snapshot, "prompt_name", "prompt-b") == [RECORDS[1]]
    assert find_exact(snapshot, "prompt_name", "prompt-e") == [RECORDS[4]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("CASTLE", "eca"),
        ("schloss", "b"),
        ("fluß", "b"),
        ("(50%_off) [", "c"),
        ("堡", "d"),
        (".*", ""),
        ("", "edcba"),
    ],
)
def test_a_part_of_the_prompt_in_any_case(snapshot: Snapshot, text: str, found: str) -> None:
    assert words(find_all(snapshot, prompt=text)) == list(found)


def test_what_looks_alike_nearest_first(snapshot: Snapshot) -> None:
    found = find_similar(snapshot, 0b0)
    assert [bits for bits, _ in found] == [0, 1, 3]
    assert words([record for _, record in found]) == ["a", "d", "b"]
    assert words([record for _, record in find_similar(snapshot, 0b0, distance=1)]) == [
        "a",
        "d",
    ]
    assert words([record for _, record in find_similar(snapshot, 2**64 - 1)]) == ["c"]
    assert len(find_similar(snapshot, 0b0, distance=64)) == 4


def test_at_most_so_many(snapshot: Snapshot) -> None:
    assert words(find_exact(snapshot, "prompt_set", "winter", limit=2)) == ["e", "d"]
    assert words(find_all(snapshot, prompt="", limit=3)) == ["e", "d", "c"]
    assert words(find_all(snapshot, prompt="", limit=None)) == list("edcba")
    assert len(find_similar(snapshot, 0b0, distance=64, limit=1)) == 1


def test_nothing_recorded_is_nothing_found(store: FolderStore) -> None:
    snapshot = open_snapshot(store)
    assert find_exact(snapshot, "run_id", "run-1") == []
    assert find_all(snapshot, prompt="") == []
    assert find_similar(snapshot, 0) == []


def hidden_by_a_later_part(store: Store) -> None:
    write(store, a_record("a", polls=1), a_record("b"), a_record("c"))
    compact(store)
    write(store, a_record("a", polls=9, stored_at=LATER, image_sha256="new"), run_id="2")


def hidden_by_the_compacted_table(store: Store) -> None:
    write(store, a_record("b"), a_record("a", polls=9, stored_at=LATER, image_sha256="new"))
    compact(store)
    write(store, a_record("a", polls=1), a_record("c"), run_id="2")


@pytest.mark.parametrize("arrange", [hidden_by_a_later_part, hidden_by_the_compacted_table])
def test_a_superseded_row_is_found_in_neither_table(
    store: FolderStore, arrange: Callable[[Store], None]
) -> None:
    arrange(store)
    for _ in range(2):
        snapshot = open_snapshot(store)
        assert [row.polls for row in find_exact(snapshot, "prompt_name", "prompt-a")] == [9]
        assert find_exact(snapshot, "image_sha256", digest("image a")) == []
        assert words(find_exact(snapshot, "image_sha256", "new")) == ["a"]
        assert sorted(words(find_all(snapshot, prompt="castle"))) == ["a", "b", "c"]
        compact(store)


def test_a_failure_is_gone_as_soon_as_something_came(store: FolderStore) -> None:
    write(store, a_failure("a"))
    compact(store)
    assert words(find_exact(open_snapshot(store), "status", "failed")) == ["a"]
    write(store, a_record("a"), run_id="2")
    snapshot = open_snapshot(store)
    assert find_exact(snapshot, "status", "failed") == []
    assert words(find_exact(snapshot, "status", "stored")) == ["a"]


def test_a_snapshot_stays_as_it_was(store: FolderStore) -> None:
    write(store, a_record("a"))
    snapshot = open_snapshot(store)
    write(store, a_record("b"), run_id="2")
    compact(store)
    assert words(find_all(snapshot, prompt="")) == ["a"]


HASHES = st.integers(0, 2**64 - 1)


@pytest.fixture(scope="module")
def hashes(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[int], Snapshot]:
    known = [0, 1, 2**63, 2**64 - 1, *(int(digest(n)[:16], 16) for n in range(16))]
    store = FolderStore(tmp_path_factory.mktemp("hashes"))
    write(store, *(a_record(n, dhash=one) for n, one in enumerate(known)))
    return known, open_snapshot(store)


@settings(deadline=None, max_examples=30)
@given(HASHES, st.integers(0, 64))
def test_similarity_is_the_number_of_bits_that_differ(
    hashes: tuple[list[int], Snapshot], dhash: int, distance: int
) -> None:
    known, snapshot = hashes
    expected = sorted(bits for one in known if (bits := (one ^ dhash).bit_count()) <= distance)
    found = find_similar(snapshot, dhash, distance=distance, limit=None)
    assert [bits for bits, _ in found] == expected
    assert all((record.dhash or 0) ^ dhash for bits, record in found if bits)
