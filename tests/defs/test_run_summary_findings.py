"""RunFindings: what is missing or odd is named, and nothing else of a run is kept."""

import tracemalloc
from itertools import count
from typing import Any

import pytest

from flux_pipeline.defs import run_summary
from flux_pipeline.defs.run_summary import (
    ALIKE,
    MOST_NAMED,
    SAMPLE,
    WINDOW,
    LookAlikes,
    RunFindings,
    missing_images,
)
from flux_pipeline.lineage.record import ImageRecord, ImageStatus
from flux_pipeline.produce.report import PartitionReport, ResultStatus
from tests.defs.reports import build_record, build_report, build_result

LOOKS = 0x0F0F_1234_5678_9ABC


def found(*images: ImageRecord, **changes: Any) -> RunFindings:
    findings = RunFindings("run")
    findings.add(
        build_report("castle", build_result(images=images, outputs=len(images), **changes))
    )
    return findings


def test_twins_and_blanks_and_doubts_are_named_by_address() -> None:
    findings = found(
        build_record("same", uri="file:///a.webp"),
        build_record("same", uri="file:///b.webp", error="the last 8 rows are of one colour"),
        build_record("blank", uri="file:///c.webp", error="blank: all of one colour"),
    )
    assert findings.look_alikes.identical == {"file:///b.webp": ""}
    assert findings.doubted == {"file:///b.webp": "the last 8 rows are of one colour"}
    assert findings.blank == {"file:///c.webp": "blank: all of one colour"}


def test_blank_images_are_no_twins_of_each_other() -> None:
    blank = {"error": "blank: all of one colour", "dhash": 0}
    findings = found(
        *(build_record("same", uri=f"file:///{number}", **blank) for number in range(3))
    )
    assert findings.look_alikes.identical == {}
    assert len(findings.blank) == 3


def test_one_object_of_two_prompts_is_no_twin() -> None:
    findings = found(build_record("a", dhash=LOOKS), build_record("a", dhash=LOOKS))
    assert (findings.look_alikes.identical, findings.look_alikes.similar) == ({}, {})


@pytest.mark.parametrize(("bits", "alike"), [(0, True), (ALIKE, True), (ALIKE + 1, False)])
def test_images_that_look_alike_are_named_with_each_other(bits: int, *, alike: bool) -> None:
    second = build_record("b", dhash=LOOKS ^ (2**bits - 1))
    likeness = found(build_record("a", dhash=LOOKS), second).look_alikes
    assert likeness.similar == ({"file:///b.webp": "file:///a.webp"} if alike else {})
    assert likeness.identical == {}


def test_a_twin_is_named_with_the_earlier_image_and_not_as_similar_too() -> None:
    first, second = (build_record("x", uri=f"file:///{name}", dhash=LOOKS) for name in "ab")
    likeness = found(first, second).look_alikes
    assert (likeness.identical, likeness.similar) == ({"file:///b": "file:///a"}, {})


def test_every_image_of_a_large_run_is_known_by_its_address_and_by_its_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_summary, "_MOST_NEWEST", 7)
    likeness, images = LookAlikes(most=99), 60
    for _ in range(2):
        for number in range(images):
            likeness.add(build_record(number, dhash=None))
    assert not likeness.identical
    for number in range(images):
        likeness.add(build_record(number, uri=f"file:///again-{number}", dhash=None))
    assert len(likeness.identical) == images


def test_looks_are_compared_within_the_window_and_pixels_without_end() -> None:
    likeness = LookAlikes(most=9)
    likeness.add(build_record("first", dhash=2**64 - 1))
    for number in range(WINDOW):
        likeness.add(build_record(number, dhash=None))
    likeness.add(build_record("near", dhash=2**64 - 2))
    likeness.add(build_record("first", uri="file:///again.webp", dhash=2**64 - 1))
    assert likeness.identical == {"file:///again.webp": "file:///near.webp"}
    assert likeness.similar == {}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, False),
        ({"width": 65}, True),
        ({"height": None}, True),
        ({"format": "png"}, True),
    ],
)
def test_another_size_or_format_than_asked_for_is_named(
    changes: dict[str, Any], *, named: bool
) -> None:
    assert (found(build_record("a", **changes)).misfits != {}) is named


