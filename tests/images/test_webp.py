"""WebP: RIFF chunks, canvas and alpha, and XMP behind a VP8X header."""

import pytest

from flux_pipeline.errors import ImageError
from flux_pipeline.images import webp
from flux_pipeline.images.container import MAX_CHUNKS
from tests.images.samples import riff, riff_chunk, samples


def lossy(width: int = 3, height: int = 2) -> bytes:
    sides = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return riff_chunk(b"VP8 ", b"\x10\0\0\x9d\x01\x2a" + sides + b"pixels!")


def lossless(width: int = 3, height: int = 2, *, alpha: bool = False) -> bytes:
    bits = (width - 1) | (height - 1) << 14 | alpha << 28
    return riff_chunk(b"VP8L", b"\x2f" + bits.to_bytes(4, "little") + b"pixels")


def extended(flags: int = 0, width: int = 3, height: int = 2) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff_chunk(b"VP8X", bytes([flags, 0, 0, 0]) + sides)


FRAME = riff_chunk(b"ANMF", b"\0" * 16 + lossy())


@pytest.mark.parametrize("image", [lossy(), lossless(), lossless(alpha=True)])
def test_smallest_files_are_whole(image: bytes) -> None:
    for body in (riff(image), riff(extended(), image)):
        structure = webp.walk(body)
        assert (structure.width, structure.height) == (3, 2)


@pytest.mark.parametrize("image", [lossy(16383, 16382), lossless(16384, 16383)])
def test_sides_have_14_bits(image: bytes) -> None:
    assert webp.walk(riff(image)).height in {16382, 16383}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (riff(lossy())[:-1], "cut: it ends in a RIFF form"),
        (riff(lossy()) + b"\0", "followed by 1 bytes"),
        (riff(), "does not start with an image"),
        (riff(lossy()[:-2]), "a chunk that starts at byte 12"),
        (riff(lossy(), b"XMP"), "a chunk that starts at byte"),
        (riff(lossy(), b"XMP \xff\xff\xff\xff"), "a chunk that starts at byte"),
        (riff(riff_chunk(b"JUNK", b""), lossy()), "does not start with an image"),
        (riff(lossy(), lossy()), "holds 2 images"),
        (riff(extended()), "holds 0 images"),
        (riff(riff_chunk(b"VP8X", b"\0" * 9), lossy()), "not 10 bytes long"),
        (riff(extended(width=4), lossy()), "another size"),
        (riff(riff_chunk(b"VP8 ", b"")), "without an image's header"),
        (riff(riff_chunk(b"VP8 ", b"\x11" + lossy()[9:])), "without an image's header"),
        (riff(riff_chunk(b"VP8L", b"\x2e\0\0\0\0")), "without an image's header"),
        (riff(lossy(0, 0)), "0 x 0 px"),
        (b"RIFF\0\0\0\0WEBP", "followed by 4 bytes"),
        (b"RIFF\x04\0\0\0WEBP", "does not start with an image"),
    ],
)
def test_wrong_structure_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        webp.walk(body)


@pytest.mark.parametrize(
    "body",
    [
        riff(extended(0x02), riff_chunk(b"ANIM", b"\0" * 6), FRAME, FRAME),
        riff(extended(0x02), lossy()),
        riff(extended(), FRAME),
    ],
)
def test_animation_is_seen_by_flag_and_by_chunk(body: bytes) -> None:
    structure = webp.walk(body)
    assert structure.animated
    assert (structure.width, structure.height) == (3, 2)


def test_file_of_countless_chunks_is_refused() -> None:
    with pytest.raises(ImageError, match="more than 20000 parts"):
        webp.walk(riff(lossy(), *[riff_chunk(b"JUNK", b"")] * MAX_CHUNKS))


def test_hashed_are_image_and_alpha_with_padding() -> None:
    alpha, image = riff_chunk(b"ALPH", b"odd"), lossy()
    body = riff(extended(0x10), riff_chunk(b"ICCP", b"icc!"), alpha, image)
    assert b"".join(webp.coded_pixels(body, webp.walk(body))) == b"odd\0" + image[8:]


@pytest.mark.parametrize(
    ("before", "flags"),
    [
        (riff(lossy()), 0x04),
        (riff(lossless()), 0x04),
        (riff(lossless(alpha=True)), 0x14),
        (riff(lossy(), riff_chunk(b"ALPH", b"even")), 0x14),
        (riff(extended(0x30), lossy()), 0x34),
    ],
)
def test_header_says_that_there_is_a_packet_and_alpha(before: bytes, flags: int) -> None:
    after = webp.replace_xmp(before, webp.walk(before), b"<x/>")
    structure = webp.walk(after)
    first, *_, last = structure.chunks
    assert (first.kind, last.kind) == (b"VP8X", b"XMP ")
    assert after[first.data] == flags
    assert webp.read_xmp(after, structure) == b"<x/>"


def test_flag_goes_with_the_packet() -> None:
    with_one = riff(extended(0x14), lossless(alpha=True), riff_chunk(b"XMP ", b"<x/>"))
    without = riff(extended(0x10), lossless(alpha=True))
    assert webp.replace_xmp(with_one, webp.walk(with_one), None) == without


def test_simple_file_without_a_packet_stays_simple() -> None:
    body = samples()["lossy.webp"]
    assert webp.replace_xmp(body, webp.walk(body), None) == body
