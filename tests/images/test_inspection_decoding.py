"""The one full decode: every mode, missing rows, thumbnails."""

import io
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flux_pipeline.errors import ImageError
from flux_pipeline.images import png
from flux_pipeline.images.formats import read_structure
from flux_pipeline.images.inspection import (
    check_rows,
    decode,
    decode_opaque_webp,
    difference_hash,
    inspect_image,
    shrink_opaque,
    thumbnail,
)
from flux_pipeline.lineage.query import hamming_distance
from tests.images.samples import (
    HEIGHT,
    WIDTH,
    encode,
    picture,
    png_chunk,
    riff,
    riff_chunk,
    samples,
    translucent,
)


def small_picture(body: bytes) -> Image.Image:
    return decode(body, read_structure(body)).small


def mean_difference(one: Image.Image, other: Image.Image) -> float:
    pair = [np.asarray(image.convert("L"), dtype=float) for image in (one, other)]
    return float(np.abs(pair[0] - pair[1]).mean())


def test_every_mode_becomes_a_small_colour_picture(body: bytes) -> None:
    small = small_picture(body)
    assert small.mode == "RGB"
    assert small.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "name", ["grey.png", "16-bit.png", "palette.png", "grey.jpg", "cmyk.jpg", "progressive.jpg"]
)
def test_small_picture_looks_like_the_image(name: str) -> None:
    expected = picture().convert("L")
    assert mean_difference(small_picture(samples()[name]), expected) < 16


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((1024, 1024), (128, 128)),
        ((1344, 768), (224, 128)),
        ((640, 512), (160, 128)),
        ((200, 300), (200, 300)),
        ((4000, 10), (4000, 10)),
        ((1, 1), (1, 1)),
    ],
)
def test_shorter_side_is_brought_near_128_px(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert small_picture(encode(picture(*size), "PNG", compress_level=1)).size == small


def test_what_is_clear_is_white() -> None:
    clear = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    for body in (encode(clear, "PNG"), encode(clear, "WEBP", lossless=True)):
        assert small_picture(body).getextrema() == ((255, 255),) * 3
    palette = Image.new("P", (300, 300), 1)
    palette.putpalette([9, 9, 9, 1, 1, 1])
    assert small_picture(encode(palette, "PNG", transparency=1)).getpixel((0, 0)) == (255,) * 3


def test_no_other_decoder_is_tried() -> None:
    body = samples()["rgb.png"]
    structure = read_structure(body)
    for other in ("jpg", "webp"):
        wrong = type(structure)(other, WIDTH, HEIGHT, animated=False, chunks=structure.chunks)
        with pytest.raises(ImageError, match="does not decode"):
            decode(body, wrong)


def test_header_and_decoder_must_agree_on_the_size() -> None:
    body = samples()["rgb.png"]
    structure = read_structure(body)
    wrong = type(structure)("png", HEIGHT, WIDTH, animated=False, chunks=structure.chunks)
    with pytest.raises(ImageError, match="60 x 45 px, its header says 45 x 60 px"):
        decode(body, wrong)


def test_refusal_names_the_decoders_reason_and_keeps_it() -> None:
    body = riff(riff_chunk(b"VP8L", samples()["lossless.webp"][20:200]))
    with pytest.raises(
        ImageError, match=r"webp of \d+ bytes does not decode \(OSError\)"
    ) as caught:
        decode(body, read_structure(body))
    assert isinstance(caught.value.__cause__, OSError)


def shortened(body: bytes, keep: float) -> bytes:
    """The same PNG with its last rows left out of a whole zlib stream."""
    structure = png.walk(body)
    raw = zlib.decompress(b"".join(png.coded_pixels(body, structure)))
    pixels = png_chunk(b"IDAT", zlib.compress(raw[: int(len(raw) * keep)]))
    return body[: structure.chunks[0].end] + pixels + png_chunk(b"IEND", b"")


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.99])
def test_png_without_its_last_rows_decodes_and_is_refused(keep: float) -> None:
    body = shortened(encode(picture(200, 200), "PNG"), keep)
    structure = read_structure(body, checksums=True)
    decoded = decode(body, structure)  # Pillow says nothing: that is why check_rows exists
    with pytest.raises(ImageError, match="fewer rows than its header names"):
        check_rows(body, structure, decoded)


