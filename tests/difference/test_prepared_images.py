"""Images of other pipelines: sky, weight, PSF, zero points and overlap, against what was drawn."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from scipy.ndimage import convolve1d

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.difference.engine import check_overlap, tie_zeropoint
from imaging.difference.prepare import (
    UNKNOWN_ZEROPOINT,
    calibrate,
    measure_psf,
    moffat_psf,
    stated_gain,
    without_sky,
)
from imaging.errors import CcdError, InputError, NoWorkError
from imaging.foreign.sky import measure_sky
from imaging.image import CcdImage, LoadedImage
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw, model_of

SHAPE = (256, 320)
WCS = seed_wcs(10, 150.0, -20.0)


def sky_frame(seed=1, *, stars=25, level=500.0, slope=0.05):
    """Draw stars on a sloping sky."""
    rng = np.random.default_rng(seed)
    sky = level + slope * np.arange(SHAPE[1])[None, :] + np.zeros(SHAPE)
    x, y = rng.uniform(20, SHAPE[1] - 20, stars), rng.uniform(20, SHAPE[0] - 20, stars)
    light = draw(SHAPE, x, y, rng.uniform(3e3, 5e4, stars))
    return sky, light, sky + light + rng.normal(0.0, SIGMA, SHAPE)


def loaded(science, *, weight=None, mask=None, gain=1.0, zeropoint=30.0, own=False, header=None, wcs=WCS):
    mask = np.zeros(science.shape, np.int16) if mask is None else mask
    planes = (science.astype(np.float32), mask, None if weight is None else weight.astype(np.float32))
    return LoadedImage(*planes, wcs, header or {}, gain, zeropoint, 6e4, own, "a.fits")


def test_the_sky_follows_its_slope_and_has_the_noise_that_was_drawn():
    sky, light, science = sky_frame()
    bad = np.zeros(SHAPE, bool)
    bad[100:110, 50:60] = True
    science[bad] = 1e5
    model = measure_sky(science.astype(np.float32), bad, None)
    # 4096 pixels per cell of the mesh, of which a tenth is masked: 0.16 electrons, and light below the threshold
    blank = light < 0.5
    assert np.median((model.level - sky)[blank]) == pytest.approx(0.0, abs=1.5)
    assert np.abs(model.level - sky)[blank].max() < 8.0
    assert model.level[:, 280:].mean() - model.level[:, :40].mean() == pytest.approx(0.05 * 280, abs=4.0)
    assert np.median(model.variance) == pytest.approx(SIGMA**2, rel=0.06)


def test_the_variance_of_a_weight_map_is_smoothed_and_never_zero():
    _, light, science = sky_frame(2)
    weight = 1 / (SIGMA**2 + np.maximum(light, 0.0))
    weight[:, :128] /= 1.2  # one amplifier is noisier
    weight[200:, 200:] = 0.0
    sky = measure_sky(science.astype(np.float32), np.zeros(SHAPE, bool), weight.astype(np.float32))
    assert np.median(sky.variance[:, :96]) == pytest.approx(1.2 * SIGMA**2, rel=0.03)
    assert np.median(sky.variance[:180, 224:]) == pytest.approx(SIGMA**2, rel=0.03)
    assert (sky.variance > 0).all()


@pytest.mark.parametrize(
    ("zeropoint", "given", "expected"), [(30.0, None, 30.0), (30.0, 27.5, 27.5), (None, 28.0, 28.0)]
)
def test_counts_become_electrons(zeropoint, given, expected):
    _, light, science = sky_frame(3)
    gain = 2.5
    mask = np.zeros(SHAPE, np.int16)
    mask[50, 60], mask[70, 80] = MaskBit.CRAY, MaskBit.SUSPECT
    science[10, 10] = np.nan
    weight = np.full(SHAPE, gain**2 / SIGMA**2)
    weight[10, 10] = weight[90, 100] = 0.0
    image = calibrate(
        loaded(science / gain, weight=weight, mask=mask, gain=gain, zeropoint=zeropoint),
        psf=model_of(ROUND),
        zeropoint_mag=given,
    )
    assert image.zeropoint_mag == pytest.approx(expected + 2.5 * np.log10(gain))
    assert image.saturation_electrons == 6e4 * gain and image.pixels.header["GAIN"] == 1.0
    assert image.sky_electrons == pytest.approx(500.0 + 0.05 * 160, abs=5.0)
    good = image.pixels.weight > 0
    assert good[70, 80] and not good[50, 60] and not good[10, 10] and not good[90, 100]
    assert image.pixels.mask[90, 100] & MaskBit.BPM and image.pixels.mask[10, 10] & MaskBit.BPM
    assert np.median(1 / image.pixels.weight[good]) == pytest.approx(SIGMA**2, rel=0.02)
    residual = (image.pixels.science - light)[good]
    assert np.isfinite(image.pixels.science).all()
    assert np.median(residual) == pytest.approx(0.0, abs=1.5) and residual.std() == pytest.approx(SIGMA, rel=0.04)


def test_an_own_product_is_taken_as_it_is_and_an_unknown_zero_point_is_thirty():
    rng = np.random.default_rng(4)
    science, weight = rng.normal(0.0, SIGMA, SHAPE), rng.uniform(0.5, 1.5, SHAPE) / SIGMA**2
    own = loaded(science, weight=weight, own=True, zeropoint=None, header={"SKYBRITE": 812.5, "GAIN": 3.0})
    image = calibrate(own, psf=model_of(ROUND))
    assert np.array_equal(image.pixels.science, science.astype(np.float32))
    assert np.array_equal(image.pixels.weight, weight.astype(np.float32))
    assert (image.sky_electrons, image.zeropoint_mag) == (812.5, UNKNOWN_ZEROPOINT)
    assert image.pixels.header["GAIN"] == 3.0


@pytest.mark.parametrize("what", ["constant", "masked"])
def test_an_image_that_shows_nothing_is_refused(what):
    science = np.full(SHAPE, 7.0) if what == "constant" else np.random.default_rng(5).normal(size=SHAPE)
    mask = np.full(SHAPE, MaskBit.BPM if what == "masked" else 0, np.int16)
    with pytest.raises(CcdError, match="all the same" if what == "constant" else "no good pixel") as failure:
        calibrate(loaded(science, mask=mask))
    assert failure.value.reason == "no_good_pixels"


@pytest.mark.parametrize(("fwhm", "beta"), [(3.2, 3.5), (5.5, 2.5)])
def test_a_moffat_psf_is_that_of_galsim(fwhm, beta):
    model = moffat_psf(fwhm, beta)
    judge = galsim.Moffat(beta=beta, fwhm=fwhm)
    image = judge.drawImage(nx=41, ny=41, scale=1.0, method="no_pixel").array
    aperture = np.hypot(*np.mgrid[-60:61, -60:61] / 4.0) <= 11.11
    fine = judge.drawImage(nx=121, ny=121, scale=0.25, method="no_pixel").array
    image /= fine[aperture].sum()
    assert model.stamp(50.0, 70.0, 20) == pytest.approx(image, abs=0.004 * float(image.max()))
    assert model.fwhm_pixels == fwhm and model.degree == 0


def test_a_psf_comes_from_the_stars_that_there_are_and_else_from_their_width():
    rng = np.random.default_rng(6)
    mask, weight = np.zeros(SHAPE, np.int16), np.full(SHAPE, 1 / SIGMA**2, np.float32)
    for n, flux in ((30, 5e4), (2, 4e3)):
        x, y = rng.uniform(30, SHAPE[1] - 30, n), rng.uniform(30, SHAPE[0] - 30, n)
        science = draw(SHAPE, x, y, np.full(n, flux)) + rng.normal(0.0, SIGMA, SHAPE)
        psf = measure_psf(CcdImage(science.astype(np.float32), mask, weight, {}))
        seen = 2.3548 * np.sqrt((FWHM / 2.3548) ** 2 + 1 / 12)
        assert psf.fwhm_pixels == pytest.approx(seen, rel=0.03 if n == 30 else 0.12)
        stamp = draw((31, 31), [15.0], [15.0], [1.0])
        if n == 30:
            assert psf.stamp(160.0, 128.0, 15) == pytest.approx(stamp, abs=0.03 * stamp.max())
    empty = rng.normal(0.0, SIGMA, SHAPE).astype(np.float32)
    with pytest.raises(CcdError):
        measure_psf(CcdImage(empty, mask, weight, {}))


def a_star_field(scale, seed, zeropoint, fields=6):
    rng = np.random.default_rng(seed)
    x, y = (50.0 + 48 * k.ravel() for k in np.mgrid[:fields, :fields])
    flux = np.random.default_rng(7).uniform(3e4, 3e5, x.size)
    image = draw((340, 340), x, y, scale * flux) + rng.normal(0.0, SIGMA, (340, 340))
    return replace(difference_of(image).as_image(), zeropoint_mag=zeropoint)


@pytest.mark.parametrize("ratio", [0.4, 1.0, 3.0])
def test_a_template_is_tied_to_the_search_image_by_the_ratio_of_its_stars(ratio):
    search, template = a_star_field(1.0, 8, 30.7), a_star_field(ratio, 9, -99.0)
    tied = tie_zeropoint(search, template)
    assert tied.zeropoint_mag == pytest.approx(30.7 + 2.5 * np.log10(ratio), abs=0.003)
    assert tied.pixels is template.pixels and tied.psf is template.psf and tied.label == template.label


def test_without_common_stars_no_template_can_be_tied():
    blank = difference_of(np.random.default_rng(10).normal(0.0, SIGMA, (340, 340))).as_image()
    with pytest.raises(CcdError, match="share no bright star") as failure:
        tie_zeropoint(a_star_field(1.0, 8, 30.7), blank)
    assert failure.value.reason == "no_common_stars"


def test_fields_are_compared_by_their_corners_on_the_sky():
    science = np.zeros(SHAPE)
    here, near = loaded(science), loaded(science, wcs=seed_wcs(10, 150.0, -20.0 + 0.015))
    afar = loaded(science, wcs=seed_wcs(10, 150.0, -19.0))
    check_overlap(here, [afar, near], 0.3)
    with pytest.raises(NoWorkError) as failure:
        check_overlap(here, [afar, loaded(science, wcs=seed_wcs(10, 150.0, -17.0))], 0.3)
    middle = [SkyCoord(*(float(v) for v in w.pixel_to_sky(159.5, 127.5)), unit="deg") for w in (WCS, afar.wcs)]
    apart = middle[0].separation(middle[1]).deg
    assert f"{apart:.3g} deg away" in str(failure.value) and failure.value.reason == "no_template_overlap"
    assert failure.value.limit == "at least 30 %"


def resampled_frame(*, rises: bool):
    """Draw stars on an image whose noise an interpolation has reduced by 1.7, with the weights of its input."""
    rng = np.random.default_rng(5)
    _, light, _ = sky_frame(5, stars=60)
    kernel, gain = np.array([0.2, 0.6, 0.2]), 4.0
    noise = rng.normal(0.0, np.sqrt(SIGMA**2 + np.maximum(light, 0.0)))
    noise = convolve1d(convolve1d(noise, kernel, axis=0), kernel, axis=1)
    variance = SIGMA**2 + (np.maximum(light, 0.0) if rises else 0.0) + np.zeros(SHAPE)
    return loaded((light + noise) / gain, weight=gain**2 / variance, gain=None), gain


def test_weights_of_a_resampled_image_show_the_gain_by_their_own_rise_only():
    image, gain = resampled_frame(rises=True)
    prepared = without_sky(image)
    assert prepared.variance_ratio == pytest.approx((0.2**2 + 0.6**2 + 0.2**2) ** 2, rel=0.1)
    assert stated_gain(image, prepared) == pytest.approx(gain, rel=0.1)
    image, _ = resampled_frame(rises=False)
    assert stated_gain(image, without_sky(image)) is None


@pytest.mark.parametrize("factor", [1.0, 1e-4, 100.0])
def test_weights_that_are_right_but_for_a_factor_give_noise_and_gain(factor):
    """Maps of exposure times, of zeros and ones: the noise is that of the sky, the gain follows from their rise."""
    gain = 2.0
    _, light, _ = sky_frame(5, stars=60)
    depth = np.where(np.arange(SHAPE[1]) < 160, 1.0, 2.0) + np.zeros(SHAPE)
    variance = (SIGMA**2 + np.maximum(light, 0.0)) / depth
    science = light + np.random.default_rng(6).normal(0.0, np.sqrt(variance))
    image = loaded(science / gain, weight=factor * gain**2 / variance, gain=None)
    prepared = without_sky(image)
    assert prepared.has_relative_weights is (factor != 1.0) and prepared.correlation is None
    for part, expected in ((np.s_[:, :96], 1.0), (np.s_[:, 224:], 2.0)):
        assert np.median(prepared.variance[part]) == pytest.approx(SIGMA**2 / expected / gain**2, rel=0.1)
    measured = stated_gain(image, prepared)
    assert measured is not None and 0.9 * gain < measured < 1.1 * 2.0 * gain  # that of one exposure to that of two


@pytest.mark.parametrize("power", [-0.5, -1.0])
def test_errors_given_as_weights_are_refused_where_the_noise_shows_it(power):
    _, light, _ = sky_frame(5)
    variance = SIGMA**2 * np.where(np.arange(SHAPE[1]) < 160, 1.0, 4.0) + np.zeros(SHAPE)
    science = light + np.random.default_rng(6).normal(0.0, np.sqrt(variance))
    with pytest.raises(InputError, match="noise of the sky is lower where the weights are lower"):
        without_sky(loaded(science, weight=variance**-power))
    without_sky(loaded(science, weight=1.0 / variance))


@pytest.mark.parametrize("stated", [0.05, 1.0, 4.0, 6.0, 99.0, 360.0, None])
def test_a_gain_that_the_noise_of_the_stars_contradicts_is_replaced_by_that_noise(stated):
    """GAIN of one exposure of several, in counts per second, already times the exposure time, inverted."""
    gain = 4.0
    _, light, _ = sky_frame(8, stars=60)
    science = (light + np.random.default_rng(9).normal(0.0, np.sqrt(SIGMA**2 + light))) / gain
    image = calibrate(loaded(science, gain=stated), psf=model_of(ROUND))
    if stated in (4.0, 6.0):
        assert image.pixels.header["FILEGAIN"] == stated
    else:
        assert image.pixels.header["FILEGAIN"] == pytest.approx(gain, rel=0.25)
    given = calibrate(replace(loaded(science, gain=99.0), is_gain_given=True), psf=model_of(ROUND))
    assert given.pixels.header["FILEGAIN"] == 99.0
