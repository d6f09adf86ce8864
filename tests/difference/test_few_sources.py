"""Kernel sums of images with few sources: a transient in a galaxy is told from wrong zero points."""

import galsim
import numpy as np
import pytest

from imaging.difference.alard_lupton import choose_basis
from imaging.difference.matching import OF_MODELS, find_kernel
from imaging.difference.pair import Side
from imaging.difference.settings import KernelSettings
from tests.difference.drawn import ROUND, SIGMA, draw, model_of

SHAPE = (121, 121)
BROAD = galsim.Gaussian(fwhm=5.0)
WHITE = np.zeros((6, 6))
WHITE[0, 0] = 1.0
HOST = galsim.Convolve(galsim.Exponential(half_light_radius=2.0), BROAD)
SHARP_HOST = galsim.Convolve(galsim.Exponential(half_light_radius=2.0), ROUND)
X, Y = np.array([60.0, 31.0, 92.0]), np.array([61.0, 93.0, 30.0])
FLUX = np.array([2.0e4, 1.1e4, 7e3])


def kernel_sum(ratio, transient, seed, n=3):
    """Return the sum where two stars and a galaxy, if n is 3, have one flux ratio and a transient is in the first."""
    profiles = [HOST, BROAD, BROAD][-n:], [SHARP_HOST, ROUND, ROUND][-n:]
    return matched(ratio * FLUX[:n], FLUX[:n], *profiles, transient, seed)[0].sum()


def matched(first, second, broad, sharp, transient, seed):
    """Return the coefficients and the fallback of the kernel of three sources with a transient in one of them."""
    rng = np.random.default_rng(seed)
    x, y = X[: len(first)], Y[: len(first)]
    target = draw(SHAPE, x, y, first, broad)
    target += draw(SHAPE, X[:1], Y[:1] + 0.5, [transient], BROAD)
    reference = draw(SHAPE, x, y, second, sharp)
    sides = []
    for image, profile in ((target, BROAD), (reference, ROUND)):
        noisy = (image + rng.normal(0.0, SIGMA, SHAPE)).astype(np.float32)
        weight = np.full(SHAPE, SIGMA**-2, np.float32)
        sides.append(Side(noisy, np.zeros(SHAPE, np.int16), weight, 1.0, 1e6, model_of(profile)))
    match = find_kernel(*sides, choose_basis(4.0, 5.0, KernelSettings()), WHITE, None, KernelSettings())
    return match.kernel.coefficients[0], match.fallback


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_a_transient_too_faint_to_be_told_apart_does_not_move_the_sum(seed, n):
    # the host's mean would be a tenth too bright; the zero points are right to 0.5 percent
    assert kernel_sum(1.0, 0.1 * FLUX[0], seed, n) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("ratio", [0.93, 1.07])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sources_that_agree_correct_wrong_zero_points(ratio, seed, n):
    # each flux has an error of 75 electrons in the target, 60 in the reference: 0.6 percent of the mean ratio
    assert kernel_sum(ratio, 0.0, seed, n) == pytest.approx(ratio, abs=0.012)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_bright_galaxies_do_not_make_a_free_kernel_that_absorbs_a_transient(seed):
    disk = galsim.Exponential(half_light_radius=5.0)
    galaxies = [[galsim.Convolve(disk, psf)] * 3 for psf in (BROAD, ROUND)]
    flux = np.array([9e4, 8e4, 7e4])  # signal to noise of 300 and more, less than 200 for a star's curvature
    total, fallback = matched(flux, flux, *galaxies, 3e3, seed)
    assert fallback == OF_MODELS
    assert total.sum() == pytest.approx(1.0, abs=0.006)
