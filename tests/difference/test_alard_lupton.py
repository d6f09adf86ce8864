"""Matching and subtraction of pairs whose kernel, flux ratio, background and transients are known."""

from dataclasses import replace

import numpy as np
import pytest
from known_pairs import (
    SHAPE,
    TO_SIGMA,
    WHITE,
    calibrated,
    detectability,
    draw,
    lattice,
    moments,
    pair_of,
    profile,
    psf_model,
    side,
)
from photutils.aperture import CircularAperture, aperture_photometry
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve

from bench.difference_runs import Scenario, is_true, run, take
from imaging.difference.alard_lupton import choose_basis, match_alard_lupton, subtract_mesh, with_stamps_for
from imaging.difference.basis import gaussian_basis
from imaging.difference.design import build_stamps
from imaging.difference.kernel import MatchingKernel
from imaging.difference.matching import KernelMatch, find_kernel, find_shifts
from imaging.difference.noise import predicted_weight
from imaging.difference.response import tile_stamps
from imaging.difference.settings import KernelSettings, NoiseSettings, RegistrationSettings, SubtractionSettings
from imaging.difference.subtract import subtract
from imaging.errors import CcdError
from imaging.psf.shape import aperture_flux
from imaging.templates.stack import StackMakeup
from imaging.timing import StepTimes

NY, NX = SHAPE
SHARP, BROAD = 3.8, 4.6
SEARCH_SIGMA, TEMPLATE_SIGMA = 12.0, 9.0
RATIO = 1.06
TRANSIENTS = (np.array([90.3, 205.6, 151.0]), np.array([77.2, 160.4, 240.8]), np.array([6000.0, -4000.0, 9000.0]))
PLAIN = SubtractionSettings(
    kernel=KernelSettings(max_order=0, background_order=1), noise=NoiseSettings(background_mesh_pixels=0)
)
BASIS = gaussian_basis((0.8, 1.4, 2.4), (2, 2, 2), 8)


def two_images(search_fwhm, template_fwhm, seed=21, transients=TRANSIENTS, n=30):
    """Search with transients, a flux ratio and a tilted background against the template."""
    x, y = lattice(n)
    flux = 10 ** np.random.default_rng(4).uniform(4.4, 5.1, n)
    rng = np.random.default_rng(seed)
    u, v = np.meshgrid(np.arange(NX) / (NX / 2) - 1, np.arange(NY) / (NY / 2) - 1)
    search = RATIO * draw(profile(search_fwhm), x, y, flux) + draw(profile(search_fwhm), *transients)
    search += 25.0 + 6.0 * u - 9.0 * v + rng.normal(0.0, SEARCH_SIGMA, SHAPE)
    template = draw(profile(template_fwhm), x, y, flux) + rng.normal(0.0, TEMPLATE_SIGMA, SHAPE)
    return search, template, x, y


def two_sides(search_fwhm, template_fwhm, **more):
    search, template, x, y = two_images(search_fwhm, template_fwhm, **more)
    first = side(search, SEARCH_SIGMA, profile(search_fwhm))
    return pair_of(first, side(template, TEMPLATE_SIGMA, profile(template_fwhm))), x, y


@pytest.fixture(scope="module", params=["template", "search"])
def matched(request):
    seeing = (BROAD, SHARP) if request.param == "template" else (SHARP, BROAD)
    pair, x, y = two_sides(*seeing)
    return request.param, seeing, x, y, match_alard_lupton(pair, PLAIN, StepTimes()), pair


def away_from(x, y, radius: float) -> np.ndarray:
    gy, gx = np.mgrid[:NY, :NX]
    far = (gx >= 25) & (gx < NX - 25) & (gy >= 25) & (gy < NY - 25)
    for a, b in zip(x, y, strict=True):
        far &= np.hypot(gx - a, gy - b) > radius
    return far


