"""The protocol of the three image file formats, and the structure that a walk over a file finds.

``jpeg``, ``png`` and ``webp`` implement ``Container`` as modules; ``formats`` picks one of them.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from flux_pipeline.errors import ImageError

MAX_CHUNKS = 20_000
"""More parts than any encoder writes; a hostile file of more would cost seconds."""


class Chunk(NamedTuple):
    """One part of a file, as offsets in bytes: header, data, and checksum or padding."""

    kind: bytes
    """The chunk's own name; a JPEG segment's marker byte, and empty for its entropy-coded data."""
    start: int
    data: int
    data_end: int
    end: int


@dataclass(frozen=True, slots=True)
class Structure:
    """A whole file whose chunks lie end to end, from its signature to its last byte."""

    image_format: str
    """``webp``, ``jpg`` or ``png``."""
    width: int
    """px, at least 1"""
    height: int
    """px, at least 1"""
    animated: bool
    chunks: tuple[Chunk, ...]


class Container(Protocol):
    """What the module of a file format provides."""

    def walk(self, body: bytes, *, checksums: bool = False) -> Structure:
        """The parts of the file. Raises ImageError where they don't fill it exactly."""
        ...

    def coded_pixels(self, body: bytes, structure: Structure) -> list[bytes | memoryview]:
        """The coded pixels alone, in the order in which they are hashed."""
        ...

    def read_xmp(self, body: bytes, structure: Structure) -> bytes | None:
        """The XMP packet, or None."""
        ...

    def replace_xmp(self, body: bytes, structure: Structure, packet: bytes | None) -> bytes:
        """The same file with this packet (None: without one), and nothing else changed."""
        ...

    def has_boxes(self, body: bytes, structure: Structure) -> bool:
        """Whether it has parts of the kind that a C2PA manifest lies in, by their names alone."""
        ...

    def remove_boxes(self, body: bytes, structure: Structure) -> bytes:
        """The same file without these parts, and nothing else changed."""
        ...


def check_size(image_format: str, width: int, height: int) -> None:
    """Pass where there is at least one pixel. Raises ImageError."""
    if width < 1 or height < 1:
        raise ImageError(f"{image_format} of {width} x {height} px: the header names no pixels")


def check_count(image_format: str, chunks: list[Chunk]) -> None:
    """Pass where a file has a sane number of parts. Raises ImageError."""
    if len(chunks) > MAX_CHUNKS:
        raise ImageError(f"{image_format} with more than {MAX_CHUNKS} parts: not a plain image")


def cut_off(image_format: str, size: int, what: str) -> ImageError:
    """The error for a file that ends within ``what``, after ``size`` bytes."""
    return ImageError(f"{image_format} is cut: it ends in {what}, after {size} bytes")


def trailing(image_format: str, count: int) -> ImageError:
    """The error for ``count`` bytes that follow the end of the image."""
    return ImageError(f"{image_format} is followed by {count} bytes that are not part of it")
