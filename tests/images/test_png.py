"""PNG: chunks, checksums, rows, and XMP in an iTXt chunk."""

import zlib

import pytest

from flux_pipeline.errors import ImageError
from flux_pipeline.images import png
from flux_pipeline.images.container import MAX_CHUNKS
from flux_pipeline.images.png import MAX_SURPLUS
from tests.images.samples import OTHER_PACKET, encode, picture, png_chunk, samples

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER = png_chunk(b"IHDR", (3).to_bytes(4) + (2).to_bytes(4) + b"\x08\0\0\0\0")
IDAT = png_chunk(b"IDAT", zlib.compress(b"\0\1\2\3" * 2))
END = png_chunk(b"IEND", b"")
WHOLE = SIGNATURE + HEADER + IDAT + END


def test_smallest_file_is_whole() -> None:
    structure = png.walk(WHOLE, checksums=True)
    assert (structure.width, structure.height) == (3, 2)
    assert [chunk.kind for chunk in structure.chunks] == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (SIGNATURE + HEADER + IDAT, "IEND is missing"),
        (SIGNATURE + HEADER + IDAT[:-2], "it ends in chunk IDAT"),
        (SIGNATURE + HEADER + b"\x7f\xff\xff\xffIDAT" + END, "it ends in chunk IDAT"),
        (SIGNATURE + HEADER + END, "no IDAT chunk"),
        (SIGNATURE + IDAT + END, "header of 13 bytes"),
        (SIGNATURE + END, "header of 13 bytes"),
        (SIGNATURE + png_chunk(b"IHDR", b"\0" * 12) + IDAT + END, "header of 13 bytes"),
        (SIGNATURE + HEADER + HEADER + IDAT + END, "out of order"),
        (SIGNATURE + HEADER + IDAT + png_chunk(b"tIME", b"") + IDAT + END, "out of order"),
        (SIGNATURE + HEADER + IDAT + png_chunk(b"IEND", b"x"), "not empty"),
        (SIGNATURE + HEADER + png_chunk(b"CgBI", b"") + IDAT + END, "critical chunk CgBI"),
        (SIGNATURE + HEADER + png_chunk(b"a\0bc", b"") + IDAT + END, "no chunk name"),
        (SIGNATURE + png_chunk(b"IHDR", b"\0" * 13) + IDAT + END, "0 x 0 px"),
    ],
)
def test_wrong_structure_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        png.walk(body)


def test_checksums_of_critical_chunks_are_read_where_asked() -> None:
    structure = png.walk(WHOLE)
    for chunk in structure.chunks:
        damaged = bytearray(WHOLE)
        damaged[chunk.end - 1] ^= 1
        with pytest.raises(ImageError, match=f"{chunk.kind.decode()} at byte .* wrong checksum"):
            png.walk(bytes(damaged), checksums=True)
        assert png.walk(bytes(damaged)).chunks == structure.chunks


def test_checksums_of_other_chunks_are_nobodys_business() -> None:
    comment = png_chunk(b"tEXt", b"a\0b")[:-1] + b"?"
    structure = png.walk(SIGNATURE + HEADER + comment + IDAT + END, checksums=True)
    assert len(structure.chunks) == 4


def test_file_of_countless_chunks_is_refused() -> None:
    many = png_chunk(b"tIME", b"") * MAX_CHUNKS
    with pytest.raises(ImageError, match="more than 20000 parts"):
        png.walk(SIGNATURE + HEADER + many + IDAT + END)


def test_animation_is_seen() -> None:
    body = SIGNATURE + HEADER + png_chunk(b"acTL", b"\0" * 8) + IDAT + END
    assert png.walk(body).animated


@pytest.mark.parametrize("name", [name for name in samples() if name.endswith("png")])
def test_whole_images_have_every_row(name: str) -> None:
    body = samples()[name]
    assert png.surplus_bytes(body, png.walk(body)) >= 0


@pytest.mark.parametrize(("depth", "colour", "bits"), [(1, 3, 1), (8, 2, 24), (16, 6, 64)])
def test_rows_of_interlaced_images_are_counted_by_pass(depth: int, colour: int, bits: int) -> None:
    for side in (1, 2, 3, 4, 5, 6, 7, 8, 9, 13):
        raw = _interlaced_bytes(side, side + 2, bits)
        assert _every_row(side, depth, colour, raw)
        assert not _every_row(side, depth, colour, raw - 1)


