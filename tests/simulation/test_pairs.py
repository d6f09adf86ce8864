"""Pairs of images with known truth: fluxes, places, noise, masks, and search minus template under equal PSFs."""

from dataclasses import replace

import galsim
import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.wcs import WCS
from scipy.stats import kstest
from sky_judges import coordinates

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.simulation.pairs import CCD, POINTING, ExposureSpec, PairSky, expose, make_pair_sky

SHAPE = (300, 260)
STILL = ExposureSpec(1.052, 5, turbulence_mas=0.0, astrometry_error_mas=0.0, cosmic_rays=0)
ZEROPOINT = 31.4


def electrons(mag):
    return 10.0 ** (-0.4 * (np.asarray(mag, dtype=float) - ZEROPOINT))


def a_sky(*, stars=((), (), ()), galaxies=((), (), (), (), (), ()), transients=((), (), ())) -> PairSky:
    return PairSky(*(np.array(column, dtype=float) for column in (*stars, *galaxies, *transients)))


def astropy_of(image) -> WCS:
    return WCS(fits.Header(list(image.wcs.to_header().items())))


@pytest.fixture(scope="module")
def crowd():
    sky = make_pair_sky(3, (1200, 1000), n_transients=300)
    return sky, expose(sky, replace(STILL, transients=True), (1200, 1000))


def test_the_sky_has_the_sources_of_high_latitude():
    sky = make_pair_sky(3, n_transients=400)
    area = (4096 + 160) * (2048 + 160) / (4096 * 2048)
    for values, expected in ((sky.star_x, 2300 * area), (sky.galaxy_x, 14000 * area)):
        assert abs(values.size - expected) < 4 * np.sqrt(expected)
    assert kstest((sky.star_x + 80) / 2208, "uniform").pvalue > 1e-3
    assert kstest((sky.galaxy_y + 80) / 4256, "uniform").pvalue > 1e-3
    assert kstest((sky.star_mag - 12.5) / 11.5, "beta", (2.6, 1.0)).pvalue > 1e-3
    assert kstest((25.5 - sky.galaxy_mag[sky.galaxy_mag > 16]) / 1.25, "expon").pvalue > 1e-3
    assert np.hypot(sky.galaxy_e1, sky.galaxy_e2).max() <= 0.7 + 1e-9
    assert kstest((sky.transient_mag - 18.0) / 6.3, "uniform").pvalue > 1e-3
    assert sky.transient_x.size == 400
    # half of the transients lie within a few radii of a galaxy brighter than 22.5
    host = sky.galaxy_mag < 22.5
    gx, gy, radius = sky.galaxy_x[host], sky.galaxy_y[host], sky.galaxy_radius[host] / 0.263
    reach = [np.min(np.hypot(gx - x, gy - y) / radius) for x, y in zip(sky.transient_x, sky.transient_y, strict=True)]
    assert kstest(reach[:200], lambda r: 1 - np.exp(-0.5 * r**2)).statistic < 0.15  # or nearer to another one
    assert np.median(reach[200:]) > 4 * np.median(reach[:200])


def test_the_same_seed_gives_the_same_pixels_and_another_exposure_other_noise():
    sky = a_sky(stars=([100.0], [150.0], [18.0]))
    first, again = expose(sky, STILL, SHAPE), expose(sky, STILL, SHAPE)
    np.testing.assert_array_equal(first.image.pixels.science, again.image.pixels.science)
    np.testing.assert_array_equal(first.image.pixels.mask, again.image.pixels.mask)
    other = expose(sky, replace(STILL, seed=6), SHAPE)
    noise = [(f.image.pixels.science - f.model)[f.image.pixels.mask == 0] for f in (first, other)]
    n = min(len(v) for v in noise)
    assert abs(np.corrcoef(noise[0][:n], noise[1][:n])[0, 1]) < 4 / np.sqrt(n)
    assert not np.array_equal(make_pair_sky(1, SHAPE).star_x, make_pair_sky(2, SHAPE).star_x)