def test_sharper_image_is_convolved_and_the_flux_ratio_is_that_of_the_search(matched):
    convolved, _, _, _, result, _ = matched
    kernel = result.kernel
    assert kernel.convolved == convolved
    assert kernel.fallback == ""
    assert kernel.sum == pytest.approx(RATIO, abs=4 * kernel.sum_error)
    # no fit beats the fluxes of its stars, each known to the noise of 4 pi s^2 pixels; free wings cost a few times that
    noise = np.hypot(SEARCH_SIGMA, TEMPLATE_SIGMA) * np.sqrt(4 * np.pi) * BROAD * TO_SIGMA
    flux = np.sort(10 ** np.random.default_rng(4).uniform(4.4, 5.1, 30))[-kernel.n_stamps :]
    assert 1.0 < kernel.sum_error / (noise / np.sqrt((flux**2).sum())) < 5.0


def test_nothing_of_stars_and_background_is_left(matched):
    _, _, x, y, result, _ = matched
    blank = away_from(TRANSIENTS[0], TRANSIENTS[1], 25.0)
    sigma = np.sqrt(predicted_variance(result))
    sky = blank & away_from(x, y, 14.0)
    assert result.image[sky].mean() == pytest.approx(0.0, abs=6 * sigma / np.sqrt(sky.sum()))
    gy, gx = np.nonzero(sky)
    slopes = np.polyfit(gx / NX, result.image[sky], 1)[0], np.polyfit(gy / NY, result.image[sky], 1)[0]
    assert slopes == pytest.approx((0.0, 0.0), abs=8 * sigma * np.sqrt(12 / sky.sum()))
    apertures = aperture_photometry(result.image, CircularAperture(np.transpose([x, y]), 7.0))["aperture_sum"]
    error = sigma * np.sqrt(np.pi * 49)
    clear = np.array([np.hypot(TRANSIENTS[0] - a, TRANSIENTS[1] - b).min() > 30 for a, b in zip(x, y, strict=True)])
    assert clear.sum() > 15
    # the model's own error, 0.2 percent of the light, comes on top
    assert np.abs(apertures[clear]).max() < 4 * np.hypot(error, 0.002 * 1.2e5)


def predicted_variance(result) -> float:
    noise = result.noise
    return float(np.mean(noise.search_factor * SEARCH_SIGMA**2 + noise.template_factor * TEMPLATE_SIGMA**2))


def test_noise_is_white_and_as_wide_as_predicted(matched):
    _, _, x, y, result, _ = matched
    sky = away_from(np.append(x, TRANSIENTS[0]), np.append(y, TRANSIENTS[1]), 14.0)
    normal = result.image / np.sqrt(predicted_variance(result))
    error = 1 / np.sqrt(sky.sum())
    assert normal[sky].std() == pytest.approx(1.0, abs=5 * error / np.sqrt(2) + 0.005)
    for axis in (0, 1):
        both = sky & np.roll(sky, 1, axis)
        assert np.mean((normal * np.roll(normal, 1, axis))[both]) == pytest.approx(0.0, abs=5 * error + 0.005)


def test_transients_keep_their_flux_in_electrons_of_the_search(matched):
    _, _, _, _, result, _ = matched
    x, y, flux = TRANSIENTS
    sums = aperture_photometry(result.image, CircularAperture(np.transpose([x, y]), 11.0))["aperture_sum"]
    error = np.sqrt(predicted_variance(result) * np.pi * 121)
    assert np.asarray(sums) == pytest.approx(flux, abs=3.5 * error)
    # a star of 6000 electrons would stand 250 above the template's noise and the background of 25
    assert result.model[77, 90] < 25 + 8 * TEMPLATE_SIGMA


def test_signal_to_noise_per_electron_is_what_zackay_allows(matched):
    _, seeing, _, _, result, pair = matched
    stamps = tile_stamps(pair.search.psf, result.noise, result.tiling)
    reached = np.sqrt(np.sum(stamps**2, axis=(2, 3)) / predicted_variance(result))
    # the template counts in electrons of the search: its noise is that much larger
    limit = detectability(*seeing, SEARCH_SIGMA, RATIO * TEMPLATE_SIGMA)
    assert reached == pytest.approx(np.full(reached.shape, limit), rel=0.02)


