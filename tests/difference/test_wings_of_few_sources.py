"""Kernels of the PSF models of a sharp and a broad image, whose wings reach beyond the aperture of the zero points."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from scipy.signal import fftconvolve

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.difference.alard_lupton import choose_basis
from imaging.difference.psf_kernel import unit_kernel
from imaging.difference.settings import KernelSettings, SubtractionSettings
from imaging.difference.subtract import subtract
from imaging.psf.shape import normalised
from tests.difference.known_pairs import calibrated, draw, psf_model

SHAPE, SIGMA, SHARP, BROAD = (141, 141), (10.0, 3.0), 4.0, 9.0
X, Y, FLUX = np.array([86.0, 45.0, 36.0]), np.array([82.0, 38.0, 100.0]), np.array([8e5, 1.5e5, 1e5])
PLACE, SNR = (112.0, 50.0), 15.0


def moffat(fwhm):
    return galsim.Moffat(beta=3.5, fwhm=fwhm)


def total(fwhm):
    """Return the flux of a Moffat profile over that in the reference aperture."""
    core = fwhm / (2.0 * np.sqrt(2.0 ** (1.0 / 3.5) - 1.0))
    return 1.0 / (1.0 - (1.0 + (0.5 * REFERENCE_APERTURE_PIXELS / core) ** 2) ** -2.5)


def test_kernel_of_two_psfs_has_their_ratio_of_fluxes_and_no_pedestal():
    basis = choose_basis(SHARP, BROAD, KernelSettings())
    models = [normalised(psf_model(moffat(fwhm))) for fwhm in (SHARP, BROAD)]
    coefficients, flux = unit_kernel(*models, basis, (0.0, 0.0))
    assert flux == pytest.approx(total(BROAD) / total(SHARP), abs=0.01)  # 1.126
    kernel = flux * np.tensordot(coefficients, basis.images, axes=1)
    sharp, goal = (draw(moffat(fwhm), [70.0], [70.0], [total(fwhm)], SHAPE, 141) for fwhm in (SHARP, BROAD))
    left = fftconvolve(sharp, kernel, mode="same") - goal
    far = np.hypot(*np.mgrid[-70:71, -70:71]) > REFERENCE_APERTURE_PIXELS / 2
    assert np.abs(left).max() < 0.005 * goal.max()
    assert np.abs(left[far]).max() < 0.001 * goal.max()  # a sum of one left a square of 0.007


def difference(n, ratio, transient, seed=1):
    """Return the difference of n stars with a flux ratio."""
    rng = np.random.default_rng(seed)
    images = []
    for fwhm, scale, sigma in ((BROAD, ratio, SIGMA[0]), (SHARP, 1.0, SIGMA[1])):
        image = draw(moffat(fwhm), X[:n], Y[:n], scale * FLUX[:n], SHAPE, 141) + rng.normal(0.0, sigma, SHAPE)
        if fwhm == BROAD:
            image += draw(moffat(fwhm), [PLACE[0]], [PLACE[1]], [transient], SHAPE, 141)
        one = calibrated(image, sigma, moffat(fwhm))
        images.append(replace(one, psf=normalised(one.psf)))
    return subtract(*images, SubtractionSettings())


@pytest.mark.parametrize(("n", "ratio"), [(1, 1.0), (2, 1.0), (3, 1.0), (2, 1.126), (3, 1.126)])
def test_stars_leave_nothing_whether_zero_points_are_of_total_fluxes_or_of_the_aperture(n, ratio):
    # the error of a point source's flux in white noise, for the sharp image is deeper
    stamp = psf_model(moffat(BROAD)).stamp(0.0, 0.0, 25)
    flux = SNR * SIGMA[0] / np.sqrt(np.sum(stamp**2))
    found = difference(n, ratio, flux)
    assert found.kernel.sum == pytest.approx(ratio, abs=0.02)
    y, x = np.indices(SHAPE)
    far = np.hypot(x - PLACE[0], y - PLACE[1]) > 1.5 * BROAD
    assert np.abs(found.score[far]).max() < 5.0
    at = round(PLACE[1]), round(PLACE[0])
    assert found.score[at] == pytest.approx(SNR, abs=3.0)
