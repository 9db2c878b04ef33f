"""Pixels under a picture: a gradient, layers below a profile, discs and glows; edges are smooth.

Shapes are masks that hold how much of each pixel they cover, made by numpy only where an edge is,
and pasted by Pillow: as smooth as drawing at several times the size, for a tenth of the time.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from PIL import Image

Colour = tuple[float, float, float]
"""Red, green, blue, each 0 to 255."""

Floats = npt.NDArray[np.float32]
Shades = npt.NDArray[np.uint8]
"""One RGB colour a row."""


class Canvas:
    """An RGB picture in the making, painted from back to front; all places are in px."""

    def __init__(self, size: tuple[int, int], sky: Sequence[Colour]) -> None:
        """Start with the colours of ``sky`` from top to bottom, evenly spaced."""
        self.width, self.height = size
        self.image = Image.new("RGB", size)
        _fill(self.image, 0, _shades(sky, self.height))

    def layer(
        self, profile: Floats, top: Colour, bottom: Colour, *, base: Floats | None = None
    ) -> None:
        """Fill all below a profile, down to the picture's end or to ``base``.

        Profile and base hold for each column the distance from the top.
        """
        lowest = self.height if base is None else base.max()
        first = int(np.clip(np.floor(profile.min()), 0, self.height))
        last = int(np.clip(np.ceil(lowest), first, self.height))
        whole = last if base is not None else int(np.clip(np.ceil(profile.max()) + 1, first, last))
        shades = _shades((top, bottom), last - first)
        if whole > first:
            rows = np.arange(first + 1, whole + 1, dtype=np.float32)[:, None]
            cover = _share(rows - profile)
            if base is not None:
                cover = np.minimum(cover, 1 - _share(rows - base))
            edge = Image.new("RGB", (self.width, whole - first))
            _fill(edge, 0, shades[: whole - first])
            self.image.paste(edge, (0, first), _mask(cover))
        _fill(self.image, whole, shades[whole - first :])

    def disc(self, x: float, y: float, radius: float, colour: Colour, opacity: float = 1) -> None:
        """Fill a circle."""
        reach = radius + 1
        left, upper = round(x - reach), round(y - reach)
        across = np.arange(round(2 * reach), dtype=np.float32) + np.float32(left - x)
        down = np.arange(round(2 * reach), dtype=np.float32) + np.float32(upper - y)
        distance = np.sqrt(across[None, :] ** 2 + down[:, None] ** 2)
        cover = _share(np.float32(radius) - distance) * np.float32(opacity)
        self.image.paste(_rounded(colour), (left, upper), _mask(cover))

    def glow(self, x: float, y: float, radius: float, colour: Colour, opacity: float = 1) -> None:
        """Tint a circle, most in its middle and not at all at its edge."""
        side = max(1, round(2 * radius))
        weaker = _halo().point([i * opacity for i in range(256)])
        mask = weaker.resize((side, side), Image.Resampling.NEAREST)  # steps too small to be seen
        self.image.paste(_rounded(colour), (round(x - radius), round(y - radius)), mask)


def _shades(colours: Sequence[Colour], rows: int) -> Shades:
    """Colours blended evenly from the first to the last."""
    stops = np.linspace(0, 1, len(colours))
    places = np.linspace(0, 1, rows)
    channels = [np.interp(places, stops, [colour[i] for colour in colours]) for i in range(3)]
    return np.clip(np.stack(channels, axis=1), 0, 255).astype(np.uint8)


def _fill(image: Image.Image, first: int, shades: Shades) -> None:
    """Colour whole rows from ``first`` on; rows of one colour are filled together."""
    changes = np.flatnonzero((shades[1:] != shades[:-1]).any(axis=1)) + 1
    for start, end in pairwise((0, *changes.tolist(), len(shades))):
        if start < end:
            red, green, blue = shades[start].tolist()
            image.paste((red, green, blue), (0, first + start, image.width, first + end))


@lru_cache(maxsize=1)
def _halo() -> Image.Image:
    """256 px square: opaque in the middle, and fading with the square of the distance."""
    nearness = [max(0.0, 1 - i / 180) for i in range(256)]  # 180 at the sides, 255 in the corners
    return Image.radial_gradient("L").point([255 * near * near for near in nearness])


def _share(values: Floats) -> Floats:
    return np.clip(values, 0, 1)


def _mask(cover: Floats) -> Image.Image:
    return Image.fromarray((cover * 255).astype(np.uint8))


def _rounded(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (min(255, max(0, round(part))) for part in colour)
    return red, green, blue
