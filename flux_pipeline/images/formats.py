"""Picks the file format by the first bytes, and calls its module: structure, hashes, XMP.

``CONTAINERS`` names the modules; each has the functions of ``container.Container``.
"""

import hashlib
import io
from collections.abc import Mapping
from typing import Final

from flux_pipeline.errors import ImageError
from flux_pipeline.images import jpeg, png, webp
from flux_pipeline.images.container import Container, Structure

CONTAINERS: Final[Mapping[str, Container]] = {"png": png, "jpg": jpeg, "webp": webp}

_MAGIC = (
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"\xff\x0a", "image/jxl"),
    (b"\0\0\0\x0cJXL ", "image/jxl"),
    (b"%!PS", "application/postscript"),
    (b"\xc5\xd0\xd3\xc6", "application/postscript"),
    (b"%PDF", "application/pdf"),
    (b"\x1f\x8b", "application/gzip"),
    (b"PK\x03\x04", "application/zip"),
)
"""First bytes of other file types; for the message alone."""
AVIF: Final = "image/avif"
_BRANDS = {b"avif": AVIF, b"avis": AVIF, b"heic": "image/heic"}
_HEAD = 1024
"""bytes that are looked at for text"""


def detect_format(body: bytes) -> str:
    """``png``, ``jpg`` or ``webp`` by the first bytes, whatever a name or a header says.

    Raises ImageError that names another type and the size, and repeats nothing of the content.
    """
    if body.startswith(png.SIGNATURE):
        return "png"
    if body.startswith(jpeg.SIGNATURE):
        return "jpg"
    if body.startswith(webp.SIGNATURE) and body.startswith(webp.FORM, 8):
        return "webp"
    raise ImageError(_describe(body))


def thumbnail_type(picture: bytes) -> str:
    """``image/jpeg`` or ``image/webp``, by the first bytes of a thumbnail; empty for all else."""
    if picture.startswith(jpeg.SIGNATURE):
        return "image/jpeg"
    is_webp = picture.startswith(webp.SIGNATURE) and picture.startswith(webp.FORM, 8)
    return "image/webp" if is_webp else ""


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


def read_xmp(body: bytes) -> bytes | None:
    """The XMP packet of a webp, jpg, png or avif as it stands there, or None.

    Raises ImageError for a broken file.
    """
    if is_avif(body):
        return _read_avif_xmp(body)
    structure = read_structure(body)
    return CONTAINERS[structure.image_format].read_xmp(body, structure)


def has_boxes(body: bytes, structure: Structure) -> bool:
    """Whether a C2PA manifest may be embedded; costs nothing beside the walk.

    ``c2pa`` says whether there is one, and whether it is valid.
    """
    return CONTAINERS[structure.image_format].has_boxes(body, structure)


def remove_boxes(body: bytes) -> bytes:
    """The same image without a C2PA manifest, whole or broken. Raises ImageError, as ``walk``."""
    structure = read_structure(body)
    return CONTAINERS[structure.image_format].remove_boxes(body, structure)


def is_avif(body: bytes) -> bool:
    """Whether a file is an avif by its first bytes: images are published in it, not made in it."""
    return _media_type(body) == AVIF


def _read_avif_xmp(body: bytes) -> bytes | None:
    from PIL import Image  # noqa: PLC0415 - 50 ms, and only for what was published

    try:
        with Image.open(io.BytesIO(body), formats=["AVIF"]) as image:
            packet: bytes | None = image.info.get("xmp")
            return packet
    except (OSError, ValueError, RuntimeError, SyntaxError) as error:
        raise ImageError(
            f"avif of {len(body)} bytes can't be read ({type(error).__name__})"
        ) from error


def _describe(body: bytes) -> str:
    """A clause that names the type and the size, without any of the content."""
    if not body:
        return "not an image (empty, 0 bytes)"
    kind = _media_type(body)
    if kind.startswith("image/"):
        return f"an image that is neither webp, jpg nor png ({kind}, {len(body)} bytes)"
    return f"not an image ({kind}, {len(body)} bytes)"


def _media_type(body: bytes) -> str:
    for magic, kind in _MAGIC:
        if body.startswith(magic):
            return kind
    if body[4:8] == b"ftyp":
        return _BRANDS.get(body[8:12], "video/mp4")
    return _text_type(body)


def _text_type(body: bytes) -> str:
    head = body[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in head:
        return "image/svg+xml"
    if head.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "text/html"
    if head.startswith(b"<"):
        return "application/xml"
    if head.startswith((b"{", b"[")):
        return "application/json"
    try:
        text = body[:_HEAD].decode("ascii")
    except UnicodeDecodeError:
        return "unknown type"
    return "text/plain" if text.isprintable() or text.strip().isprintable() else "unknown type"
