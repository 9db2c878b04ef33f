"""Tagged files: one base, any number of files."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flux_pipeline.emulator.inputs import ImageFormat
from flux_pipeline.emulator.pictures import CONTENT_TYPES, TAG_BYTES, encode, tagged

FORMATS: tuple[ImageFormat, ...] = ("webp", "jpg", "png")


def pixels(file: bytes) -> bytes:
    return Image.open(io.BytesIO(file)).convert("RGB").tobytes()


@pytest.mark.parametrize("image_format", FORMATS)
def test_tags_change_the_bytes_and_not_the_pixels(image_format: ImageFormat) -> None:
    one, two = (tagged((96, 64), image_format, tag) for tag in (b"one", b"two"))
    assert one != two
    assert len(one) == len(two)
    assert pixels(one) == pixels(two)


@settings(max_examples=40)
@given(
    tag=st.binary(max_size=TAG_BYTES),
    width=st.integers(1, 80),
    height=st.integers(1, 80),
    image_format=st.sampled_from(FORMATS),
)
def test_every_tag_and_size_gives_a_file_that_decodes(
    tag: bytes, width: int, height: int, image_format: ImageFormat
) -> None:
    file = tagged((width, height), image_format, tag)
    assert tag in file
    image = Image.open(io.BytesIO(file))
    image.load()
    assert image.size == (width, height)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("quality", [0, 1, 100])
def test_every_quality_can_be_encoded(image_format: ImageFormat, quality: int) -> None:
    image = Image.linear_gradient("L").convert("RGB")
    assert len(pixels(encode(image, image_format, quality))) == 256 * 256 * 3


def test_png_knows_no_quality() -> None:
    image = Image.linear_gradient("L").convert("RGB")
    assert encode(image, "png", 0) == encode(image, "png", 100)


def test_every_format_has_a_type() -> None:
    assert set(CONTENT_TYPES) == set(FORMATS)
