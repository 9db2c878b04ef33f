"""Formats by their first bytes, whole structures, hashes; other types are named."""

from pathlib import Path

import pytest

from flux_pipeline.errors import ImageError
from flux_pipeline.images.formats import detect_format, file_sha256, image_sha256, read_structure
from tests.images.samples import HEIGHT, WIDTH, animations, format_of, samples

GOLDEN = Path(__file__).parent / "golden"
# Printed by ExifTool 13.58: exiftool -api ImageHashType=SHA256 -ImageDataHash
HASHES = {
    "baseline.jpg": "73eb977d32ec8a6195a7017a442137feae8e6475433aa5ce8fbc9ec208dc58af",
    "progressive.jpg": "d97b437d67ba15d1cb650984d25dfbfca1bfbf00322a6bd119b22d85ad83f814",
    "restarts.jpg": "112279d66b4bcb9315192569bca2899b036e2b954a69768e5475e28df8f65a4a",
    "rgb.png": "3a72857bac47764aba54acd923a64df643adb48fd1be30fe4575cc80e4fbce8c",
    "lossless.webp": "7ba8423d38fdf35d088efc61cda5ecb1f9e91a1aeca43504d3b440a0612760bf",
    "alpha.webp": "4d4e5054d9d696d77f241d7bc8a9deafefed34fd4f4698891b3d5df707e31645",
}


def test_format_is_found_by_the_first_bytes(name: str, body: bytes) -> None:
    assert detect_format(body) == format_of(name)


def test_chunks_lie_end_to_end_and_fill_the_file(body: bytes) -> None:
    structure = read_structure(body, checksums=True)
    start = {"png": 8, "jpg": 2, "webp": 12}[structure.image_format]
    for chunk in structure.chunks:
        assert chunk.start == start <= chunk.data <= chunk.data_end <= chunk.end
        start = chunk.end
    assert start == len(body)


def test_size_is_read_without_decoding(name: str, body: bytes) -> None:
    structure = read_structure(body)
    assert (structure.width, structure.height) == (WIDTH, HEIGHT)
    assert structure.image_format == format_of(name)
    assert not structure.animated


@pytest.mark.parametrize("animation", sorted(animations()))
def test_animations_are_named_as_such(animation: str) -> None:
    assert read_structure(animations()[animation]).animated


def test_every_shorter_file_is_refused(body: bytes) -> None:
    for length in {*range(200), *range(200, len(body), 97), len(body) - 1}:
        with pytest.raises(ImageError):
            read_structure(body[:length])


def test_bytes_after_the_end_are_refused(body: bytes) -> None:
    for extra in (b"\0", b"\n", b"<script>alert(1)</script>", b"\xff\xd9"):
        with pytest.raises(ImageError, match=f"followed by {len(extra)} bytes|between segments"):
            read_structure(body + extra)


@pytest.mark.parametrize("file", sorted(HASHES))
def test_hash_of_coded_pixels_is_exiftools(file: str) -> None:
    assert image_sha256((GOLDEN / file).read_bytes()) == HASHES[file]


def test_hash_of_coded_pixels_tells_images_apart() -> None:
    hashes = {image_sha256(body) for body in samples().values()}
    # The same pixels lie in these files twice, under other metadata.
    assert len(hashes) == len(samples()) - len(["text.png", "thumbnail.jpg", "xmp.jpg", "xmp.webp"])


def test_hash_of_coded_pixels_takes_a_structure_that_was_read_already(body: bytes) -> None:
    assert image_sha256(body, read_structure(body)) == image_sha256(body)


def test_hash_of_a_file_covers_every_byte() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert file_sha256(b"") == empty
    assert file_sha256(b"\0") != empty


def test_broken_file_has_no_hash() -> None:
    with pytest.raises(ImageError, match="cut"):
        image_sha256(samples()["rgb.png"][:-1])


HTML = b"<!DOCTYPE html><p>not found</p>\r\n"

BODIES = {
    b"": "not an image (empty, 0 bytes)",
    HTML: "not an image (text/html, 33 bytes)",
    b"\xef\xbb\xbf \n<HTML><body>": "not an image (text/html, 17 bytes)",
    b'{"error":"gone"}': "not an image (application/json, 16 bytes)",
    b" [1, 2]": "not an image (application/json, 7 bytes)",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': (
        "not an image (application/xml, 61 bytes)"
    ),
    b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>': (
        "an image that is neither webp, jpg nor png (image/svg+xml, 62 bytes)"
    ),
    b"GIF89a\x01\0\x01\0": "an image that is neither webp, jpg nor png (image/gif, 10 bytes)",
    b"%!PS-Adobe-3.0 EPSF-3.0": "not an image (application/postscript, 23 bytes)",
    b"%PDF-1.7": "not an image (application/pdf, 8 bytes)",
    b"BM\x36\0": "an image that is neither webp, jpg nor png (image/bmp, 4 bytes)",
    b"II*\0\x08": "an image that is neither webp, jpg nor png (image/tiff, 5 bytes)",
    b"\0\0\0\x1cftypavif": "an image that is neither webp, jpg nor png (image/avif, 12 bytes)",
    b"\0\0\0\x1cftypisom": "not an image (video/mp4, 12 bytes)",
    b"\x1f\x8b\x08\0": "not an image (application/gzip, 4 bytes)",
    b"upstream connect error\n": "not an image (text/plain, 23 bytes)",
    b"\0\x01\x02\x03": "not an image (unknown type, 4 bytes)",
    "prévu".encode("latin-1"): "not an image (unknown type, 5 bytes)",
    b"RIFF\x04\0\0\0WAVE": "not an image (unknown type, 12 bytes)",
    b"\x89PNG": "not an image (unknown type, 4 bytes)",
}


@pytest.mark.parametrize(("body", "message"), BODIES.items(), ids=lambda value: str(value)[:30])
def test_other_types_are_named_with_their_size(body: bytes, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        detect_format(body)
    assert str(caught.value) == message


def test_message_repeats_nothing_of_the_body() -> None:
    body = b'{"detail": "Invalid token r8_0123456789abcdef"}'
    with pytest.raises(ImageError) as caught:
        detect_format(body)
    assert "r8_" not in str(caught.value)
    assert "detail" not in str(caught.value)
