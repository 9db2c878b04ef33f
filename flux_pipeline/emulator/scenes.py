"""Draws a demo picture (land, sea, town or wood under a sky) that the prompt chooses and colours.

A picture is painted from back to front onto a ``Canvas``, in layers below a profile: for each
column of the picture the distance from the top, px. Where two shapes meet, the higher one wins,
which is the smaller number. Each picture takes a few milliseconds, because somebody waits for it.
"""

import colorsys
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

_Name = TypeVar("_Name")
Colour = tuple[float, float, float]
"""Red, green, blue, each 0 to 255."""
Floats = npt.NDArray[np.float32]
Shades = npt.NDArray[np.uint8]
"""One RGB colour a row."""

_SCENE_WORDS: Mapping[str, str] = {
    "mountains": "mountain mountains alps hill hills valley landscape volcano canyon cliff snow",
    "dunes": "desert dune dunes sand camel field fields meadow plain mars moon",
    "wood": "forest wood woods tree trees jungle garden park bear fox deer owl wolf bird cabin",
    "town": "castle tower towers city town village street house houses palace temple skyline robot",
    "sea": "sea ocean harbour harbor ship boat lake river island beach coast whale fish water",
    "orbs": "portrait product studio bottle cup lamp chair watch fruit flower flowers toy logo",
}
"""The words of a prompt that choose a scene; the first one found decides."""
_HOUR_WORDS: Mapping[str, str] = {
    "dawn": "dawn sunrise morning early spring soft pastel",
    "day": "day noon sunny summer bright clear studio daylight",
    "dusk": "dusk sunset evening golden autumn warm fire desert",
    "night": "night midnight moon moonlit dark stars starry space neon cyberpunk winter",
    "storm": "storm stormy rain rainy fog foggy mist misty grey gray cloudy overcast",
}

_HUE_WORDS: Mapping[float, str] = {
    0.98: "red crimson scarlet ruby rose strawberry",
    0.06: "orange copper rust pumpkin fox amber",
    0.12: "yellow gold golden honey sand desert lemon wheat",
    0.33: "green emerald forest jungle moss garden meadow leaf spring",
    0.48: "teal turquoise cyan aqua mint lagoon",
    0.58: "blue azure sea ocean ice winter snow river lake harbour harbor",
    0.74: "purple violet lavender magic galaxy",
    0.90: "pink magenta cherry blossom candy",
}

_SMOOTH_OCTAVES = 3
"""Of a ridge: its large hills are round, and their details rough."""
_LIT = 0.4
"""Share of windows with a light."""

_BOAT: tuple[tuple[list[float], list[float]], ...] = (
    ([-0.5, 0.0, 0.5], [0.24, 0.16, 0.24]),  # the hull
    ([0.02, 0.45], [1.5, 0.22]),  # the mainsail
    ([-0.38, -0.02], [0.22, 1.1]),  # the jib
)
"""Along the boat and up from the water, in lengths of the boat."""


def draw(digest: bytes, prompt: str, size: tuple[int, int]) -> Image.Image:
    """Draw the picture of a digest; the prompt chooses scene and colours, the digest the rest."""
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    palette = palette_for(prompt, rng)
    canvas = Canvas(size, palette.hour.sky)
    drawn = str(rng.choice(list(_SCENES)))
    _sky(canvas, palette, rng)
    _SCENES[first_match(words_of(prompt), _SCENE_WORDS) or drawn](canvas, palette, rng)
    return canvas.image


@dataclass(frozen=True, slots=True)
class Hour:
    """The light of a picture; hues are 0 to 1 around the wheel."""

    sky: tuple[Colour, ...]
    """From the top down to the horizon."""
    light: Colour
    """Sun or moon."""
    shade: float
    """Brightness of the nearest land, 0 to 1."""
    stars: bool = False