def test_matched_template_has_the_search_images_flux_and_seeing(matched):
    convolved, _, x, y, result, _ = matched
    brightest = np.argmax([result.model[round(b), round(a)] for a, b in zip(x, y, strict=True)])
    i, j = round(x[brightest]), round(y[brightest])
    stamp = result.model[j - 11 : j + 12, i - 11 : i + 12].astype(float)
    level = 0.0 if convolved == "template" else np.median(result.model[away_from(x, y, 16)])
    flux = 10 ** np.random.default_rng(4).uniform(4.4, 5.1, 30)[brightest]
    assert (stamp - level).sum() == pytest.approx(RATIO * flux, rel=0.02)
    if convolved == "template":
        _, _, _, xx, yy = moments(stamp[2:-2, 2:-2])
        assert np.sqrt(xx * yy) == pytest.approx((BROAD * TO_SIGMA) ** 2, rel=0.05)


def test_without_whitening_the_noise_keeps_the_kernels_correlation():
    pair, x, y = two_sides(BROAD, SHARP)
    settings = PLAIN.with_values(noise=NoiseSettings(decorrelate=False, background_mesh_pixels=0))
    result = match_alard_lupton(pair, settings, StepTimes())
    kernel_variance = (BROAD**2 - SHARP**2) * TO_SIGMA**2
    power = RATIO**2 * np.array([1.0, np.exp(-0.25 / kernel_variance)]) / (4 * np.pi * kernel_variance)
    sky = away_from(np.append(x, TRANSIENTS[0]), np.append(y, TRANSIENTS[1]), 14.0)
    assert result.noise.search_factor == pytest.approx(np.ones(result.tiling.grid))
    # the fit follows the Gaussian within some percent
    assert result.noise.template_factor == pytest.approx(np.full(result.tiling.grid, power[0]), rel=0.12)
    lag = np.mean((result.image * np.roll(result.image, 1, 1))[sky & np.roll(sky, 1, 1)])
    variance = SEARCH_SIGMA**2 + TEMPLATE_SIGMA**2 * power[0]
    assert lag == pytest.approx(TEMPLATE_SIGMA**2 * power[1], abs=5 * variance / np.sqrt(sky.sum()) + 1.0)


@pytest.mark.parametrize("convolved", ["template", "search"])
def test_change_of_the_stacks_inputs_is_followed_by_the_kernel(convolved):
    """Half of the template comes from a sharper input alone: its stars are matched there too."""
    seeing = (5.2, 4.2) if convolved == "template" else (3.4, 4.2)
    inputs = (profile(3.9), profile(4.5))
    x, y = lattice(64)
    x, flux = np.where(np.abs(x - 192) < 14, x - 30, x), np.full(64, 6e4)
    left = x < 192
    rng = np.random.default_rng(22)
    search = draw(profile(seeing[0]), x, y, flux) + rng.normal(0.0, 5.0, SHAPE)
    template = sum(draw(p, x, y, np.where(left, 0.5, float(k == 0)) * flux) for k, p in enumerate(inputs))
    pair = pair_of(side(search, 5.0, profile(seeing[0])), side(template, 0.5, profile(4.2)))
    shares = np.full((10, 10, 2), 0.5)
    shares[:, 6:] = (1.0, 0.0)
    stamps = np.array([psf_model(p).stamp(0.0, 0.0, 30) for p in inputs])
    makeup = StackMakeup(shares, 32, np.array([0.5, 0.5]), stamps)
    kernel = KernelSettings(max_order=0, background_order=0, stamps_per_cell=40)
    settings = PLAIN.with_values(registration=RegistrationSettings(correct=False), kernel=kernel)
    worst = []
    for known in (makeup, None):
        result = match_alard_lupton(replace(pair, makeup=known), settings, StepTimes())
        places = [(round(b), round(a)) for a, b, here in zip(x, y, left, strict=True) if not here]
        worst.append(np.median([np.abs(result.image[j - 3 : j + 4, i - 3 : i + 4]).max() for j, i in places]))
    # noise alone has 2.5 sigma of about 6 as the highest of 49 pixels
    assert worst[0] < 0.4 * worst[1]
    assert result.model_error is None


