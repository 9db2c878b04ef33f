"""The spec of a variant: its mistakes in words, and the digest by which unchanged is free."""

from dataclasses import replace
from typing import Any

import pytest

from flux_pipeline.variant import FORMATS, MAX_SIDE, VariantSpec, find_mistakes

SPEC = VariantSpec(name="hero", width=1600, format="webp", quality=82)


@pytest.mark.parametrize(
    ("changes", "key", "words"),
    [
        ({"width": 0}, "width", "1 to 16,383 px"),
        ({"height": MAX_SIDE + 1}, "height", "1 to 16,383 px"),
        ({"width": MAX_SIDE, "height": MAX_SIDE}, "width", "at most 89,478,485 px"),
        ({"fit": "cover"}, "fit", "needs both width and height"),
        ({"fit": "contain"}, "fit", "needs both width and height"),
        ({"fit": "fill"}, "fit", "cover, contain or inside"),
        ({"format": "gif"}, "format", "webp, avif, jpg or png"),
        ({"format": "png"}, "quality", "lossless"),
        ({"quality": 101}, "quality", "1 to 100"),
        ({"colors": "p3"}, "colors", "srgb or keep"),
        ({"background": "white"}, "background", "in quotes"),
        ({"sharpen": -0.1}, "sharpen", "0 to 2"),
        ({"sharpen": float("nan")}, "sharpen", "0 to 2"),
        ({"focus": "middle"}, "focus", "center, top"),
        ({"focus": (0.5, 1.1)}, "focus", "two fractions"),
    ],
)
def test_a_mistake_names_its_field_and_what_is_allowed(
    changes: dict[str, Any], key: str, words: str
) -> None:
    (found,) = find_mistakes(replace(SPEC, **changes))

    assert found[0] == key
    assert words in found[1]


def test_all_mistakes_are_told_at_once() -> None:
    wrong = replace(SPEC, width=0, quality=0, focus="middle")

    assert [key for key, _ in find_mistakes(wrong)] == ["width", "quality", "focus"]


def test_the_defaults_are_without_a_mistake_in_every_format() -> None:
    for name in FORMATS:
        assert find_mistakes(VariantSpec(name="v", format=name)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"width": 1599},
        {"height": 900},
        {"width": 800, "height": 800, "fit": "cover"},
        {"focus": "top"},
        {"format": "avif"},
        {"quality": 81},
        {"background": "#000000"},
        {"sharpen": 0.0},
        {"enlarge": True},
        {"colors": "keep"},
    ],
)
def test_whatever_changes_the_file_changes_the_digest(changes: dict[str, Any]) -> None:
    assert replace(SPEC, **changes).digest() != SPEC.digest()


def test_what_leaves_the_file_alike_leaves_the_digest() -> None:
    """So a variant that is only renamed, or spelled otherwise, is not rendered again."""
    assert replace(SPEC, name="banner").digest() == SPEC.digest()
    assert replace(SPEC, focus=(0.5, 0.5)).digest() == SPEC.digest()
    assert (
        replace(SPEC, background="#AABBCC").digest() == replace(SPEC, background="#aabbcc").digest()
    )
    default = VariantSpec(name="v")
    assert replace(default, quality=default.effective_quality).digest() == default.digest()


def test_the_digest_is_the_same_everywhere() -> None:
    """It lies in published indexes: if it must change, every published picture is made anew."""
    assert SPEC.digest() == "c69a62fcde561b7b"
