"""Words to colours."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_pipeline.emulator.scenes import HOURS, blend, palette_for, rgb

shares = st.floats(0, 1)
colours = st.tuples(*[st.floats(0, 255)] * 3)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize(
    ("prompt", "hour"),
    [
        ("a castle at dawn", "dawn"),
        ("SUNSET over the alps", "dusk"),
        ("a city at midnight", "night"),
        ("stormy harbour at dusk", "storm"),
    ],
)
def test_a_word_names_the_hour(prompt: str, hour: str) -> None:
    assert palette_for(prompt, rng()).hour is HOURS[hour]


@pytest.mark.parametrize(("word", "hue"), [("red", 0.98), ("emerald", 0.33), ("violet", 0.74)])
def test_a_word_names_the_hue(word: str, hue: float) -> None:
    distance = abs(palette_for(f"a {word} vase", rng()).hue - hue)
    assert min(distance, 1 - distance) <= 0.031


def test_what_no_word_names_is_drawn() -> None:
    drawn = [palette_for("x", np.random.default_rng(seed)) for seed in range(30)]
    assert len({id(palette.hour) for palette in drawn}) == len(HOURS)
    assert len({palette.hue for palette in drawn}) == 30


def test_far_land_takes_the_skys_colour_and_near_land_is_dark() -> None:
    palette = palette_for("day", rng())
    far, near = palette.land(0)[0], palette.land(1)[0]
    assert sum(near) < sum(far)
    sky = palette.hour.sky[-1]
    assert np.abs(np.subtract(far, sky)).sum() < np.abs(np.subtract(near, sky)).sum()


@given(colours, colours, shares)
def test_a_blend_lies_between_its_colours(
    one: tuple[float, float, float], two: tuple[float, float, float], share: float
) -> None:
    for low, mixed, high in zip(one, blend(one, two, share), two, strict=True):
        assert min(low, high) - 1e-6 <= mixed <= max(low, high) + 1e-6


@given(st.floats(-3, 3), st.floats(-1, 2), st.floats(-1, 2))
def test_every_colour_is_in_range(hue: float, saturation: float, value: float) -> None:
    assert all(0 <= part <= 255 for part in rgb(hue, saturation, value))
