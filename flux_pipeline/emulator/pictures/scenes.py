"""Demo pictures: land, sea, towns and woods under a sky, chosen and coloured by the prompt.

They stand in for the model's images in a gallery, so they should please and differ at a glance, and
they are drawn while somebody waits, so each takes a few milliseconds.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image

from flux_pipeline.emulator.pictures import silhouettes
from flux_pipeline.emulator.pictures.canvas import Canvas
from flux_pipeline.emulator.pictures.palette import Palette, first_match, palette_for, words_of


def draw(digest: bytes, prompt: str, size: tuple[int, int]) -> Image.Image:
    """The picture of a digest; the prompt chooses scene and colours, the digest the rest."""
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    palette = palette_for(prompt, rng)
    canvas = Canvas(size, palette.hour.sky)
    drawn = str(rng.choice(list(_SCENES)))
    _sky(canvas, palette, rng)
    _SCENES[first_match(words_of(prompt), _WORDS) or drawn](canvas, palette, rng)
    return canvas.image


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
        ridge = silhouettes.draw_ridge(canvas.width, rng, roughness=0.52)
        canvas.layer(level - relief * ridge, *palette.land(nearness))


def _dunes(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    for nearness in (0.0, 0.3, 0.6, 1.0):
        level = canvas.height * (0.56 + 0.34 * nearness)
        ridge = silhouettes.draw_ridge(canvas.width, rng, roughness=0.2)
        canvas.layer(level - canvas.height * 0.14 * ridge, *palette.land(nearness))


def _wood(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    for nearness in (0.0, 0.35, 0.7, 1.0):
        level = canvas.height * (0.56 + 0.36 * nearness)
        ground = level - canvas.height * 0.05 * silhouettes.draw_ridge(
            canvas.width, rng, roughness=0.4
        )
        tall = canvas.height * (0.08 + 0.2 * nearness)
        trees = silhouettes.draw_pines(ground, rng, count=round(26 - 18 * nearness), tall=tall)
        canvas.layer(trees, *palette.land(nearness))


def _town(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    hills = silhouettes.draw_ridge(canvas.width, rng, roughness=0.4)
    canvas.layer(canvas.height * (0.66 - 0.12 * hills), *palette.land(0.1))
    for nearness, count in ((0.35, 11), (0.7, 8)):
        ground = np.full(canvas.width, canvas.height * (0.7 + 0.12 * nearness), np.float32)
        tall = canvas.height * (0.22 + 0.14 * nearness)
        towers, windows = silhouettes.draw_towers(ground, rng, count=count, tall=tall)
        canvas.layer(towers, *palette.land(nearness))
        for x, y in windows:
            canvas.disc(x, y, canvas.width * 0.004, palette.hour.light, 0.85)
    near = silhouettes.draw_ridge(canvas.width, rng, roughness=0.3)
    canvas.layer(canvas.height * (0.9 - 0.06 * near), *palette.land(1.0))


def _sea(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    horizon = canvas.height * 0.57
    coast = np.maximum(silhouettes.draw_ridge(canvas.width, rng, roughness=0.45) - 0.4, -0.05)
    canvas.layer(horizon - canvas.height * 0.3 * coast, *palette.land(0.1))
    for step in range(8):
        nearness = step / 7
        level = horizon + (canvas.height - horizon) * 0.9 * nearness**1.4
        length = canvas.width * (0.02 + 0.1 * nearness)
        swell = canvas.height * (0.001 + 0.011 * nearness)
        sea = level + swell * silhouettes.draw_waves(canvas.width, rng, length=length)
        canvas.layer(sea, *palette.land(0.25 + 0.75 * nearness))
        if step in (2, 4):
            boat = silhouettes.draw_boat(canvas.width, rng, level=level + swell, long=length * 1.6)
            canvas.layer(boat, palette.bright(1.0), palette.bright(0.6), base=sea)


def _orbs(canvas: Canvas, palette: Palette, rng: np.random.Generator) -> None:
    short = min(canvas.width, canvas.height)
    for share in np.linspace(0, 1, 8):
        x, y = canvas.width * rng.uniform(0.1, 0.9), canvas.height * rng.uniform(0.2, 0.8)
        radius = short * rng.uniform(0.05, 0.22)
        canvas.disc(x, y, radius, palette.bright(float(share)), 0.82)
        canvas.glow(x - radius * 0.3, y - radius * 0.35, radius * 0.6, palette.hour.light, 0.6)
    floor = canvas.height * 0.92 - canvas.height * 0.06 * silhouettes.draw_ridge(
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
_WORDS: Mapping[str, str] = {
    "mountains": "mountain mountains alps hill hills valley landscape volcano canyon cliff snow",
    "dunes": "desert dune dunes sand camel field fields meadow plain mars moon",
    "wood": "forest wood woods tree trees jungle garden park bear fox deer owl wolf bird cabin",
    "town": "castle tower towers city town village street house houses palace temple skyline robot",
    "sea": "sea ocean harbour harbor ship boat lake river island beach coast whale fish water",
    "orbs": "portrait product studio bottle cup lamp chair watch fruit flower flowers toy logo",
}
"""Which words of a prompt ask for which scene; the first one found decides."""
