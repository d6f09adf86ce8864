"""Synthetic CCDs with a known answer: the PSF against galsim, fluxes and places against sep, noise, counts."""

import galsim
import numpy as np
import pytest
import sep
from astropy.time import Time
from scipy.integrate import quad
from scipy.stats import kstest
from sky_judges import coordinates, project

from imaging.bits import MaskBit
from imaging.detector.distortion import seed_wcs
from imaging.photometry.colours import published_colour_terms
from imaging.simulation.star_fields import (
    SATURATION,
    MoffatPsf,
    add_moffats,
    aperture_fraction,
    draw_field,
    reference_stars,
)
from imaging.simulation.stars import FIRST_ID
from imaging.tables import column

SHAPE = (600, 400)
FIXED = MoffatPsf(fwhm_pixels=4.0, ellipticity=(0.1, -0.05), size_variation=0.0, shape_variation=0.0, shape=SHAPE)
RADIUS = 22.22 / 2


def one(x=200.0, y=300.0):
    return np.array([float(x)]), np.array([float(y)])


@pytest.mark.parametrize("beta", [2.5, 3.0, 4.0])
@pytest.mark.parametrize("e", [(0.0, 0.0), (0.2, 0.0), (0.0, -0.2), (0.1, 0.15)])
def test_the_profile_is_galsims(beta, e):
    """Galsim keeps the area of a sheared profile; here the mean of the squared axes is kept."""
    psf = MoffatPsf(4.0, beta, e, 0.0, 0.0, SHAPE)
    stamp = psf.stamp(200.0, 300.0, 25)
    fwhm = 4.0 * (1.0 - e[0] ** 2 - e[1] ** 2) ** 0.25
    drawn = galsim.Moffat(beta=beta, fwhm=fwhm).shear(galsim.Shear(e1=e[0], e2=e[1]))
    drawn = drawn.drawImage(nx=51, ny=51, scale=1.0, method="no_pixel", dtype=float).array
    np.testing.assert_allclose(stamp / stamp[25, 25], drawn / drawn[25, 25], atol=2e-4)
    total = quad(lambda r: 2 * np.pi * r * (1 + r**2 * (2 ** (1 / beta) - 1) / (fwhm / 2) ** 2) ** -beta, 0, RADIUS)[0]
    peak = (beta - 1) / np.pi * (2 ** (1 / beta) - 1) / (fwhm / 2) ** 2
    assert aperture_fraction(psf, *one())[0] == pytest.approx(total * peak, rel=1e-9)
    assert psf.normalisation(psf.inverse_shape(*one()))[0] == pytest.approx(peak, rel=1e-9)


def test_a_stamp_has_unit_flux_in_the_aperture_at_any_place_in_the_pixel():
    for x, y in ((200.0, 300.0), (200.4, 299.7), (199.5, 300.5), (13.3, 577.9)):
        stamp = FIXED.stamp(x, y, 20)
        cx, cy = 20 + x - np.floor(x + 0.5), 20 + y - np.floor(y + 0.5)
        flux, _, _ = sep.sum_circle(stamp, [cx], [cy], RADIUS, subpix=20)
        assert flux[0] == pytest.approx(1.0, abs=2e-3)  # round aperture, elliptical source
        wx, wy, _ = sep.winpos(stamp, [20.0], [20.0], 1.7)
        assert (wx[0], wy[0]) == pytest.approx((cx, cy), abs=2e-3)


def test_size_and_shape_vary_quadratically_over_the_ccd():
    psf = MoffatPsf(4.0, 3.0, (0.02, -0.01), 0.1, 0.05, SHAPE)
    u, v = np.array([-1.0, 0.0, 1.0, 0.5]), np.array([-1.0, 0.0, 1.0, -1.0])
    shapes = psf.inverse_shape((u + 1) * 200.0, (v + 1) * 300.0)
    size = 1 + 0.1 * (0.5 * (u**2 + v**2) - 0.4 + 0.3 * u * v - 0.2 * u)
    e1, e2 = 0.02 + 0.05 * (0.5 * v - 0.4 * u**2 + 0.2 * u * v), -0.01 + 0.05 * (-0.4 * u + 0.3 * v**2)
    core = 4.0 / (2 * np.sqrt(2 ** (1 / 3) - 1))
    for k in range(4):
        inverse = np.array([[shapes[k, 0], shapes[k, 1] / 2], [shapes[k, 1] / 2, shapes[k, 2]]])
        expected = (size[k] * core) ** 2 * np.array([[1 + e1[k], e2[k]], [e2[k], 1 - e1[k]]])
        np.testing.assert_allclose(np.linalg.inv(inverse), expected, rtol=1e-9)


