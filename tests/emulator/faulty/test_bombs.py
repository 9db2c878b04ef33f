"""Bombs: small, and what they claim to be."""

import gzip
import io

import pytest
from PIL import Image

from flux_pipeline.emulator import fault_replies as bombs
from flux_pipeline.emulator.inputs import ImageFormat


def test_the_gzip_bomb_is_a_thousandth_of_what_it_becomes() -> None:
    assert len(bombs.gzip_bomb()) * 900 < bombs.UNPACKED_BYTES
    with gzip.open(io.BytesIO(bombs.gzip_bomb())) as file:
        assert file.read(1000) == bytes(1000)


@pytest.mark.parametrize("image_format", ["webp", "jpg", "png"])
def test_a_pixel_bomb_claims_its_size_in_the_header(
    monkeypatch: pytest.MonkeyPatch, image_format: ImageFormat
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    kind = {"webp": "WEBP", "jpg": "JPEG", "png": "PNG"}[image_format]
    file = bombs.pixel_bomb(image_format)
    if image_format == "webp":  # Pillow's reader allocates before it tells the size
        assert file[26:30] == b"\xff\x3f\xff\x3f"
    else:
        image = Image.open(io.BytesIO(file))
        assert (image.format, image.size) == (kind, (60_000, 60_000))
    assert len(file) < 2000


def test_bombs_are_made_once() -> None:
    assert bombs.gzip_bomb() is bombs.gzip_bomb()
    assert bombs.pixel_bomb("png") is bombs.pixel_bomb("png")
    assert bombs.gif() is bombs.gif()
