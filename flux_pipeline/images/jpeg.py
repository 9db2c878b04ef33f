"""JPEG as a ``container.Container``: segments, scans; XMP in an APP1 segment of at most 64 KB."""

import re
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

SIGNATURE: Final = b"\xff\xd8\xff"
_START_BYTES = 2
_EOI, _SOS, _APP0, _APP1, _APP11 = b"\xd9", b"\xda", b"\xe0", b"\xe1", b"\xeb"
_FRAMES = frozenset(bytes([marker]) for marker in range(0xC0, 0xD0)) - {b"\xc4", b"\xc8", b"\xcc"}
_BARE = frozenset(bytes([marker]) for marker in (0x00, 0x01, *range(0xD0, 0xD9)))
"""Markers without a length: none of them may stand between segments."""
_RESTARTS = tuple(bytes([0xFF, marker]) for marker in (0x00, *range(0xD0, 0xD8)))
"""What may interrupt a scan without ending it."""
_MARKER = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_LENGTH_BYTES = 2
_SEGMENT_BYTES = 4
"""Marker and length before a segment's data."""
_FRAME_HEADER_BYTES = 6
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
MAX_SCANS: Final = 64
"""Encoders write up to about 20; each costs a decoder a pass over the whole image."""
MAX_PACKET: Final = 0xFFFF - 2 - len(_XMP)
"""bytes of XMP that one segment can hold"""


def walk(body: bytes, *, checksums: bool = False) -> Structure:  # noqa: ARG001 - JPEG has none
    """The segments and scans from SOI to EOI.

    Raises ImageError for a cut or followed file, bytes between segments, no or several frames.
    """
    chunks: list[Chunk] = []
    position = _START_BYTES
    while not chunks or chunks[-1].kind != _EOI:
        segment = _segment(body, position)
        chunks.append(segment)
        if segment.kind == _SOS:
            chunks.append(_scan(body, segment.end))
        check_count("jpg", chunks)
        position = chunks[-1].end
    if position != len(body):
        raise trailing("jpg", len(body) - position)
    width, height = _frame_size(body, chunks)
    return Structure("jpg", width, height, animated=False, chunks=tuple(chunks))


def _segment(body: bytes, start: int) -> Chunk:
    found = _MARKER.match(body, start)
    if found is None:
        if body[start : start + 1] not in {b"", b"\xff"}:
            raise ImageError(f"jpg has no marker at byte {start}, where a segment must start")
        raise cut_off("jpg", len(body), "a marker (EOI is missing)")
    kind, data = found[1], found.end()
    if kind == _EOI:
        return Chunk(kind, start, data, data, data)
    if kind in _BARE:
        raise ImageError(f"jpg has marker {kind.hex()} at byte {start}, between segments")
    length = int.from_bytes(body[data : data + 2])
    if data + max(2, length) > len(body):
        raise cut_off("jpg", len(body), f"segment {kind.hex()}")
    if length < _LENGTH_BYTES:
        raise ImageError(f"jpg segment {kind.hex()} at byte {start} has no length")
    return Chunk(kind, start, data + 2, data + length, data + length)


def _scan(body: bytes, start: int) -> Chunk:
    found = _SCAN_END.search(body, start)
    if found is None:
        raise cut_off("jpg", len(body), "a scan (EOI is missing)")
    return Chunk(b"", start, start, found.start(), found.start())


def _frame_size(body: bytes, chunks: list[Chunk]) -> tuple[int, int]:
    frames = [chunk for chunk in chunks if chunk.kind in _FRAMES]
    scans = sum(chunk.kind == _SOS for chunk in chunks)
    if len(frames) != 1 or not 1 <= scans <= MAX_SCANS:
        raise ImageError(
            f"jpg holds {len(frames)} frames and {scans} scans: one frame and 1 to {MAX_SCANS} "
            "scans are expected"
        )
    start, end = frames[0].data, frames[0].data_end
    if end - start < _FRAME_HEADER_BYTES:
        raise ImageError("jpg has a frame header that is too short")
    height = int.from_bytes(body[start + 1 : start + 3])
    width = int.from_bytes(body[start + 3 : start + 5])
    check_size("jpg", width, height)
    return width, height


def coded_pixels(body: bytes, structure: Structure) -> list[bytes | memoryview]:
    """The scans with their headers, as ExifTool hashes them.

    ExifTool leaves out what lies between the last stuffed byte or restart of a scan and a table
    that follows it: of a progressive file, some bytes of each scan but the last. Leaving out the
    same bytes is what makes its hash and ours one value.
    """
    view = memoryview(body)
    parts: list[bytes | memoryview] = []
    for header, scan, following in zip(*(structure.chunks[i:] for i in range(3)), strict=False):
        if header.kind != _SOS:
            continue
        end = scan.end
        if following.kind not in {_SOS, _EOI}:
            end = max(body.rfind(mark, scan.start, scan.end) for mark in _RESTARTS)
        if end >= scan.start:
            parts.append(view[header.data - _SEGMENT_BYTES : end])
    return parts


def read_xmp(body: bytes, structure: Structure) -> bytes | None:
    """The packet of the first XMP segment; what lies in extended segments is not read."""
    for chunk in structure.chunks:
        if chunk.kind == _APP1 and body.startswith(_XMP, chunk.data, chunk.data_end):
            return body[chunk.data + len(_XMP) : chunk.data_end]
    return None


def _is_xmp(body: bytes, chunk: Chunk) -> bool:
    names = (_XMP, _EXTENDED_XMP)
    return chunk.kind == _APP1 and body.startswith(names, chunk.data, chunk.data_end)


def replace_xmp(body: bytes, structure: Structure, packet: bytes | None) -> bytes:
    """The file with this packet after the leading JFIF and EXIF segments.

    Extended segments are dropped: they belong to the packet that is replaced. Raises ImageError
    where the packet is longer than ``MAX_PACKET``.
    """
    if packet is not None and len(packet) > MAX_PACKET:
        raise ImageError(f"XMP of {len(packet)} bytes: a jpg holds at most {MAX_PACKET}")
    view = memoryview(body)
    kept = [chunk for chunk in structure.chunks if not _is_xmp(body, chunk)]
    lead = next(i for i, chunk in enumerate(kept) if chunk.kind not in {_APP0, _APP1})
    parts = [view[chunk.start : chunk.end] for chunk in kept]
    new = b"" if packet is None else _new_segment(packet)
    return b"".join([view[:_START_BYTES], *parts[:lead], new, *parts[lead:]])


def has_boxes(body: bytes, structure: Structure) -> bool:  # noqa: ARG001 - the name is enough
    """Whether there are APP11 segments, mostly those of a C2PA manifest."""
    return any(chunk.kind == _APP11 for chunk in structure.chunks)


def remove_boxes(body: bytes, structure: Structure) -> bytes:
    """The file without its APP11 segments, also those that are no manifest's.

    A manifest that is broken can't be told from them.
    """
    view = memoryview(body)
    kept = [view[c.start : c.end] for c in structure.chunks if c.kind != _APP11]
    return b"".join([view[:_START_BYTES], *kept])


def _new_segment(packet: bytes) -> bytes:
    size = (2 + len(_XMP) + len(packet)).to_bytes(2)
    return b"".join((b"\xff", _APP1, size, _XMP, packet))
