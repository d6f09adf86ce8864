"""Tree rings and edge fields: the displacement of images against the flat's own pixel areas, integrated numerically."""

import numpy as np
import pytest

from imaging.detector.ccds import CCDS, NX, PIXEL_SCALE_ARCSEC
from imaging.simulation.camera import edge_profile, make_flat
from imaging.simulation.pixel_shifts import PixelShifts, pixel_shifts


def test_edges_displace_by_the_integral_of_the_pixels_areas():
    profile = edge_profile().astype(float)
    # the left border of pixel k is the sum of the areas before it; far inside it must agree with the pixel grid
    border = np.concatenate([[0.0], np.cumsum(profile[: NX // 2])])
    border += NX // 2 - border[-1]
    shifts = PixelShifts(None, edges=True)
    columns = np.array([2.0, 5.0, 9.0, 15.0, 30.0, 60.0])
    sky = np.interp(columns + 0.5, np.arange(len(border)), border) - 0.5
    landed, _ = shifts.apply(sky, np.full(6, 2000.0))
    # an exponential per pixel is summed in one and integrated in the other
    assert landed == pytest.approx(columns, abs=0.03)
    dx, _ = shifts.at(np.array([12.0, NX - 13.0]), np.zeros(2))
    assert dx[0] == pytest.approx(-dx[1], abs=1e-3)
    assert 0.02 < abs(dx[0]) * PIXEL_SCALE_ARCSEC < 0.1  # Plazas et al. 2014: some ten mas


def test_tree_rings_displace_by_the_integral_along_the_radius():
    shifts = PixelShifts((-200.0, -300.0), edges=False)
    direction = np.array([0.6, 0.8])
    r = np.arange(800.0, 3000.0, 0.5)
    x, y = -200.0 + r * direction[0], -300.0 + r * direction[1]
    dx, dy = shifts.at(x, y)
    radial = dx * direction[0] + dy * direction[1]
    assert dx * direction[1] - dy * direction[0] == pytest.approx(np.zeros(len(r)), abs=1e-12)
    # the area of a pixel is the derivative of the sky position, which the images have left by minus the displacement
    area = 1.0 - np.gradient(radial, r)
    image = shifts.area(4096)
    seen = image[np.round(y).astype(int), np.round(x).astype(int)]
    assert np.std(area[5:-5] - seen[5:-5]) < 0.15 * np.std(seen)
    assert 5.0 < np.abs(radial).max() * PIXEL_SCALE_ARCSEC * 1000 < 25.0  # mas; Plazas et al. 2014


def test_the_rings_are_those_of_the_flat():
    shifts = pixel_shifts(61, 34, tree_rings=True, edges=True)
    flat = make_flat(61, CCDS[34], 3)
    rings = PixelShifts(shifts.centre, edges=False).area(4096)
    inside = np.s_[300:3800, 100:900]
    deviation, ratio = rings[inside] - 1.0, flat[inside] / np.median(flat[inside])
    good = np.abs(ratio - 1.0) < 0.05
    slope = (deviation * (ratio - 1.0))[good].sum() / (deviation**2)[good].sum()
    # noise of 0.6 % per pixel over 2.8 million pixels of rms 0.1 %
    assert slope == pytest.approx(1.0, abs=0.05)


def test_undo_inverts_apply():
    shifts = PixelShifts((-150.0, -250.0), edges=True)
    random = np.random.default_rng(1)
    x, y = random.uniform(10, NX - 10, 500), random.uniform(0, 4096, 500)
    back = shifts.undo(*shifts.apply(x, y))
    assert np.abs(back[0] - x).max() < 1e-3
    assert np.abs(back[1] - y).max() < 1e-3


def test_without_switches_nothing_is_displaced():
    assert pixel_shifts(61, 34, tree_rings=False, edges=False) is None
