"""The matching kernel against kernels that are known: Gaussians by scipy, PSFs by galsim."""

import numpy as np
import pytest
from known_pairs import SHAPE, TO_SIGMA, WHITE, draw, lattice, moments, profile, psf_model, side
from scipy.ndimage import gaussian_filter, shift
from scipy.signal import convolve2d, correlate2d
from scipy.special import erf

from imaging.difference.basis import delta_basis, gaussian_basis
from imaging.difference.convolve import convolve_varying
from imaging.difference.design import build_stamps
from imaging.difference.few_sources import match_sources
from imaging.difference.kernel import MatchingKernel, fit_kernel, noise_products, term_powers
from imaging.difference.psf_kernel import unit_kernel
from imaging.difference.settings import FewSourceSettings, KernelSettings

NY, NX = SHAPE
U, V = (np.arange(NX) - NX / 2) / (NX / 2), (np.arange(NY) - NY / 2)[:, None] / (NY / 2)
BASIS = gaussian_basis((0.8, 1.4, 2.4), (2, 2, 2), 8)
SIGMA = 10.0
TEMPLATE = profile(3.6)


def stars(n: int = 36, seed: int = 3) -> tuple:
    x, y = lattice(n, seed=seed)
    flux = 10 ** np.random.default_rng(seed).uniform(4.5, 5.3, n)
    return draw(TEMPLATE, x, y, flux), np.round(x), np.round(y), flux


def fit(target, reference, x, y, settings=None, basis=BASIS, sigma=SIGMA, choose=True, noise=0.1):
    settings = settings or KernelSettings(max_order=0, background_order=0)
    stamps = build_stamps(side(target, sigma), side(reference, noise), x, y, basis, settings)
    return fit_kernel(stamps, basis, WHITE, target.shape, settings, choose=choose)


def kernel_at(kernel: MatchingKernel, x: float, y: float) -> np.ndarray:
    return kernel.images(np.array([x]), np.array([y]))[0]


def noise(seed: int, sigma: float = SIGMA) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, sigma, SHAPE)


@pytest.mark.parametrize(("sigma_x", "sigma_y"), [(1.2, 1.2), (1.0, 1.6), (1.6, 1.0)])
def test_width_sum_and_background_of_a_gaussian_kernel_come_back(sigma_x, sigma_y):
    sharp, x, y, _ = stars()
    target = 0.93 * gaussian_filter(sharp, (sigma_y, sigma_x)) + 55.0 + noise(1)
    kernel, used = fit(target, sharp, x, y)
    total, centre_x, centre_y, xx, yy = moments(kernel_at(kernel, 150.0, 160.0))
    assert total == pytest.approx(0.93, abs=4 * kernel.sum_error)
    assert (xx, yy) == pytest.approx((sigma_x**2, sigma_y**2), rel=0.03)
    assert (centre_x, centre_y) == pytest.approx((0.0, 0.0), abs=0.01)
    # a constant fitted to 36 stamps of 31 x 31 pixels
    assert kernel.background == pytest.approx([55.0], abs=5 * SIGMA / np.sqrt(36 * 961))
    assert kernel.chi2 == pytest.approx(1.0, abs=0.05)
    assert used.sum() >= 34  # four sigma of the scatter that 36 stamps show
    assert (kernel.n_stamps, kernel.n_rejected) == (used.sum(), 36 - used.sum())


def test_kernel_carries_the_shift_of_the_target_towards_larger_x_and_y():
    sharp, x, y, _ = stars()
    moved = shift(gaussian_filter(sharp, 1.2), (-0.25, 0.4), order=5)
    kernel, _ = fit(moved + noise(2), sharp, x, y)
    _, centre_x, centre_y, _, _ = moments(kernel_at(kernel, 150.0, 160.0))
    assert (centre_x, centre_y) == pytest.approx((0.4, -0.25), abs=0.01)


@pytest.mark.parametrize("along", ["x", "y"])
def test_kernel_that_widens_along_one_axis_is_followed_there(along):
    sharp, x, y, _ = stars(50)
    share = 0.5 * (1 + (U if along == "x" else V))
    narrow, wide = gaussian_filter(sharp, 1.0), gaussian_filter(sharp, 1.6)
    target = (1 - share) * narrow + share * wide + noise(3)
    kernel, _ = fit(target, sharp, x, y, KernelSettings(max_order=2, background_order=0))
    assert kernel.order >= 1
    assert not kernel.coefficients[0, 1:].any()  # the shape varies, the sum does not
    for place in (40.0, 150.0, 260.0):
        a, b = (place, NY / 2) if along == "x" else (NX / 2, place)
        s = place / NX if along == "x" else place / NY
        total, _, _, xx, yy = moments(kernel_at(kernel, a, b))
        assert total == pytest.approx(1.0, abs=5 * kernel.sum_error)
        assert (xx, yy) == pytest.approx(2 * [(1 - s) * 1.0**2 + s * 1.6**2], rel=0.07)


