"""Pixels under a picture: a gradient, layers below a profile, discs; all with smooth edges.

Edges are mixed by how much of a pixel they cover, in the few rows that they cross, which looks as
good as drawing at four times the size and costs a tenth.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Colour = tuple[float, float, float]
"""Red, green, blue, each 0 to 255."""

Profile = npt.NDArray[np.float32]
"""For each column the height in px, from the top, below which a layer is filled."""


class Canvas:
    """An RGB picture in the making, from back to front."""

    def __init__(self, size: tuple[int, int], sky: Sequence[Colour]) -> None:
        """Start with the colours of ``sky`` from top to bottom, evenly spaced."""
        self.width, self.height = size
        self._pixels = np.empty((self.height, self.width, 3), np.uint8)
        self._pixels[:] = _gradient(sky, self.height)[:, None, :]

    def layer(self, profile: Profile, top: Colour, bottom: Colour) -> None:
        """Fill everything below a profile, shaded from its highest point to the picture's end."""
        first = int(np.clip(np.floor(profile.min()), 0, self.height))
        whole = int(np.clip(np.ceil(profile.max()) + 1, first, self.height))
        shades = _gradient((top, bottom), self.height - first)
        self._mix(
            (first, 0),
            np.arange(first, whole, dtype=np.float32)[:, None] + 1 - profile[None, :],
            shades[: whole - first, None, :],
        )
        self._pixels[whole:] = shades[whole - first :, None, :]

    def disc(
        self, centre: tuple[float, float], radius: float, colour: Colour, *, opacity: float = 1.0
    ) -> None:
        """Fill a circle; ``centre`` and ``radius`` in px."""
        self._around(centre, radius, lambda distance: (radius - distance) * opacity, colour, opacity)

    def glow(
        self, centre: tuple[float, float], radius: float, colour: Colour, *, opacity: float
    ) -> None:
        """Lighten a circle, most in its middle and not at all at its edge."""
        self._around(
            centre, radius, lambda distance: opacity * (1 - distance / radius) ** 2, colour, opacity
        )

    def image(self) -> Image.Image:
        """The picture as it is now."""
        return Image.fromarray(self._pixels)
