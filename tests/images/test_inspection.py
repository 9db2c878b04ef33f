"""Every case of image bytes that a provider's URL may return, and what it gets."""

import io
import math
import zlib
from dataclasses import fields

import numpy as np
import pytest
from PIL import Image

from flux_pipeline.errors import ImageError
from flux_pipeline.images.formats import image_sha256, read_structure
from flux_pipeline.images.inspection import MAX_PIXELS, Inspection, inspect_image
from tests.images.samples import (
    HEIGHT,
    WIDTH,
    animations,
    encode,
    format_of,
    picture,
    png_chunk,
    repair,
    riff,
    riff_chunk,
    samples,
)


def inspect(body: bytes, image_format: str = "png") -> Inspection:
    return inspect_image(body, image_format=image_format, width=WIDTH, height=HEIGHT)


def test_image_as_asked_has_no_flags(name: str, body: bytes) -> None:
    found = inspect(body, format_of(name))
    assert found.flags == ()
    assert not found.blank
    assert (found.image_format, found.width, found.height) == (format_of(name), WIDTH, HEIGHT)
    assert found.image_sha256 == image_sha256(body)
    assert found.thumbnail is None


def test_every_file_of_the_same_picture_has_nearly_the_same_hash(body: bytes) -> None:
    expected = inspect(samples()["rgb.png"]).dhash
    if not body.startswith(samples()["1-bit.png"][:30]):  # dithering is another picture
        assert (inspect(body).dhash ^ expected).bit_count() <= 14


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty, 0 bytes"),
        (b"<!DOCTYPE html><p>not found</p>\r\n", "not an image .text/html, 33 bytes."),
        (b'{"detail":"expired"}', "not an image .application/json, 20 bytes."),
        (b"<?xml version='1.0'?><Error/>", "not an image .application/xml"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg.xml"),
        (encode(picture(), "GIF"), "image/gif"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "application/postscript"),
        (encode(picture(), "TIFF"), "image/tiff"),
        (encode(picture(), "BMP"), "image/bmp"),
    ],
)
def test_107_to_109_what_is_no_image_of_ours_is_named(body: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        inspect(body)


def test_110_format_is_the_files_own_and_a_difference_is_flagged() -> None:
    found = inspect(samples()["rgb.png"], "webp")
    assert found.image_format == "png"
    assert found.flags == ("webp was asked for, this is png",)


def test_111_to_113_cut_files_are_refused(name: str, body: bytes) -> None:
    for lost in (1, 2, 7, 100):
        with pytest.raises(ImageError, match="cut"):
            inspect(body[:-lost], format_of(name))


def test_114_one_flipped_byte_in_the_pixels_changes_the_hash_and_may_pass() -> None:
    for name in ("baseline.jpg", "lossy.webp"):
        body = samples()[name]
        chunk = max(read_structure(body).chunks, key=lambda part: part.data_end - part.data)
        damaged = bytearray(body)
        damaged[chunk.data_end - 40] ^= 0x10
        found = inspect(bytes(damaged), format_of(name))
        assert found.image_sha256 != image_sha256(body)


def test_114_one_flipped_byte_in_a_png_is_found_by_its_checksum() -> None:
    body = samples()["rgb.png"]
    idat = next(part for part in read_structure(body).chunks if part.kind == b"IDAT")
    damaged = bytearray(body)
    damaged[idat.data + 50] ^= 0x10
    with pytest.raises(ImageError, match="IDAT at byte 33: wrong checksum"):
        inspect(bytes(damaged))


def test_115_anything_after_the_image_is_refused(name: str, body: bytes) -> None:
    for extra in (b"\0", b"<script>alert(1)</script>", b"PK\x03\x04" * 10):
        with pytest.raises(ImageError, match=f"followed by {len(extra)} bytes"):
            inspect(body + extra, format_of(name))


def huge(width: int, height: int) -> bytes:
    """A PNG header of this size over almost no pixels."""
    size = width.to_bytes(4) + height.to_bytes(4)
    header = png_chunk(b"IHDR", size + b"\x08\x02\0\0\0")
    pixels = png_chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_000, 9_460, 2**31 - 1])
def test_116_and_117_too_many_pixels_are_refused_from_the_header(side: int) -> None:
    with pytest.raises(ImageError, match=f"{side} x {side} px: more than 89,478,485 px"):
        inspect(huge(side, side))


def test_117_a_large_webp_is_refused_before_pillow_sees_it() -> None:
    bits = (9_500 - 1) | (9_500 - 1) << 14
    body = riff(riff_chunk(b"VP8L", b"\x2f" + bits.to_bytes(4, "little") + b"\0"))
    with pytest.raises(ImageError, match="9500 x 9500 px"):
        inspect(body)


def test_117_the_limit_itself_passes() -> None:
    side = math.isqrt(MAX_PIXELS)
    body = encode(Image.new("1", (side, side), 1), "PNG")
    found = inspect_image(body, image_format="png", width=side, height=side)
    assert (found.width, found.height) == (side, side)


