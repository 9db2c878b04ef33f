"""Any of the three file formats, by its first bytes: structure and hashes of a whole file."""

import hashlib
from collections.abc import Mapping
from typing import Final

from flux_pipeline.errors import ImageError
from flux_pipeline.images import jpeg, png, webp
from flux_pipeline.images.foreign import describe
from flux_pipeline.images.structure import Container, Structure

CONTAINERS: Final[Mapping[str, Container]] = {"png": png, "jpg": jpeg, "webp": webp}


def detect_format(body: bytes) -> str:
    """``png``, ``jpg`` or ``webp`` by the first bytes, whatever a name or a header says.

    Raises ImageError that says what the bytes look like instead and how many there are, and
    nothing of what they say.
    """
    if body.startswith(png.SIGNATURE):
        return "png"
    if body.startswith(jpeg.SIGNATURE):
        return "jpg"
    if body.startswith(webp.SIGNATURE) and body.startswith(webp.FORM, 8):
        return "webp"
    raise ImageError(describe(body))


def read_structure(body: bytes, *, checksums: bool = False) -> Structure:
    """Walk a file from its first byte to its last, which must be the image's last.

    ``checksums`` also reads the checksums of a PNG's critical chunks. Nothing is decoded. Raises
    ImageError for anything else than one whole file.
    """
    return CONTAINERS[detect_format(body)].walk(body, checksums=checksums)


def image_sha256(body: bytes, structure: Structure | None = None) -> str:
    """SHA-256, 64 hex digits, of the coded pixels alone.

    The same value as ExifTool's ImageDataHash. Adding or removing XMP, EXIF, an ICC profile or a
    C2PA manifest leaves it unchanged. Raises ImageError where the structure is broken.
    """
    found = structure or read_structure(body)
    digest = hashlib.sha256()
    for part in CONTAINERS[found.image_format].coded_pixels(body, found):
        digest.update(part)
    return digest.hexdigest()


def file_sha256(body: bytes) -> str:
    """SHA-256, 64 hex digits, of every byte of the file."""
    return hashlib.sha256(body).hexdigest()
