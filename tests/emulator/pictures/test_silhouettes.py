"""Outlines: within their bounds, and above the ground they stand on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_pipeline.emulator import scenes as silhouettes

seeds = st.integers(0, 2**32)
widths = st.integers(64, 400)


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=30)
@given(seed=seeds, width=widths, roughness=st.floats(0.1, 0.8))
def test_a_ridge_runs_from_valley_to_peak(seed: int, width: int, roughness: float) -> None:
    line = silhouettes.draw_ridge(width, rng(seed), roughness=roughness)
    assert line.shape == (width,)
    assert (line.min(), line.max()) == (0, 1)


def test_a_rougher_ridge_turns_more_often() -> None:
    smooth, rough = (
        np.abs(np.diff(silhouettes.draw_ridge(400, rng(1), roughness=value), n=2)).sum()
        for value in (0.2, 0.7)
    )
    assert rough > 2 * smooth


@settings(max_examples=20)
@given(seed=seeds, width=widths)
def test_trees_and_towers_stand_on_the_ground(seed: int, width: int) -> None:
    ground = np.full(width, 300, np.float32)
    trees = silhouettes.draw_pines(ground, rng(seed), count=5, tall=100)
    assert (trees <= ground).all()
    assert 180 < trees.min() < 250
    towers, windows = silhouettes.draw_towers(ground, rng(seed), count=6, tall=100)
    assert (towers <= ground).all()
    assert towers.min() < 280
    assert all(y < 300 for _, y in windows)


@settings(max_examples=20)
@given(seed=seeds, width=widths)
def test_waves_rise_and_fall_about_their_level(seed: int, width: int) -> None:
    swell = silhouettes.draw_waves(width, rng(seed), length=width / 20)
    assert -1 <= swell.min() < -0.3
    assert 0.3 < swell.max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_boat_floats_at_its_level_and_hides_nothing_else(seed: int) -> None:
    boat = silhouettes.draw_boat(400, rng(seed), level=200, long=60)
    there = boat < 200
    assert 20 < np.count_nonzero(there) <= 62
    assert 200 - 1.6 * 60 < boat.min() < 200 - 60
    assert (boat[~there] > 1e6).all()