def test_basis_spans_the_width_that_turns_one_seeing_into_the_other():
    basis = choose_basis(3.0, 5.0, KernelSettings())
    widths = basis.factors[[0, 5, 9, 12], basis.half_width + 1]
    matching = np.sqrt(5.0**2 - 3.0**2) * TO_SIGMA
    assert np.sqrt(-0.5 / np.log(widths)) == pytest.approx(matching * np.array([0.5, 1, 2, 4]), rel=1e-4)
    assert basis.half_width == int(np.ceil(3 * 4 * matching))
    assert choose_basis(4.0, 10.0, KernelSettings()).half_width == 28
    for sharp, broad in ((3.0, 4.0), (4.0, 6.0), (3.0, 9.0), (4.6, 9.7)):  # no step at the kernel's border
        factors = choose_basis(sharp, broad, KernelSettings()).factors
        assert np.abs(factors[:, [0, -1]]).max() < 0.05 * np.abs(factors).max()
    equal = choose_basis(4.0, 4.0, KernelSettings(sigma_factors=(0.25, 1.0), degrees=(1, 1)))
    widths = equal.factors[[0, 2], equal.half_width + 1]
    assert np.sqrt(-0.5 / np.log(widths)) == pytest.approx([0.7, 1.4])
    assert equal.half_width == 7
    middle = choose_basis(3.0, 5.0, KernelSettings(sigma_factors=(2.0,), degrees=(1,)))
    assert middle.half_width == int(np.ceil(6 * matching))
    assert choose_basis(3.0, 5.0, KernelSettings(basis="delta", delta_half_width=4)).factors.shape == (9, 9)


def test_a_broad_image_leaves_no_rings_about_stars():
    # a kernel of 14 pixels leaves 145 of them
    scenario = Scenario(
        70,
        search_fwhm=2.6,
        template_fwhm=0.85,
        n_templates=1,
        shape=(1536, 1536),
        n_transients=10,
        missed_cosmic_rays=0,
    )
    truth = take(scenario)
    detections = run(truth, scenario).detections
    false = ~is_true(detections, truth)[0] & (detections.flags == 0)
    assert false.sum() <= 8


def test_stamps_hold_the_wings_of_a_broad_image():
    assert with_stamps_for(4.5, KernelSettings()).stamp_half_width == 15
    assert with_stamps_for(10.0, KernelSettings()).stamp_half_width == 25
    assert with_stamps_for(10.0, KernelSettings(stamp_reach_fwhm=0.0)).stamp_half_width == 15


def test_mesh_takes_out_a_wave_but_no_source_and_no_bad_pixel():
    shape, rng = (256, 256), np.random.default_rng(23)
    wave = 20.0 * np.sin(np.arange(256) / 256 * np.pi)[None, :] * np.ones(shape)
    model = draw(profile(20.0), [128.0], [128.0], [4e5], shape, 141).astype(np.float32)
    science = (wave + 0.1 * model + rng.normal(0.0, 5.0, shape)).astype(np.float32)
    good = np.ones(shape, bool)
    good[40:44], science[40:44] = False, 900.0
    left = subtract_mesh(science.copy(), good, model, 5.0, 32)
    dark = good & (model < 15.0)
    assert left[dark].mean() == pytest.approx(0.0, abs=0.5)
    columns = np.where(dark, left, 0.0).sum(axis=0) / dark.sum(axis=0)
    assert np.abs(columns).max() < 2.0 + 4 * 5.0 / np.sqrt(dark.sum(axis=0).min())
    assert left[dark].std() == pytest.approx(5.0, rel=0.04)
    # the light beneath the masked source stays within the mesh's error over its area
    core = model > 100.0
    assert left[core].sum() == pytest.approx(0.1 * model[core].sum(), abs=3.0 * core.sum())
    assert np.array_equal(subtract_mesh(science.copy(), good, model, 5.0, 0), science)


