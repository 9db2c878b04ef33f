"""Metadata: numbers under known names, and text that stays text."""

import base64
import io

import dagster as dg
import pytest
from PIL import Image

from flux_pipeline.defs.metadata import (
    images_line,
    images_metadata,
    prompts_line,
    prompts_metadata,
    reasons_of,
    safe_text,
)
from flux_pipeline.defs.partitions import Content
from flux_pipeline.lineage.record import ImageStatus
from flux_pipeline.produce.report import ResultStatus
from tests.defs.reports import build_record, build_report, build_result

HOSTILE = "![x](http://evil.example/x.png) <script>alert(1)</script> | a | b |"


def test_every_name_is_dagsters_own_or_has_our_prefix() -> None:
    report = build_report("castle", build_result(thumbnail=b"RIFF", reason="r", notices=("n",)))
    names = {**images_metadata(report), **prompts_metadata(Content(1, 1, 0.1, "a"))}
    assert {name.split("/")[0] for name in names} == {"dagster", "flux"}


def test_files_that_keep_the_providers_credentials_or_came_with_broken_ones_are_counted() -> None:
    records = [
        build_record(number, credentials=credentials)
        for number, credentials in enumerate(["kept", "kept", "invalid as received", "ours", None])
    ]
    shown = images_metadata(build_report("castle", build_result(images=records)))
    assert shown["flux/provider_credentials"].value == {"kept": 2, "invalid as received": 1}
    plain = build_report("castle", build_result(images=[build_record(credentials="none")]))
    assert "flux/provider_credentials" not in images_metadata(plain)


def test_a_prompt_is_text_and_never_markdown() -> None:
    shown = images_metadata(build_report("castle", build_result(prompt=HOSTILE)))
    assert shown["flux/prompt"] == HOSTILE
    assert isinstance(dg.MetadataValue.text(shown["flux/prompt"]), dg.TextMetadataValue)
    assert "flux/preview" not in shown


def test_the_preview_holds_pictures_and_no_text_from_outside() -> None:
    shown = images_metadata(
        build_report("castle", build_result(prompt=HOSTILE, thumbnail=b"\xff\xd8\xff\xe0"))
    )
    assert shown["flux/preview"].value == "![castle](data:image/jpeg;base64,/9j/4A==)"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a castle\nat night", "a castle\nat night"),
        ("schloß 城 🏰", "schloß 城 🏰"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("nul\x00", "nul\\x00"),
        ("Bearer abcdefgh12345678", "Bearer REDACTED"),
        ("r8_" + "a1" * 20, "REDACTED"),
        ("x https://a.example/f?token=abc", "x https://a.example/f?token=REDACTED"),
    ],
)
def test_text_is_shown_without_what_hides_and_without_secrets(text: str, shown: str) -> None:
    assert safe_text(text) == shown


def test_long_text_is_cut() -> None:
    assert len(safe_text("x" * 1_000_000)) == 1_001


def test_reasons_are_counted_in_images_and_are_few() -> None:
    results = [
        build_result(
            status=ResultStatus.FAILED,
            images=[],
            outputs=2,
            reason=f"{'abcdefg'[number % 7]}: prediction {number} failed",
        )
        for number in range(14)
    ]
    found = reasons_of(build_report("castle", *results))
    assert found == {f"{'abcde'[number]}: prediction {number} failed": 4 for number in range(5)}


def test_the_address_is_that_of_an_image_that_is_stored() -> None:
    lost = build_record(status=ImageStatus.FAILED)
    report = build_report(
        "castle", build_result(images=[lost]), build_result(images=[build_record("b")])
    )
    assert images_metadata(report)["dagster/uri"] == "file:///b.webp"
    assert "dagster/uri" not in images_metadata(build_report("castle", build_result(images=[lost])))


def test_counts_are_those_of_the_tally() -> None:
    report = build_report(
        "castle",
        build_result(
            outputs=2, images=[build_record(), build_record(status=ImageStatus.REFUSED)], usd=0.006
        ),
        build_result(status=ResultStatus.UNCHANGED),
        build_result(status=ResultStatus.HELD, images=[], outputs=3),
    )
    shown = images_metadata(report)
    assert shown["dagster/row_count"] == 2
    assert {name: shown[f"flux/{name}_images"] for name in ("asked", "refused", "held")} == {
        "asked": 6,
        "refused": 1,
        "held": 3,
    }
    assert shown["flux/cost_usd"] == pytest.approx(0.006)


def test_what_a_person_looks_for_comes_first() -> None:
    report = build_report(
        "castle", build_result(thumbnail=b"RIFF", status=ResultStatus.FAILED, reason="why")
    )
    assert list(images_metadata(report))[:4] == [
        "flux/preview",
        "flux/prompt",
        "flux/reasons",
        "flux/cost_usd",
    ]


def test_the_table_has_a_row_for_every_image_and_few_of_many() -> None:
    lost = build_record("b", status=ImageStatus.REFUSED, seed=2**62 + 1)
    table = images_metadata(build_report("castle", build_result(images=[build_record(), lost])))[
        "flux/image_table"
    ]
    stored, refused = (record.data for record in table.records)
    assert stored == {
        "prompt_name": "castle",
        "take": 1,
        "seed": "7",
        "size": "64×64",
        "status": "stored",
    }
    assert (refused["size"], refused["status"]) == ("", "refused")
    assert refused["seed"] == str(2**62 + 1)
    many = build_report(
        "castle", build_result(images=[build_record(number) for number in range(100)])
    )
    assert len(images_metadata(many)["flux/image_table"].records) == 20


def test_a_line_says_what_became_of_a_partition() -> None:
    report = build_report(
        "castle",
        build_result(usd=0.003),
        build_result(status=ResultStatus.UNCHANGED),
        build_result(images=[build_record(status=ImageStatus.REFUSED)]),
    )
    assert images_line(report) == "castle: 2 of 3 images, 1 unchanged, 1 refused, 0.0030 USD, 1.5 s"
    content = Content(1, 2, 0.006, "a")
    assert prompts_line("moon", content) == "moon: 1 request for 2 images, 0.0060 USD by estimate"


def test_a_picture_is_small_enough_to_be_shown_without_a_click() -> None:
    noise = Image.effect_noise((100, 100), 80)
    out = io.BytesIO()
    noise.save(out, "WEBP", quality=80)
    assert out.tell() > 2_000
    shown = images_metadata(build_report("castle", *[build_result(thumbnail=out.getvalue())] * 3))
    text = shown["flux/preview"].value
    assert len(text) < 1_000
    picture = base64.b64decode(text.removeprefix("![castle](data:image/webp;base64,")[:-1])
    assert Image.open(io.BytesIO(picture)).width >= 16
    assert shown["flux/previews"].value.count("![castle]") == 3


def test_what_the_emulator_made_is_said_beside_its_cost() -> None:
    report = build_report("castle", build_result(images=[build_record(provider="emulator")]))

    assert images_metadata(report)["flux/provider"] == "emulator"
    assert "USD (emulated)" in images_line(report)
    content = Content(1, 1, 0.003, "a castle")
    assert "0.0030 USD (emulated) by estimate" in prompts_line("a", content, emulated=True)
