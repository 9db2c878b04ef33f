"""The one full decode of an image, and the small picture that everything seen in it comes from."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from PIL import Image

from flux_pipeline.errors import ImageError
from flux_pipeline.images import png
from flux_pipeline.images.structure import Structure

THUMBNAIL_SIDE: Final = 100
"""px, the longer side"""
_SMALL_SIDE = 128
"""px, about, of the shorter side of the small picture"""
_QUALITY = 60
_PILLOW_NAMES = {"webp": "WEBP", "jpg": "JPEG", "png": "PNG"}
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)
"""What Pillow's parsers can raise on hostile bytes; a warning only where warnings are errors."""
_COMMON = ("PNG", "JPEG", "MPO", "WEBP", "AVIF", "GIF", "TIFF", "BMP")
"""What people save pictures as, as far as this Pillow was built with it."""
_FILLING = {("png", 0), ("jpg", 128)}
"""What a decoder puts where coded rows are missing, and says nothing."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What remains of a decoded image: the full pixels are let go at once."""

    small: Image.Image
    """Whole picture, RGB, on white where it was transparent, shorter side 128 to 255 px or less."""
    ends_in_filling: bool
    """Whether all of the last row has the value that a decoder fills missing rows with."""


def decode(body: bytes, structure: Structure) -> Decoded:
    """Decode every pixel once, with the decoder of this format and no other.

    The size was checked before, so memory is bounded. What a decoder accepts can still be wrong:
    one flipped bit decodes. Raises ImageError.
    """
    name = _PILLOW_NAMES[structure.image_format]
    try:
        with Image.open(io.BytesIO(body), formats=[name]) as image:
            image.load()
            if image.size != (structure.width, structure.height):
                raise ImageError(
                    f"{structure.image_format} decodes to {image.width} x {image.height} px, "
                    f"its header says {structure.width} x {structure.height} px"
                )
            return Decoded(_shrink(image), _ends_in_filling(image, structure.image_format))
    except _DECODER_ERRORS as error:
        raise ImageError(
            f"{structure.image_format} of {len(body)} bytes does not decode "
            f"({type(error).__name__})"
        ) from error


def decode_anything(body: bytes, *, max_pixels: int) -> Image.Image:
    """The small picture of a file of any common type, whole or followed by something else.

    For files from elsewhere, which are compared and never stored. Raises ImageError.
    """
    Image.init()
    known = [name for name in _COMMON if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(body), formats=known) as image:
            if image.width * image.height > max_pixels:
                raise ImageError(f"{image.width} x {image.height} px: more than {max_pixels:,} px")
            image.load()
            return _shrink(image)
    except _DECODER_ERRORS as error:
        raise ImageError(f"{len(body)} bytes don't decode ({type(error).__name__})") from error


def check_rows(body: bytes, structure: Structure, decoded: Decoded) -> str | None:
    """Look for rows that were never there; return a remark where that can't be decided.

    Raises ImageError where a PNG is proven to lack rows. A JPEG can't be: a grey last row is legal.
    """
    is_png = structure.image_format == "png"
    if not decoded.ends_in_filling and not (is_png and png.is_interlaced(body, structure)):
        return None
    if not is_png:
        return "the last row is the decoder's own grey: rows may be missing"
    if not png.has_every_row(body, structure):
        raise ImageError("png holds fewer rows than its header names")
    return None


def thumbnail(small: Image.Image) -> bytes:
    """A WebP picture of the whole image, longer side 100 px, about 2 to 6 KB."""
    scale = THUMBNAIL_SIDE / max(small.size)
    if scale < 1:
        size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
        small = small.resize(size, Image.Resampling.BOX)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=_QUALITY, method=0)
    return out.getvalue()


def miniature(picture: bytes, most_bytes: int) -> bytes:
    """A thumbnail made smaller and coarser until it fits; empty where it can't."""
    if len(picture) <= most_bytes:
        return picture
    with Image.open(io.BytesIO(picture), formats=["WEBP"]) as image:
        whole = image.convert("RGB")
    for side, quality in _MINIATURES:
        small = whole.copy()
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "WEBP", quality=quality, method=4)
        if out.tell() <= most_bytes:
            return out.getvalue()
    return b""


_MINIATURES = ((96, 40), (80, 30), (64, 30), (48, 20), (32, 20), (16, 10))
"""Longer side in px, and quality."""


def _shrink(image: Image.Image) -> Image.Image:
    """The small picture, in the order that costs least: average first, convert after."""
    factor = max(1, min(image.size) // _SMALL_SIDE)
    small = _averageable(image)
    for step in (4, factor // 4) if factor % 4 == 0 else (factor,):  # 4 has a fast path in Pillow
        small = small.reduce(step)
    if small.mode in {"RGBA", "LA"}:
        white = Image.new("RGBA", small.size, "white")
        small = Image.alpha_composite(white, small.convert("RGBA"))
    return small.convert("RGB")


def _averageable(image: Image.Image) -> Image.Image:
    """The image in a mode whose numbers may be averaged: no palette, no single bits, 8 bits."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"P", "PA"} or "transparency" in image.info:
        return image.convert("RGBA")
    return image.convert("L") if image.mode == "1" else image


def _ends_in_filling(image: Image.Image, image_format: str) -> bool:
    row = image.crop((0, image.height - 1, image.width, image.height)).tobytes()
    value = row[0]
    return (image_format, value) in _FILLING and row.count(value) == len(row)