def lengthened(body: bytes, *surplus: bytes) -> bytes:
    """The same PNG with these bytes behind its pixels, in the same zlib stream."""
    structure = png.walk(body)
    packer = zlib.compressobj(9)
    packed = packer.compress(zlib.decompress(b"".join(png.coded_pixels(body, structure))))
    packed += packer.flush(zlib.Z_FULL_FLUSH)
    # Packed once for all that are the same: a block behind a full flush stands for itself.
    blocks = {each: packer.compress(each) + packer.flush(zlib.Z_FULL_FLUSH) for each in {*surplus}}
    packed += b"".join(blocks[each] for each in surplus) + packer.flush()
    return body[: structure.chunks[0].end] + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")


def test_png_that_unpacks_to_far_more_than_its_pixels_is_refused_without_unpacking_it() -> None:
    """1.5 GB in 1.5 MB: Pillow shows the picture and says nothing."""
    body = lengthened(encode(picture(200, 200), "PNG"), *[bytes(1 << 20)] * 1536)
    assert len(body) < 2_000_000
    tracemalloc.start()
    with pytest.raises(ImageError, match=r"unpacks to 1,.* bytes and more than its pixels need"):
        inspect_image(body, image_format="png", width=200, height=200)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("surplus", [1, 500, 1 << 20])
def test_png_with_a_little_behind_its_pixels_is_whole(surplus: int) -> None:
    body = lengthened(encode(picture(200, 200), "PNG"), bytes(surplus))
    assert inspect_image(body, image_format="png", width=200, height=200).flags == ()


def test_interlaced_png_without_its_last_pass_is_refused() -> None:
    for side in range(40, 120, 17):  # Pillow itself finds it for most sizes
        whole = _interlaced(picture(side, side).convert("L"))
        assert decode_and_check(whole) is None
        with pytest.raises(ImageError, match=r"fewer rows|does not decode"):
            decode_and_check(shortened(whole, 0.8))


def decode_and_check(body: bytes) -> str | None:
    structure = read_structure(body, checksums=True)
    return check_rows(body, structure, decode(body, structure))


def _interlaced(image: Image.Image) -> bytes:
    """Pillow can't write interlaced files; the passes are those of the standard."""
    grid = np.asarray(image)
    passes = [grid[y::dy, x::dx] for x, y, dx, dy in _PASSES]
    raw = b"".join(b"\0" + row.tobytes() for rows in passes if rows.size for row in rows)
    size = image.width.to_bytes(4) + image.height.to_bytes(4)
    header = png_chunk(b"IHDR", size + b"\x08\0\0\0\1")
    pixels = png_chunk(b"IDAT", zlib.compress(raw))
    body = b"\x89PNG\r\n\x1a\n" + header + pixels + png_chunk(b"IEND", b"")
    with Image.open(io.BytesIO(body)) as again:
        assert again.tobytes() == image.tobytes()
    return body


_PASSES = [
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
]


def test_png_with_a_black_last_row_is_whole() -> None:
    image = picture()
    image.paste((0, 0, 0), (0, HEIGHT - 5, WIDTH, HEIGHT))
    assert decode_and_check(encode(image, "PNG")) is None


@pytest.mark.parametrize("name", ["baseline.jpg", "grey.jpg"])
def test_jpg_without_its_last_rows_is_flagged(name: str) -> None:
    body = samples()[name]
    scan = next(chunk for chunk in read_structure(body).chunks if not chunk.kind)
    half = (scan.start + scan.end) // 2
    assert decode_and_check(body) is None
    assert decode_and_check(body[:half] + body[scan.end :]) == (
        "the last row is the decoder's own grey: rows may be missing"
    )


