"""Outlines of ridges, trees, towers, waves and boats, as profiles for ``Canvas.layer``.

A profile holds for each column of a picture the distance from the top, in px. Wherever two shapes
meet, the higher one wins, which is the smaller number.
"""

import numpy as np

from flux_pipeline.emulator.canvas import Floats


def ridge(width: int, rng: np.random.Generator, *, roughness: float) -> Floats:
    """A line of hills from 0 to 1; ``roughness`` (0 to 1) is how much the finer octaves count."""
    places = np.linspace(0, 1, width, dtype=np.float32)
    line = np.zeros(width, np.float32)
    for octave in range(8):
        peaks = rng.random(2 ** (octave + 1) + 2)
        position = places * (len(peaks) - 1)
        if octave <= 2:  # noqa: PLR2004
            step = position - np.floor(position)
            position = np.floor(position) + step * step * (3 - 2 * step)
        line += roughness**octave * np.interp(position, np.arange(len(peaks)), peaks)
    lowest, highest = line.min(), line.max()
    return ((line - lowest) / (highest - lowest)).astype(np.float32)


def pines(ground: Floats, rng: np.random.Generator, *, count: int, tall: float) -> Floats:
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


def towers(
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
        roof = half * rng.choice([0.0, 2.2, 1.1]) * (1 - out)
        if rng.random() < 0.25:  # noqa: PLR2004
            roof = half * np.sqrt(np.clip(1 - out * out, 0, 1))
        line = np.where(out < 1, np.minimum(line, eaves - roof), line)
        rows = np.arange(eaves + half * 0.5, float(ground.min()), half * 0.7)
        windows += [(place + half * side, row) for row in rows for side in (-0.4, 0.4)]
    lit = rng.random(len(windows)) < 0.4  # noqa: PLR2004
    return line.astype(np.float32), [at for at, on in zip(windows, lit, strict=True) if on]


def waves(width: int, rng: np.random.Generator, *, length: float) -> Floats:
    """Two swells over each other, from about -1 to 1; ``length`` in px."""
    columns = np.arange(width, dtype=np.float32) / length
    swell = np.sin(columns + rng.uniform(0, 7)) + 0.4 * np.sin(columns * 2.3 + rng.uniform(0, 7))
    return (swell / 1.4).astype(np.float32)


def boat(width: int, rng: np.random.Generator, *, level: float, long: float) -> Floats:
    """A boat with two sails on the water at ``level``; elsewhere the profile is far below."""
    along = (np.arange(width, dtype=np.float32) - width * rng.uniform(0.15, 0.85)) / long
    line = np.full(width, 1e6, np.float32)
    line = np.where(np.abs(along) < 0.5, level - long * (0.14 + 0.16 * np.abs(along)), line)
    main = level - long * (0.2 + 1.3 * (1 - along / 0.45))
    jib = level - long * (0.2 + 0.9 * (1 + along / 0.38))
    line = np.where((along > 0.02) & (along < 0.45), np.minimum(line, main), line)
    line = np.where((along < -0.02) & (along > -0.38), np.minimum(line, jib), line)
    return line.astype(np.float32)
