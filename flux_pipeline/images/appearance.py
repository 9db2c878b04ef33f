"""Describes how a picture looks, for the time until it is loaded: its colour and a placeholder."""

import base64
import io
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image

PLACEHOLDER_SIDE: Final = 16
"""px, the longer side"""
_PLACEHOLDER_QUALITY = 30
_COLOURS = 6
_OPAQUE = 128
"""Alpha from which a pixel counts."""
_NO_COLOUR = "#ffffff"


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a page can show in a picture's place."""

    colour: str
    """``#rrggbb``, the one that covers most of the picture; white where all of it is clear."""
    placeholder: str = field(repr=False)
    """A data URI of the whole picture, 16 px on its longer side, as webp: 100 to 300 characters.
    A page needs no code for it, as it would for a blurhash: it is an address like any other."""


def describe_appearance(small: Image.Image) -> Appearance:
    """Describe a picture by one of 64 px or so, RGB or RGBA, in sRGB.

    The colour is that of the largest group of like colours, and no mean: a red cup on blue is not
    purple.
    """
    return Appearance(_main_colour(small), _placeholder(small))


def _main_colour(small: Image.Image) -> str:
    pixels = np.asarray(small.convert("RGBA")).reshape(-1, 4)
    seen = pixels[pixels[:, 3] >= _OPAQUE, :3]
    if not len(seen):
        return _NO_COLOUR
    grouped = Image.fromarray(seen[np.newaxis]).quantize(_COLOURS, kmeans=_COLOURS)
    largest = np.bincount(np.asarray(grouped).ravel()).argmax()
    red, green, blue = (grouped.getpalette() or [])[3 * largest : 3 * largest + 3]
    return f"#{red:02x}{green:02x}{blue:02x}"


def _placeholder(small: Image.Image) -> str:
    tiny = small.copy()
    tiny.thumbnail((PLACEHOLDER_SIDE, PLACEHOLDER_SIDE))
    out = io.BytesIO()
    tiny.save(out, "WEBP", quality=_PLACEHOLDER_QUALITY, method=6)
    return f"data:image/webp;base64,{base64.b64encode(out.getvalue()).decode()}"