def test_scale_that_falls_along_y_is_a_term_of_the_sum():
    sharp, x, y, _ = stars(50)
    target = (1.02 + 0.03 * U - 0.06 * V) * gaussian_filter(sharp, 1.2) + noise(4)
    settings = KernelSettings(max_order=1, scale_order=1, background_order=0)
    kernel, _ = fit(target, sharp, x, y, settings, choose=False)
    assert kernel.coefficients[0, :3] == pytest.approx([1.02, 0.03, -0.06], abs=4 * 1.7 * kernel.sum_error)
    at_corner = kernel.sums(np.array([NX * 0.75]), np.array([NY * 0.25]))[0]
    assert at_corner == pytest.approx(1.02 + 0.015 + 0.03, abs=6 * kernel.sum_error)
    constant, _ = fit(target, sharp, x, y, settings.with_values(max_order=0), choose=False)
    assert not constant.coefficients[:, 1:].any()  # the sum varies at most as the shape does


def test_background_is_a_polynomial_of_second_degree():
    sharp, x, y, _ = stars(50)
    truth = 20.0 + 9.0 * U - 14.0 * V + 11.0 * U**2 - 8.0 * U * V + 6.0 * V**2
    target = gaussian_filter(sharp, 1.2) + truth + noise(5)
    kernel, _ = fit(target, sharp, x, y, KernelSettings(max_order=0, background_order=2))
    assert kernel.background == pytest.approx([20.0, 9.0, -14.0, 11.0, -8.0, 6.0], abs=8 * SIGMA / np.sqrt(50 * 961))
    gx, gy = np.meshgrid(np.arange(30, NX, 60), np.arange(40, NY, 60))
    # at the corners six terms are known four times worse than the mean
    assert kernel.background_at(gx, gy) == pytest.approx(truth[gy, gx], abs=4 * 4 * SIGMA / np.sqrt(50 * 961))


def test_error_of_the_sum_is_the_scatter_of_many_fits():
    sharp, x, y, _ = stars(20)
    clean = gaussian_filter(sharp, 1.2)
    settings = KernelSettings(max_order=0, background_order=0, error_floor=0.0, clip_sigma=50.0)
    fits = [fit(clean + noise(100 + k), sharp, x, y, settings, choose=False)[0] for k in range(60)]
    sums = np.array([k.coefficients[0, 0] for k in fits])
    errors = np.array([k.sum_error for k in fits])
    # 60 sums know their scatter to 9 percent
    assert sums.std() == pytest.approx(errors.mean(), rel=0.28)
    assert sums.mean() == pytest.approx(1.0, abs=4 * errors.mean() / np.sqrt(60))


def test_error_of_the_sum_is_the_information_of_a_single_function():
    sharp, x, y, _ = stars(20)
    basis = gaussian_basis((1.2,), (0,), 8)
    settings = KernelSettings(max_order=0, background_order=0, error_floor=0.0, clip_sigma=50.0)
    kernel, _ = fit(gaussian_filter(sharp, 1.2) + noise(15), sharp, x, y, settings, basis)
    model = convolve2d(sharp, basis.images[0], mode="same")
    light = np.array([model[int(b) - 15 : int(b) + 16, int(a) - 15 : int(a) + 16] for a, b in zip(x, y, strict=True)])
    information = ((light - light.mean()) ** 2).sum() / SIGMA**2  # a constant is fitted with it
    assert kernel.sum_error == pytest.approx(np.sqrt(max(kernel.chi2, 1.0) / information), rel=1e-3)


def test_weights_that_promise_too_much_show_in_chi2_and_error():
    sharp, x, y, _ = stars(20)
    target = gaussian_filter(sharp, 1.2) + noise(6)
    settings = KernelSettings(max_order=0, background_order=0, error_floor=0.0)
    honest, proud = (fit(target, sharp, x, y, settings, sigma=s)[0] for s in (SIGMA, SIGMA / 2))
    assert proud.chi2 == pytest.approx(4 * honest.chi2, rel=0.01)
    assert proud.sum_error == pytest.approx(honest.sum_error, rel=0.03)
    modest = fit(target, sharp, x, y, settings, sigma=2 * SIGMA)[0]
    assert modest.sum_error == pytest.approx(2 * honest.sum_error, rel=0.05)


