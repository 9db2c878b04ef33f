"""Checks: each sentence breaks on what it forbids, and only on that."""

from pathlib import Path

import dagster as dg
import pytest

from flux_pipeline.defs.checks import build_check_specs, check_results
from flux_pipeline.defs.outcome import SAMPLE, Outcome
from flux_pipeline.images.containers import image_sha256
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.report import Ending
from flux_pipeline.store.folder import FolderStore
from tests.defs.reports import a_report, a_result, an_image
from tests.images.samples import HEIGHT, WIDTH, encode, picture

IMAGES = dg.AssetKey(["winter", "images"])


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


def stored(store: FolderStore, number: int) -> ImageRecord:
    """A real picture in the store, and its record."""
    body = encode(picture(seed=number), "WEBP")
    kept = store.put(f"images/{number}.webp", body, content_type="image/webp")
    return an_image(
        number, uri=kept.uri, image_sha256=image_sha256(body), width=WIDTH, height=HEIGHT
    )


def evaluate(outcome: Outcome, store: FolderStore) -> dict[str, dg.AssetCheckResult]:
    selected = [spec.key for spec in build_check_specs(IMAGES)]
    return {str(each.check_name): each for each in check_results(selected, outcome, store)}


def broken(outcome: Outcome, store: FolderStore) -> dict[str, dg.AssetCheckSeverity]:
    """The checks that don't pass, and how loud they are."""
    found = evaluate(outcome, store).items()
    return {name: check.severity for name, check in found if not check.passed}


def an_outcome(*images: ImageRecord, ending: Ending = Ending.STORED) -> Outcome:
    outcome = Outcome("run")
    outcome.add(a_report("castle", a_result(outputs=len(images), images=images, ending=ending)))
    return outcome


def test_good_images_pass_everything(store: FolderStore) -> None:
    outcome = an_outcome(stored(store, 1), stored(store, 2))
    assert broken(outcome, store) == {}
    assert evaluate(outcome, store)["images_are_readable"].metadata["flux/read_images"].value == 2


def test_a_refused_image_is_a_warning(store: FolderStore) -> None:
    outcome = an_outcome(stored(store, 1), an_image("x", status=ImageStatus.REFUSED))
    assert broken(outcome, store) == {"images_are_complete": dg.AssetCheckSeverity.WARN}
    metadata = evaluate(outcome, store)["images_are_complete"].metadata
    assert metadata["flux/missing_images"].value == 1
    assert metadata["flux/partitions"].value == ["castle"]


def test_a_failed_image_is_an_error(store: FolderStore) -> None:
    outcome = an_outcome(stored(store, 1), an_image("x", status=ImageStatus.FAILED))
    assert broken(outcome, store) == {"images_are_complete": dg.AssetCheckSeverity.ERROR}


@pytest.mark.parametrize("body", [b"", b"<html>", encode(picture(), "WEBP")[:-40]])
def test_an_image_that_does_not_read_back_is_an_error(
    store: FolderStore, tmp_path: Path, body: bytes
) -> None:
    outcome = an_outcome(stored(store, 1))
    (tmp_path / "images/1.webp").write_bytes(body)
    assert broken(outcome, store) == {"images_are_readable": dg.AssetCheckSeverity.ERROR}


def test_an_image_with_other_pixels_is_an_error(store: FolderStore, tmp_path: Path) -> None:
    record = stored(store, 1)
    (tmp_path / "images/1.webp").write_bytes(encode(picture(seed=99), "WEBP"))
    check = evaluate(an_outcome(record), store)["images_are_readable"]
    assert check.metadata["flux/images"].value == {
        record.uri: "holds other pixels than were recorded"
    }


def test_an_image_that_is_gone_is_an_error(store: FolderStore, tmp_path: Path) -> None:
    outcome = an_outcome(stored(store, 1))
    (tmp_path / "images/1.webp").unlink()
    assert "images_are_readable" in broken(outcome, store)


def test_an_image_in_another_store_is_named_and_not_fetched(store: FolderStore) -> None:
    elsewhere = an_image("x", uri="s3://other/images/x.webp")
    assert "images_are_readable" in broken(an_outcome(elsewhere), store)


def test_an_image_without_an_address_is_named(store: FolderStore) -> None:
    assert "images_are_readable" in broken(an_outcome(an_image("x", uri=None)), store)


def test_a_doubt_and_a_twin_are_warnings(store: FolderStore) -> None:
    first = stored(store, 1)
    blank = stored(store, 2)
    twin = an_image("twin", uri=first.uri, image_sha256=first.image_sha256, width=60, height=45)
    flagged = an_image(
        "flagged",
        uri=blank.uri,
        image_sha256=blank.image_sha256,
        width=60,
        height=45,
        error="blank",
    )
    assert broken(an_outcome(first, twin, flagged), store) == {
        "images_are_distinct": dg.AssetCheckSeverity.WARN,
        "images_are_unsuspicious": dg.AssetCheckSeverity.WARN,
    }


def test_many_images_are_sampled(store: FolderStore) -> None:
    outcome = an_outcome(*(stored(store, number) for number in range(3 * SAMPLE)))
    read = evaluate(outcome, store)["images_are_readable"].metadata["flux/read_images"].value
    assert read == SAMPLE


def test_only_the_checks_asked_for_are_evaluated(store: FolderStore) -> None:
    selected = [dg.AssetCheckKey(IMAGES, "images_are_distinct")]
    (result,) = check_results(selected, an_outcome(stored(store, 1)), store)
    assert (result.asset_key, result.check_name) == (IMAGES, "images_are_distinct")
    assert list(check_results([], an_outcome(), store)) == []


def test_every_check_says_its_sentence() -> None:
    specs = build_check_specs(IMAGES)
    assert all(spec.description and spec.description.endswith(".") for spec in specs)
    assert {spec.asset_key for spec in specs} == {IMAGES}
    assert len({spec.name for spec in specs}) == len(specs)