HOURS: Mapping[str, Hour] = {
    "dawn": Hour(((92, 106, 160), (214, 150, 170), (255, 214, 176)), (255, 244, 214), 0.36),
    "day": Hour(((86, 156, 214), (150, 205, 236), (232, 244, 246)), (255, 252, 232), 0.50),
    "dusk": Hour(((58, 44, 102), (190, 84, 110), (255, 170, 92)), (255, 226, 150), 0.26),
    "night": Hour(((8, 12, 36), (22, 34, 80), (56, 74, 130)), (244, 244, 226), 0.16, stars=True),
    "storm": Hour(((52, 62, 74), (98, 112, 122), (170, 180, 180)), (228, 232, 230), 0.28),
}


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one picture."""

    hour: Hour
    hue: float
    accent: float
    """A hue that stands out against ``hue``."""

    def land(self, nearness: float) -> tuple[Colour, Colour]:
        """Top and bottom of a layer; 0 is at the horizon and takes the sky's colour, 1 is near."""
        value = self.hour.shade + 0.34 * (1 - nearness)
        own = rgb(self.hue, 0.42 + 0.2 * nearness, value)
        haze = 0.72 * (1 - nearness) ** 1.4
        top = blend(own, self.hour.sky[-1], haze)
        return top, blend(top, rgb(self.hue, 0.6, value * 0.55), 0.55)

    def bright(self, share: float) -> Colour:
        """A colour for things, from the main hue (0) to the accent (1)."""
        hue = self.hue + ((self.accent - self.hue + 0.5) % 1 - 0.5) * share
        return rgb(hue, 0.62, 0.55 + 0.5 * self.hour.shade + 0.2 * share)


def palette_for(prompt: str, rng: np.random.Generator) -> Palette:
    """The palette of a prompt; what its words leave open is drawn from ``rng``."""
    words = words_of(prompt)
    hour, hue = first_match(words, _HOUR_WORDS), first_match(words, _HUE_WORDS)
    drawn_hour, drawn_hue = str(rng.choice(list(HOURS))), float(rng.random())
    main = drawn_hue if hue is None else hue + (drawn_hue - 0.5) * 0.06
    return Palette(HOURS[hour or drawn_hour], main % 1, (main + 0.36 + 0.3 * rng.random()) % 1)


def words_of(prompt: str) -> list[str]:
    """Lower-case words, in order."""
    return re.findall(r"[a-z]+", prompt.lower())


def first_match(words: list[str], vocabulary: Mapping[_Name, str]) -> _Name | None:
    """The entry that the earliest word belongs to."""
    entries = {word: name for name, text in vocabulary.items() for word in text.split()}
    return next((entries[word] for word in words if word in entries), None)


class Canvas:
    """An RGB picture that is painted from back to front; all places are in px.

    Shapes are masks of how much of each pixel they cover, computed only where an edge is and pasted
    by Pillow: as smooth as drawing at several times the size, for a tenth of the time.
    """

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


