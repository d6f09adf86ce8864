"""Proper subtraction against the formulas of Zackay, Ofek and Gal-Yam (2016) on whole transforms."""

import galsim
import numpy as np
import pytest
from known_pairs import TO_SIGMA, detectability, draw, lattice, pair_of, profile, side

from imaging.difference.pair import Pair
from imaging.difference.response import tile_stamps
from imaging.difference.settings import NoiseSettings, RegistrationSettings, SubtractionSettings
from imaging.difference.zogy import match_zogy
from imaging.errors import CcdError
from imaging.timing import StepTimes

SHAPE = (192, 192)
SEARCH_SIGMA, TEMPLATE_SIGMA, RATIO = 6.0, 4.0, 1.04
SETTINGS = SubtractionSettings(
    registration=RegistrationSettings(correct=False), noise=NoiseSettings(background_mesh_pixels=0, tile_pixels=96)
)
NEW, REF = profile(4.4, 0.06, 0.0), profile(3.8, 0.0, -0.05)
NEW_SIGMA, REF_SIGMA = 4.4 * TO_SIGMA, 3.8 * TO_SIGMA
TRANSIENT = (np.array([101.0]), np.array([70.0]), np.array([3000.0]))


def transform_of(psf: galsim.GSObject) -> np.ndarray:
    image = np.roll(draw(psf, [96.0], [96.0], [1.0], SHAPE), (-96, -96), axis=(0, 1))
    return np.fft.fft2(image)


