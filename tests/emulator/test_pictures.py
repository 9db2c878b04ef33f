"""Output files: exact in size and format, distinct, and the same every time."""

import io
import struct
import zlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flux_pipeline.emulator.inputs import SIZES, ImageFormat, ModelInput
from flux_pipeline.emulator.pictures import CONTENT_TYPES, TAG_BYTES, Picture, encode, tagged

MODES = {"webp": "WEBP", "jpg": "JPEG", "png": "PNG"}
PROMPTS = ["a castle", "a red fox in a forest", "harbour at dusk", "the alps", "dunes", "a bottle"]


def picture(prompt: str = "a castle", *, seed: int = 1, index: int = 0, **more: Any) -> Picture:
    return Picture("v", ModelInput.model_validate({"prompt": prompt, **more}), seed, index)


def decoded(file: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


@pytest.mark.parametrize("cheap", [False, True])
@pytest.mark.parametrize("ratio", SIZES)
def test_every_ratio_has_its_exact_size(ratio: str, *, cheap: bool) -> None:
    file = picture(aspect_ratio=ratio, output_format="jpg").file(cheap=cheap)
    assert decoded(file).size == SIZES[ratio]


@pytest.mark.parametrize("cheap", [False, True])
@pytest.mark.parametrize("image_format", MODES)
def test_every_format_decodes_and_ends_where_its_container_says(
    image_format: str, *, cheap: bool
) -> None:
    file = picture(aspect_ratio="9:21", output_format=image_format).file(cheap=cheap)
    assert (decoded(file).format, decoded(file).mode) == (MODES[image_format], "RGB")
    match image_format:
        case "webp":
            assert struct.unpack_from("<I", file, 4)[0] == len(file) - 8
        case "png":
            assert file[-12:] == b"\0\0\0\0IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
        case _:
            assert file[-2:] == b"\xff\xd9"


def chunks(webp: bytes) -> list[bytes]:
    names, position = [], 12
    while position < len(webp):
        names.append(webp[position : position + 4])
        position += 8 + (struct.unpack_from("<I", webp, position + 4)[0] + 1) // 2 * 2
    assert position == len(webp)
    return names


def test_a_cheap_webp_uses_the_container_that_allows_a_tag() -> None:
    assert chunks(picture().file(cheap=True)) == [b"VP8X", b"VP8 ", b"fpTg"]


def test_a_cheap_png_has_right_checksums_throughout() -> None:
    file, position = picture(output_format="png").file(cheap=True), 8
    while position < len(file):
        length = struct.unpack_from(">I", file, position)[0]
        content = file[position + 4 : position + 8 + length]
        assert struct.unpack_from(">I", file, position + 8 + length)[0] == zlib.crc32(content)
        position += 12 + length
    assert position == len(file)


@pytest.mark.parametrize("cheap", [False, True])
@pytest.mark.parametrize("image_format", MODES)
def test_the_same_request_gives_the_same_bytes(image_format: str, *, cheap: bool) -> None:
    one, two = (picture(output_format=image_format).file(cheap=cheap) for _ in range(2))
    assert one == two


@pytest.mark.parametrize("cheap", [False, True])
def test_whatever_is_asked_otherwise_gives_other_bytes(*, cheap: bool) -> None:
    plain = picture(output_format="jpg")
    different = [
        plain,
        replace(plain, version="w"),
        replace(plain, seed=2),
        replace(plain, index=1),
        picture("another castle", output_format="jpg"),
        picture(output_format="jpg", hf_lora="a/b"),
        picture(output_format="jpg", num_inference_steps=8),
    ]
    assert len({each.file(cheap=cheap) for each in different}) == len(different)


def test_quality_shows_in_the_size_of_the_file() -> None:
    sizes = [
        len(picture(output_format="webp", output_quality=quality).file(cheap=False))
        for quality in (0, 50, 100)
    ]
    assert all(low < high for low, high in pairwise(sizes))


def test_pictures_are_neither_blank_nor_alike() -> None:
    thumbnails = []
    for prompt in PROMPTS:
        for index in range(3):
            small = picture(prompt, index=index).file(cheap=False, size=(192, 192))
            image = decoded(small)
            thumbnails.append(np.asarray(image.resize((16, 16)), np.float32))
    for number, one in enumerate(thumbnails):
        assert one.std() > 10
        for two in thumbnails[number + 1 :]:
            assert np.abs(one - two).mean() > 2


def test_the_words_of_a_prompt_choose_its_light() -> None:
    def brightness(prompt: str) -> float:
        image = decoded(picture(prompt, output_format="jpg").file(cheap=False))
        return float(np.asarray(image.resize((1, 1))).mean())

    assert brightness("a castle at night") < brightness("a castle on a sunny day") - 60


def test_a_fault_can_ask_for_another_size() -> None:
    assert decoded(picture().file(cheap=False, size=(64, 96))).size == (64, 96)


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