def test_profiles_are_cut_at_their_radius_and_at_the_edges():
    image = np.zeros((40, 50), dtype=np.float32)
    round_one = np.array([[0.1, 0.0, 0.1]])
    add_moffats(image, *one(20.0, 15.0), np.array([100.0]), round_one, 3.0, np.array([8.0]))
    yy, xx = np.mgrid[:40, :50]
    r2 = (xx - 20.0) ** 2 + (yy - 15.0) ** 2
    np.testing.assert_allclose(image, np.where(r2 <= 64.0, 100.0 * (1 + 0.1 * r2) ** -3.0, 0.0), rtol=1e-5)
    corner = np.zeros((40, 50), dtype=np.float32)
    add_moffats(corner, *one(-1.5, 40.5), np.array([100.0]), round_one, 3.0, np.array([8.0]))
    r2 = (xx + 1.5) ** 2 + (yy - 40.5) ** 2
    np.testing.assert_allclose(corner, np.where(r2 <= 64.0, 100.0 * (1 + 0.1 * r2) ** -3.0, 0.0), rtol=1e-5)


@pytest.fixture(scope="module")
def field():
    return draw_field(3, psf=FIXED, n_stars=40, n_galaxies=0, mag_range=(17.0, 20.0), bad_columns=2)


def test_stars_have_their_flux_and_place_within_the_noise(field):
    science = field.image.science.astype(float)
    bad = (field.image.mask & MaskBit.BPM) != 0
    inside = (field.x > 25) & (field.x < 375) & (field.y > 25) & (field.y < 575)
    alone = [np.sort(np.hypot(field.x - x, field.y - y))[1] > 45 for x, y in zip(field.x, field.y, strict=True)]
    far = [np.abs(np.flatnonzero(bad.all(axis=0)) - x).min() > 14 for x in field.x]
    chosen = np.flatnonzero(inside & alone & far)
    assert len(chosen) >= 8
    flux, _, _ = sep.sum_circle(science, field.x[chosen], field.y[chosen], RADIUS, subpix=10)
    sigma = np.sqrt(field.flux[chosen] + np.pi * RADIUS**2 * field.sky_sigma**2)
    # the wings of the other stars add up to some hundred electrons
    pull = (flux - field.flux[chosen]) / np.hypot(sigma, 3e-3 * field.flux[chosen] + 200.0)
    assert np.abs(pull).max() < 4.0
    assert field.sky_sigma == pytest.approx(np.sqrt(2800.0 + 49.0))
    clean = np.where(bad, 0.0, science)
    wx, wy, _ = sep.winpos(clean, field.x[chosen], field.y[chosen], 1.7)
    error = 4.0 / 2.355 * np.sqrt(2.0) * sigma / field.flux[chosen]
    assert (np.hypot(wx - field.x[chosen], wy - field.y[chosen]) < 5 * error + 0.01).all()


def test_noise_and_weight_are_those_of_sky_light_and_readout():
    empty = draw_field(4, psf=FIXED, n_stars=0, n_galaxies=0, sky_electrons=900.0, bad_columns=3)
    good = empty.image.mask == 0
    assert empty.image.science[good].std(dtype=float) == pytest.approx(np.sqrt(949.0), rel=4 / np.sqrt(2 * good.sum()))
    np.testing.assert_allclose(empty.image.weight[good], 1.0 / 949.0, rtol=1e-6)
    assert (~good).all(axis=0).sum() == 3
    assert (empty.image.science[~good] == 5000.0).all()
    assert not empty.image.weight[~good].any()
    # of two images with one truth the difference holds twice the noise of the light
    pair = [draw_field(5, psf=FIXED, n_stars=30, n_galaxies=0, mag_range=(17.0, 17.5), bad_columns=0) for _ in range(2)]
    np.testing.assert_array_equal(pair[0].image.science, pair[1].image.science)
    other = draw_field(6, psf=FIXED, n_stars=30, n_galaxies=0, bad_columns=0)
    assert not np.array_equal(pair[0].x, other.x)


def test_light_brings_its_own_noise():
    """The chi-square of bright stars under the model of the truth, which the stamps of the PSF draw."""
    field = draw_field(7, psf=FIXED, n_stars=25, n_galaxies=0, mag_range=(16.2, 17.0), bad_columns=0)
    inside = np.flatnonzero((field.x > 30) & (field.x < 370) & (field.y > 30) & (field.y < 570))
    chi = []
    for k in inside:
        if np.sort(np.hypot(field.x - field.x[k], field.y - field.y[k]))[1] < 50:
            continue
        x0, y0 = int(np.floor(field.x[k] + 0.5)), int(np.floor(field.y[k] + 0.5))
        model = field.flux[k] * FIXED.stamp(field.x[k], field.y[k], 4)
        cut = field.image.science[y0 - 4 : y0 + 5, x0 - 4 : x0 + 5]
        chi.append(((cut - model) / np.sqrt(model + 2849.0))[model > 3000.0])
    chi = np.concatenate(chi)
    assert len(chi) > 150
    assert chi.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * len(chi)) + 0.03)