def test_mesh_takes_the_level_out_of_an_image_that_is_smaller():
    shape, rng = (100, 121), np.random.default_rng(29)
    model = draw(profile(6.0), [60.0], [50.0], [4e5], shape, 41).astype(np.float32)
    science = (9.0 + 0.1 * model + rng.normal(0.0, 5.0, shape)).astype(np.float32)
    good = np.ones(shape, bool)
    left = subtract_mesh(science.copy(), good, model, 5.0, 128)
    dark = model < 15.0
    assert left[dark].mean() == pytest.approx(0.1 * model[dark].mean(), abs=4 * 5.0 / np.sqrt(dark.sum()))
    assert np.ptp(science - left) < 1e-3  # one level: no part of a source is taken out
    nowhere_dark = np.full(shape, 1e3, dtype=np.float32)
    assert np.array_equal(subtract_mesh(science.copy(), good, nowhere_dark, 5.0, 128), science)


def test_mesh_takes_out_what_the_halo_of_a_very_bright_star_leaves():
    """All of the image is brighter than three sigma; 5 % of the halo remain and are smooth, those of a star are not."""
    shape, rng = (512, 512), np.random.default_rng(30)
    y, x = np.mgrid[: shape[0], : shape[1]]
    halo = 30.0 + 400.0 * np.exp(-0.5 * np.hypot(x - 256.0, y - 256.0) ** 2 / 120.0**2)
    star = draw(profile(4.0), [300.0], [220.0], [4e5], shape, 41)
    science = (0.05 * (halo + star) + rng.normal(0.0, 5.0, shape)).astype(np.float32)
    everywhere = np.ones(shape, bool)
    left = subtract_mesh(science, everywhere, (halo + star).astype(np.float32), 5.0, 32, everywhere)
    inside = (np.hypot(x - 256.0, y - 256.0) < 150.0) & (star < 1.0)
    assert 0.05 * halo[inside].mean() > 10.0 and abs(left[inside].mean()) < 1.0
    assert left[star > 100.0].sum() == pytest.approx(0.05 * star[star > 100.0].sum(), rel=0.1)


def test_shift_of_the_target_is_found_with_its_sign():
    x, y = lattice(36)
    rng = np.random.default_rng(24)
    dx, dy = 0.12 * np.sign(y - NY / 2), -0.08 * np.sign(y - NY / 2)
    flux = np.full(36, 3e4)
    reference = draw(profile(3.8), x, y, flux)
    target = draw(profile(4.6), x + dx, y + dy, flux) + rng.normal(0.0, 10.0, SHAPE)
    sides = side(target, 10.0, profile(4.6)), side(reference, 0.1, profile(3.8))
    basis = gaussian_basis((np.sqrt(4.6**2 - 3.8**2) * TO_SIGMA,), (0,), 8)
    kernel = MatchingKernel(basis, np.ones((1, 1)), np.zeros(1), (150, 160), (150, 160), 0, 0, 36, 0, 1.0, 1e-3)
    stamps, nothing = (build_stamps(*sides, np.round(x[:n]), np.round(y[:n]), basis, KernelSettings()) for n in (36, 0))
    settings = RegistrationSettings(scales_pixels=(150.0, 300.0))
    field = find_shifts(KernelMatch(kernel, stamps, ""), SHAPE, settings)
    assert field.n_sources == 36
    assert (field.dx[0, 1:5].mean(), field.dy[0, 1:5].mean()) == pytest.approx((-0.12, 0.08), abs=0.02)
    assert (field.dx[5, 1:5].mean(), field.dy[5, 1:5].mean()) == pytest.approx((0.12, -0.08), abs=0.02)
    assert find_shifts(KernelMatch(kernel, nothing, ""), SHAPE, settings).n_sources == 0
    proud = replace(kernel, background=np.array([40.0]))  # four sigma beside the data: no stamp is sound
    assert find_shifts(KernelMatch(proud, stamps, ""), SHAPE, settings).n_sources == 0