@pytest.mark.parametrize(("n", "order"), [(8, 0), (9, 1), (17, 1), (18, 2)])
def test_order_is_limited_by_the_number_of_stamps(n, order):
    sharp, x, y, _ = stars(n)
    settings = KernelSettings(max_order=2, background_order=2, clip_sigma=50.0)
    kernel, _ = fit(gaussian_filter(sharp, 1.2) + noise(7), sharp, x, y, settings, choose=False)
    assert kernel.order == order
    assert kernel.background.size == {0: 1, 1: 3, 2: 6}[order]


def test_stamp_that_is_half_bad_is_left_out():
    sharp, x, y, _ = stars(16)
    target, settings = gaussian_filter(sharp, 1.2) + noise(8), KernelSettings(max_order=0, background_order=0)
    flawed = side(target, SIGMA)
    i, j = int(x[5]), int(y[5])
    flawed.weight[j - 15 : j + 1, i - 15 : i + 16] = 0.0  # 16 of 31 rows
    i, j = int(x[6]), int(y[6])
    flawed.weight[j - 15 : j, i - 15 : i + 16] = 0.0  # 15 of 31 rows
    stamps = build_stamps(flawed, side(sharp, 0.1), x, y, BASIS, settings)
    kernel, used = fit_kernel(stamps, BASIS, WHITE, SHAPE, settings)
    assert stamps.n_pixels[[4, 5, 6]].tolist() == [961.0, 465.0, 496.0]
    assert np.flatnonzero(~used).tolist() == [5]
    assert kernel.n_rejected == 1


def test_stamps_have_the_variance_of_both_images_and_their_photons():
    rng = np.random.default_rng(9)
    ours, theirs = (rng.normal(200.0, 300.0, (70, 60)).astype(np.float32) for _ in range(2))
    first, second = side(ours, 6.0, gain=2.0), side(theirs, 4.0, gain=3.0)
    first.weight[31, 32] = second.weight[28, 27] = 0.0
    settings = KernelSettings(stamp_half_width=5, template_noise_share=0.4, error_floor=0.05)
    stamps = build_stamps(first, second, np.array([30.0, 3.0]), np.array([29.0, 66.0]), BASIS, settings)
    window = (slice(24, 35), slice(25, 36))
    light = np.maximum(0.5 * (ours + theirs), 0.0)[window].astype(float)
    reference = 4.0**2 + light / 3.0
    expected = 1.0 / (6.0**2 + light / 2.0 + 0.4 * reference + (0.05 * light) ** 2)
    expected[7, 7] = expected[4, 2] = 0.0
    assert stamps.weight[0].reshape(11, 11) == pytest.approx(expected, rel=1e-5)
    assert stamps.data[0].reshape(11, 11) == pytest.approx(ours[window])
    assert stamps.noise_bias[0] == pytest.approx((expected * reference).sum(), rel=1e-5)
    assert stamps.square[0] == pytest.approx((expected * ours[window].astype(float) ** 2).sum(), rel=1e-5)
    assert stamps.patches[0] == pytest.approx(theirs[16:43, 17:44])
    # half of the kernel's reach of 8 pixels at the edges, and what lies beyond, has no weight
    good = stamps.weight[1].reshape(11, 11) > 0
    columns, rows = np.arange(-2, 9), np.arange(61, 72)
    assert np.array_equal(good, np.outer(rows < 70 - 4, columns >= 4))


def test_cross_terms_of_the_noise_follow_its_autocorrelation():
    line = np.array([1.0, 0.6, 0.25, 0.1, 0.03, 0.01])
    correlation = np.outer(line, [1.0, 0.4, 0.1, 0.0, 0.0, 0.0])
    basis = gaussian_basis((0.8, 1.5), (1, 1), 4)
    whole = np.pad(correlation, ((5, 0), (5, 0)), mode="reflect")
    expected = [[(correlate2d(a, b) * np.pad(whole, 3)).sum() for b in basis.images] for a in basis.images]
    assert noise_products(basis, correlation) == pytest.approx(np.array(expected), abs=1e-9)