@pytest.mark.parametrize(("sky_electrons", "read_noise"), [(2500.0, 7.0), (400.0, 15.0)])
def test_noise_is_that_of_light_sky_and_readout(sky_electrons, read_noise):
    x, y = np.meshgrid(np.arange(20.0, 260.0, 10.0), np.arange(20.0, 300.0, 10.0))
    sky = a_sky(stars=(x.ravel(), y.ravel(), np.full(x.size, 19.5)))
    frame = expose(sky, replace(STILL, sky_electrons=sky_electrons, read_noise=read_noise), SHAPE)
    good = frame.image.pixels.mask == 0
    background = np.full(SHAPE, sky_electrons + read_noise**2)
    background[:, SHAPE[1] // 2 :] *= 1.08  # the other amplifier
    assert np.median(frame.model) > 0.1 * background[0, 0]
    residual = (frame.image.pixels.science - frame.model).astype(float)
    bright = frame.model > background
    for chosen in (
        good,
        good & bright,
        good & (np.arange(SHAPE[1]) < SHAPE[1] // 2),
        good & (np.arange(SHAPE[1]) >= SHAPE[1] // 2),
    ):
        chi = residual[chosen] / np.sqrt(background + frame.model)[chosen]
        assert chi.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * chosen.sum()))
        assert abs(chi.mean()) < 4 / np.sqrt(chosen.sum())
    np.testing.assert_allclose(frame.image.pixels.weight[good], 1.0 / background[good], rtol=1e-5)
    assert not frame.image.pixels.weight[~good].any()


def test_stars_have_the_flux_of_their_magnitude_where_the_truth_says(crowd):
    mag = np.array([15.0, 16.5, 18.0, 19.5])
    x, y = np.array([60.2, 190.7, 70.4, 200.1]), np.array([70.6, 60.3, 220.9, 230.2])
    frame = expose(a_sky(stars=(x, y, mag)), STILL, SHAPE)
    model = frame.model.astype(float)
    flux, _, _ = sep.sum_circle(model, x, y, 11.11, subpix=10)
    # unit flux in the reference aperture; ellipticity and size vary over the image by a per cent, light of the others
    np.testing.assert_allclose(flux[:3], electrons(mag[:3]), rtol=5e-3)
    wx, wy, _ = sep.winpos(model, np.round(x), np.round(y), 2.0)
    np.testing.assert_allclose((wx, wy), (x, y), atol=2e-3)
    assert frame.image.zeropoint_mag == ZEROPOINT
    measured = frame.image.pixels.science.astype(float)
    bad = (frame.image.pixels.mask != 0).astype(np.uint8)
    noisy, truth = (sep.sum_circle(v, x, y, 11.11, subpix=10, mask=bad)[0] for v in (measured, model))
    assert np.abs((noisy - truth) / np.sqrt(truth + np.pi * 11.11**2 * 2650)).max() < 4.0


def test_the_profile_is_galsims_moffat_of_the_width_asked_for():
    frame = expose(a_sky(stars=([130.0], [150.0], [15.0])), STILL, SHAPE)
    stamp = frame.model[100:201, 80:181].astype(float)
    moffat = galsim.Moffat(beta=3.0, fwhm=4.0, flux=1.0)
    alpha2 = 4.0 / (2 ** (1 / 3) - 1)
    fraction = 1.0 - (1.0 + 11.11**2 / alpha2) ** -2.0
    drawn = moffat.drawImage(nx=101, ny=101, scale=1.0, method="no_pixel").array * electrons(15.0) / fraction
    assert stamp.max() == pytest.approx(drawn.max(), rel=0.06)  # size and shape vary by a few per cent
    radial = [stamp[50, 50 + r] / drawn[50, 50 + r] for r in (4, 8, 12)]
    assert radial == pytest.approx([1.0] * 3, abs=0.12)
    moments = galsim.hsm.FindAdaptiveMom(galsim.Image(stamp))
    reference = galsim.hsm.FindAdaptiveMom(galsim.Image(drawn.astype(float)))
    assert moments.moments_sigma == pytest.approx(reference.moments_sigma, rel=0.03)
    assert abs(moments.observed_shape.e) < 0.08


def test_the_model_of_the_psf_draws_what_is_in_the_pixels():
    x, y = np.array([40.0, 130.3, 220.0]), np.array([260.4, 150.0, 45.0])
    frame = expose(a_sky(stars=(x, y, np.full(3, 15.0))), STILL, SHAPE)
    for cx, cy in zip(x, y, strict=True):
        stamp = frame.image.psf.stamp(cx, cy, 10)
        cut = frame.model[round(cy) - 10 : round(cy) + 11, round(cx) - 10 : round(cx) + 11] / electrons(15.0)
        assert np.abs(stamp - cut).max() < 2e-3 * cut.max()
        assert stamp[np.hypot(*np.mgrid[-10:11, -10:11]) < 10].sum() == pytest.approx(0.993, abs=0.01)


def test_galaxies_keep_their_light_and_their_shape():
    for e1, e2 in ((0.4, 0.0), (0.0, -0.4)):
        galaxies = ([130.2], [150.1], [16.0], [3.0], [e1], [e2])
        frame, star = (
            expose(a_sky(galaxies=galaxies), STILL, SHAPE),
            expose(a_sky(stars=([130.2], [150.1], [16.0])), STILL, SHAPE),
        )
        total, point = frame.model.sum(dtype=float), star.model.sum(dtype=float)
        assert total == pytest.approx(point, rel=2e-3)
        shape = galsim.hsm.FindAdaptiveMom(galsim.Image(frame.model[90:211, 70:191].astype(float))).observed_shape
        along, other = (shape.e1, shape.e2) if e1 else (-shape.e2, shape.e1)
        assert along == pytest.approx(0.35, abs=0.08)  # the PSF makes it rounder, and has a shape of its own
        assert abs(other) < 0.08
        assert frame.model.max() < 0.5 * star.model.max()


def test_search_minus_template_under_equal_psfs_is_the_transients():
    mag = np.array([16.0, 17.0, 18.0])
    x, y = np.array([60.0, 200.0, 120.0]), np.array([60.0, 90.0, 230.0])
    galaxies = ([62.0, 150.0], [58.0, 150.0], [17.0, 18.0], [1.0, 2.0], [0.1, 0.0], [0.0, 0.2])
    sky = a_sky(stars=([100.0], [150.0], [16.0]), galaxies=galaxies, transients=(x, y, mag))
    search, template = expose(sky, replace(STILL, transients=True), SHAPE), expose(sky, STILL, SHAPE)
    difference = search.model.astype(float) - template.model
    flux, _, _ = sep.sum_circle(difference, x, y, 11.11, subpix=10)
    np.testing.assert_allclose(flux, electrons(mag), rtol=8e-3)
    assert (search.true_x, search.true_y) == (pytest.approx(x, abs=1e-6), pytest.approx(y, abs=1e-6))
    assert difference.sum() == pytest.approx(electrons(mag).sum() * 1.007, rel=0.01)  # with the wings beyond it
    assert abs(difference[140:160, 95:105]).max() < 0.05 * template.model[140:160, 95:105].max()
    other = expose(sky, replace(STILL, seed=8), SHAPE)
    noise = (search.image.pixels.science - other.image.pixels.science) - (search.model - other.model)
    good = (search.image.pixels.mask | other.image.pixels.mask) == 0
    variance = 2 * 2549.0 * np.where(np.arange(SHAPE[1]) < SHAPE[1] // 2, 1.0, 1.08) + search.model + other.model
    assert np.var((noise / np.sqrt(variance))[good]) == pytest.approx(1.0, abs=4 * np.sqrt(2.0 / good.sum()))


def test_dithered_images_show_the_same_sky_through_astropy():
    sky = a_sky(transients=([100.0, 180.0], [120.0, 200.0], [15.0, 15.5]))
    specs = (replace(STILL, transients=True), replace(STILL, transients=True, seed=9, dither_pixels=(12.3, -7.6)))
    frames = [expose(sky, spec, SHAPE) for spec in specs]
    found = []
    for frame in frames:
        model = frame.model.astype(float)
        wx, wy, _ = sep.winpos(model, np.round(frame.true_x), np.round(frame.true_y), 2.0)
        np.testing.assert_allclose((wx, wy), (frame.true_x, frame.true_y), atol=3e-3)
        found.append(coordinates(*astropy_of(frame.image).all_pix2world(wx, wy, 0)))
    assert found[0].separation(found[1]).mas.max() < 2.0
    # the camera points 12.3 pixels to the north and 7.6 to the west: sources move to the south (+x) and the east (+y)
    assert frames[1].true_x - frames[0].true_x == pytest.approx([12.3] * 2, abs=0.1)
    assert frames[1].true_y - frames[0].true_y == pytest.approx([7.6] * 2, abs=0.1)
    pointing = coordinates(*frames[1].image.wcs.crval)
    assert coordinates(*POINTING).separation(pointing).arcsec == pytest.approx(np.hypot(12.3, 7.6) * 0.263, rel=1e-3)
    exact = coordinates(*seed_wcs(CCD, *POINTING).pixel_to_sky([100.0, 180.0], [120.0, 200.0]))
    assert found[0].separation(exact).mas.max() < 2.0


def test_turbulence_and_errors_of_the_coordinates_have_their_size():
    x, y = np.meshgrid(np.linspace(0, 1000, 11), np.linspace(0, 1200, 13))
    sky = a_sky(transients=(x.ravel(), y.ravel(), np.full(x.size, 24.0)))
    shifts, errors = [], []
    for seed in range(6):
        frame = expose(sky, replace(STILL, seed=seed, turbulence_mas=20.0, astrometry_error_mas=5.0), (64, 64))
        shifts += [frame.true_x - x.ravel(), frame.true_y - y.ravel()]
        errors += list(np.subtract(frame.image.wcs.crpix, seed_wcs(CCD, *POINTING).crpix) * 263.0)
    shifts = np.array(shifts) * 263.0
    # the field is cut for a frame of 64 pixels, and held beyond it: per axis and seed a number each, of rms 20 mas
    assert np.sqrt(np.mean(shifts[:, 0] ** 2)) == pytest.approx(20.0, rel=4 / np.sqrt(2 * len(shifts)))
    assert np.std(errors) == pytest.approx(5.0, rel=4 / np.sqrt(2 * len(errors)))
    wide = expose(sky, replace(STILL, turbulence_mas=20.0), (1200, 1000))
    across = (wide.true_x - x.ravel()).reshape(x.shape) * 263.0
    assert 1.0 < np.abs(np.diff(across, axis=1)).max() < 25.0  # 26 arcsec of a correlation length of 90


def test_wells_overflow_along_columns_and_are_flagged():
    frame = expose(a_sky(stars=([60.0, 180.0], [150.0, 150.0], [11.5, 17.5])), STILL, SHAPE)
    mask, science = frame.image.pixels.mask, frame.image.pixels.science
    full = (mask & MaskBit.SATURATE) != 0
    bad = (mask & MaskBit.BPM) != 0
    assert full[150, 60]
    assert not full[:, 170:190].any()
    assert science[~bad].max() <= 150_000.0
    np.testing.assert_array_equal(full & ~bad, (frame.model > 150_000.0) & full & ~bad)
    trail = (mask & MaskBit.TRAIL) != 0
    rows, columns = np.nonzero(trail)
    assert np.abs(columns - 60).max() < 12
    assert rows.min() < np.nonzero(full)[0].min()
    assert rows.max() > np.nonzero(full)[0].max()
    assert (science[trail & ~bad] == 150_000.0).all()
    assert bad[:].all(axis=0).sum() in (3, 4)  # four columns, drawn with replacement
    assert not frame.image.pixels.weight[full | trail | bad].any()


def test_cosmic_rays_are_flagged_but_for_those_that_are_missed():
    sky = a_sky()
    plain = expose(sky, STILL, SHAPE)
    frame = expose(sky, replace(STILL, cosmic_rays=15, missed_cosmic_rays=6), SHAPE)
    flagged = (frame.image.pixels.mask & MaskBit.CRAY) != 0
    assert len(frame.missed) == 6
    assert not (plain.image.pixels.mask & MaskBit.CRAY).any()
    quiet = (frame.image.pixels.mask & MaskBit.BPM) == 0
    high = (frame.image.pixels.science > 6 * np.sqrt(2549.0 * 1.08)) & quiet & ~flagged
    for y, x in zip(*np.nonzero(high), strict=True):
        assert min(np.hypot(x - mx, y - my) for mx, my in frame.missed) < 3.0
    # the charge of a missed one is a few thousand electrons at the place that is returned
    charge = [
        frame.image.pixels.science[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].sum()
        for x, y in frame.missed
    ]
    assert np.median(charge) > 1000.0
    assert 15 * 9 < flagged.sum() < 15 * 120
