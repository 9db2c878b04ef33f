"""A 64-bit difference hash: finds an image again after it was re-encoded or resized.

Own and in NumPy, because the libraries that offer one bring SciPy. It compares the mean brightness
of neighbouring cells in a grid of 8 rows and 9 columns. A crop of 20 % is another image to it.
"""

from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

SAME_IMAGE: Final = 6
"""Bits. Two images at this distance or less are copies of each other, as far as this hash sees."""
_ROWS, _COLUMNS = 8, 9
_CERTAIN = 0.5
"""Grey levels. A smaller step is what an encoder adds, and would make flat parts hash at random."""


def difference_hash(gray: npt.NDArray[np.uint8]) -> int:
    """The hash of a picture of (height, width) grey levels; 0 for one without contrast.

    Both sides should be 64 px or more and can be much smaller than the image: 128 px are plenty.
    """
    height, width = gray.shape
    cells = _means(height, _ROWS) @ gray.astype(np.float32) @ _means(width, _COLUMNS).T
    brighter = np.diff(cells, axis=1) > _CERTAIN
    return int.from_bytes(np.packbits(brighter).tobytes())


def distance(one: int, other: int) -> int:
    """The number of bits, 0 to 64, in which two hashes differ."""
    return (one ^ other).bit_count()


@lru_cache(maxsize=64)
def _means(length: int, cells: int) -> npt.NDArray[np.float32]:
    """A matrix of (cells, length) that averages equal parts, splitting a pixel where it must."""
    edges = np.linspace(0, length, cells + 1)
    below = np.clip(edges[:, None] - np.arange(length)[None, :], 0, 1)
    covered = np.diff(below, axis=0)
    means: npt.NDArray[np.float32] = (covered / covered.sum(axis=1, keepdims=True)).astype("f4")
    return means