def test_penalty_of_a_delta_kernel_is_the_sum_of_its_squared_second_differences():
    basis = delta_basis(3)
    coefficients = np.random.default_rng(10).normal(size=len(basis.pairs))
    kernel = np.pad(np.tensordot(coefficients, basis.images, axes=1), 1)
    rows, columns = np.diff(kernel, n=2, axis=0)[:, 1:-1], np.diff(kernel, n=2, axis=1)[1:-1]
    assert coefficients @ basis.penalty @ coefficients == pytest.approx((rows**2).sum() + (columns**2).sum())


def test_heavier_penalty_makes_a_smoother_delta_kernel_of_the_same_sum():
    sharp, x, y, _ = stars(16)
    target, basis = 1.05 * gaussian_filter(sharp, 1.2) + noise(11), delta_basis(5)
    kernels = []
    for weight in (1e-4, 0.1, 10.0):
        settings = KernelSettings(basis="delta", max_order=0, background_order=0, delta_penalty=weight, max_chi2=1e9)
        kernels.append(kernel_at(fit(target, sharp, x, y, settings, basis)[0], 150.0, 150.0))
    roughness = [np.sum(np.diff(k, n=2, axis=0) ** 2 + np.diff(k, n=2, axis=1).T ** 2) for k in kernels]
    assert roughness[0] > 1.5 * roughness[1] > 3.0 * roughness[2]
    assert kernels[1].sum() == pytest.approx(1.05, abs=0.01)
    # left alone, its core is that of the Gaussian within what the noise moves between neighbouring pixels
    assert kernels[0][4:7, 4:7].sum() == pytest.approx(1.05 * erf(1.5 / 1.2 / np.sqrt(2)) ** 2, rel=0.05)


def test_functions_are_gaussians_times_polynomials_of_the_right_axis():
    basis = gaussian_basis((1.0, 2.0), (1, 0), 5)
    y, x = np.mgrid[-5:6, -5:6]
    window = np.exp(-0.5 * (x**2 + y**2))
    assert basis.half_width == 5
    assert basis.levels.tolist() == [0, 1, 1, 0]
    assert basis.images[0] == pytest.approx(window / window.sum())
    slopes = {"x": x * window, "y": y * window}
    assert basis.images[1] == pytest.approx(slopes["x"] / np.sqrt((slopes["x"] ** 2).sum()))
    assert basis.images[2] == pytest.approx(slopes["y"] / np.sqrt((slopes["y"] ** 2).sum()))
    broad = np.exp(-0.125 * (x**2 + y**2))
    assert basis.images[3] == pytest.approx(broad / broad.sum() - window / window.sum())
    assert gaussian_basis((0.7, 1.0, 2.0, 4.0), (2, 1, 0, 1), 5).levels.tolist()[-4:] == [0, 3, 3, 3]


def test_convolution_puts_the_light_where_the_kernel_has_it():
    basis = delta_basis(3)
    coefficients = np.zeros((len(basis.pairs), 1))
    wanted = np.zeros((7, 7))
    wanted[4, 1] = 1.0  # one row up, two columns to the left
    coefficients[:, 0] = np.linalg.solve(basis.images.reshape(49, 49).T, wanted.ravel())
    kernel = MatchingKernel(basis, coefficients, np.zeros(1), (150, 160), (150, 160), 0, 0, 0, 0, 1.0, 0.0)
    image = np.random.default_rng(12).normal(size=(70, 50)).astype(np.float32)
    expected = shift(image, (1, -2), order=0, mode="nearest")
    assert convolve_varying(image, kernel) == pytest.approx(expected, abs=2e-5)


def test_monomials_run_from_powers_of_x_to_powers_of_y():
    assert term_powers(7) == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2), (3, 0)]


@pytest.mark.parametrize(("e1", "e2"), [(0.0, 0.0), (0.15, 0.0), (-0.1, 0.12)])
def test_kernel_of_two_gaussian_psfs_has_the_difference_of_their_covariances(e1, e2):
    target = profile(4.8, e1, e2)
    coefficients, flux = unit_kernel(psf_model(TEMPLATE), psf_model(target), BASIS, (150.0, 160.0))
    image = np.tensordot(coefficients, BASIS.images, axes=1)
    total, mx, my, xx, yy = moments(image)
    y, x = np.mgrid[-8:9, -8:9]
    goal = _covariance(target) - _covariance(TEMPLATE)
    assert (total, flux) == pytest.approx((1.0, 1.0), abs=1e-3)
    assert (xx, yy) == pytest.approx((goal[0, 0], goal[1, 1]), rel=0.02)
    assert (image * (x - mx) * (y - my)).sum() == pytest.approx(goal[0, 1], abs=0.03)


