"""JPEG: segments, scans, and XMP in an APP1 segment."""

import hashlib

import pytest

from flux_pipeline.errors import ImageError
from flux_pipeline.images import jpeg
from flux_pipeline.images.container import MAX_CHUNKS
from tests.images.samples import OTHER_PACKET, encode, exif, icc, picture, samples


def segment(marker: int, data: bytes = b"") -> bytes:
    return bytes([0xFF, marker]) + (2 + len(data)).to_bytes(2) + data


SOI, EOI = b"\xff\xd8", b"\xff\xd9"
FRAME = segment(0xC0, b"\x08" + (2).to_bytes(2) + (3).to_bytes(2) + b"\x01\x01\x11\0")
SCAN = segment(0xDA, b"\x01\x01\0\0\x3f\0") + b"pixels"
WHOLE = SOI + FRAME + SCAN + EOI


def test_smallest_file_is_whole() -> None:
    structure = jpeg.walk(WHOLE)
    assert (structure.width, structure.height) == (3, 2)
    assert [chunk.kind for chunk in structure.chunks] == [b"\xc0", b"\xda", b"", b"\xd9"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (SOI + FRAME + SCAN, "EOI is missing"),
        (SOI + FRAME + SCAN + b"\xff", "EOI is missing"),
        (SOI + FRAME[:-3], "ends in segment c0"),
        (SOI + FRAME + b"\xff", "EOI is missing"),
        (SOI + FRAME + b"\xff\xe1\0", "ends in segment e1"),
        (SOI + FRAME + b"\xff\xe1\0\1" + SCAN + EOI, "has no length"),
        (SOI + FRAME + b"garbage" + SCAN + EOI, "no marker at byte"),
        (SOI + FRAME + b"\xff\xd8" + SCAN + EOI, "marker d8 .* between segments"),
        (SOI + FRAME + b"\xff\0" + SCAN + EOI, "marker 00 .* between segments"),
        (SOI + FRAME + EOI, "0 scans"),
        (SOI + SCAN + EOI, "0 frames"),
        (SOI + FRAME + FRAME + SCAN + EOI, "2 frames"),
        (SOI + FRAME + SCAN * 65 + EOI, "65 scans"),
        (SOI + segment(0xC0, b"\x08\0\2\0") + SCAN + EOI, "too short"),
        (SOI + segment(0xC0, b"\x08\0\0\0\3\1") + SCAN + EOI, "3 x 0 px"),
        (WHOLE + WHOLE, "followed by .* bytes"),
    ],
)
def test_wrong_structure_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        jpeg.walk(body)


def test_fill_bytes_before_a_marker_are_legal() -> None:
    body = SOI + b"\xff\xff" + FRAME + b"\xff" * 1000 + SCAN + b"\xff" + EOI
    assert jpeg.walk(body).width == 3


def test_restarts_and_stuffed_bytes_do_not_end_a_scan() -> None:
    body = SOI + FRAME + SCAN + b"a\xff\0b\xff\xd0c\xff\xd7d" + EOI
    assert [chunk.kind for chunk in jpeg.walk(body).chunks].count(b"") == 1


def test_file_of_countless_segments_is_refused() -> None:
    with pytest.raises(ImageError, match="more than 20000 parts"):
        jpeg.walk(SOI + segment(0xFE) * (MAX_CHUNKS + 1) + FRAME + SCAN + EOI)


def test_mib_of_fill_bytes_costs_no_time() -> None:
    with pytest.raises(ImageError, match="EOI is missing"):
        jpeg.walk(SOI + FRAME + b"\xff" * (8 << 20))


@pytest.mark.parametrize(
    ("scans", "hashed"),
    [
        (SCAN + EOI, SCAN),
        (SCAN + b"\xff\0tail" + EOI, SCAN + b"\xff\0tail"),
        (SCAN + SCAN + EOI, SCAN + SCAN),
        (SCAN + b"\xff\0tail" + segment(0xC4) + SCAN + EOI, SCAN + SCAN),
        (SCAN + b"\xff\xd3tail" + segment(0xC4) + SCAN + EOI, SCAN + SCAN),
        (SCAN + segment(0xC4) + SCAN + EOI, SCAN),
    ],
)
def test_hashed_are_the_same_bytes_as_exiftools(scans: bytes, hashed: bytes) -> None:
    body = SOI + FRAME + scans
    parts = jpeg.coded_pixels(body, jpeg.walk(body))
    assert b"".join(parts) == hashed


def test_embedded_thumbnail_is_not_hashed() -> None:
    with_one, without = samples()["thumbnail.jpg"], samples()["baseline.jpg"]
    digests = [
        hashlib.sha256(b"".join(jpeg.coded_pixels(body, jpeg.walk(body)))).digest()
        for body in (with_one, without)
    ]
    assert digests[0] == digests[1]


def test_packet_stands_after_jfif_and_exif() -> None:
    body = encode(picture(), "JPEG", exif=exif(), icc_profile=icc())
    found = jpeg.replace_xmp(body, jpeg.walk(body), b"<x/>")
    kinds = [chunk.kind.hex() for chunk in jpeg.walk(found).chunks[:4]]
    assert kinds == ["e0", "e1", "e1", "e2"]
    assert jpeg.read_xmp(found, jpeg.walk(found)) == b"<x/>"


def test_packet_stands_first_where_there_is_neither() -> None:
    found = jpeg.replace_xmp(WHOLE, jpeg.walk(WHOLE), b"<x/>")
    assert found == SOI + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + WHOLE[2:]


def test_extended_packet_goes_with_the_one_it_belongs_to() -> None:
    extended = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 40 + b"more")
    plain = samples()["xmp.jpg"]
    body = plain[:2] + extended + plain[2:]
    assert jpeg.read_xmp(body, jpeg.walk(body)) == OTHER_PACKET
    found = jpeg.replace_xmp(body, jpeg.walk(body), b"<x/>")
    assert b"xmp/extension" not in found
    assert found == jpeg.replace_xmp(plain, jpeg.walk(plain), b"<x/>")


def test_packet_may_be_as_long_as_a_segment_and_no_longer() -> None:
    body = samples()["baseline.jpg"]
    longest = b"x" * jpeg.MAX_PACKET
    found = jpeg.replace_xmp(body, jpeg.walk(body), longest)
    assert jpeg.read_xmp(found, jpeg.walk(found)) == longest
    with pytest.raises(ImageError, match="XMP of 65505 bytes: a jpg holds at most 65504"):
        jpeg.replace_xmp(body, jpeg.walk(body), longest + b"x")
