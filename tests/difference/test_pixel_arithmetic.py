"""The arithmetic of single pixels against its formula, written out plainly: inside, at edges and between tiles."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import fftconvolve

from imaging.difference.basis import gaussian_basis
from imaging.difference.blank import blank_sky
from imaging.difference.convolve import BLOCK, TILE, convolve_varying
from imaging.difference.coverage import MIN_DEFICIT, missing_input_error
from imaging.difference.design import Stamps, build_stamps
from imaging.difference.filter import FilteredDifference, measure_scale_error, significance
from imaging.difference.kernel import MatchingKernel
from imaging.difference.noise import TileNoise, predicted_weight
from imaging.difference.pair import prepare_pair
from imaging.difference.settings import KernelSettings
from imaging.difference.tiles import Tiling
from imaging.simulation.pairs import ExposureSpec, expose, make_pair_sky
from imaging.templates.relative import aperture_fluxes
from imaging.templates.stack import StackMakeup

SHAPE = (TILE + 70, TILE + 45)
RNG = np.random.default_rng(12)


def a_kernel(n_terms: int) -> MatchingKernel:
    """A kernel whose shape varies by a third over the image."""
    basis = gaussian_basis((1.0, 2.0), (2, 1), 6)
    coefficients = np.zeros((len(basis.pairs), n_terms))
    coefficients[0, 0] = 1.02
    coefficients[1:] = 0.3 * np.random.default_rng(4).normal(size=(len(basis.pairs) - 1, n_terms))
    place = ((SHAPE[1] / 2, SHAPE[0] / 2), (SHAPE[1] / 2, SHAPE[0] / 2))
    return MatchingKernel(basis, coefficients, np.zeros(1), *place, 2, 2, 50, 0, 1.0, 1e-3)


def convolved_at(image: NDArray, kernel: MatchingKernel, extra: NDArray, x: int, y: int) -> float:
    reach = kernel.basis.half_width
    wide = np.pad(image.astype(float), reach, mode="edge")[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
    here = kernel.images(np.array([float(x)]), np.array([float(y)]))[0] + extra
    return float((here[::-1, ::-1] * wide).sum())


@pytest.mark.parametrize("n_terms", [1, 3, 6])
def test_varying_kernel_is_the_right_one_at_every_pixel(n_terms):
    image = RNG.normal(0.0, 50.0, SHAPE).astype(np.float32)
    image[100, 120] = 3e5
    kernel = a_kernel(n_terms)
    rows, columns = -(-SHAPE[0] // BLOCK), -(-SHAPE[1] // BLOCK)
    changes = np.zeros((rows, columns, 3))
    changes[3:, 4:] = (0.3, -0.1, -0.2)
    images = RNG.normal(0.0, 0.05, (3, *kernel.basis.images.shape[1:]))
    plain, changed = convolve_varying(image, kernel), convolve_varying(image, kernel, changes, images)
    ny, nx = SHAPE
    places = [
        (0, 0),
        (nx - 1, ny - 1),
        (nx - 1, 3),
        (TILE - 1, TILE - 1),
        (TILE, TILE),
        (TILE, 5),
        (120, 100),
        (118, 103),
    ]
    places += [(int(x), int(y)) for x, y in RNG.integers(0, (nx, ny), (25, 2))]
    for x, y in places:
        extra = np.tensordot(changes[y // BLOCK, x // BLOCK], images, axes=1)
        assert plain[y, x] == pytest.approx(convolved_at(image, kernel, 0.0 * extra, x, y), abs=0.02)
        assert changed[y, x] == pytest.approx(convolved_at(image, kernel, extra, x, y), abs=0.02)
    assert np.array_equal(plain, convolve_varying(image, kernel))


def test_image_of_a_single_tile_is_convolved_too():
    kernel = a_kernel(3)
    image = RNG.normal(0.0, 1.0, (40, 33)).astype(np.float32)
    out = convolve_varying(image, kernel)
    assert out.shape == image.shape
    for x, y in ((0, 0), (32, 39), (16, 20)):
        assert out[y, x] == pytest.approx(convolved_at(image, kernel, np.zeros((13, 13)), x, y), abs=1e-4)


@pytest.fixture(scope="module")
def stamps() -> Stamps:
    """Stamps of a real pair, small ones with a narrow kernel."""
    shape = (300, 300)
    sky = make_pair_sky(6, shape, n_transients=2)
    frames = [expose(sky, ExposureSpec(0.9 + 0.2 * k, 60 + k, turbulence_mas=0.0), shape).image for k in range(2)]
    pair = prepare_pair(frames[1], frames[0])
    settings = KernelSettings(stamp_half_width=9)
    basis = gaussian_basis((0.9, 1.8), (2, 1), 5)
    x, y = np.array([150.0, 40.0, 7.0]), np.array([120.0, 260.0, 150.0])
    return build_stamps(pair.search, pair.template, x, y, basis, settings)


def test_normal_equations_are_those_of_the_convolved_columns(stamps):
    basis, side = stamps.basis, stamps.side
    for k in range(len(stamps.x)):
        images = [fftconvolve(stamps.patches[k].astype(float), image, mode="valid").ravel() for image in basis.images]
        columns = np.array([*images, np.ones(side * side)])
        weighted = columns * stamps.weight[k]
        scale = np.sqrt(np.outer(*(2 * [np.einsum("mp,mp->m", weighted, columns)]))) + 1e-9
        assert np.abs(stamps.normal[k] - weighted @ columns.T).max() < 1e-4 * scale.max()
        assert np.allclose(stamps.normal[k] / scale, weighted @ columns.T / scale, atol=2e-4)
        assert np.allclose(stamps.right[k], weighted @ stamps.data[k], rtol=1e-3, atol=1e-4 * scale.max() ** 0.5)


def test_stamps_convolved_with_a_kernel_each(stamps):
    kernels = RNG.normal(size=(3, 11, 11))
    out = stamps.convolved(kernels)
    for k in range(3):
        expected = fftconvolve(stamps.patches[k].astype(float), kernels[k], mode="valid").ravel()
        assert np.abs(out[k] - expected).max() < 2e-5 * np.abs(expected).max()


def test_moved_stamps_have_the_products_of_their_new_data(stamps):
    change = RNG.normal(0.0, 30.0, stamps.data.shape).astype(np.float32)
    moved = stamps.moved(change)
    nothing = stamps.take(np.zeros(len(stamps.x), dtype=bool))  # a part of the image without stars
    assert nothing.moved(change[:0]).right.shape == (0, stamps.right.shape[1])
    for k in range(len(stamps.x)):
        images = [fftconvolve(stamps.patches[k].astype(float), i, mode="valid").ravel() for i in stamps.basis.images]
        columns = np.array([*images, np.ones(stamps.side**2)])
        expected = (columns * stamps.weight[k]) @ (stamps.data[k] + change[k])
        assert np.allclose(moved.right[k], expected, rtol=2e-3, atol=1e-3 * np.abs(expected).max())


def test_aperture_flux_of_a_star_on_a_background():
    """Flux within the aperture above the local sky, its error, and the reasons for none."""
    y, x = np.mgrid[:200, :200]
    star = np.exp(-0.5 * ((x - 100) ** 2 + (y - 90) ** 2) / 2.0**2)
    science = (5e4 * star / star.sum() + 37.0).astype(np.float32)
    weight = np.full(science.shape, 0.01, np.float32)
    places = np.array([100.0, 60.0, 5.0, 100.0]), np.array([90.0, 60.0, 90.0, 195.0])
    flux, error = aperture_fluxes(science, weight, *places, 1e5)
    assert flux[0] == pytest.approx(5e4, rel=1e-3)
    assert error[0] == pytest.approx(np.sqrt(5e4 + 100.0 * np.pi * 11.1**2), rel=0.02)
    assert flux[1] == pytest.approx(0.0, abs=1.0)
    assert np.isnan(flux[2:]).all()  # too near the edges
    assert np.isnan(aperture_fluxes(science, weight, *places, 1000.0)[0][0])  # too bright
    weight[95, 104] = 0.0
    assert np.isnan(aperture_fluxes(science, weight, *places, 1e5)[0][0])  # a bad pixel inside
    weight[:] = 0.01
    weight[science < 37.5] = 0.0
    weight[78:103, 88:113] = 0.01
    assert np.isnan(aperture_fluxes(science, weight, *places, 1e5)[0][0])  # no sky left


def test_significance_is_flux_over_its_error_at_edges_too():
    shape = (70, 50)
    numerator, flux = (RNG.normal(0.0, s, shape).astype(np.float32) for s in (1.0, 500.0))
    norm = RNG.uniform(0.5, 2.0, shape).astype(np.float32)
    norm[20:25, 30:33] = 0.0
    tiling = Tiling(shape, 32, 4)
    widths = RNG.uniform(0.9, 1.1, tiling.grid)
    filtered = FilteredDifference(numerator, norm, flux, np.ones((*tiling.grid, 5, 5)))
    score = significance(filtered, 0.01, 0.02, widths, tiling)
    wide = np.pad(flux.astype(float), 1, mode="edge")
    gx, gy = wide[1:-1, 2:] - wide[1:-1, :-2], wide[2:, 1:-1] - wide[:-2, 1:-1]
    variance = 0.01**2 * flux.astype(float) ** 2 + 0.25 * 0.02**2 * (gx**2 + gy**2)
    known = norm > 0
    expected = np.zeros(shape)
    expected[known] = (numerator / np.sqrt(np.where(known, norm, 1) + variance * norm**2))[known]
    expected /= np.repeat(np.repeat(widths, 32, axis=0), 32, axis=1)[: shape[0], : shape[1]]
    assert np.abs(score - expected).max() < 1e-4 * np.abs(expected).max()
    assert (score[~known] == 0).all()


def test_scale_error_of_sources_that_leave_two_percent():
    shape = (200, 200)
    norm = np.full(shape, 1.0, np.float32)
    flux = np.zeros(shape, np.float32)
    flux[40:160, 40:160] = 3000.0
    residual = 0.02 * flux * RNG.normal(size=shape)
    filtered = FilteredDifference((residual * norm).astype(np.float32), norm, flux, np.ones((1, 1, 5, 5)))
    assert measure_scale_error(filtered, 0.0, min_snr=50.0, maximum=0.1) == pytest.approx(0.02, rel=0.03)
    assert np.isnan(measure_scale_error(filtered, 0.0, min_snr=4000.0, maximum=0.1))


def test_blank_sky_is_dark_and_good_in_images_of_any_side():
    shape = (43, 38)
    model = np.zeros(shape, np.float32)
    model[12:16, 20:24] = 2.0  # 16 pixels of two sigma each
    model[40, 37] = 30.0  # in the last, incomplete block
    weight = np.ones(shape, np.float32)
    weight[5, 6] = 0.0
    blank = blank_sky(model, weight)
    expected = np.ones(shape, bool)
    expected[12:16, 20:24] = expected[40:, 36:] = expected[5, 6] = False
    assert np.array_equal(blank, expected)


def test_weight_is_the_inverse_of_both_variances_and_photons():
    shape, tiling = (40, 40), Tiling((40, 40), 32, 4)
    search, template = (RNG.uniform(0.01, 0.02, shape).astype(np.float32) for _ in range(2))
    search[3, 4] = template[5, 6] = 0.0
    model = RNG.normal(0.0, 1000.0, shape).astype(np.float32)
    one = np.ones(tiling.grid)
    noise = TileNoise(
        np.ones((*one.shape, 3, 3), np.float32), np.ones((*one.shape, 3, 3), np.float32), 1.5 * one, 0.4 * one
    )
    weight = predicted_weight(search, template, model, (2.0, 3.0), None, noise, tiling)
    good = (search > 0) & (template > 0)
    variance = 1.5 / np.where(good, search, 1) + 0.4 / np.where(good, template, 1)
    variance += (1.5 / 2.0 + 0.4 / 3.0) * np.maximum(model, 0)
    assert np.allclose(weight[good], 1 / variance[good], rtol=1e-5)
    assert (weight[~good] == 0).all()


def test_pixels_that_lack_an_input_are_uncertain_as_far_as_the_kernel_reaches():
    shape = (64, 96)
    weight = np.full(shape, 3.0, np.float32)
    weight[30, 40] = 2.0  # a third of the weight is missing
    weight[10, 70] = 3.0 * (1 - 0.9 * MIN_DEFICIT)  # what the interpolation does
    weight[50, 20] = 0.0  # no weight at all is masked elsewhere
    stamps = np.zeros((2, 5, 5))
    stamps[:, 2, 2] = 0.09, 0.11
    makeup = StackMakeup(np.full((2, 3, 2), 0.5), 32, np.array([0.5, 0.5]), stamps)
    error = missing_input_error(makeup, weight, 3)
    expected = np.zeros(shape)
    expected[27:34, 37:44] = (0.05 + 0.1) / 3
    assert np.allclose(error, expected, atol=1e-6)
