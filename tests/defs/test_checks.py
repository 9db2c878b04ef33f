"""Checks: each sentence breaks on what it forbids, and only on that."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from flux_pipeline.defs.checks import (
    CHECKS,
    COMPLETE,
    CheckInput,
    build_check_specs,
    partition_checks,
    run_checks,
    split_checks,
)
from flux_pipeline.defs.run_summary import SAMPLE, Outcome
from flux_pipeline.images.formats import image_sha256
from flux_pipeline.ledger.base import Budget
from flux_pipeline.lineage import query as recorded
from flux_pipeline.lineage.parts import write_part
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.lineage.table import compact
from flux_pipeline.produce.report import ResultStatus, Stop
from flux_pipeline.store.local import FolderStore
from tests.defs.reports import build_record, build_report, build_result, digest
from tests.images.samples import HEIGHT, WIDTH, encode, picture

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
IMAGES = dg.AssetKey(["winter", "images"])
READABLE, DISTINCT = "images_are_readable", "images_are_distinct"
ASKED, RECORDED = "images_have_the_asked_size_and_format", "images_are_recorded"
BUDGET = "spend_is_within_budget"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def stored(store: FolderStore, number: int, **changes: Any) -> ImageRecord:
    """A real picture in the store, and its record."""
    body = encode(picture(seed=number), "WEBP")
    kept = store.put(f"images/winter/{number}.webp", body, content_type="image/webp")
    known = {"uri": kept.uri, "image_sha256": image_sha256(body)}
    return build_record(number, width=WIDTH, height=HEIGHT, **(known | changes))


def write_rows(store: FolderStore, *images: ImageRecord) -> None:
    where: dict[str, Any] = {"asset": "winter/images", "partition": "castle", "run_id": "run-1"}
    write_part(store, images, day=date(2026, 11, 1), **where)


def an_outcome(
    *images: ImageRecord, status: ResultStatus = ResultStatus.STORED, **changes: Any
) -> Outcome:
    outcome = Outcome("run")
    result = build_result(outputs=len(images), images=images, status=status, size=(0, 0), **changes)
    outcome.add(build_report("castle", result))
    return outcome


def evaluate(
    outcome: Outcome, store: FolderStore, *spent: tuple[Budget, int]
) -> dict[str, dg.AssetCheckEvaluation]:
    selected = [spec.key for spec in build_check_specs(IMAGES)]
    evidence = CheckInput("winter", store, outcome, spent)
    return {each.check_name: each for each in run_checks(selected, evidence, None)}


def broken(
    outcome: Outcome, store: FolderStore, *, rows: bool = True
) -> dict[str, dg.AssetCheckSeverity]:
    """The checks that don't pass, and how loud they are; with a row for every sampled image."""
    if rows:
        write_rows(store, *outcome.findings.sample)
    found = evaluate(outcome, store).items()
    return {name: check.severity for name, check in found if not check.passed}


def wrong(check: dg.AssetCheckEvaluation) -> dict[str, str]:
    return dict(check.metadata["flux/wrong"].value)  # type: ignore[arg-type]


def test_good_images_pass_everything(store: FolderStore) -> None:
    outcome = an_outcome(stored(store, 1), stored(store, 2))
    assert broken(outcome, store) == {}
    found = evaluate(outcome, store)
    assert found[READABLE].metadata["flux/read_images"].value == 2
    assert all(check.description is None for check in found.values())


def test_a_refused_image_is_a_warning(store: FolderStore) -> None:
    refused = build_record("x", status=ImageStatus.REFUSED, error="left out")
    outcome = an_outcome(stored(store, 1), refused)
    assert broken(outcome, store) == {COMPLETE: WARN}
    check = evaluate(outcome, store)[COMPLETE]
    assert check.metadata["flux/missing_images"].value == 1
    assert check.metadata["flux/partitions"].value == ["castle"]
    assert wrong(check) == {"castle, image 0 of prediction-x": "left out"}


def test_a_failed_image_is_an_error_that_says_what_to_do(store: FolderStore) -> None:
    outcome = an_outcome(stored(store, 1), build_record("x", status=ImageStatus.FAILED))
    assert broken(outcome, store) == {COMPLETE: ERROR}
    assert "Materialize" in (evaluate(outcome, store)[COMPLETE].description or "")


def test_what_is_held_is_an_error_of_its_own(store: FolderStore) -> None:
    outcome = an_outcome(
        build_record("x", status=ImageStatus.FAILED), status=ResultStatus.HELD, reason="why"
    )
    assert broken(outcome, store) == {COMPLETE: ERROR, "nothing_is_held": ERROR}
    check = evaluate(outcome, store)["nothing_is_held"]
    assert list(wrong(check).values()) == ["why"]
    assert "`flux-pipeline held`" in (check.description or "")