@pytest.mark.parametrize("convolved", ["template", "search"])
def test_shifts_that_vary_over_the_image_are_corrected_either_way(convolved):
    seeing = (BROAD, SHARP) if convolved == "template" else (SHARP, BROAD)
    shape, rng = (420, 420), np.random.default_rng(25)
    x, y = lattice(81, shape)
    dx, dy = 0.15 * np.sin(x / 45.0), 0.15 * np.cos(y / 45.0)
    flux = np.full(81, 4e4)
    search = draw(profile(seeing[0]), x + dx, y + dy, flux, shape) + rng.normal(0.0, 8.0, shape)
    template = draw(profile(seeing[1]), x, y, flux, shape) + rng.normal(0.0, 8.0, shape)
    pair = pair_of(side(search, 8.0, profile(seeing[0])), side(template, 8.0, profile(seeing[1])))
    kernel = KernelSettings(max_order=0, background_order=0, stamps_per_cell=40)
    left = {}
    for correct in (True, False):
        registration = RegistrationSettings(correct=correct)
        settings = PLAIN.with_values(registration=registration, kernel=kernel)
        result = match_alard_lupton(pair, settings, StepTimes())
        stamps = [
            result.image[round(b) - 5 : round(b) + 6, round(a) - 5 : round(a) + 6] for a, b in zip(x, y, strict=True)
        ]
        left[correct] = np.median([s.std() for s in stamps])
    assert left[True] < 0.6 * left[False]


def kernel_of(pair, settings, makeup=None):
    return find_kernel(pair.search, pair.template, BASIS, WHITE, makeup, settings)


def test_first_fit_is_trusted_and_moves_stars_that_are_displaced_on_their_own():
    """Each source's own shift is taken out before the kernel is fitted, so the kernel does not widen by it."""
    x, y = lattice(40)
    rng = np.random.default_rng(26)
    sharp = draw(profile(3.6), x, y, np.full(40, 3e4))
    own = rng.normal(0.0, 0.2, (2, 40))
    shaken = draw(profile(3.6), x + own[0], y + own[1], np.full(40, 3e4))
    widths = []
    for stars in (sharp, shaken):
        target = gaussian_filter(stars, 1.3) + rng.normal(0.0, 5.0, SHAPE)
        pair = pair_of(side(target, 5.0, profile(4.7)), side(sharp, 0.1, profile(3.6)))
        match = kernel_of(pair, KernelSettings(max_order=0, background_order=0, max_chi2=500.0, stamps_per_cell=20))
        assert match.fallback == ""
        assert match.kernel.n_stamps >= 25
        _, _, _, xx, yy = moments(match.kernel.images(np.array([150.0]), np.array([160.0]))[0])
        widths.append(0.5 * (xx + yy))
    assert widths[0] == pytest.approx(1.3**2, rel=0.02)
    # left in, shifts of 0.2 pixels would add their variance of 0.04, 2.4 percent
    assert widths[1] == pytest.approx(widths[0], abs=0.012)


@pytest.mark.parametrize(("n", "fallback"), [(6, ""), (2, "kernel of the PSF models"), (0, "kernel of the PSF models")])
def test_few_sources_end_at_the_kernel_of_the_psfs(n, fallback):
    x, y = lattice(max(n, 1))
    flux = np.full(n, 8e4)
    rng = np.random.default_rng(27)
    target = draw(profile(4.6), x[:n], y[:n], flux) + rng.normal(0.0, 10.0, SHAPE)
    reference = draw(profile(3.8), x[:n], y[:n], flux) + rng.normal(0.0, 3.0, SHAPE)
    pair = pair_of(side(target, 10.0, profile(4.6)), side(reference, 3.0, profile(3.8)))
    match = kernel_of(pair, KernelSettings())
    assert match.fallback == fallback
    assert len(match.stamps.x) == n
    image = match.kernel.images(np.array([150.0]), np.array([160.0]))[0]
    wide, goal = psf_model(profile(3.8)).stamp(0.0, 0.0, 20), psf_model(profile(4.6)).stamp(0.0, 0.0, 12)
    assert np.abs(fftconvolve(wide, image, mode="valid") - goal).max() < 0.03 * goal.max()


