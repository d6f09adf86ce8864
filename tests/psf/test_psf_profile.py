"""The basis of the PSF fit: normalisation, smoothness, and how well it describes profiles it was not made for."""

import numpy as np
import pytest

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.psf.profile import SEEING, ProfileBasis

BASIS = ProfileBasis(np.eye(2), 3.9, 3.0, 16.0)


def test_round_profile_has_unit_flux_in_the_reference_aperture():
    profile = BASIS.round_profile()
    half = REFERENCE_APERTURE_PIXELS / 2
    r = (np.arange(20000) + 0.5) * half / 20000
    flux = 2 * np.pi * np.sum(r * (BASIS.evaluate(r, np.zeros_like(r)) @ profile)) * half / 20000
    assert flux == pytest.approx(1.0, abs=2e-4)


def test_splines_add_up_to_the_moffat_profile():
    r = np.array([0.0, 1.0, 5.0, 14.0, 30.0])
    total = BASIS.evaluate(r, np.zeros_like(r))[:, : SEEING.round_splines].sum(axis=1)
    assert total == pytest.approx((1 + (r / 3.9) ** 2) ** -3.0, rel=1e-12)


def test_harmonics_vanish_at_the_centre_and_turn_with_the_angle():
    assert np.abs(BASIS.evaluate(np.zeros(1), np.zeros(1))[0, SEEING.round_splines :]).max() == 0.0
    right, up = (BASIS.evaluate(np.array([a]), np.array([b]))[0] for a, b in ((3.0, 0.0), (0.0, 3.0)))
    m2 = slice(SEEING.round_splines + 12, SEEING.round_splines + 18)  # cos 2 phi
    assert right[m2] == pytest.approx(-up[m2])


def kolmogorov_like(r):
    return 0.85 * np.exp(-0.5 * (r / 1.75) ** 2) + 0.15 * (1 + (r / 3.6) ** 2) ** -2.2


def lopsided(dx, dy):
    r = np.hypot(dx, 1.06 * (dy + 0.05 * dx))
    return kolmogorov_like(r) * (1 + 0.02 * dx / (1 + r))


@pytest.mark.parametrize("shape", [lambda dx, dy: kolmogorov_like(np.hypot(dx, dy)), lopsided])
def test_profiles_that_are_not_moffat_are_described_within_two_thousandths(shape):
    grid = np.arange(-14.0, 14.01, 0.5)
    dx, dy = (a.ravel() for a in np.meshgrid(grid, grid))
    target = shape(dx, dy)
    design = BASIS.evaluate(dx, dy)
    solution, *_ = np.linalg.lstsq(design, target, rcond=1e-10)
    residual = design @ solution - target
    assert np.sqrt((residual**2).sum() / (target**2).sum()) < 2e-3
    assert design.shape == (dx.size, SEEING.size)