def _sky(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    """Stars, and a sun or moon with its glow."""
    width, height, light = canvas.width, canvas.height, palette.hour.light
    if palette.hour.stars:
        for across, down, bright in rng.random((70, 3)):
            canvas.disc(
                across * width, down * height * 0.6, 0.9 + bright, light, 0.2 + 0.7 * bright
            )
    x, y = width * rng.uniform(0.15, 0.85), height * rng.uniform(0.12, 0.4)
    radius = min(width, height) * rng.uniform(0.045, 0.09)
    canvas.glow(x, y, radius * 4.5, light, 0.5)
    canvas.disc(x, y, radius, light)


def _mountains(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    for nearness in (0.0, 0.25, 0.5, 0.75, 1.0):
        level = canvas.height * (0.5 + 0.42 * nearness)
        relief = canvas.height * (0.26 - 0.14 * nearness)
        ridge = draw_ridge(canvas.width, rng, roughness=0.52)
        canvas.layer(level - relief * ridge, *palette.land(nearness))


def _dunes(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    for nearness in (0.0, 0.3, 0.6, 1.0):
        level = canvas.height * (0.56 + 0.34 * nearness)
        ridge = draw_ridge(canvas.width, rng, roughness=0.2)
        canvas.layer(level - canvas.height * 0.14 * ridge, *palette.land(nearness))


def _wood(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    for nearness in (0.0, 0.35, 0.7, 1.0):
        level = canvas.height * (0.56 + 0.36 * nearness)
        ground = level - canvas.height * 0.05 * draw_ridge(canvas.width, rng, roughness=0.4)
        tall = canvas.height * (0.08 + 0.2 * nearness)
        trees = draw_pines(ground, rng, count=round(26 - 18 * nearness), tall=tall)
        canvas.layer(trees, *palette.land(nearness))


def _town(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    hills = draw_ridge(canvas.width, rng, roughness=0.4)
    canvas.layer(canvas.height * (0.66 - 0.12 * hills), *palette.land(0.1))
    for nearness, count in ((0.35, 11), (0.7, 8)):
        ground = np.full(canvas.width, canvas.height * (0.7 + 0.12 * nearness), np.float32)
        tall = canvas.height * (0.22 + 0.14 * nearness)
        towers, windows = draw_towers(ground, rng, count=count, tall=tall)
        canvas.layer(towers, *palette.land(nearness))
        for x, y in windows:
            canvas.disc(x, y, canvas.width * 0.004, palette.hour.light, 0.85)
    near = draw_ridge(canvas.width, rng, roughness=0.3)
    canvas.layer(canvas.height * (0.9 - 0.06 * near), *palette.land(1.0))


def _sea(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    horizon = canvas.height * 0.57
    coast = np.maximum(draw_ridge(canvas.width, rng, roughness=0.45) - 0.4, -0.05)
    canvas.layer(horizon - canvas.height * 0.3 * coast, *palette.land(0.1))
    for step in range(8):
        nearness = step / 7
        level = horizon + (canvas.height - horizon) * 0.9 * nearness**1.4
        length = canvas.width * (0.02 + 0.1 * nearness)
        swell = canvas.height * (0.001 + 0.011 * nearness)
        sea = level + swell * draw_waves(canvas.width, rng, length=length)
        canvas.layer(sea, *palette.land(0.25 + 0.75 * nearness))
        if step in (2, 4):
            boat = draw_boat(canvas.width, rng, level=level + swell, long=length * 1.6)
            canvas.layer(boat, palette.bright(1.0), palette.bright(0.6), base=sea)


def _orbs(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    short = min(canvas.width, canvas.height)
    for share in np.linspace(0, 1, 8):
        x, y = canvas.width * rng.uniform(0.1, 0.9), canvas.height * rng.uniform(0.2, 0.8)
        radius = short * rng.uniform(0.05, 0.22)
        canvas.disc(x, y, radius, palette.bright(float(share)), 0.82)
        canvas.glow(x - radius * 0.3, y - radius * 0.35, radius * 0.6, palette.hour.light, 0.6)
    floor = canvas.height * 0.92 - canvas.height * 0.06 * draw_ridge(
        canvas.width, rng, roughness=0.2
    )
    canvas.layer(floor, *palette.land(0.9))


_SCENES: Mapping[str, Callable[[Canvas, Palette, np.random.Generator], None]] = {
    "mountains": _mountains,
    "dunes": _dunes,
    "wood": _wood,
    "town": _town,
    "sea": _sea,
    "orbs": _orbs,
}


def rgb(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue (any), saturation and value (clipped to 0 to 1)."""
    parts = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return (parts[0] * 255, parts[1] * 255, parts[2] * 255)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` 0 is the first colour, 1 the second."""
    mixed = [a + (b - a) * share for a, b in zip(first, second, strict=True)]
    return (mixed[0], mixed[1], mixed[2])


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