def test_webp_without_its_last_rows_is_refused() -> None:
    for name in ("lossy.webp", "lossless.webp"):
        body = samples()[name]
        chunk, *_ = read_structure(body).chunks
        half = body[chunk.data : (chunk.data + chunk.data_end) // 2]
        with pytest.raises(ImageError, match="does not decode"):
            decode_and_check(riff(riff_chunk(chunk.kind, half)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((300, 300), (100, 100)),
        ((1344, 768), (100, 57)),
        ((60, 45), (60, 45)),
        ((900, 1), (100, 1)),
    ],
)
def test_thumbnail_is_a_small_jpeg(size: tuple[int, int], expected: tuple[int, int]) -> None:
    found = thumbnail(small_picture(encode(picture(*size), "PNG", compress_level=1)))
    with Image.open(io.BytesIO(found), formats=["JPEG"]) as image:
        assert image.size == expected
    assert len(found) < 8_000


def test_thumbnail_shows_the_image() -> None:
    found = thumbnail(
        small_picture(encode(translucent(picture(400, 400)), "PNG", compress_level=1))
    )
    with Image.open(io.BytesIO(found)) as image:
        white = Image.new("RGBA", (400, 400), "white")
        flat = Image.alpha_composite(white, translucent(picture(400, 400)))
        assert mean_difference(image, flat.resize((100, 100))) < 8


def opaque_webp(image: Image.Image) -> bytes:
    """The pixels of an image as a lossless webp of it decodes."""
    with Image.open(io.BytesIO(encode(image, "WEBP", lossless=True))) as opened:
        pixels = decode_opaque_webp(opened)
        assert pixels is not None, "Pillow's decoder is asked otherwise: see decode_opaque_webp"
        return pixels


def test_opaque_webp_is_decoded_without_a_copy_to_the_same_pixels() -> None:
    image = picture(300, 260)
    found = Image.frombytes("RGB", image.size, opaque_webp(image), "raw", "RGBX")
    assert found.tobytes() == image.tobytes()


@pytest.mark.parametrize("size", [(300, 260), (511, 600)])
def test_webp_that_is_not_large_is_averaged_whole(size: tuple[int, int]) -> None:
    image = picture(*size)
    factor = min(size) // 128
    assert shrink_opaque(opaque_webp(image), size).tobytes() == image.reduce(factor).tobytes()


@pytest.mark.parametrize("size", [(512, 512), (1024, 1024), (1023, 769), (515, 1100)])
def test_a_quarter_of_a_large_webp_shows_what_the_whole_shows(size: tuple[int, int]) -> None:
    image = picture(*size)
    small = shrink_opaque(opaque_webp(image), size)
    assert 128 <= min(small.size) < 256
    assert mean_difference(small, image.resize(small.size, Image.Resampling.BOX)) < 4
    whole = image.reduce(min(size) // 128)
    hashes = [difference_hash(np.asarray(each.convert("L"))) for each in (small, whole)]
    assert hamming_distance(*hashes) <= 1


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 1), (2, 2)])
def test_pattern_of_single_pixels_has_the_grey_of_the_whole_picture(
    rows: int, columns: int
) -> None:
    """Every second column, every second row, and a chessboard."""
    at = np.indices((1024, 1024))
    pattern = ((at[0] % rows + at[1] % columns) % 2 * 255).astype(np.uint8)
    pattern[:, 512:] //= 2  # or it would be of one colour, of which all is averaged
    image = Image.fromarray(pattern).convert("RGB")
    small = shrink_opaque(opaque_webp(image), image.size)
    assert small.tobytes() == image.reduce(8).tobytes()


@pytest.mark.parametrize("row", range(8))
def test_line_of_one_pixel_is_not_missed(row: int) -> None:
    image = Image.new("RGB", (640, 512))
    image.paste("white", (0, 256 + row, 640, 257 + row))
    body = encode(image, "WEBP", lossless=True)
    assert not inspect_image(body, image_format="webp", width=640, height=512).blank


def test_decoding_a_webp_imports_no_other_rare_format(tmp_path: Path) -> None:
    path = tmp_path / "one.webp"
    path.write_bytes(encode(picture(300, 260), "WEBP"))
    code = (
        "import sys; from flux_pipeline.images.inspection import inspect_image as look"
        "; look(open(sys.argv[1], 'rb').read(), image_format='', width=0, height=0)"
        "; print(*(name for name in sys.modules if 'TiffImage' in name or 'Avif' in name))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_webp_with_transparency_is_decoded_as_pillow_does() -> None:
    clear = Image.new("RGBA", (300, 300), (0, 0, 0, 0))
    with Image.open(io.BytesIO(encode(clear, "WEBP", lossless=True))) as image:
        assert decode_opaque_webp(image) is None
