"""The colour and the placeholder of a picture, as a page shows them before it is loaded."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from flux_pipeline.images.appearance import Appearance, describe_appearance
from flux_pipeline.images.variants import render_variants
from flux_pipeline.variant import VariantSpec
from tests.images.samples import encode, picture, translucent


def appearance(image: Image.Image, **options: Any) -> Appearance:
    return render_variants(encode(image, "PNG", **options), []).appearance


def placeholder(image: Image.Image) -> Image.Image:
    head, _, data = appearance(image).placeholder.partition(",")
    assert head == "data:image/webp;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def cup(ground: str, shape: str) -> Image.Image:
    image = Image.new("RGB", (120, 90), ground)
    ImageDraw.Draw(image).ellipse((30, 20, 80, 70), fill=shape)
    return image


def test_the_colour_is_that_of_the_largest_part_and_no_mixture() -> None:
    assert appearance(cup("#2040c0", "#d02020")).colour == "#2040c0"
    assert appearance(cup("#f8f8f0", "#101010")).colour == "#f8f8f0"


def test_clear_pixels_have_no_colour() -> None:
    image = Image.new("RGBA", (100, 100), (0, 255, 0, 0))
    ImageDraw.Draw(image).rectangle((0, 0, 20, 20), fill=(200, 30, 40, 255))
    red = bytes.fromhex(appearance(image).colour.removeprefix("#"))
    assert np.abs(np.array([*red]) - [200, 30, 40]).max() < 8
    assert appearance(Image.new("RGBA", (9, 9), (0, 0, 0, 0))).colour == "#ffffff"


@pytest.mark.parametrize("size", [(1, 1), (2, 900), (640, 480), (16, 16)])
def test_the_placeholder_is_the_whole_picture_at_16_px(size: tuple[int, int]) -> None:
    found = placeholder(picture(*size))
    assert max(found.size) == min(16, max(size))
    assert found.format == "WEBP"


def test_the_placeholder_looks_like_the_picture_and_is_short() -> None:
    image = cup("#2040c0", "#d02020")
    tiny = placeholder(image).convert("RGB")
    small = image.resize(tiny.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(tiny).astype(int) - np.asarray(small).astype(int)).mean() < 16
    assert len(appearance(image).placeholder) < 300


def test_a_transparent_picture_has_a_transparent_placeholder() -> None:
    assert placeholder(translucent(picture())).mode == "RGBA"


def test_it_does_not_depend_on_the_variants_and_is_the_same_twice() -> None:
    body = encode(picture(640, 480), "WEBP")
    one = render_variants(body, [VariantSpec(name="v", width=10)]).appearance
    assert one == render_variants(body, []).appearance
    image = picture(64, 48)
    assert describe_appearance(image) == describe_appearance(image)
