"""Outlines of ridges, trees, towers, waves and boats, as profiles for ``Canvas.layer``.

A profile holds for each column of a picture the distance from the top, in px. Wherever two shapes
meet, the higher one wins, which is the smaller number.
"""

import numpy as np

from flux_pipeline.emulator.pictures.canvas import Floats

_SMOOTH_OCTAVES = 3
"""Of a ridge: hills are round, and what lies on them is rough."""
_LIT = 0.4
"""Share of windows with a light."""


def draw_ridge(width: int, rng: np.random.Generator, *, roughness: float) -> Floats:
    """A line of hills from 0 to 1; ``roughness`` (0 to 1) is how much the finer octaves count."""
    places = np.linspace(0, 1, width, dtype=np.float32)
    line: Floats = np.zeros(width, np.float32)
    for octave in range(8):
        peaks = rng.random(2 ** (octave + 1) + 2)
        position = places * (len(peaks) - 1)
        if octave < _SMOOTH_OCTAVES:
            step = position - np.floor(position)
            position = np.floor(position) + step * step * (3 - 2 * step)
        line += roughness**octave * np.interp(position, np.arange(len(peaks)), peaks)
    line -= line.min()
    line /= line.max()
    return line


def draw_pines(ground: Floats, rng: np.random.Generator, *, count: int, tall: float) -> Floats:
    """Conifers on a ground: cones whose edge steps in and out like branches."""
    line = ground.copy()
    columns = np.arange(len(ground), dtype=np.float32)
    for place in (np.arange(count) + rng.uniform(0, 1, count)) / count * len(ground):
        height = tall * rng.uniform(0.6, 1.1)
        half = height * rng.uniform(0.2, 0.27)
        foot = ground[min(len(ground) - 1, int(place))]
        out = np.abs(columns - place) / half
        branches = 0.09 * (out * 6 % 1)
        line = np.where(out < 1, np.minimum(line, foot - height * (1 - out - branches)), line)
    return line.astype(np.float32)


def draw_towers(
    ground: Floats, rng: np.random.Generator, *, count: int, tall: float
) -> tuple[Floats, list[tuple[float, float]]]:
    """Houses and towers with flat, pointed or round tops, and the places of their windows."""
    line = ground.copy()
    width = len(ground)
    windows: list[tuple[float, float]] = []
    columns = np.arange(width, dtype=np.float32)
    for place in (np.arange(count) + rng.uniform(0.2, 0.8, count)) / count * width:
        half = width / count * rng.uniform(0.22, 0.5)
        eaves = float(ground.min()) - tall * rng.uniform(0.25, 0.75)
        out = np.abs(columns - place) / half
        round_top = np.sqrt(np.clip(1 - out * out, 0, 1))
        roofs = (0 * out, 1.1 * (1 - out), 2.2 * (1 - out), round_top)
        roof = half * roofs[rng.integers(len(roofs))]
        line = np.where(out < 1, np.minimum(line, eaves - roof), line)
        rows = np.arange(eaves + half * 0.5, float(ground.min()), half * 0.7)
        windows += [(place + half * side, row) for row in rows for side in (-0.4, 0.4)]
    lit = rng.random(len(windows)) < _LIT
    return line.astype(np.float32), [at for at, on in zip(windows, lit, strict=True) if on]


def draw_waves(width: int, rng: np.random.Generator, *, length: float) -> Floats:
    """Two swells over each other, from -1 to 1; ``length`` in px."""
    columns = np.arange(width, dtype=np.float32) / np.float32(length)
    first, second = rng.uniform(0, 7, 2).astype(np.float32)
    swell: Floats = np.sin(columns + first) + np.float32(0.4) * np.sin(columns * 2 + second)
    swell /= np.float32(1.4)
    return swell


def draw_boat(width: int, rng: np.random.Generator, *, level: float, long: float) -> Floats:
    """A boat with two sails on the water at ``level``; elsewhere the profile is far below."""
    along = (np.arange(width) - width * rng.uniform(0.15, 0.85)) / long
    above = [np.interp(along, places, heights, -1e6, -1e6) for places, heights in _BOAT]
    highest: Floats = np.max(above, axis=0).astype(np.float32)
    return np.float32(level) - np.float32(long) * highest


_BOAT: tuple[tuple[list[float], list[float]], ...] = (
    ([-0.5, 0.0, 0.5], [0.24, 0.16, 0.24]),  # the hull
    ([0.02, 0.45], [1.5, 0.22]),  # the mainsail
    ([-0.38, -0.02], [0.22, 1.1]),  # the jib
)
"""Along the boat and up from the water, in lengths of the boat."""