def _interlaced_bytes(width: int, height: int, bits: int) -> int:
    """Pixel by pixel, from the table of the standard."""
    pattern = ("16462646", "77777777", "56565656", "77777777") * 2
    pattern = (*pattern[:4], "36463646", *pattern[5:])
    rows: dict[tuple[str, int], int] = {}
    for y in range(height):
        for x in range(width):
            key = (pattern[y % 8][x % 8], y)
            rows[key] = rows.get(key, 0) + 1
    return sum(1 + (count * bits + 7) // 8 for count in rows.values())


def _every_row(side: int, depth: int, colour: int, raw: int) -> bool:
    size = side.to_bytes(4) + (side + 2).to_bytes(4)
    header = png_chunk(b"IHDR", size + bytes([depth, colour, 0, 0, 1]))
    pixels = png_chunk(b"IDAT", zlib.compress(bytes(raw)))
    body = SIGNATURE + header + pixels + END
    structure = png.walk(body)
    assert png.is_interlaced(body, structure)
    return png.surplus_bytes(body, structure) >= 0


def test_pixels_that_are_no_zlib_stream_have_no_rows() -> None:
    body = SIGNATURE + HEADER + png_chunk(b"IDAT", b"not zlib") + END
    assert png.surplus_bytes(body, png.walk(body)) < 0


def test_rows_are_counted_little_further_than_is_allowed() -> None:
    bomb = png_chunk(b"IDAT", zlib.compress(bytes(40_000_000), 9))
    body = SIGNATURE + HEADER + bomb + END
    structure = png.walk(body)
    assert png.surplus_bytes(body, structure) >= 0
    assert MAX_SURPLUS < png.surplus_bytes(body, structure) < 2 * MAX_SURPLUS


def test_what_follows_the_pixels_is_counted_over_all_chunks() -> None:
    packed = zlib.compress(bytes(5000))
    parts = [png_chunk(b"IDAT", packed[start : start + 3]) for start in range(0, len(packed), 3)]
    body = SIGNATURE + HEADER + b"".join(parts) + END
    structure = png.walk(body)
    whole = SIGNATURE + HEADER + png_chunk(b"IDAT", packed) + END
    assert png.surplus_bytes(body, structure) == png.surplus_bytes(whole, png.walk(whole)) > 0


def test_compressed_packet_is_read() -> None:
    body = samples()["text.png"]
    assert png.read_xmp(body, png.walk(body)) == OTHER_PACKET


@pytest.mark.parametrize(
    ("data", "packet"),
    [
        (b"XML:com.adobe.xmp\0\0\0\0\0<x/>", b"<x/>"),
        (b"XML:com.adobe.xmp\0\0\0en\0XMP\0<x/>", b"<x/>"),
        (b"XML:com.adobe.xmp\0\1\0\0\0not zlib", None),
        (b"XML:com.adobe.xmp\0\0\0\0", None),
        (b"XML:com.adobe.xmp\0", None),
        (b"Comment\0\0\0\0\0<x/>", None),
    ],
)
def test_packet_is_found_in_its_chunk(data: bytes, packet: bytes | None) -> None:
    body = SIGNATURE + HEADER + png_chunk(b"iTXt", data) + IDAT + END
    assert png.read_xmp(body, png.walk(body)) == packet


def test_packet_that_explodes_is_read_in_part() -> None:
    bomb = zlib.compress(b" " * 4_000_000, 9)
    chunk = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)
    body = SIGNATURE + HEADER + chunk + IDAT + END
    packet = png.read_xmp(body, png.walk(body))
    assert packet is not None
    assert len(packet) == 1 << 20


def test_packet_stands_right_after_the_header() -> None:
    body = encode(picture(), "PNG")
    chunks = png.walk(png.replace_xmp(body, png.walk(body), b"<x/>")).chunks
    assert [chunk.kind for chunk in chunks[:2]] == [b"IHDR", b"iTXt"]