def test_saturated_stars_are_flagged_and_cut():
    field = draw_field(8, psf=FIXED, n_stars=6, n_galaxies=0, mag_range=(13.0, 13.5), bad_columns=0)
    full = (field.image.mask & MaskBit.SATURATE) != 0
    assert full.any()
    np.testing.assert_array_equal(field.image.science[full], SATURATION - 2800.0)
    assert not field.image.weight[full].any()
    assert field.image.science[~full].max() < SATURATION - 2800.0 + 6 * np.sqrt(SATURATION)


def test_counts_follow_their_slopes_and_galaxies_are_twice_as_steep():
    field = draw_field(9, psf=FIXED, n_stars=6000, n_galaxies=6000, mag_range=(20.0, 24.0), slope=0.25)
    mag = 31.76 - 2.5 * np.log10(field.flux)
    assert field.is_galaxy.sum() == 6000
    for chosen, slope in ((~field.is_galaxy, 0.25), (field.is_galaxy, 0.5)):
        edges = 10.0 ** (slope * np.array([20.0, 24.0]))
        share = (10.0 ** (slope * mag[chosen]) - edges[0]) / (edges[1] - edges[0])
        assert kstest(share, "uniform").pvalue > 1e-3
    assert kstest((field.x + 15) / (400 + 29), "uniform").pvalue > 1e-3
    assert kstest((field.y + 15) / (600 + 29), "uniform").pvalue > 1e-3


def test_galaxies_keep_their_light_and_are_wider_than_stars():
    field = draw_field(2, psf=FIXED, n_stars=0, n_galaxies=1, mag_range=(17.0, 17.2), bad_columns=0)
    k, seed = 0, 2
    while not (80 < field.x[k] < 320 and 80 < field.y[k] < 520):
        seed += 1
        field = draw_field(seed, psf=FIXED, n_stars=0, n_galaxies=1, mag_range=(17.0, 17.2), bad_columns=0)
    x, y = field.x[0], field.y[0]
    flux, _, _ = sep.sum_circle(field.image.science.astype(float), [x], [y], [70.0], subpix=5)
    noise = np.sqrt(np.pi * 70.0**2) * field.sky_sigma
    # in a wide aperture there is more than in the reference one: a point source has 1.3 per cent outside it
    assert flux[0] == pytest.approx(field.flux[0] / aperture_fraction(FIXED, *one(x, y))[0], abs=4 * noise)
    x0, y0 = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    cut = field.image.science[y0 - 20 : y0 + 21, x0 - 20 : x0 + 21].astype(float)
    star = FIXED.stamp(x, y, 20)
    sizes = [galsim.hsm.FindAdaptiveMom(galsim.Image(v)).moments_sigma for v in (cut, star)]
    assert sizes[0] > 1.5 * sizes[1]


def test_the_catalogue_holds_the_stars_as_they_were_in_2016():
    field = draw_field(12, psf=FIXED, n_stars=2000, n_galaxies=50, mag_range=(16.0, 19.5), bad_columns=0)
    wcs, mjd = seed_wcs(34, 40.0, -50.0), 60441.1
    table = reference_stars(field, wcs, mjd, 4)
    row = column(table, "source_id") - FIRST_ID
    assert row.max() < 2000
    ra, dec = wcs.pixel_to_sky(field.x[row], field.y[row])
    years = Time(mjd, format="mjd").jyear - 2016.0
    error, bright = column(table, "ra_error"), column(table, "phot_g_mean_mag") < 19.0
    east, north = (
        np.array(
            [project(*p, a, d) for *p, a, d in zip(column(table, "ra"), column(table, "dec"), ra, dec, strict=True)]
        )[:, :, 0].T
        * 3.6e6
    )
    for offset, motion in ((east, column(table, "pmra")), (north, column(table, "pmdec"))):
        pull = (offset + motion * years) / error
        assert pull.std() == pytest.approx(1.0, rel=4 / np.sqrt(2 * len(pull)) + 5e-3)
        assert abs(pull.mean()) < 4 / np.sqrt(len(pull))
    assert column(table, "pmdec").mean() == pytest.approx(-3.0, abs=4 * 6 / np.sqrt(len(row)))
    term = published_colour_terms().bands["i"]
    colour = column(table, "phot_bp_mean_mag") - column(table, "phot_rp_mean_mag")
    mag = column(table, "phot_g_mean_mag") + np.polynomial.Polynomial(term.coefficients)(colour)
    residual = (mag - 31.76 + 2.5 * np.log10(field.flux[row]))[bright]
    # the scatter of the colour term; the catalogue's limit takes few of so bright stars
    assert residual.std() == pytest.approx(term.scatter_mag, rel=4 / np.sqrt(2 * bright.sum()) + 0.02)
    assert abs(residual.mean()) < 5 * term.scatter_mag / np.sqrt(bright.sum())
    assert column(table, "phot_g_mean_mag").max() < 20.7
    assert coordinates(ra, dec).separation(coordinates(column(table, "ra"), column(table, "dec"))).mas.max() < 500
