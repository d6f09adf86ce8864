"""The coarse map of pixels."""

import numpy as np
import pytest

from imaging.detector.distortion import seed_wcs
from imaging.errors import CcdError
from imaging.templates.grid import pixel_map

SHAPE = (700, 500)


def test_map_follows_the_exact_coordinates():
    output, source = seed_wcs(10, 150.0, -20.0), seed_wcs(11, 150.05, -20.08)
    grid = pixel_map(output, SHAPE, source)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(0, SHAPE[1] - 1, 200), rng.uniform(0, SHAPE[0] - 1, 200)
    exact = source.sky_to_pixel(*output.pixel_to_sky(x, y))
    near = grid.at(x, y)
    assert np.max(np.hypot(near[0] - exact[0], near[1] - exact[1])) < 1e-3
    assert grid.error_pixels <= 1e-3


def test_area_ratio_is_that_of_the_pixels():
    output, source = seed_wcs(10, 150.0, -20.0), seed_wcs(1, 150.0, -20.0)
    grid = pixel_map(output, SHAPE, source)
    x, y = np.array([250.0]), np.array([350.0])
    xs, ys = grid.at(x, y)
    exact = output.pixel_area_arcsec2(x, y) / source.pixel_area_arcsec2(xs, ys)
    assert grid.area_ratio()[10, 7] == pytest.approx(exact[0], rel=2e-4)


def test_wanted_accuracy_halves_the_step():
    output, source = seed_wcs(10, 150.0, -20.0), seed_wcs(1, 150.0, -20.0)
    coarse = pixel_map(output, SHAPE, source, step=32, max_error_pixels=1e-3)
    fine = pixel_map(output, SHAPE, source, step=32, max_error_pixels=coarse.error_pixels / 5)
    assert fine.step < coarse.step
    assert fine.error_pixels <= coarse.error_pixels / 5


def test_opposite_sides_of_the_sky_are_refused():
    with pytest.raises(CcdError) as failure:
        pixel_map(seed_wcs(10, 150.0, -20.0), SHAPE, seed_wcs(10, 330.0, 20.0))
    assert failure.value.reason == "resample_map"
