"""The chi-square of a kernel fit is one also where the fitted kernel leaves another noise than that of the models."""

import numpy as np
import pytest
from known_pairs import WHITE, draw, lattice, profile, side

from imaging.difference.alard_lupton import choose_basis
from imaging.difference.matching import find_kernel, noise_share
from imaging.difference.settings import KernelSettings


@pytest.mark.parametrize("stated", [4.2, 5.0])
def test_chi_square_is_one_although_the_model_of_the_broad_psf_is_wrong(stated):
    """The sharper image has most of the noise, of which the kernel leaves a tenth, for a wrong model a third."""
    shape, sharp, broad, noise = (400, 400), 4.0, 5.0, (4.0, 20.0)
    x, y = lattice(80, shape)
    rng = np.random.default_rng(3)
    flux = 10 ** rng.uniform(4.0, 4.6, x.size)
    target = side(draw(profile(broad), x, y, flux, shape) + rng.normal(0, noise[0], shape), noise[0], profile(stated))
    other = draw(profile(sharp), x, y, flux, shape) + rng.normal(0, noise[1], shape)
    reference = side(other, noise[1], profile(sharp))
    settings, basis = KernelSettings(), choose_basis(sharp, broad, KernelSettings())
    match = find_kernel(target, reference, basis, WHITE, None, settings)
    assert match.kernel.n_stamps > 30
    assert match.kernel.chi2 == pytest.approx(1.0, abs=0.07)
    fitted = np.sum(match.images(np.array([200.0]), np.array([200.0])) ** 2)
    by_models = noise_share(target, reference, basis, WHITE)
    assert (by_models > 1.5 * fitted) == (stated == 4.2)
