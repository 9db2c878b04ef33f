"""The difference hash finds a picture again, and no other one."""

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageDraw

from flux_pipeline.images.inspection import difference_hash, inspect_image
from flux_pipeline.lineage.query import SAME_IMAGE, hamming_distance
from tests.images.samples import encode, picture

SIDE = 320


def dhash(image: Image.Image, name: str = "PNG", **options: object) -> int:
    fast: dict[str, object] = {"compress_level": 1} if name == "PNG" else {}
    body = encode(image, name, **fast, **options)
    kind = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}[name]
    width, height = image.size
    return inspect_image(body, image_format=kind, width=width, height=height).dhash


def soft_noise(seed: int) -> Image.Image:
    return picture(SIDE, SIDE, seed=seed)


def discs(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(50):
        x, y, r = rng.integers(4, SIDE, 3).tolist()
        draw.ellipse(
            (x - r // 6, y - r // 6, x + r // 6, y + r // 6), fill=(x % 256, y % 256, r % 256)
        )
    return image


def product_on_white(seed: int) -> Image.Image:
    image = Image.new("RGB", (SIDE, SIDE), (252, 252, 252))
    ImageDraw.Draw(image).rectangle((190, 140 + seed, 320, 360), fill=(180, 40, 60 + seed))
    return image


def dark_grain(seed: int) -> Image.Image:
    grain = np.random.default_rng(seed).normal(12, 3, (SIDE, SIDE, 3))
    return Image.fromarray(grain.clip(0, 255).astype(np.uint8))


def fine_pattern(seed: int) -> Image.Image:
    board = (np.indices((SIDE, SIDE)).sum(axis=0) % 2 * 255).astype(np.uint8)
    board[100 + seed : 300, 150:350] //= 2
    return Image.fromarray(np.stack([board] * 3, axis=-1))


KINDS = [soft_noise, discs, product_on_white, dark_grain, fine_pattern]


@pytest.mark.parametrize("name", ["WEBP", "JPEG"])
@pytest.mark.parametrize("kind", KINDS)
def test_copy_of_quality_60_or_half_the_size_is_found(
    kind: Callable[[int], Image.Image], name: str
) -> None:
    image = kind(1)
    original = dhash(image)
    again = Image.open(io.BytesIO(encode(image, name, quality=60)))
    half = image.resize((SIDE // 2, SIDE // 2))
    for copy in (again, half, again.convert("L"), half.resize((300, 300))):
        assert hamming_distance(original, dhash(copy, name, quality=60)) <= SAME_IMAGE


def test_other_images_are_far_away() -> None:
    hashes = [dhash(soft_noise(seed)) for seed in range(8)]
    apart = [hamming_distance(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 2 * SAME_IMAGE


def test_crop_is_another_image() -> None:
    image = soft_noise(1)
    cropped = image.crop((SIDE // 5, SIDE // 5, SIDE, SIDE))
    assert hamming_distance(dhash(image), dhash(cropped)) > SAME_IMAGE


def test_brighter_to_the_right_sets_every_bit_and_to_the_left_none() -> None:
    ramp = np.tile(np.arange(0, 90, dtype=np.uint8), (64, 1))
    assert difference_hash(ramp) == 2**64 - 1
    assert difference_hash(ramp[:, ::-1]) == 0


def test_first_bit_is_the_upper_left_one() -> None:
    grid = np.zeros((8, 9), dtype=np.uint8)
    grid[0, 1:] = 100
    assert difference_hash(grid) == 1 << 63
    assert difference_hash(grid[::-1]) == 1 << 7


GREYS = arrays.arrays(
    np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 255)
)


@settings(deadline=None, max_examples=40)
@given(GREYS)
def test_hash_is_64_bits_of_any_picture_and_the_same_twice(gray: np.ndarray) -> None:
    found = difference_hash(gray)
    assert 0 <= found < 2**64
    assert found == difference_hash(gray.copy())


@settings(deadline=None, max_examples=25)
@given(GREYS, st.integers(2, 4))
def test_hash_of_a_picture_enlarged_pixel_by_pixel_is_the_same(
    gray: np.ndarray, factor: int
) -> None:
    larger = np.kron(gray, np.ones((factor, factor), dtype=np.uint8))
    # Means are rounded differently, so a step of exactly the threshold may fall on either side.
    assert hamming_distance(difference_hash(gray), difference_hash(larger)) <= 2


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_distance_is_a_hamming_distance(one: int, other: int) -> None:
    assert hamming_distance(one, one) == 0
    assert hamming_distance(one, other) == hamming_distance(other, one)
    assert hamming_distance(0, 2**64 - 1) == 64
