"""XMP in and out of every format: nothing else in the file changes."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flux_pipeline.errors import ImageError
from flux_pipeline.images.formats import image_sha256, read_structure, read_xmp
from tests.images.samples import OTHER_PACKET, exif, icc, insert_xmp, pixels, samples, strip_xmp

PACKETS = st.binary(max_size=2000)


@settings(max_examples=30, deadline=None)
@given(body=st.sampled_from(list(samples().values())), packet=PACKETS, other=PACKETS)
def test_packet_comes_back_and_the_last_one_counts(
    body: bytes, packet: bytes, other: bytes
) -> None:
    once = insert_xmp(body, packet)
    assert read_xmp(once) == packet
    assert insert_xmp(once, packet) == once
    assert insert_xmp(insert_xmp(body, other), packet) == once
    assert image_sha256(once) == image_sha256(body)
    assert read_structure(once, checksums=True).width == read_structure(body).width


def test_pixels_are_the_same_after_insertion(body: bytes) -> None:
    assert pixels(insert_xmp(body, OTHER_PACKET)) == pixels(body)


def test_profile_and_exif_and_comments_are_kept(body: bytes) -> None:
    files = io.BytesIO(body), io.BytesIO(insert_xmp(body, b"<new/>"))
    with Image.open(files[0]) as before, Image.open(files[1]) as after:
        for key in ("icc_profile", "exif", "comment", "Comment", "dpi", "transparency"):
            assert after.info.get(key) == before.info.get(key)
        assert after.mode == before.mode


def test_decoders_find_the_packet(name: str, body: bytes) -> None:
    with Image.open(io.BytesIO(insert_xmp(body, OTHER_PACKET))) as image:
        found = image.info.get("xmp", image.info.get("XML:com.adobe.xmp"))
    assert found in {OTHER_PACKET, OTHER_PACKET.decode()}


def test_every_other_chunk_is_kept_byte_for_byte(name: str, body: bytes) -> None:
    def others(file: bytes) -> list[bytes]:
        chunks = read_structure(file).chunks
        return [
            file[chunk.start : chunk.end]
            for chunk in chunks
            if chunk.kind not in {b"VP8X", b"XMP "} and b"adobe" not in file[chunk.data :][:30]
        ]

    assert others(insert_xmp(body, OTHER_PACKET)) == others(body)


def test_stripping_gives_the_file_back(name: str, body: bytes) -> None:
    plain = strip_xmp(body)
    assert read_xmp(plain) is None
    if name in {"lossy.webp", "lossless.webp", "lossless-alpha.webp"}:
        plain = strip_xmp(insert_xmp(plain, b"<x/>"))  # the VP8X header that was made remains
    assert strip_xmp(insert_xmp(plain, b"<x/>")) == plain
    assert pixels(plain) == pixels(body)


def test_existing_packets_are_read() -> None:
    for name in ("text.png", "xmp.jpg", "xmp.webp"):
        assert read_xmp(samples()[name]) == OTHER_PACKET
    assert read_xmp(samples()["rgb.png"]) is None


def test_samples_carry_what_the_tests_above_look_for() -> None:
    for name in ("rgba.png", "progressive.jpg", "alpha.webp"):
        with Image.open(io.BytesIO(samples()[name])) as image:
            assert image.info["icc_profile"] == icc()
            assert image.info["exif"].removeprefix(b"Exif\0\0") == exif().removeprefix(b"Exif\0\0")


@pytest.mark.parametrize("call", [lambda b: insert_xmp(b, b""), read_xmp, strip_xmp])
def test_broken_files_are_refused(call: object) -> None:
    assert callable(call)
    for body in (b"", b"<html>", samples()["rgb.png"][:-1], samples()["lossy.webp"] + b"\0"):
        with pytest.raises(ImageError):
            call(body)
