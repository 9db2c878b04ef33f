"""Layers, discs and glows: where the colour goes, and how the edges look."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.emulator.scenes import Canvas, Floats

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
