"""One look at an image that was downloaded: whole, what was asked for, and what it shows."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image

from flux_pipeline.errors import ImageError
from flux_pipeline.images.containers import file_sha256, image_sha256, read_structure
from flux_pipeline.images.decoding import check_rows, decode, thumbnail
from flux_pipeline.images.dhash import difference_hash

MAX_PIXELS: Final = 16_777_216
"""4096 x 4096 px. Pillow's own limit lets 9,000 x 9,000 px pass, which take 324 MB."""
_BLANK_SPREAD = 8
"""Grey levels of 255 between the darkest and the brightest part of a picture of one colour."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one full decode of the downloaded bytes showed."""

    image_format: str
    """``webp``, ``jpg`` or ``png``, by the bytes and not by what was asked for."""
    width: int
    """px"""
    height: int
    """px"""
    image_sha256: str
    """Of the coded pixels alone; labelling leaves it unchanged."""
    file_sha256: str
    """Of the bytes as they were downloaded; labelling changes it."""
    dhash: int
    """64 bits, unsigned; see ``dhash``."""
    blank: bool
    """All of one colour: what a provider's safety filter leaves of an image."""
    flags: tuple[str, ...]
    """A sentence for everything that is not as asked, and no reason to refuse a paid image."""
    thumbnail: bytes | None = field(default=None, repr=False)
    """WebP, longer side 100 px, where it was asked for."""


def inspect_image(
    body: bytes, *, image_format: str, width: int, height: int, with_thumbnail: bool = False
) -> Inspection:
    """Check the file's structure and header first, then decode it fully, once.

    ``image_format``, ``width`` and ``height`` (px) are what was asked for: another format or size
    is flagged, because the image is paid and whole. One flipped bit in the pixels can't be seen.
    Raises ImageError for anything that is not one whole image: other types, cut or followed files,
    wrong checksums, animations, more than ``MAX_PIXELS``, missing rows, a decoder's refusal.
    """
    structure = read_structure(body, checksums=True)
    found = structure.image_format
    if structure.animated:
        raise ImageError(f"{found} is animated: one still image was asked for")
    if structure.width * structure.height > MAX_PIXELS:
        raise ImageError(
            f"{found} of {structure.width} x {structure.height} px: more than {MAX_PIXELS:,} px"
        )
    flags = []
    if found != image_format:
        flags.append(f"{image_format} was asked for, this is {found}")
    if width and (structure.width, structure.height) != (width, height):
        asked, real = f"{width} x {height}", f"{structure.width} x {structure.height}"
        flags.append(f"{asked} px were asked for, these are {real} px")
    decoded = decode(body, structure)
    if remark := check_rows(body, structure, decoded):
        flags.append(remark)
    blank = _is_blank(decoded.small)
    if blank:
        flags.append("blank: all of one colour")
    return Inspection(
        image_format=found,
        width=structure.width,
        height=structure.height,
        image_sha256=image_sha256(body, structure),
        file_sha256=file_sha256(body),
        dhash=difference_hash(np.asarray(decoded.small.convert("L"))),
        blank=blank,
        flags=tuple(flags),
        thumbnail=thumbnail(decoded.small) if with_thumbnail else None,
    )


def _is_blank(small: Image.Image) -> bool:
    spreads = np.ptp(np.asarray(small.getextrema()), axis=1)
    return bool(spreads.max() <= _BLANK_SPREAD)