@pytest.mark.parametrize(
    ("asked", "width", "height", "named"),
    [
        ("16:9", 1344, 768, False),
        ("3:4", 896, 1280, False),
        ("9:21", 640, 1536, False),
        ("16:9", 1024, 1024, True),
        ("9:16", 1344, 768, True),
        ("16:9", None, None, False),
    ],
)
def test_a_shape_far_from_the_aspect_ratio_asked_for_is_named(
    asked: str, width: int | None, height: int | None, *, named: bool
) -> None:
    image = build_record("a", width=width, height=height)
    misfits = found(image, size=(0, 0), aspect_ratio=asked).misfits
    expected = [f"{asked} was asked for, these are {width} x {height} px"] if named else []
    assert list(misfits.values()) == expected


def test_every_missing_image_is_named_with_its_reason() -> None:
    refused = build_record("r", ImageStatus.REFUSED, output_index=1, error="left out")
    lost = build_record("l", ImageStatus.FAILED, prediction_id=None, error="not sent")
    report = build_report(
        "castle",
        build_result(outputs=2, images=[build_record(), refused]),
        build_result(status=ResultStatus.FAILED, images=[lost]),
        build_result(status=ResultStatus.HELD, images=[], reason="held: nobody knows"),
    )
    names = dict(missing_images(report))
    assert list(names.values()) == ["left out", "not sent", "held: nobody knows"]
    refused_name, lost_name, held_name = names
    assert refused_name == "castle, image 1 of prediction-r"
    assert lost_name == f"castle, image 0 of request {lost.request_sha256[:12]}"
    assert held_name.startswith("castle, request ")


def test_what_is_held_is_named_by_its_request() -> None:
    held = found(status=ResultStatus.HELD, reason="held: attempt 1 may have been paid").held
    assert list(held.values()) == ["held: attempt 1 may have been paid"]


def test_of_very_many_the_first_are_named() -> None:
    findings = found(*(build_record(number, width=1) for number in range(9 * MOST_NAMED)))
    assert len(findings.misfits) == MOST_NAMED


def fill(run_id: str, images: int) -> list[ImageRecord]:
    findings = RunFindings(run_id)
    for number in range(images):
        image = build_record(number, uri=f"file:///{number}.webp")
        findings.add(build_report("a", build_result(images=[image])))
    return findings.sample


def test_the_sample_has_all_of_few_images_and_a_part_of_many() -> None:
    assert len(fill("run", 3)) == 3
    assert len(fill("run", 500)) == SAMPLE


def test_the_sample_is_even_and_another_one_in_every_run() -> None:
    drawn = [
        int((image.uri or "")[8:-5]) for number in range(40) for image in fill(f"{number}", 100)
    ]
    assert fill("1", 100) == fill("1", 100)
    assert fill("1", 100) != fill("2", 100)
    assert 40 < sum(drawn) / len(drawn) < 60


def test_the_same_image_twice_does_no_harm_to_the_sample() -> None:
    same = build_record("same", uri="file:///same.webp")
    assert len(found(*[same] * (3 * SAMPLE)).sample) == SAMPLE


def test_no_report_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_summary, "_MOST_NEWEST", 500)
    numbers = count()

    def some(images: int) -> list[PartitionReport]:
        named = (build_record(next(numbers), dhash=LOOKS) for _ in range(images))
        return [build_report("a", build_result(images=[image])) for image in named]

    findings = RunFindings("run")
    for report in some(WINDOW + 1_000):
        findings.add(report)
    reports = some(2_000)
    tracemalloc.start()
    for report in reports:
        findings.add(report)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Bytes an image: three hashes, which were all written anew, and the newest of them in a set; a
    # report would be 2,000.
    assert grown / len(findings.hashes) < 40
