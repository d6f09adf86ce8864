"""The kernel's functions and its fit."""

import numpy as np
import pytest
from scipy.signal import fftconvolve

from imaging.difference.basis import delta_basis, gaussian_basis
from imaging.difference.convolve import convolve_varying
from imaging.difference.design import build_stamps
from imaging.difference.kernel import MatchingKernel, fit_kernel, n_terms, noise_products, position_terms
from imaging.difference.pair import Side
from imaging.difference.psf_kernel import unit_kernel
from imaging.difference.settings import KernelSettings
from imaging.psf.model import PsfModel

SHAPE = (500, 460)
WHITE = np.zeros((6, 6))
WHITE[0, 0] = 1.0


def gaussian_psf(fwhm: float) -> PsfModel:
    axis = np.arange(-50, 51) * 0.5
    sigma = fwhm / 2.3548
    image = np.exp(-0.5 * (axis[:, None] ** 2 + axis[None, :] ** 2) / sigma**2) / (2 * np.pi * sigma**2)
    return PsfModel(image[None].astype(np.float32), 0, 0.5, (0.0, 0.0), (1.0, 1.0), fwhm)


def side(science: np.ndarray, sigma: float, fwhm: float) -> Side:
    weight = np.full(science.shape, 1 / sigma**2, np.float32)
    return Side(science.astype(np.float32), np.zeros(science.shape, np.int16), weight, 1e9, 1e9, gaussian_psf(fwhm))


def pair_of_images(noise: float, total: float = 1.1, sources: int = 60, gradient: float = 0.0):
    rng = np.random.default_rng(8)
    sharp = np.zeros(SHAPE)
    x, y = rng.integers(20, SHAPE[1] - 20, sources), rng.integers(20, SHAPE[0] - 20, sources)
    psf = gaussian_psf(3.4)
    for i, j, flux in zip(x, y, 10 ** rng.uniform(4.2, 5.2, sources), strict=True):
        sharp[j - 20 : j + 21, i - 20 : i + 21][:] += flux * psf.stamp(float(i), float(j), 20)
    basis = gaussian_basis((0.7, 1.2, 2.4), (4, 3, 2), 8)
    coefficients = np.zeros((len(basis.pairs), 3))
    coefficients[0, 0], coefficients[1, 0], coefficients[15, 0] = total, 0.05, 0.6
    coefficients[15, 1] = gradient
    origin = (SHAPE[1] / 2, SHAPE[0] / 2)
    true = MatchingKernel(basis, coefficients, np.zeros(1), origin, origin, 1, 4, 0, 0, 1.0, 0.0)
    broad = convolve_varying(sharp.astype(np.float32), true) + 7.0
    sharp = sharp + rng.normal(0.0, noise, SHAPE)
    broad = broad + rng.normal(0.0, 10.0, SHAPE)
    return side(broad, 10.0, 4.4), side(sharp, max(noise, 0.1), 3.4), x.astype(float), y.astype(float), true


@pytest.mark.parametrize("basis", [gaussian_basis((0.7, 1.4, 2.8), (4, 3, 2), 9), delta_basis(4)])
def test_only_the_first_function_has_a_sum(basis):
    sums = basis.images.sum(axis=(1, 2))
    assert sums[0] == pytest.approx(1.0)
    assert np.allclose(sums[1:], 0.0, atol=1e-9)


def test_positions_terms_are_sorted_by_degree():
    terms = position_terms(np.array([3.0]), np.array([5.0]), (1.0, 1.0), (2.0, 2.0), 6)[0]
    assert terms.tolist() == [1.0, 1.0, 2.0, 1.0, 2.0, 4.0]
    assert [n_terms(k) for k in range(4)] == [1, 3, 6, 10]


def test_convolution_is_that_of_the_kernel():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(130, 110)).astype(np.float32)
    basis = gaussian_basis((0.8, 1.6), (2, 1), 6)
    coefficients = rng.normal(size=(len(basis.pairs), 1))
    kernel = MatchingKernel(basis, coefficients, np.zeros(1), (55, 65), (55, 65), 0, 2, 0, 0, 1.0, 0.0)
    expected = fftconvolve(image.astype(float), kernel.images(np.array([5.0]), np.array([5.0]))[0], mode="same")
    inner = (slice(10, -10), slice(10, -10))
    assert np.allclose(convolve_varying(image, kernel)[inner], expected[inner], atol=1e-4)