def _plain() -> KernelSettings:
    return KernelSettings(max_order=0, background_order=0)


def _covariance(psf) -> np.ndarray:
    image = psf.drawImage(nx=81, ny=81, scale=0.5, method="no_pixel").array.astype(float)
    y, x = np.mgrid[-40:41, -40:41] * 0.5
    cross = (image * x * y).sum() / image.sum()
    return np.array([[(image * x * x).sum() / image.sum(), cross], [cross, (image * y * y).sum() / image.sum()]])


@pytest.mark.parametrize("snr", [120.0, 54.0, 42.0])
def test_few_sources_give_the_psf_kernel_its_sum_and_background(snr):
    x, y = lattice(16)
    width = np.hypot(3.6 * TO_SIGMA, 1.2)
    flux = np.full(16, snr * SIGMA * np.sqrt(4 * np.pi) * width)  # a star's noise is that of 4 pi s^2 pixels
    broad = profile(width / TO_SIGMA)
    target = 1.07 * draw(broad, x, y, flux) + 30.0 + noise(13)
    found = _matched(broad, target, draw(TEMPLATE, x, y, flux), x, y)
    assert found.clean.all()
    assert found.sum == pytest.approx(1.07, abs=4 * 1.25 / snr / np.sqrt(16))
    # the stated error is that of photons and of the scatter that is allowed to sources, which these do not have
    assert found.sum_error == pytest.approx(np.hypot(1 / snr, 0.03) / np.sqrt(16), rel=0.55)
    assert found.background == pytest.approx(30.0, abs=5 * 1.25 * SIGMA / np.sqrt(16 * 961))
    # the median of 16 stamps of 961 pixels, each with a scatter of sqrt(2 / 961)
    assert found.chi2 == pytest.approx(1.0, abs=0.07)


def _matched(broad, target, template, x, y):
    sides = side(target, SIGMA), side(template, 0.1)
    stamps = build_stamps(*sides, np.round(x), np.round(y), BASIS, _plain())
    return match_sources(psf_model(TEMPLATE), psf_model(broad), BASIS, (150.0, 160.0), stamps, FewSourceSettings())


def test_without_sources_the_sum_is_that_of_the_zero_points():
    found = _matched(profile(4.6), np.zeros(SHAPE), np.zeros(SHAPE), *np.zeros((2, 0)))
    assert (found.sum, found.sum_error) == (1.0, FewSourceSettings().zeropoint_error)
    assert (found.dx, found.dy, found.shift_error) == (0.0, 0.0, FewSourceSettings().shift_pixels)
    assert np.isnan(found.chi2)


@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("n", [1, 3])
def test_transient_in_the_only_stamps_changes_neither_sum_nor_shift(n, offset):
    """Transients of S/N 40 on all hosts: the sum stays that of the zero points, the shift that of the hosts."""
    x, y = lattice(n)
    flux = np.full(n, 150 * SIGMA * np.sqrt(4 * np.pi) * 4.6 * TO_SIGMA)
    broad = profile(4.6)
    target = draw(broad, x + 0.4, y - 0.3, flux) + draw(broad, x + 0.4 + offset, y - 0.3, 40 / 150 * flux) + noise(31)
    found = _matched(broad, target, draw(TEMPLATE, x, y, flux), x, y)
    assert not found.clean.any()
    assert found.sum == pytest.approx(1.0, abs=0.015)
    assert (found.dx, found.dy) == pytest.approx((0.4, -0.3), abs=0.05 + 4 * found.shift_error)
    assert found.shift_error < 0.3  # a transient in a point-like host's core may be at any place there


def test_noise_of_the_reference_is_known_by_the_products_of_a_monte_carlo():
    """White noise through the kernel has the variance that the products promise."""
    basis = gaussian_basis((0.8, 1.4), (1, 0), 4)
    coefficients = np.array([1.0, 0.3, -0.2, 0.5])
    field = np.random.default_rng(14).normal(size=(400, 400))
    seen = convolve2d(field, np.tensordot(coefficients, basis.images, axes=1), mode="valid")
    assert seen.var() == pytest.approx(coefficients @ noise_products(basis, WHITE) @ coefficients, rel=0.03)