def test_118_missing_rows_are_refused_where_they_can_be_proven() -> None:
    body = encode(picture(200, 200), "PNG")
    idat = next(part for part in read_structure(body).chunks if part.kind == b"IDAT")
    rows = zlib.decompress(body[idat.data : idat.data_end])[: 601 * 100]
    new = png_chunk(b"IDAT", zlib.compress(rows))
    with pytest.raises(ImageError, match="fewer rows"):
        inspect(body[: idat.start] + new + body[idat.end :])


def test_118_missing_rows_are_flagged_where_they_cannot() -> None:
    body = samples()["baseline.jpg"]
    scan = next(chunk for chunk in read_structure(body).chunks if not chunk.kind)
    found = inspect(body[: scan.start + 200] + body[scan.end :], "jpg")
    assert found.flags == ("the last row is the decoder's own grey: rows may be missing",)


@pytest.mark.parametrize("size", [(0, 0), (0, 10), (10, 0)])
def test_119_no_pixels_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="names no pixels"):
        inspect(huge(*size))
    sides = b"".join(side.to_bytes(2, "little") for side in size)
    with pytest.raises(ImageError, match="names no pixels"):
        inspect(riff(riff_chunk(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + sides)))


@pytest.mark.parametrize("animation", sorted(animations()))
def test_120_animations_are_refused(animation: str) -> None:
    with pytest.raises(ImageError, match="is animated: one still image was asked for"):
        inspect(animations()[animation], format_of(animation))


def test_120_an_animation_of_300_frames_costs_no_decoding() -> None:
    body = animations()["animated.webp"]
    frame = next(part for part in read_structure(body).chunks if part.kind == b"ANMF")
    long = repair(body + body[frame.start : frame.end] * 300)
    with pytest.raises(ImageError, match="animated"):
        inspect(long, "webp")


@pytest.mark.parametrize(("name", "kind"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
@pytest.mark.parametrize("colour", ["black", "white", "#808080", "#123456"])
def test_121_an_image_of_one_colour_is_flagged(name: str, kind: str, colour: str) -> None:
    body = encode(Image.new("RGB", (512, 512), colour), name)
    found = inspect_image(body, image_format=kind, width=512, height=512)
    assert found.blank
    assert found.flags[-1] == "blank: all of one colour"
    assert found.dhash == 0


def test_121_a_dark_image_that_shows_something_is_not_blank() -> None:
    image = Image.new("RGB", (512, 512), "black")
    image.paste((40, 0, 0), (200, 200, 260, 260))
    for name, kind in (("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")):
        body = encode(image, name)
        assert not inspect_image(body, image_format=kind, width=512, height=512).blank


def test_122_another_size_is_flagged() -> None:
    found = inspect_image(samples()["rgb.png"], image_format="png", width=1024, height=576)
    assert found.flags == ("1024 x 576 px were asked for, these are 60 x 45 px",)
    assert (found.width, found.height) == (WIDTH, HEIGHT)


def test_several_flags_come_in_order() -> None:
    body = encode(Image.new("RGB", (512, 512)), "PNG")
    found = inspect_image(body, image_format="webp", width=1024, height=1024)
    assert [flag.split()[0] for flag in found.flags] == ["webp", "1024", "blank:"]


def test_structure_is_judged_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(Image, "open", never)
    refused = [samples()["rgb.png"] + b"\0", huge(9500, 9500), animations()["animated.webp"]]
    for body in refused:
        with pytest.raises(ImageError):
            inspect(body)


def test_an_image_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[dict[str, object]] = []
    real = Image.open

    def counted(file: io.BytesIO, **options: object) -> Image.Image:
        opened.append(options)
        return real(file, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Image, "open", counted)
    body = samples()["lossy.webp"]
    inspect_image(body, image_format="webp", width=1, height=1, with_thumbnail=True)
    assert opened == [{"formats": ["WEBP"]}]


def test_thumbnail_is_made_on_request() -> None:
    body = encode(picture(400, 300), "JPEG")
    found = inspect_image(body, image_format="jpg", width=400, height=300, with_thumbnail=True)
    assert found.thumbnail is not None
    with Image.open(io.BytesIO(found.thumbnail), formats=["JPEG"]) as image:
        assert image.size == (100, 75)


def test_repr_holds_no_picture() -> None:
    found = inspect_image(
        samples()["rgb.png"], image_format="png", width=1, height=1, with_thumbnail=True
    )
    assert "thumbnail" not in repr(found)
    assert {field.name for field in fields(found)} >= {"image_sha256", "dhash"}


def test_noise_of_every_size_and_mode_is_inspected() -> None:
    rng = np.random.default_rng(1)
    for side in (1, 2, 3, 7, 9, 127, 128, 129, 260):
        for shape in ((side, side), (side, side, 3), (side, side, 4)):
            body = encode(Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)), "PNG")
            found = inspect_image(body, image_format="png", width=side, height=side)
            assert found.width == side