def test_faint_sources_give_a_constant_kernel():
    x, y = lattice(16)
    sigma = 10.0
    peak = 9.0 * sigma  # above half of the twelve sigma that a stamp needs, below all of it
    flux = np.full(16, peak * 2 * np.pi * (3.8 * TO_SIGMA) ** 2)
    rng = np.random.default_rng(28)
    x, y = np.round(x), np.round(y)
    target = draw(profile(4.6), x, y, flux) + rng.normal(0.0, 3.0, SHAPE)
    reference = draw(profile(3.8), x, y, flux) + rng.normal(0.0, sigma, SHAPE) * 0.2
    pair = pair_of(side(target, 3.0, profile(4.6)), side(reference, sigma, profile(3.8)))
    match = kernel_of(pair, KernelSettings())
    assert match.fallback == "constant kernel"
    assert match.kernel.order == 0
    assert match.kernel.coefficients[0, 0] == pytest.approx(1.0, abs=5 * match.kernel.sum_error)


@pytest.mark.parametrize(("ratio", "raises"), [(1.18, False), (0.82, False), (1.23, True), (0.77, True)])
def test_flux_ratio_beyond_a_fifth_is_refused(ratio, raises):
    x, y = lattice(30)
    rng = np.random.default_rng(29)
    target = ratio * draw(profile(4.6), x, y, np.full(30, 8e4)) + rng.normal(0.0, 5.0, SHAPE)
    reference = draw(profile(3.8), x, y, np.full(30, 8e4)) + rng.normal(0.0, 1.0, SHAPE)
    pair = pair_of(side(target, 5.0, profile(4.6)), side(reference, 1.0, profile(3.8)))
    if not raises:
        assert kernel_of(pair, KernelSettings()).kernel.coefficients[0, 0] == pytest.approx(ratio, abs=0.005)
        return
    with pytest.raises(CcdError) as failure:
        kernel_of(pair, KernelSettings())
    assert failure.value.reason == "kernel_sum"
    assert float(failure.value.value) == pytest.approx(ratio, abs=0.006)


def test_images_that_no_kernel_matches_are_refused_for_their_chi2():
    x, y = lattice(30)
    rng = np.random.default_rng(30)
    target = draw(profile(4.6, 0.3), x, y, np.full(30, 8e4)) + rng.normal(0.0, 2.0, SHAPE)
    reference = draw(profile(3.8), x, y, np.full(30, 8e4)) + rng.normal(0.0, 2.0, SHAPE)
    pair = pair_of(side(target, 2.0, profile(4.6)), side(reference, 2.0, profile(3.8)))
    with pytest.raises(CcdError) as failure:
        find_kernel(pair.search, pair.template, gaussian_basis((1.1,), (1,), 7), WHITE, None, KernelSettings())
    assert failure.value.reason == "kernel_chi2"
    assert float(failure.value.value) > 10.0


