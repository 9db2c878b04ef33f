"""Drawn scenes: their words and colours, the outlines in them, and the canvas below."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.emulator.scenes import (
    HOURS,
    Canvas,
    Floats,
    blend,
    draw,
    draw_boat,
    draw_pines,
    draw_ridge,
    draw_towers,
    draw_waves,
    first_match,
    palette_for,
    rgb,
    words_of,
)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


BLACK, WHITE, RED = (0.0, 0.0, 0.0), (255.0, 255.0, 255.0), (255.0, 0.0, 0.0)


def level(height: float, width: int = 20) -> Floats:
    return np.full(width, height, np.float32)


def column(canvas: Canvas, x: int = 5) -> list[int]:
    """The red channel of one column, from the top."""
    return [int(value) for value in np.asarray(canvas.image)[:, x, 0]]


def test_a_sky_blends_from_top_to_bottom() -> None:
    shades = column(Canvas((20, 100), (BLACK, WHITE)))
    assert shades[0] == 0
    assert shades[-1] == 255
    assert shades == sorted(shades)
    assert 120 < shades[50] < 135


def test_a_layer_fills_all_below_its_profile() -> None:
    canvas = Canvas((20, 20), (BLACK, BLACK))
    canvas.layer(level(12), WHITE, WHITE)
    assert column(canvas) == [0] * 12 + [255] * 8


def test_an_edge_between_two_rows_is_mixed() -> None:
    canvas = Canvas((20, 20), (BLACK, BLACK))
    canvas.layer(level(12.25), WHITE, WHITE)
    assert column(canvas)[11:14] == [0, pytest.approx(191, abs=2), 255]


def test_a_layer_ends_at_its_base() -> None:
    canvas = Canvas((20, 20), (BLACK, BLACK))
    canvas.layer(level(5), WHITE, WHITE, base=level(9))
    assert column(canvas) == [0] * 5 + [255] * 4 + [0] * 11


def test_a_disc_is_round_and_may_be_seen_through() -> None:
    canvas = Canvas((40, 40), (BLACK, BLACK))
    canvas.disc(20, 20, 10, RED, 0.5)
    pixels = np.asarray(canvas.image)[:, :, 0]
    assert int(pixels[20, 20]) == pytest.approx(127, abs=2)
    assert np.count_nonzero(pixels) == pytest.approx(np.pi * 100, rel=0.15)
    assert pixels[0, 0] == 0


def test_a_glow_fades_to_nothing_at_its_edge() -> None:
    canvas = Canvas((200, 200), (BLACK, BLACK))
    canvas.glow(100, 100, 80, WHITE)
    shades = column(canvas, 100)
    assert shades[100] > 200
    assert shades[100 - 40] < shades[100 - 20] < shades[100]
    assert shades[15] == shades[185] == 0
    assert np.asarray(canvas.image)[25, 25, 0] == 0  # the corner of its square


@settings(max_examples=40)
@given(
    heights=st.lists(st.floats(-500, 500), min_size=20, max_size=20),
    base=st.one_of(st.none(), st.floats(-500, 500)),
    x=st.floats(-100, 100),
    radius=st.floats(0.1, 100),
)
def test_nothing_outside_the_picture_is_an_error(
    heights: list[float], base: float | None, x: float, radius: float
) -> None:
    canvas = Canvas((20, 20), (BLACK, WHITE))
    profile = np.array(heights, np.float32)
    canvas.layer(profile, RED, WHITE, base=None if base is None else level(base))
    canvas.disc(x, -x, radius, RED)
    canvas.glow(x, x, radius, RED, 0.5)
    assert canvas.image.size == (20, 20)


WORDS = st.sampled_from(["castle", "sea", "forest", "alps", "desert", "bottle", "night", "red", ""])


@settings(max_examples=40)
@given(st.binary(min_size=32, max_size=32), WORDS, WORDS, st.integers(8, 90), st.integers(8, 90))
def test_every_digest_and_size_can_be_drawn(
    digest: bytes, one: str, two: str, width: int, height: int
) -> None:
    image = draw(digest, f"{one} {two}", (width, height))
    assert (image.size, image.mode) == ((width, height), "RGB")


@settings(max_examples=25)
@given(st.text())
def test_any_text_can_be_a_prompt(prompt: str) -> None:
    assert draw(bytes(32), prompt, (16, 16)).size == (16, 16)


def test_the_earliest_word_decides() -> None:
    vocabulary = {"one": "red crimson", "two": "blue"}
    assert first_match(words_of("A blue house, red roof"), vocabulary) == "two"
    assert first_match(words_of("green"), vocabulary) is None


def test_skies_get_lighter_towards_the_horizon() -> None:
    assert all(sum(hour.sky[0]) < sum(hour.sky[-1]) for hour in HOURS.values())


shares = st.floats(0, 1)
colours = st.tuples(*[st.floats(0, 255)] * 3)


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
    assert palette_for(prompt, rng(1)).hour is HOURS[hour]


@pytest.mark.parametrize(("word", "hue"), [("red", 0.98), ("emerald", 0.33), ("violet", 0.74)])
def test_a_word_names_the_hue(word: str, hue: float) -> None:
    distance = abs(palette_for(f"a {word} vase", rng(1)).hue - hue)
    assert min(distance, 1 - distance) <= 0.031


def test_what_no_word_names_is_drawn() -> None:
    drawn = [palette_for("x", np.random.default_rng(seed)) for seed in range(30)]
    assert len({id(palette.hour) for palette in drawn}) == len(HOURS)
    assert len({palette.hue for palette in drawn}) == 30


def test_far_land_takes_the_skys_colour_and_near_land_is_dark() -> None:
    palette = palette_for("day", rng(1))
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


seeds = st.integers(0, 2**32)
widths = st.integers(64, 400)


@settings(max_examples=30)
@given(seed=seeds, width=widths, roughness=st.floats(0.1, 0.8))
def test_a_ridge_runs_from_valley_to_peak(seed: int, width: int, roughness: float) -> None:
    line = draw_ridge(width, rng(seed), roughness=roughness)
    assert line.shape == (width,)
    assert (line.min(), line.max()) == (0, 1)


def test_a_rougher_ridge_turns_more_often() -> None:
    smooth, rough = (
        np.abs(np.diff(draw_ridge(400, rng(1), roughness=value), n=2)).sum() for value in (0.2, 0.7)
    )
    assert rough > 2 * smooth


@settings(max_examples=20)
@given(seed=seeds, width=widths)
def test_trees_and_towers_stand_on_the_ground(seed: int, width: int) -> None:
    ground = np.full(width, 300, np.float32)
    trees = draw_pines(ground, rng(seed), count=5, tall=100)
    assert (trees <= ground).all()
    assert 180 < trees.min() < 250
    towers, windows = draw_towers(ground, rng(seed), count=6, tall=100)
    assert (towers <= ground).all()
    assert towers.min() < 280
    assert all(y < 300 for _, y in windows)


@settings(max_examples=20)
@given(seed=seeds, width=widths)
def test_waves_rise_and_fall_about_their_level(seed: int, width: int) -> None:
    swell = draw_waves(width, rng(seed), length=width / 20)
    assert -1 <= swell.min() < -0.3
    assert 0.3 < swell.max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_boat_floats_at_its_level_and_hides_nothing_else(seed: int) -> None:
    boat = draw_boat(400, rng(seed), level=200, long=60)
    there = boat < 200
    assert 20 < np.count_nonzero(there) <= 62
    assert 200 - 1.6 * 60 < boat.min() < 200 - 60
    assert (boat[~there] > 1e6).all()
