"""Demo pictures: a sky, a light and some layers of land, in colours that the prompt suggests."""

import math
import random

from PIL import Image, ImageDraw


def draw(digest: bytes, prompt: str, size: tuple[int, int]) -> Image.Image:
    rng = random.Random(digest + prompt.encode())
    width, height = size
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for layer in range(5):
        phase, level = rng.random() * 6, height * (0.4 + 0.12 * layer)
        points = [(x, level + 40 * math.sin(x / 150 + phase)) for x in range(0, width + 16, 16)]
        pen.polygon(
            [*points, (width, height), (0, height)],
            fill=tuple(rng.randrange(256) for _ in range(3)),
        )
    return image