@pytest.mark.parametrize("body", [b"", b"<html>", encode(picture(), "WEBP")[:-40]])
def test_an_image_that_does_not_read_back_is_an_error(
    store: FolderStore, tmp_path: Path, body: bytes
) -> None:
    outcome = an_outcome(stored(store, 1))
    (tmp_path / "images/winter/1.webp").write_bytes(body)
    assert broken(outcome, store) == {READABLE: ERROR}


def test_an_image_with_other_pixels_is_an_error(store: FolderStore, tmp_path: Path) -> None:
    record = stored(store, 1)
    (tmp_path / "images/winter/1.webp").write_bytes(encode(picture(seed=99), "WEBP"))
    check = evaluate(an_outcome(record), store)[READABLE]
    assert wrong(check) == {record.uri: "holds other pixels than were recorded"}


def test_what_an_earlier_run_has_stored_is_decoded_again_only_where_its_bytes_have_changed(
    store: FolderStore, tmp_path: Path
) -> None:
    file = tmp_path / "images/winter/1.webp"
    known = stored(store, 1, run_id="earlier", image_sha256=digest("not these pixels"))
    known = replace(known, file_sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    assert broken(an_outcome(known), store) == {}
    assert broken(an_outcome(replace(known, run_id="run")), store) == {READABLE: ERROR}
    file.write_bytes(encode(picture(seed=99), "WEBP"))
    assert broken(an_outcome(known), store) == {READABLE: ERROR}


def test_an_image_that_is_gone_is_named_twice(store: FolderStore, tmp_path: Path) -> None:
    record = stored(store, 1)
    outcome = an_outcome(record)
    (tmp_path / "images/winter/1.webp").unlink()
    assert broken(outcome, store) == {READABLE: ERROR, RECORDED: ERROR}
    found = evaluate(outcome, store)[RECORDED]
    assert wrong(found) == {record.uri: "has a row and is not in the store"}


def test_an_image_in_another_store_is_named_and_not_fetched(store: FolderStore) -> None:
    elsewhere = build_record("x", uri="s3://other/images/x.webp")
    assert set(broken(an_outcome(elsewhere), store)) == {READABLE, RECORDED}


def test_an_image_without_an_address_is_named(store: FolderStore) -> None:
    assert READABLE in broken(an_outcome(build_record("x", uri=None)), store)


def test_a_blank_image_and_another_doubt_are_warnings(store: FolderStore) -> None:
    blank = stored(store, 1, error="blank: all of one colour")
    doubted = stored(store, 2, error="the last 8 rows are of one colour")
    outcome = an_outcome(blank, doubted)
    assert broken(outcome, store) == {
        "images_are_not_blank": WARN,
        "images_are_unsuspicious": WARN,
    }


def test_the_same_pixels_twice_are_an_error_and_the_same_looks_a_warning(
    store: FolderStore,
) -> None:
    first = stored(store, 1, dhash=5)
    body = store.get("images/winter/1.webp")
    again = store.put("images/winter/again.webp", body, content_type="image/webp")
    twin = stored(store, 1, dhash=5, uri=again.uri, request_sha256=digest("again"))
    near = stored(store, 3, dhash=4)
    outcome = an_outcome(first, twin, near)
    assert broken(outcome, store) == {DISTINCT: ERROR, "images_look_different": WARN}
    found = evaluate(outcome, store)
    assert wrong(found[DISTINCT]) == {again.uri: f"has the pixels of an earlier image: {first.uri}"}
    assert list(wrong(found["images_look_different"])) == [near.uri]


def test_another_size_than_asked_for_is_an_error(store: FolderStore) -> None:
    outcome = Outcome("run")
    outcome.add(build_report("castle", build_result(images=[stored(store, 1)], size=(64, 64))))
    assert broken(outcome, store) == {ASKED: ERROR}


def test_many_images_are_sampled(store: FolderStore) -> None:
    outcome = an_outcome(*(stored(store, number) for number in range(3 * SAMPLE)))
    read = evaluate(outcome, store)[READABLE].metadata["flux/read_images"].value
    assert read == SAMPLE


@pytest.mark.parametrize("singly", [0, 256])
@pytest.mark.parametrize("compacted", [False, True])
def test_missing_rows_and_missing_objects_are_distinguished(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, singly: int, *, compacted: bool
) -> None:
    monkeypatch.setattr(recorded, "_ASKED_SINGLY", singly)
    images = [stored(store, number) for number in range(8)]
    shared = stored(store, 8, prompt_set="summer")
    write_rows(store, *images[1:], shared)
    if compacted:
        compact(store)
    Path(store.uri.removeprefix("file://"), "images/winter/5.webp").unlink()
    check = evaluate(an_outcome(*images, shared), store)[RECORDED]
    assert wrong(check) == {
        images[0].uri: "is stored and has no row",
        images[5].uri: "has a row and is not in the store",
    }
    shown = {name: value.value for name, value in check.metadata.items()}
    assert (shown["flux/images"], shown["flux/unrecorded_images"]) == (9, 1)
    assert shown["flux/lost_images"] == 1


@pytest.mark.parametrize(("limit", "listed"), [(2, []), (3, ["images/winter/"])])
def test_a_small_part_of_a_large_set_is_looked_up_and_the_set_not_listed(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, limit: int, listed: list[str]
) -> None:
    monkeypatch.setattr(recorded, "_ASKED_SINGLY", 0)
    monkeypatch.setattr(recorded, "_LISTED_FOR_A_HEAD", limit)
    images = [stored(store, number) for number in range(8)]
    write_rows(store, *images)
    seen: list[str] = []
    listing = FolderStore.list

    def noted(self: FolderStore, prefix: str = "") -> Iterator[str]:
        seen.append(prefix)
        return listing(self, prefix)

    monkeypatch.setattr(FolderStore, "list", noted)
    assert evaluate(an_outcome(*images[:3]), store)[RECORDED].passed
    assert [prefix for prefix in seen if prefix.startswith("images/")] == listed


def test_a_lineage_table_that_cannot_be_read_fails_the_check_and_not_the_run(
    store: FolderStore,
) -> None:
    image = stored(store, 1)
    write_rows(store, image)
    (part,) = store.list("lineage/")
    store.put(part, b"nothing", content_type="a/b")
    assert part in wrong(evaluate(an_outcome(image), store)[RECORDED])["lineage"]


@pytest.mark.parametrize(
    ("spent", "limit", "severity"),
    [(0.5, None, None), (0.79, 1.0, None), (0.8, 1.0, WARN), (1.0, 1.0, WARN), (1.01, 1.0, ERROR)],
)
def test_a_budget_warns_before_it_is_spent(
    store: FolderStore,
    spent: float,
    limit: float | None,
    severity: dg.AssetCheckSeverity | None,
) -> None:
    budget = Budget("month:winter:2026-11", None if limit is None else int(limit * 1e6))
    check = evaluate(an_outcome(stored(store, 1)), store, (budget, int(spent * 1e6)))[BUDGET]
    assert check.passed is (severity is None)
    if severity:
        assert check.severity is severity
        assert list(wrong(check)) == ["usd_per_month"]


def test_a_request_that_a_budget_kept_back_is_an_error(store: FolderStore) -> None:
    unsent = build_record("x", status=ImageStatus.FAILED)
    over: dict[str, Any] = {"stop": Stop.RUN_BUDGET, "reason": "not sent: budget usd_per_run 1"}
    outcome = an_outcome(unsent, status=ResultStatus.FAILED, **over)
    assert broken(outcome, store) == {COMPLETE: ERROR, BUDGET: ERROR}
    named = wrong(evaluate(outcome, store)[BUDGET])
    assert named == {"run_budget": "1 request: not sent: budget usd_per_run 1"}


def test_only_the_checks_asked_for_are_evaluated(store: FolderStore) -> None:
    selected = [dg.AssetCheckKey(IMAGES, DISTINCT)]
    evidence = CheckInput("winter", store, an_outcome(stored(store, 1)))
    (result,) = run_checks(selected, evidence, None)
    assert (result.asset_key, result.check_name) == (IMAGES, DISTINCT)
    assert list(run_checks([], evidence, None)) == []


def test_one_check_is_evaluated_for_every_partition(instance: dg.DagsterInstance) -> None:
    keys = [spec.key for spec in build_check_specs(IMAGES)]
    single, over_all = split_checks(keys, by_partition=True)
    assert [key.name for key in single] == [COMPLETE]
    assert len(over_all) == len(CHECKS) - 1
    assert split_checks(keys, by_partition=False) == ([], sorted(keys))
    missing = build_result(images=[build_record("x", ImageStatus.FAILED, error="cut short")])
    made, lacking = build_report("moon", build_result()), build_report("castle", missing)
    reports = [made, lacking]
    good, bad = partition_checks(single, reports, instance)
    assert (good.partition, good.passed) == ("moon", True)
    assert (bad.partition, bad.passed, bad.severity) == ("castle", False, ERROR)
    assert bad.metadata["flux/wrong"].value == {"castle, image 0 of prediction-x": "cut short"}
    assert list(partition_checks([], reports, instance)) == []


def test_every_check_says_its_sentence_and_what_to_do() -> None:
    specs = build_check_specs(IMAGES)
    assert all(spec.description and spec.description.endswith(".") for spec in specs)
    assert all(check.remedy.endswith(".") for check in CHECKS.values())
    assert {spec.asset_key for spec in specs} == {IMAGES}


def test_a_failed_check_shows_the_first_few_in_words(store: FolderStore) -> None:
    many = [build_record(number, ImageStatus.FAILED, error="cut short") for number in range(5)]
    shown = evaluate(an_outcome(*many, status=ResultStatus.FAILED), store)[COMPLETE].metadata
    lines = str(shown["flux/examples"].value).splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == [*["cut short"] * 3, "and 2 more"]
    good = evaluate(an_outcome(stored(store, 1)), store)[DISTINCT].metadata
    assert "flux/examples" not in good
