"""Ghosts of bright stars, against rays traced between two plane surfaces."""

import numpy as np
import pytest

from imaging.detector.ccds import CCDS
from imaging.simulation.exposures import FOCAL_PLANE_RADIUS_PIXELS
from imaging.simulation.ghosts import (
    CHIEF_RAY_SLOPE,
    FOCAL_RATIO,
    PIXEL_MM,
    REFLECTIONS,
    add_ghosts,
    ghost_centres,
    ghost_radius_pixels,
)
from imaging.simulation.optical_psf import OBSCURATION

CCD = 34
SHAPE = (4096, 2048)


def place_of(ccd: int, u: float, v: float) -> tuple[float, float]:
    """Pixels on a CCD of a place on the focal plane, by the reference pixel of the header."""
    crpix = CCDS[ccd].crpix
    return crpix[0] - 1 + u * FOCAL_PLANE_RADIUS_PIXELS, crpix[1] - 1 + v * FOCAL_PLANE_RADIUS_PIXELS


@pytest.mark.parametrize("reflection", REFLECTIONS)
def test_rays_traced_between_ccd_and_surface_bound_the_donut(reflection):
    """A ray of slope s comes back to the CCD after two crossings of the gap, 2 t s further out."""
    u = 0.6
    chief = CHIEF_RAY_SLOPE * u
    marginal = 1.0 / (2.0 * FOCAL_RATIO)
    landed = [2 * reflection.gap_mm * (chief + side * marginal) / PIXEL_MM for side in (-1, 1)]
    x, y = place_of(CCD, u, 0.0)
    cx, cy = ghost_centres(reflection, CCD, np.array([x]), np.array([y]))
    assert cx[0] - x == pytest.approx(sum(landed) / 2)
    assert cy[0] == pytest.approx(y)
    assert ghost_radius_pixels(reflection) == pytest.approx((landed[1] - landed[0]) / 2)


def test_a_donut_holds_its_share_of_the_light_between_the_pupils_edges():
    image = np.zeros(SHAPE, dtype=np.float32)
    x, y, flux = np.array([1000.0]), np.array([2000.0]), np.array([1e9])
    add_ghosts(image, CCD, x, y, flux)
    small = REFLECTIONS[0]
    cx, cy = ghost_centres(small, CCD, x, y)
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r = np.hypot(xx - cx[0], yy - cy[0])
    radius = ghost_radius_pixels(small)
    # the wider families are flat under the small one
    ground = np.median(image[(r > radius + 10) & (r < radius + 40)])
    donut = image - ground
    assert donut[r < radius + 10].sum(dtype=float) == pytest.approx(1e9 * small.fraction, rel=0.03)
    assert np.abs(donut[r < OBSCURATION * radius - 5]).max() < 0.02 * donut.max()


def test_a_bright_star_on_another_ccd_throws_its_ghost_here_and_one_outside_the_barrel_does_not():
    radius = ghost_radius_pixels(REFLECTIONS[-1])
    lit = np.zeros(SHAPE, dtype=np.float32)
    add_ghosts(lit, CCD, np.array([-0.5 * radius]), np.array([2000.0]), np.array([1e9]))
    assert lit[2000].max() > 1.0
    dark = np.zeros(SHAPE, dtype=np.float32)
    add_ghosts(dark, CCD, *(np.array([value]) for value in (*place_of(CCD, 1.3, 0.0), 1e11)))
    assert dark.max() == 0.0


def test_faint_stars_have_no_ghosts():
    image = np.zeros(SHAPE, dtype=np.float32)
    add_ghosts(image, CCD, np.array([1000.0]), np.array([2000.0]), np.array([1e6]))
    assert image.max() == 0.0
