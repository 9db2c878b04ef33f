"""Colours that a prompt suggests: its words choose the hour, the weather and the hue."""

import colorsys
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from flux_pipeline.emulator.pictures.canvas import Colour

_Name = TypeVar("_Name")


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


def rgb(hue: float, saturation: float, value: float) -> Colour:
    """A colour from hue (any), saturation and value (clipped to 0 to 1)."""
    parts = colorsys.hsv_to_rgb(hue % 1, min(max(saturation, 0), 1), min(max(value, 0), 1))
    return (parts[0] * 255, parts[1] * 255, parts[2] * 255)


def blend(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` 0 is the first colour, 1 the second."""
    mixed = [a + (b - a) * share for a, b in zip(first, second, strict=True)]
    return (mixed[0], mixed[1], mixed[2])


def first_match(words: list[str], vocabulary: Mapping[_Name, str]) -> _Name | None:
    """The entry that the earliest word belongs to."""
    entries = {word: name for name, text in vocabulary.items() for word in text.split()}
    return next((entries[word] for word in words if word in entries), None)
