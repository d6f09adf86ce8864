"""Families of ghosts, fitted to bins around bright stars that the simulator or this file paints."""

import numpy as np
import pytest

from imaging.detector.ccds import CCDS
from imaging.errors import InputError
from imaging.masters.ghosts import fields_on_ccd, fit_families
from imaging.masters.settings import GhostSettings
from imaging.masters.sky_modes import bin_sky
from imaging.simulation.exposures import FOCAL_PLANE_RADIUS_PIXELS
from imaging.simulation.ghosts import CHIEF_RAY_SLOPE, PIXEL_MM, REFLECTIONS, add_ghosts, ghost_radius_pixels
from imaging.simulation.optical_psf import OBSCURATION

SIDE, NOISE = 32, 40.0
SETTINGS = GhostSettings(bin_pixels=SIDE, largest_pixels=1250.0)
SHAPE = (4096, 2048)
PLACES = [(14, 1e9), (20, 4e9), (27, 2e9), (34, 6e9), (40, 1e9), (47, 3e9), (52, 1.5e9), (59, 5e9)]
"""CCD and light of one star each, electrons."""


def observed(random, *, ghosts=True):
    """Return bins around the stars: ghosts, wings, a plane that the sky has left, noise of medians, galaxies."""
    fields = []
    for number, (ccd, flux) in enumerate(PLACES):
        x, y = random.uniform(200, 1800), random.uniform(600, 3500)
        image = np.zeros(SHAPE, np.float32)
        if ghosts:
            add_ghosts(image, ccd, *(np.array([value]) for value in (x, y, flux)))
        binned = bin_sky(image, np.zeros(SHAPE, np.int16), SIDE).astype(float)
        by, bx = (SIDE * (k + 0.5) for k in np.indices(binned.shape))
        radius = np.hypot(bx - x, by - y)
        binned += flux * random.uniform(0.7, 1.3) * 2e-5 / np.maximum(radius, 30.0) ** 2
        binned += random.normal(0, 3) + random.normal(0, 2) * bx / 2048 + random.normal(0, 2) * by / 4096
        binned += random.normal(0, 1.25 * NOISE / SIDE, binned.shape)
        binned[random.random(binned.shape) < 0.01] += 40.0
        binned[radius < 60 + 30 * np.log(flux / 1e9)] = np.nan
        axis = tuple(value - 1.0 for value in CCDS[ccd].crpix)
        fields += fields_on_ccd(binned, SIDE, [(number, x, y, flux)], axis, (57.0, SETTINGS.largest_pixels))
    return fields


def test_the_families_are_found_from_pixels_of_the_simulator():
    families = sorted(fit_families(observed(np.random.default_rng(5)), SETTINGS), key=lambda f: f.outer_pixels)
    assert len(families) == len(REFLECTIONS)
    for family, true in zip(families, REFLECTIONS, strict=True):
        radius = ghost_radius_pixels(true)
        shift = 2.0 * true.gap_mm * CHIEF_RAY_SLOPE / PIXEL_MM / FOCAL_PLANE_RADIUS_PIXELS
        level = true.fraction / (np.pi * radius**2 * (1.0 - OBSCURATION**2))
        assert family.outer_pixels == pytest.approx(radius, abs=0.1 * SIDE)
        assert family.inner_pixels == pytest.approx(OBSCURATION * radius, abs=0.2 * SIDE)
        assert family.displacement * 10000 == pytest.approx(shift * 10000, abs=0.1 * SIDE)
        assert abs(family.level - level) < max(4.0 * family.level_error, 0.1 * level)
        assert family.level_error < 0.3 * level


def test_without_ghosts_and_with_few_stars_there_is_no_model():
    fields = observed(np.random.default_rng(6), ghosts=False)
    with pytest.raises(InputError, match=r"no ghost of a bright star is seen.*8 stars"):
        fit_families(fields, SETTINGS)
    with pytest.raises(InputError, match=r"too few bright stars.*5 brighter.*at least 6"):
        fit_families([field for field in fields if field.star < 5], SETTINGS)


def test_bins_near_two_stars_count_to_the_one_that_outshines_the_other():
    def fields_of(other_flux):
        stars = [(1, 150.0, 150.0, 1e9), (2, 210.0, 150.0, other_flux)]
        found = fields_on_ccd(np.zeros((20, 40)), 16, stars, (10.0, 20.0), (20.0, 120.0))
        return {field.star: np.hypot(field.dx, field.dy) for field in found}, found

    radii, found = fields_of(1e7)
    assert found[0].from_axis == (140.0, 130.0)
    assert radii[1].min() > 20.0 and radii[1].max() < 120.0
    assert radii[1].size * 16**2 == pytest.approx(np.pi * (120.0**2 - 20.0**2), rel=0.05)
    assert (np.hypot(found[1].dx + 60.0, found[1].dy) > 120.0).all(), "only bins that the brighter star does not reach"
    radii, found = fields_of(1e9)
    assert (np.hypot(found[0].dx - 60.0, found[0].dy) > 120.0).all(), "of equal stars none has the bins near both"
