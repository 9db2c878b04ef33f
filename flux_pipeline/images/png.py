"""PNG as a ``container.Container``: chunks with checksums; XMP in an iTXt chunk after the header.

Checksums of critical chunks are read on request only: they cost 1 ms for a large file, and a file
that was inspected once needs no second look before it is labelled.
"""

import zlib
from typing import Final

from flux_pipeline.errors import ImageError
from flux_pipeline.images.container import (
    Chunk,
    Structure,
    check_count,
    check_size,
    cut_off,
    trailing,
)

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 13
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_ITXT_TEXTS = 3
"""Language, translated keyword and text follow the keyword of an iTXt chunk."""
_MANIFEST = b"caBX"
"""The chunk that holds a C2PA manifest."""
_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_XMP_HEADER = _XMP_KEYWORD + b"\0\0\0\0"
"""Not compressed, no language, no translated keyword."""
_MAX_PACKET = 1 << 20
"""bytes; what a compressed packet may grow to"""
MAX_SURPLUS: Final = 1 << 20
"""bytes; what may follow the pixels inside of IDAT, as some encoders leave a little"""
_STEP = 1 << 16
_ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row, and steps between them, of the seven passes of an interlaced image."""


def walk(body: bytes, *, checksums: bool = False) -> Structure:
    """The chunks from IHDR to IEND; with ``checksums`` also the CRC of every critical one.

    Raises ImageError for a cut or followed file, chunks out of order, a critical chunk that the
    standard doesn't know, and a wrong checksum.
    """
    chunks: list[Chunk] = []
    position = len(SIGNATURE)
    while not chunks or chunks[-1].kind != b"IEND":
        chunk = _chunk(body, position)
        if checksums and chunk.kind in _CRITICAL:
            _check_crc(body, chunk)
        chunks.append(chunk)
        check_count("png", chunks)
        position = chunk.end
    if position != len(body):
        raise trailing("png", len(body) - position)
    width, height = _header(body, chunks[0])
    _check_order(chunks)
    animated = any(chunk.kind == b"acTL" for chunk in chunks)
    return Structure("png", width, height, animated, tuple(chunks))


def _chunk(body: bytes, start: int) -> Chunk:
    data = start + 8
    if data > len(body):
        raise cut_off("png", len(body), "a chunk's header (IEND is missing)")
    kind = body[start + 4 : data]
    if not kind.isalpha():
        raise ImageError(f"png has no chunk name at byte {start + 4}")
    data_end = data + int.from_bytes(body[start : start + 4])
    if data_end + 4 > len(body):
        raise cut_off("png", len(body), f"chunk {kind.decode()}")
    if kind[:1].isupper() and kind not in _CRITICAL:
        raise ImageError(f"png has a critical chunk {kind.decode()} that no standard knows")
    return Chunk(kind, start, data, data_end, data_end + 4)


def _check_crc(body: bytes, chunk: Chunk) -> None:
    found = zlib.crc32(memoryview(body)[chunk.start + 4 : chunk.data_end])
    if found != int.from_bytes(body[chunk.data_end : chunk.end]):
        raise ImageError(f"png chunk {chunk.kind.decode()} at byte {chunk.start}: wrong checksum")


def _header(body: bytes, first: Chunk) -> tuple[int, int]:
    if first.kind != b"IHDR" or first.data_end - first.data != _HEADER_BYTES:
        raise ImageError("png does not start with a header of 13 bytes")
    width = int.from_bytes(body[first.data : first.data + 4])
    height = int.from_bytes(body[first.data + 4 : first.data + 8])
    check_size("png", width, height)
    return width, height


def _check_order(chunks: list[Chunk]) -> None:
    kinds = [chunk.kind for chunk in chunks]
    pixels = [index for index, kind in enumerate(kinds) if kind == b"IDAT"]
    if not pixels:
        raise ImageError("png holds no pixels: no IDAT chunk")
    if pixels[-1] - pixels[0] + 1 != len(pixels) or kinds.count(b"IHDR") != 1:
        raise ImageError("png chunks are out of order")
    if chunks[-1].data_end != chunks[-1].data:
        raise ImageError("png ends in an IEND chunk that is not empty")


def coded_pixels(body: bytes, structure: Structure) -> list[bytes | memoryview]:
    """The data of the IDAT chunks."""
    view = memoryview(body)
    return [view[c.data : c.data_end] for c in structure.chunks if c.kind == b"IDAT"]


def surplus_bytes(body: bytes, structure: Structure, *, most: int = MAX_SURPLUS) -> int:
    """How many more bytes IDAT inflates to than the header asks for; below 0 where rows miss.

    Pillow fills missing rows with zeros and leaves out what follows the pixels, and says nothing.
    Other programs unpack all of it, and a file of 1 MB can hold 1 GB: so it is counted in small
    steps, 4 ns a byte, and no further than to ``most`` and one step.
    """
    expected = _raw_bytes(body, structure)
    inflater = zlib.decompressobj()
    found = 0
    try:
        for part in coded_pixels(body, structure):
            packed: bytes | memoryview = part
            while packed and found <= expected + most:
                found += len(inflater.decompress(packed, _STEP))
                packed = inflater.unconsumed_tail
            if inflater.eof:
                break
    except zlib.error:
        return min(found - expected, -1)  # as damaged as one that lacks rows
    return found - expected


def is_interlaced(body: bytes, structure: Structure) -> bool:
    """Whether missing rows would lie between others, where no look at the last row finds them."""
    return bool(body[structure.chunks[0].data + 12])


def _raw_bytes(body: bytes, structure: Structure) -> int:
    """Filtered bytes of all rows: one more than its pixels a row, for each pass."""
    header = structure.chunks[0].data
    depth, colour = body[header + 8], body[header + 9]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    width, height = structure.width, structure.height
    total = 0
    for x, y, dx, dy in _ADAM7 if is_interlaced(body, structure) else ((0, 0, 1, 1),):
        columns, rows = -((x - width) // dx), -((y - height) // dy)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def read_xmp(body: bytes, structure: Structure) -> bytes | None:
    """The packet of the first XMP chunk, inflated up to 1 MiB where it is compressed."""
    for chunk in structure.chunks:
        if not _is_xmp(body, chunk):
            continue
        rest = body[chunk.data + len(_XMP_KEYWORD) : chunk.data_end]
        parts = rest[2:].split(b"\0", 2)
        if len(parts) == _ITXT_TEXTS:
            return _inflate(parts[-1]) if rest[0] else parts[-1]
    return None


def _is_xmp(body: bytes, chunk: Chunk) -> bool:
    return chunk.kind == b"iTXt" and body.startswith(_XMP_KEYWORD, chunk.data, chunk.data_end)


def _inflate(packed: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(packed, _MAX_PACKET)
    except zlib.error:
        return None


def replace_xmp(body: bytes, structure: Structure, packet: bytes | None) -> bytes:
    """The file with this packet right after the header, where every reader looks for it."""
    header, *others = structure.chunks
    new = b"" if packet is None else _new_chunk(b"iTXt", _XMP_HEADER + packet)
    view = memoryview(body)
    kept = [view[c.start : c.end] for c in others if not _is_xmp(body, c)]
    return b"".join([view[: header.end], new, *kept])


def has_boxes(body: bytes, structure: Structure) -> bool:  # noqa: ARG001 - the name is enough
    """Whether there is a chunk for a C2PA manifest."""
    return any(chunk.kind == _MANIFEST for chunk in structure.chunks)


def remove_boxes(body: bytes, structure: Structure) -> bytes:
    """The file without its chunks for a C2PA manifest."""
    view = memoryview(body)
    kept = [view[c.start : c.end] for c in structure.chunks if c.kind != _MANIFEST]
    return b"".join([SIGNATURE, *kept])


def _new_chunk(kind: bytes, data: bytes) -> bytes:
    size = len(data).to_bytes(4)
    return b"".join((size, kind, data, zlib.crc32(data, zlib.crc32(kind)).to_bytes(4)))