def test_fit_recovers_kernel_sum_and_background():
    target, reference, x, y, _ = pair_of_images(noise=0.0)
    settings = KernelSettings(max_order=1)
    basis = gaussian_basis((0.7, 1.4, 2.8), (4, 3, 2), 9)
    stamps = build_stamps(target, reference, x, y, basis, settings)
    kernel, used = fit_kernel(stamps, basis, WHITE, SHAPE, settings)
    assert used.mean() > 0.9
    assert kernel.coefficients[0, 0] == pytest.approx(1.1, abs=4 * kernel.sum_error + 1e-3)
    assert kernel.background_at(np.array([200.0]), np.array([200.0]))[0] == pytest.approx(7.0, abs=0.5)
    assert kernel.chi2 == pytest.approx(1.0, abs=0.1)


def test_noise_of_the_reference_does_not_bias_the_sum():
    target, clean, x, y, _ = pair_of_images(noise=0.0)
    settings = KernelSettings(max_order=0, error_floor=0.0)
    basis = gaussian_basis((0.7, 1.4, 2.8), (4, 3, 2), 9)
    sums = []
    for seed in range(10):
        noisy = side(clean.science + np.random.default_rng(seed).normal(0, 60.0, SHAPE), 60.0, 3.4)
        stamps = build_stamps(target, noisy, x, y, basis, settings)
        sums.append([fit_kernel(stamps, basis, c, SHAPE, settings)[0].coefficients[0, 0] for c in (WHITE, 0 * WHITE)])
    corrected, plain = np.mean(sums, axis=0)
    assert corrected == pytest.approx(1.1, abs=0.0015)
    assert plain < 1.1 - 0.002


def test_order_is_chosen_by_the_data():
    settings = KernelSettings(max_order=2)
    basis = gaussian_basis((0.7, 1.2, 2.4), (4, 3, 2), 8)
    orders = {}
    for gradient in (0.0, 0.4):
        target, reference, x, y, _ = pair_of_images(noise=0.0, gradient=gradient)
        stamps = build_stamps(target, reference, x, y, basis, settings)
        orders[gradient] = fit_kernel(stamps, basis, WHITE, SHAPE, settings)[0].order
    assert orders[0.4] >= 1
    assert orders[0.0] <= orders[0.4]


def test_a_variable_star_is_clipped():
    target, reference, x, y, _ = pair_of_images(noise=0.0)
    psf = gaussian_psf(4.4)
    i, j = int(x[7]), int(y[7])
    science = target.science.copy()
    science[j - 12 : j + 13, i - 12 : i + 13] += (4e4 * psf.stamp(float(i), float(j), 12)).astype(np.float32)
    target = side(science, 10.0, 4.4)
    settings = KernelSettings(max_order=0)
    basis = gaussian_basis((0.7, 1.4, 2.8), (4, 3, 2), 9)
    stamps = build_stamps(target, reference, x, y, basis, settings)
    kernel, used = fit_kernel(stamps, basis, WHITE, SHAPE, settings)
    assert not used[7]
    assert kernel.coefficients[0, 0] == pytest.approx(1.1, abs=0.003)


def test_delta_basis_with_its_penalty_fits_too():
    target, reference, x, y, _ = pair_of_images(noise=0.0)
    settings = KernelSettings(max_order=0, basis="delta")
    basis = delta_basis(5)
    stamps = build_stamps(target, reference, x, y, basis, settings)
    kernel, _ = fit_kernel(stamps, basis, WHITE, SHAPE, settings)
    assert kernel.coefficients[0, 0] == pytest.approx(1.1, abs=0.01)
    assert kernel.chi2 < 1.5


def test_noise_products_are_those_of_convolved_noise():
    basis = gaussian_basis((0.8, 1.6), (2, 1), 6)
    flat = basis.images.reshape(len(basis.pairs), -1)
    assert np.allclose(noise_products(basis, WHITE), flat @ flat.T, atol=1e-10)


def test_kernel_of_the_psf_models_matches_them():
    basis = gaussian_basis((0.7, 1.4, 2.8), (4, 3, 2), 9)
    coefficients, _ = unit_kernel(gaussian_psf(3.4), gaussian_psf(4.4), basis, (200.0, 200.0))
    image = np.tensordot(coefficients, basis.images, axes=1)
    matched = fftconvolve(gaussian_psf(3.4).stamp(200, 200, 21), image, mode="valid")
    goal = gaussian_psf(4.4).stamp(200, 200, 12)
    assert np.abs(matched - goal).max() < 0.004 * goal.max()
