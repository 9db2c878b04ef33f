"""Tests of flux_pipeline.gallery.selection."""

from pathlib import Path

from flux_pipeline.gallery.build import build_gallery
from flux_pipeline.gallery.page import Summary
from flux_pipeline.gallery.selection import NOTHING_CHOSEN, Selection, read_selection
from flux_pipeline.prompts import build_prompt_set
from tests.gallery.counting_store import CountingStore
from tests.gallery.samples import an_image, record
from tests.lineage.samples import NOON


def _selection(folder: Path, rows: str | None = None) -> Selection:
    if rows is not None:
        (folder / "book.csv").write_text(rows)
    document = {
        "model": "lucataco/flux-schnell-lora",
        "prompts": {"castle": "a castle"},
        "choose": "book.csv",
    }
    return read_selection(build_prompt_set("book", document, folder=folder))


def test_the_picks_of_a_set_are_those_of_its_file(tmp_path: Path) -> None:
    assert _selection(tmp_path) == Selection("book.csv", version=_selection(tmp_path).version)
    before = _selection(tmp_path, "prompt,take,note\ncastle,2,warm\n")
    assert before.picks == (("castle", "", 2, 1, "", "warm"),)
    assert _selection(tmp_path, "prompt,take,note\ncastle,1,warm\n").version != before.version


def test_a_wrong_file_is_told_and_stops_no_gallery(tmp_path: Path) -> None:
    wrong = _selection(tmp_path, "prompt,take\ncastle,two\n,1\n")
    assert wrong.picks == ()
    assert wrong.problem.startswith("line 2: row 1: take is ")
    assert wrong.problem.endswith("(and 1 more)")


def test_a_summary_keeps_what_is_chosen_for_the_page_over_all(store: CountingStore) -> None:
    record(store, [an_image(store, 1)])
    plain = build_gallery(store, "winter", now=NOON)
    assert plain.summary.selection == NOTHING_CHOSEN
    chosen = Selection("a.csv", by_day=False, picks=(("castle", "", 1, 1, "", "x"),), version="1")
    built = build_gallery(store, "winter", selection=chosen, now=NOON)
    assert (built.parts_read, built.files_written) == (0, 0)  # the page alone is written
    assert Summary.load(built.summary.to_bytes()).selection == chosen