def small_pair(ratio: float = RATIO, seed: int = 1) -> tuple[Pair, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x, y = lattice(16, SHAPE)
    keep = np.hypot(x - 101, y - 70) > 18
    x, y, flux = x[keep], y[keep], np.full(keep.sum(), 3e4)
    search = ratio * draw(NEW, x, y, flux, SHAPE) + draw(NEW, *TRANSIENT, SHAPE) + rng.normal(0, SEARCH_SIGMA, SHAPE)
    template = draw(REF, x, y, flux, SHAPE) + rng.normal(0, TEMPLATE_SIGMA, SHAPE)
    return pair_of(side(search, SEARCH_SIGMA, NEW), side(template, TEMPLATE_SIGMA, REF)), search, template


@pytest.fixture(scope="module")
def proper():
    pair, search, template = small_pair()
    return match_zogy(pair, SETTINGS, StepTimes()), pair, search, template


def test_difference_is_the_papers_proper_difference(proper):
    result, _, search, template = proper
    beta = result.kernel.sum
    new, ref = transform_of(NEW), transform_of(REF)
    root = np.sqrt(SEARCH_SIGMA**2 * np.abs(ref) ** 2 + beta**2 * TEMPLATE_SIGMA**2 * np.abs(new) ** 2 + 1e-12)
    zero = np.abs(ref[0, 0]) / root[0, 0]  # the flux of a source is kept
    expected = np.fft.ifft2((ref * np.fft.fft2(search) - beta * new * np.fft.fft2(template)) / root / zero).real
    matched = np.fft.ifft2(beta * new * np.fft.fft2(template) / root / zero).real
    # the transforms wrap at the edges; where both PSFs pass nothing a thousandth decides what is done with the noise
    inner = (slice(30, -30), slice(30, -30))
    sigma = np.hypot(SEARCH_SIGMA, beta * TEMPLATE_SIGMA)
    smooth = transform_of(profile(4.0)).real  # frequencies that the optics pass
    difference = np.fft.ifft2(np.fft.fft2(result.image - expected) * smooth).real[inner]
    assert difference.std() < 0.006 * sigma
    model = np.fft.ifft2(np.fft.fft2(result.model - matched) * smooth).real[inner]
    assert np.abs(model).max() < 1e-3 * matched.max()


def test_ratio_of_the_fluxes_is_measured_on_the_stars(proper):
    result, _, _, _ = proper
    assert result.kernel.sum == pytest.approx(RATIO, abs=3 * result.kernel.sum_error)
    assert result.kernel.sum_error < 0.01
    assert result.kernel.convolved == "template"
    assert 12 <= result.kernel.n_stamps <= 16
    assert result.kernel.chi2 == pytest.approx(1.0, abs=0.25)


def test_noise_of_the_proper_difference_is_white_with_the_sum_of_both_variances(proper):
    result, _, _, _ = proper
    beta, noise = result.kernel.sum, result.noise
    # the template's own ratio is in its factor: variances are those of the images as they came
    total = noise.search_factor * SEARCH_SIGMA**2 + noise.template_factor * beta**2 * TEMPLATE_SIGMA**2
    white = SEARCH_SIGMA**2 + beta**2 * TEMPLATE_SIGMA**2
    assert total == pytest.approx(np.full(total.shape, white), rel=2e-3)
    blank = np.ones(SHAPE, bool)
    blank[60:81, 91:112] = False
    blank[:20] = blank[-20:] = blank[:, :20] = blank[:, -20:] = False
    for a, b in zip(*lattice(16, SHAPE), strict=True):
        blank[int(b) - 10 : int(b) + 12, int(a) - 10 : int(a) + 12] = False
    n = blank.sum()
    assert result.image[blank].var() == pytest.approx(white, rel=4 * np.sqrt(2 / n) + 0.01)
    for axis in (0, 1):
        pairs = blank & np.roll(blank, 1, axis)
        lag = np.mean((result.image * np.roll(result.image, 1, axis))[pairs]) / white
        assert lag == pytest.approx(0.0, abs=4 / np.sqrt(n) + 0.01)


def test_transient_has_its_flux_and_the_best_signal_to_noise(proper):
    result, pair, _, _ = proper
    stamps = tile_stamps(pair.search.psf, result.noise, result.tiling)
    white = SEARCH_SIGMA**2 + RATIO**2 * TEMPLATE_SIGMA**2
    per_electron = np.sqrt((stamps**2).sum(axis=(2, 3)) / white)
    limit = detectability(4.4, 3.8, SEARCH_SIGMA, RATIO * TEMPLATE_SIGMA)
    assert per_electron == pytest.approx(np.full(stamps.shape[:2], limit), rel=0.01)
    psf = stamps[result.tiling.index(101, 70)]
    window = result.image[70 - 20 : 70 + 21, 101 - 20 : 101 + 21]
    flux = (window * psf).sum() / (psf**2).sum()
    assert flux == pytest.approx(3000.0, abs=3.5 / limit)
    assert result.noise.response.sum(axis=(2, 3)) == pytest.approx(np.ones(result.tiling.grid), abs=3e-3)


def test_stars_leave_no_more_than_noise(proper):
    result, _, _, _ = proper
    sigma = np.hypot(SEARCH_SIGMA, RATIO * TEMPLATE_SIGMA)
    sums = []
    for a, b in zip(*lattice(16, SHAPE), strict=True):
        if np.hypot(a - 101, b - 70) > 40:
            sums.append(result.image[round(b) - 5 : round(b) + 6, round(a) - 5 : round(a) + 6].sum() / 11 / sigma)
    # the error of the ratio, some per mille of 30000 electrons, moves all of them together
    assert np.std(sums) < 2.0
    assert abs(np.mean(sums)) < 4 * 3e4 * result.kernel.sum_error / 11 / sigma


@pytest.mark.parametrize(("ratio", "refused"), [(0.92, False), (1.08, False), (0.88, True), (1.12, True)])
def test_flux_ratio_beyond_a_tenth_is_refused(ratio, refused):
    pair, _, _ = small_pair(ratio)
    if not refused:
        assert match_zogy(pair, SETTINGS, StepTimes()).kernel.sum == pytest.approx(ratio, abs=0.01)
        return
    with pytest.raises(CcdError) as failure:
        match_zogy(pair, SETTINGS, StepTimes())
    assert failure.value.reason == "kernel_sum"
    assert float(failure.value.value) == pytest.approx(ratio, abs=0.01)
    assert failure.value.limit == "1 within 0.1"


def test_bad_pixels_are_zero_in_the_proper_difference():
    pair, _, _ = small_pair()
    pair.search.weight[40, 50] = pair.template.weight[120, 60] = 0.0
    image = match_zogy(pair, SETTINGS, StepTimes()).image
    assert image[40, 50] == image[120, 60] == 0.0
    assert (image[100, 40:60] != 0).all()
