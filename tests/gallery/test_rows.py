"""Rows of a manifest: read a row group at a time, dropped, added, and found by their page."""

from collections.abc import Sequence
from datetime import timedelta
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.gallery.rows import ROWS, DamagedManifestError, Rows
from flux_pipeline.lineage.table import Candidates
from tests.lineage.samples import NOON, digest

IMAGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=12)
"""The number of the request, and the hour in which it was stored."""


def a_row(request: int, hour: int, page: int = 1, part: str = "part-1") -> dict[str, object]:
    required = {
        each.name: "x" if each.type == "string" else 1 for each in ROWS if not each.nullable
    }
    return {
        **dict.fromkeys(ROWS.names),
        **required,
        "request_sha256": digest(f"request {request}"),
        "prediction_id": f"prediction-{request}",
        "output_index": 0,
        "stored_at": NOON + timedelta(hours=hour),
        "image_sha256": digest(f"image {request}"),
        "prompt": f"{request} at {hour}",
        "part": part,
        "id": f"{request}-{hour}",
        "page": page,
    }


def a_table(rows: Sequence[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), ROWS)


def in_file(rows: Sequence[dict[str, object]], row_group: int = 2) -> Rows:
    body = BytesIO()
    pq.write_table(a_table(rows), body, row_group_size=row_group)
    return Rows(pq.ParquetFile(body))


def prompts(rows: Rows) -> list[object]:
    return [prompt for table in rows.batches("prompt") for prompt in table.column(0).to_pylist()]


def pages(rows: Rows, *wanted: int) -> dict[int, list[object]]:
    found = rows.of_pages(wanted)
    return {page: table.column("prompt").to_pylist() for page, table in found}


@given(IMAGES, IMAGES, IMAGES)
def test_what_is_superseded_is_what_the_rule_of_the_lineage_table_says_of_all_rows(
    first: Sequence[tuple[int, int]],
    second: Sequence[tuple[int, int]],
    third: Sequence[tuple[int, int]],
) -> None:
    before = [a_row(request, hour, 1) for request, hour in dict(first).items()]
    rows = in_file(before)
    known = list(before)
    for page, images in ((2, second), (3, third)):
        added = [a_row(request, hour, page) for request, hour in images]
        candidates = Candidates()
        candidates.add(a_table(known + added), ["part-1"] * (len(known) + len(added)))
        current = candidates.current().tolist()
        lost, stay = rows.drop_superseded(a_table(added))
        assert stay.tolist() == current[len(known) :]
        gone = [row for row, is_current in zip(known, current, strict=False) if not is_current]
        assert lost == {row["page"] for row in gone}
        known = [row for row, keep in zip(known + added, current, strict=True) if keep]
        rows.add(a_table(added).filter(pa.array(stay)))
        assert prompts(rows) == [row["prompt"] for row in known]
        assert len(rows) == len(known)


def test_a_page_is_found_though_row_groups_and_what_was_added_divide_it() -> None:
    rows = in_file([a_row(n, 0, page) for n, page in enumerate((1, 1, 1, 2, 3))])
    rows.add(a_table([a_row(5, 0, 3), a_row(6, 0, 4)]))
    assert pages(rows, 1, 3, 9) == {1: ["0 at 0", "1 at 0", "2 at 0"], 3: ["4 at 0", "5 at 0"]}


def test_rows_of_a_part_that_is_read_again_go_and_their_pages_are_told() -> None:
    rows = in_file([a_row(0, 0, 1), a_row(1, 0, 1, "part-2"), a_row(2, 0, 2, "part-2")])
    rows.add(a_table([a_row(3, 0, 3, "part-2"), a_row(4, 0, 3)]))
    assert rows.drop_parts(["part-2"]) == {1, 2, 3}
    assert prompts(rows) == ["0 at 0", "4 at 0"]
    assert rows.drop_parts(["part-2"]) == set()


def test_a_pack_that_came_later_is_noted_of_the_rows_that_have_none() -> None:
    rows = in_file([a_row(0, 0) | {"pack": "first"}, a_row(1, 0), a_row(2, 0, 2), a_row(3, 0, 2)])
    rows.drop_parts(["none"])
    packs = {digest(f"image {number}"): "late" for number in (0, 1, 3)}
    assert rows.add_packs(packs) == {1, 2}
    found = [pack for table in rows.batches("pack") for pack in table.column(0).to_pylist()]
    assert found == ["first", "late", None, "late"]
    assert rows.add_packs(packs) == set()


def test_a_file_that_cannot_be_read_is_told_so() -> None:
    body = BytesIO()
    pq.write_table(a_table([a_row(0, 0)]).drop_columns(["prompt"]), body)
    with pytest.raises(DamagedManifestError):
        list(Rows(pq.ParquetFile(body)).batches("prompt"))


def test_no_rows_at_all_have_no_batches_and_no_pages() -> None:
    rows = Rows()
    assert (len(rows), prompts(rows), pages(rows, 1)) == (0, [], {})
