"""WebP as a ``container.Container``: RIFF chunks; XMP in a chunk of its own and a VP8X header."""

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

SIGNATURE: Final = b"RIFF"
FORM: Final = b"WEBP"
_RIFF_BYTES = 12
_EXTENDED_BYTES = 10
_IMAGES = frozenset({b"VP8 ", b"VP8L"})
_CODED = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_ANIMATED = frozenset({b"ANIM", b"ANMF"})
_XMP_FLAG, _ALPHA_FLAG, _ANIMATION_FLAG = 0x04, 0x10, 0x02
_MANIFEST = b"C2PA"
"""The chunk that holds a C2PA manifest."""
_LOSSY_START = b"\x9d\x01\x2a"
_LOSSLESS_START = b"\x2f"
_SIDE = 0x3FFF
"""14 bits hold a side of either bitstream."""


def walk(body: bytes, *, checksums: bool = False) -> Structure:  # noqa: ARG001 - WebP has none
    """The chunks of the RIFF form.

    Raises ImageError for a cut or followed file, more or less than one image outside of an
    animation, and a canvas that is not the image's size.
    """
    declared = 8 + int.from_bytes(body[4:8], "little")
    if len(body) < max(declared, _RIFF_BYTES):
        raise cut_off("webp", len(body), f"a RIFF form of {declared} bytes")
    if len(body) > declared:
        raise trailing("webp", len(body) - declared)
    chunks: list[Chunk] = []
    position = _RIFF_BYTES
    while position < len(body):
        chunks.append(_chunk(body, position))
        check_count("webp", chunks)
        position = chunks[-1].end
    kinds = [chunk.kind for chunk in chunks]
    if not kinds or (kinds[0] not in _IMAGES and kinds[0] != b"VP8X"):
        raise ImageError("webp does not start with an image or a VP8X header")
    animated = not _ANIMATED.isdisjoint(kinds) or bool(_flags(body, chunks) & _ANIMATION_FLAG)
    width, height = _size(body, chunks, animated=animated)
    check_size("webp", width, height)
    return Structure("webp", width, height, animated, tuple(chunks))


def _chunk(body: bytes, start: int) -> Chunk:
    data = start + 8
    data_end = data + int.from_bytes(body[start + 4 : data], "little")
    end = data_end + (data_end - data) % 2
    if data > len(body) or end > len(body):
        raise cut_off("webp", len(body), f"a chunk that starts at byte {start}")
    return Chunk(body[start : start + 4], start, data, data_end, end)


def _flags(body: bytes, chunks: list[Chunk]) -> int:
    """The VP8X flags, 0 for a simple file."""
    first = chunks[0]
    if first.kind != b"VP8X":
        return 0
    if first.data_end - first.data != _EXTENDED_BYTES:
        raise ImageError("webp has a VP8X header that is not 10 bytes long")
    return body[first.data]


def _size(body: bytes, chunks: list[Chunk], *, animated: bool) -> tuple[int, int]:
    """Width and height in px, from the canvas and, where there is one image, from that too."""
    first = chunks[0]
    canvas = None
    if first.kind == b"VP8X":
        canvas = (
            1 + int.from_bytes(body[first.data + 4 : first.data + 7], "little"),
            1 + int.from_bytes(body[first.data + 7 : first.data + 10], "little"),
        )
        if animated:
            return canvas
    images = [chunk for chunk in chunks if chunk.kind in _IMAGES]
    if len(images) != 1:
        raise ImageError(f"webp holds {len(images)} images where one is expected")
    width, height, _ = _bitstream(body, images[0])
    if canvas not in {None, (width, height)}:
        raise ImageError("webp has a canvas of another size than its image")
    return width, height


def _bitstream(body: bytes, chunk: Chunk) -> tuple[int, int, bool]:
    """Width and height in px and the use of alpha, as the image's own header has them."""
    head = body[chunk.data : min(chunk.data + 10, chunk.data_end)]
    if chunk.kind == b"VP8 " and head[3:6] == _LOSSY_START and not head[0] & 1:
        width, height = (int.from_bytes(head[i : i + 2], "little") for i in (6, 8))
        return width & _SIDE, height & _SIDE, False
    if chunk.kind == b"VP8L" and head[:1] == _LOSSLESS_START:
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & _SIDE), 1 + (bits >> 14 & _SIDE), bool(bits >> 28 & 1)
    raise ImageError(f"webp has an image chunk {chunk.kind!r} without an image's header")


def coded_pixels(body: bytes, structure: Structure) -> list[bytes | memoryview]:
    """The data of the image, alpha and animation chunks, with their padding as ExifTool has it."""
    view = memoryview(body)
    return [view[c.data : c.end] for c in structure.chunks if c.kind in _CODED]


def read_xmp(body: bytes, structure: Structure) -> bytes | None:
    """The data of the first XMP chunk."""
    for chunk in structure.chunks:
        if chunk.kind == b"XMP ":
            return body[chunk.data : chunk.data_end]
    return None


def replace_xmp(body: bytes, structure: Structure, packet: bytes | None) -> bytes:
    """The file with this packet last, and a VP8X header that says so, made where there is none."""
    view = memoryview(body)
    first, *_ = structure.chunks
    kept = [c for c in structure.chunks if c.kind != b"XMP "]
    parts: list[bytes | memoryview] = [view[c.start : c.end] for c in kept]
    if first.kind == b"VP8X":
        flags = body[first.data] & ~_XMP_FLAG | (0 if packet is None else _XMP_FLAG)
        rest = body[first.data + 1 : first.data_end]
        parts[0] = _new_chunk(b"VP8X", bytes([flags]) + rest)
    elif packet is not None:
        parts.insert(0, _new_header(body, structure))
    if packet is not None:
        parts.append(_new_chunk(b"XMP ", packet))
    return _new_form(parts)


def has_boxes(body: bytes, structure: Structure) -> bool:  # noqa: ARG001 - the name is enough
    """Whether there is a chunk for a C2PA manifest."""
    return any(chunk.kind == _MANIFEST for chunk in structure.chunks)


def remove_boxes(body: bytes, structure: Structure) -> bytes:
    """The file without its chunks for a C2PA manifest."""
    view = memoryview(body)
    return _new_form([view[c.start : c.end] for c in structure.chunks if c.kind != _MANIFEST])


def _new_header(body: bytes, structure: Structure) -> bytes:
    """A VP8X header for a simple file; without its alpha flag a decoder would drop alpha."""
    kinds = [chunk.kind for chunk in structure.chunks]
    image = next(chunk for chunk in structure.chunks if chunk.kind in _IMAGES)
    *_, alpha = _bitstream(body, image)
    flags = _XMP_FLAG | (_ALPHA_FLAG if alpha or b"ALPH" in kinds else 0)
    sides = ((side - 1).to_bytes(3, "little") for side in (structure.width, structure.height))
    return _new_chunk(b"VP8X", b"".join((bytes([flags, 0, 0, 0]), *sides)))


def _new_form(parts: list[bytes | memoryview]) -> bytes:
    size = len(FORM) + sum(map(len, parts))
    return b"".join([SIGNATURE, size.to_bytes(4, "little"), FORM, *parts])


def _new_chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join((kind, len(data).to_bytes(4, "little"), data, b"\0" * (len(data) % 2)))