def test_whole_subtraction_finds_a_transient_at_its_analytic_significance():
    search, template, x, y = two_images(BROAD, SHARP)
    images = (
        calibrated(search, SEARCH_SIGMA, profile(BROAD)),
        calibrated(template, TEMPLATE_SIGMA, profile(SHARP), 31.0),
    )
    difference = subtract(*images)
    assert aperture_flux(difference.psf) == pytest.approx(1.0, abs=2e-3)
    per_electron = detectability(BROAD, SHARP, SEARCH_SIGMA, RATIO * TEMPLATE_SIGMA)
    filtered = difference.filtered
    for a, b, flux in zip(*TRANSIENTS, strict=True):
        j, i = round(b), round(a)
        window = (slice(j - 2, j + 3), slice(i - 2, i + 3))
        # at the peak between pixels the filter's answer is that of the offset: exp(-d^2 / 4 s^2)
        offset = np.hypot(a - i, b - j)
        loss = np.exp(-(offset**2) / (4 * (BROAD * TO_SIGMA) ** 2))
        score = difference.score[j, i]
        assert score == pytest.approx(flux * per_electron * loss, abs=3.5 + 0.04 * abs(flux) * per_electron)
        assert np.abs(difference.score[window]).max() == pytest.approx(np.abs(difference.score[j, i]), rel=0.1)
        measured = filtered.numerator[j, i] / filtered.norm[j, i]
        assert measured == pytest.approx(flux * loss, abs=3.5 / per_electron + 0.03 * abs(flux))
    quiet = away_from(np.append(x, TRANSIENTS[0]), np.append(y, TRANSIENTS[1]), 20.0)
    # score and noise are correlated over 4 pi s^2 pixels
    independent = quiet.sum() / (4 * np.pi * (BROAD * TO_SIGMA) ** 2)
    assert difference.score[quiet].std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * independent) + 0.02)
    assert difference.quality["kernel_sum"] == pytest.approx(RATIO, abs=0.006)


@pytest.mark.parametrize(("overstated", "refused"), [(1.4, False), (1.6, True), (1 / 1.4, False), (1 / 1.6, True)])
def test_noise_is_brought_to_the_skys_within_half_again(overstated, refused):
    """Weights that promise less or more noise than there is are corrected up to a factor, and refused beyond."""
    search, template, x, y = two_images(BROAD, SHARP)
    images = [
        calibrated(science, sigma / overstated, profile(fwhm))
        for science, sigma, fwhm in ((search, SEARCH_SIGMA, BROAD), (template, TEMPLATE_SIGMA, SHARP))
    ]
    if refused:
        with pytest.raises(CcdError) as failure:
            subtract(*images)
        assert failure.value.reason == "difference_noise"
        assert float(failure.value.value.split()[0]) == pytest.approx(overstated, rel=0.04)
        return
    difference = subtract(*images)
    assert difference.quality["noise_width_predicted"] == pytest.approx(overstated, rel=0.03)
    quiet = away_from(np.append(x, TRANSIENTS[0]), np.append(y, TRANSIENTS[1]), 14.0)
    assert (difference.image * np.sqrt(difference.weight))[quiet].std() == pytest.approx(1.0, abs=0.03)


def test_prediction_of_the_weight_is_that_of_the_result(matched):
    _, _, _, _, result, pair = matched
    dark = np.zeros(SHAPE, np.float32)
    weight = predicted_weight(
        *(pair.search.weight, pair.template.weight, dark, (1.0, 1.0), None, result.noise, result.tiling)
    )
    assert np.median(weight) == pytest.approx(1 / predicted_variance(result), rel=0.02)


@pytest.mark.parametrize(("size", "followed"), [(400, True), (180, False), (1100, False)])
def test_on_small_images_a_smaller_mesh_follows_a_sky_that_turns_fast(size, followed):
    """Moonlight of one sigma, 100 pixels wide: 23 false detections in 600 x 600 pixels before."""
    y, x = np.indices((size, size))
    light = 5.0 * np.exp(-0.5 * ((x - 0.6 * size) ** 2 + (y - 0.5 * size) ** 2) / 100.0**2)
    white = np.random.default_rng(2).normal(0.0, 5.0, (size, size))
    good, nowhere = np.ones((size, size), bool), np.zeros((size, size), np.float32)
    left = subtract_mesh((white + light).astype(np.float32), good, nowhere, 5.0, 128)
    peak = np.hypot(x - 0.6 * size, y - 0.5 * size) < 25
    assert (abs(left[peak].mean()) < 4 * 5.0 / np.sqrt(np.count_nonzero(peak))) == followed
    plain = subtract_mesh(white.astype(np.float32), good, nowhere, 5.0, 128)
    assert np.std(white - plain) < 0.1  # what is no structure is not followed
