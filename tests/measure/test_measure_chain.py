"""The whole measurement of a CCD against the truth of a synthetic field, and the hard cases."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from imaging.astrometry.reference import reference_at_epoch
from imaging.bits import MaskBit
from imaging.catalogue.build import place_on_sky
from imaging.detector.distortion import seed_wcs
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.image import CcdImage
from imaging.measure.chain import measure_ccd
from imaging.measure.settings import MeasureSettings
from imaging.photometry.colours import band_magnitudes, published_colour_terms
from imaging.photometry.match import match_reference
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.zeropoint import ccd_zeropoint
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.matches import ASTROMETRY_MATCHES
from imaging.simulation.star_fields import MoffatPsf, draw_field, reference_stars
from imaging.tables import column

SETTINGS = MeasureSettings()
SHAPE = (1300, 1150)
CCD = 40
ZEROPOINT = 31.76
MAS = 3.6e6


def exposure_at(ra=197.45, dec=-23.38):
    return Exposure(1300001, "i", 20240510, 60441.0, 90.0, ra, dec, 1.2)


def scene(seed, *, n_stars=420, n_galaxies=130, ra=197.45, dec=-23.38, **psf):
    """Return a field, its exposure, its true coordinates 33 arcsec off the header's, and its reference stars."""
    field = draw_field(seed, psf=MoffatPsf(shape=SHAPE, **psf), n_stars=n_stars, n_galaxies=n_galaxies)
    exposure = exposure_at(ra, dec)
    true = seed_wcs(CCD, ra, dec).shifted(105.0, -70.0)
    return field, exposure, true, reference_stars(field, true, exposure.mjd_mid, seed)


def wcs_error_mas(found, true):
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, SHAPE[1], 9), np.linspace(0, SHAPE[0], 9)))
    ra, dec = found.pixel_to_sky(x, y)
    true_ra, true_dec = true.pixel_to_sky(x, y)
    dra = ((ra - true_ra + 180.0) % 360.0 - 180.0) * np.cos(np.radians(true_dec))
    return np.stack([dra, dec - true_dec]) * MAS


@pytest.fixture(scope="module")
def measured():
    field, exposure, true, reference = scene(1)
    return field, exposure, true, reference, measure_ccd(field.image, exposure, CCD, reference, SETTINGS)


def matched(field, catalogue):
    x, y = column(catalogue, "x"), column(catalogue, "y")
    distance = np.hypot(field.x[:, None] - x, field.y[:, None] - y)
    alone = np.sort(distance, axis=0)[1] > 15
    clean = (column(catalogue, "flags") == 0) & (column(catalogue, "mask") == 0)
    return distance.argmin(axis=0), (distance.min(axis=0) < 1.0) & alone & clean


def test_coordinates_are_right_to_a_few_milliarcseconds(measured):
    _, _, true, _, result = measured
    assert result.astrometry_failure is None
    error = wcs_error_mas(result.wcs, true)
    assert np.sqrt(np.mean(error**2)) < 4.0
    assert np.abs(error.mean(axis=1)).max() < 2.0
    assert result.quality["astrometry_rms_mas"] < 12.0


def test_the_width_of_the_stars_does_not_change_with_their_peaks(measured):
    *_, result = measured
    error = result.quality["psf_peak_trend_error_percent"]
    assert 0.01 < error < 0.33
    assert abs(result.quality["psf_peak_trend_percent"]) < 3.0 * error


def test_photometry_of_bright_stars(measured):
    field, _, _, _, result = measured
    nearest, good = matched(field, result.catalogue)
    mag = ZEROPOINT - 2.5 * np.log10(field.flux[nearest])
    bright = good & ~field.is_galaxy[nearest] & (mag > 16.5) & (mag < 19.0)
    difference = -2.5 * np.log10(column(result.catalogue, "flux_psf")[bright] / field.flux[nearest][bright])
    assert bright.sum() > 8
    assert abs(np.median(difference)) < 0.003
    assert difference.std() < 0.005


def test_zero_point_is_right_within_its_error(measured):
    _, exposure, _, reference, result = measured
    stars = reference_at_epoch(reference, exposure.mjd_mid, SETTINGS.astrometry)
    magnitudes = band_magnitudes(reference, "i", published_colour_terms())
    settings = PhotometrySettings()
    zeropoint, _ = ccd_zeropoint(match_reference(result.catalogue, stars, magnitudes, settings), settings)
    assert zeropoint.n_used > 40
    assert abs(zeropoint.zeropoint_mag - ZEROPOINT) < 4 * zeropoint.zeropoint_error_mag
    assert zeropoint.zeropoint_error_mag < 0.004


def test_tables_have_their_schemas(measured):
    *_, result = measured
    assert result.catalogue.schema.equals(CATALOGUE)
    assert result.matches.schema.equals(ASTROMETRY_MATCHES)
    assert column(result.catalogue, "number").tolist() == list(range(1, result.catalogue.num_rows + 1))
    assert set(column(result.catalogue, "ccd")) == {CCD}
    assert result.times.cpu_s.keys() >= {"sources", "astrometry", "psf", "catalogue"}


def test_catalogue_positions_are_those_of_the_coordinates(measured):
    *_, result = measured
    catalogue = result.catalogue
    ra, dec = result.wcs.pixel_to_sky(column(catalogue, "x"), column(catalogue, "y"))
    assert np.array_equal(ra, column(catalogue, "ra"))
    moved = place_on_sky(catalogue, result.wcs.shifted(10.0, 0.0))
    assert np.abs(column(moved, "dec") - dec).mean() * 3600 == pytest.approx(2.6, abs=0.1)
    assert moved.schema.equals(CATALOGUE)


def test_same_input_same_tables(measured):
    field, exposure, _, reference, result = measured
    again = measure_ccd(field.image, exposure, CCD, reference, SETTINGS)
    assert again.catalogue.equals(result.catalogue)
    assert again.matches.equals(result.matches)
    assert again.wcs.to_header() == result.wcs.to_header()


def test_the_image_is_not_changed(measured):
    field, exposure, _, reference, _ = measured
    before = field.image.science.copy(), field.image.mask.copy(), field.image.weight.copy()
    measure_ccd(field.image, exposure, CCD, reference, SETTINGS)
    for plane, kept in zip((field.image.science, field.image.mask, field.image.weight), before, strict=True):
        assert np.array_equal(plane, kept)


def test_eight_reference_stars():
    field, exposure, true, reference = scene(2)
    eight = reference.take(pa.array(np.random.default_rng(1).choice(reference.num_rows, 8, replace=False)))
    result = measure_ccd(field.image, exposure, CCD, eight, SETTINGS)
    assert result.astrometry is not None
    assert np.sqrt(np.mean(wcs_error_mas(result.wcs, true) ** 2)) < 25.0


def test_no_reference_stars_is_recorded_and_the_rest_is_measured():
    field, exposure, _, reference = scene(3)
    result = measure_ccd(field.image, exposure, CCD, reference.slice(0, 0), SETTINGS)
    assert result.astrometry is None
    assert result.astrometry_failure.reason == "too_few_stars"
    assert "0 reference stars" in str(result.astrometry_failure)
    assert result.wcs.to_header() == seed_wcs(CCD, exposure.ra_deg, exposure.dec_deg).to_header()
    assert result.catalogue.num_rows > 150
    assert result.quality["n_astrometry"] == 0


def test_reference_stars_of_another_field_are_refused():
    field, exposure, true, _ = scene(4)
    other = draw_field(99, psf=MoffatPsf(shape=SHAPE), n_stars=450, n_galaxies=0)
    result = measure_ccd(field.image, exposure, CCD, reference_stars(other, true, exposure.mjd_mid, 1), SETTINGS)
    failure = result.astrometry_failure
    assert failure.reason == "astrometry_no_match"
    assert str(failure.value).startswith("chance ") and float(str(failure.value).split()[1]) > 1e-4
    assert "0.0001" in str(failure.limit)
    assert result.matches.num_rows == 0


@pytest.mark.parametrize(("ra", "dec"), [(0.01, 10.0), (359.995, -45.0), (120.0, 89.97), (33.0, -89.95)])
def test_poles_and_ra_zero(ra, dec):
    field, exposure, true, reference = scene(5, ra=ra, dec=dec)
    result = measure_ccd(field.image, exposure, CCD, reference, SETTINGS)
    assert np.sqrt(np.mean(wcs_error_mas(result.wcs, true) ** 2)) < 5.0


def test_noise_alone_is_refused():
    _, exposure, _, reference = scene(7)
    field = draw_field(6, psf=MoffatPsf(shape=SHAPE), n_stars=0, n_galaxies=0)
    with pytest.raises(CcdError) as caught:
        measure_ccd(field.image, exposure, CCD, reference, SETTINGS)
    assert caught.value.reason == "too_few_stars"
    assert caught.value.value == "0"
    assert caught.value.limit == "at least 5 peaks above 20 sigma"


def test_trailed_images_are_measured():
    field, exposure, true, reference = scene(8, fwhm_pixels=4.8, ellipticity=(0.5, 0.2), shape_variation=0.0)
    result = measure_ccd(field.image, exposure, CCD, reference, SETTINGS)
    assert result.quality["ellipticity"] > 0.4
    assert np.sqrt(np.mean(wcs_error_mas(result.wcs, true) ** 2)) < 6.0


def test_thick_clouds():
    field = draw_field(9, psf=MoffatPsf(shape=SHAPE), n_stars=420, n_galaxies=130, zeropoint_mag=ZEROPOINT - 3.0)
    exposure = exposure_at()
    true = seed_wcs(CCD, exposure.ra_deg, exposure.dec_deg).shifted(30.0, 20.0)
    reference = reference_stars(field, true, exposure.mjd_mid, 9, zeropoint_mag=ZEROPOINT - 3.0)
    result = measure_ccd(field.image, exposure, CCD, reference, SETTINGS)
    assert np.sqrt(np.mean(wcs_error_mas(result.wcs, true) ** 2)) < 40.0


def test_clouds_that_leave_nothing_are_refused_with_the_number_of_stars():
    field = draw_field(9, psf=MoffatPsf(shape=SHAPE), n_stars=420, n_galaxies=130, zeropoint_mag=ZEROPOINT - 8.5)
    with pytest.raises(CcdError) as caught:
        measure_ccd(field.image, exposure_at(), CCD, scene(9)[3], SETTINGS)
    assert caught.value.reason == "too_few_stars"
    assert int(str(caught.value.value)) < 20
    assert "at least" in str(caught.value.limit)


def test_an_amplifier_that_dies_in_mid_exposure():
    field, exposure, true, reference = scene(10)
    science, mask, weight = (plane.copy() for plane in (field.image.science, field.image.mask, field.image.weight))
    science[600:, 700:] = -2800.0
    mask[600:, 700:] |= np.int16(MaskBit.BADAMP)
    weight[600:, 700:] = 0.0
    result = measure_ccd(CcdImage(science, mask, weight, {}), exposure, CCD, reference, SETTINGS)
    assert np.sqrt(np.mean(wcs_error_mas(result.wcs, true)[:, :30] ** 2)) < 10.0
    catalogue = result.catalogue
    dead = (column(catalogue, "x") > 705) & (column(catalogue, "y") > 605)
    assert not dead.any()


def test_a_very_bright_star():
    field, exposure, true, reference = scene(11)
    j, i = np.mgrid[: SHAPE[0], : SHAPE[1]]
    r = np.hypot(i - 600, j - 700)
    halo = (2e7 * (1 + (r / 4) ** 2) ** -1.25 + 1500 * np.exp(-r / 400)).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    science = field.image.science + halo + np.sqrt(halo) * noise
    saturated = (halo > 1.6e5) | ((np.abs(i - 600) < 8) & (np.abs(j - 700) < 600))
    science[saturated] = 1.7e5
    mask, weight = field.image.mask.copy(), field.image.weight.copy()
    mask[saturated] |= np.int16(MaskBit.SATURATE | MaskBit.TRAIL)
    weight[saturated] = 0.0
    result = measure_ccd(CcdImage(science, mask, weight, {}), exposure, CCD, reference, SETTINGS)
    assert np.sqrt(np.mean(wcs_error_mas(result.wcs, true) ** 2)) < 8.0


def test_a_globular_cluster():
    field, exposure, true, reference = scene(12, fwhm_pixels=3.6)
    random = np.random.default_rng(1)
    crowd = draw_field(13, psf=field.psf, n_stars=0, n_galaxies=0, bad_columns=0)
    n = 3000
    radius = np.abs(random.standard_cauchy(n)) * 120
    angle = random.uniform(0, 2 * np.pi, n)
    x, y = 700 + radius * np.cos(angle), 800 + radius * np.sin(angle)
    inside = (x > 0) & (x < SHAPE[1]) & (y > 0) & (y < SHAPE[0])
    flux = 10 ** (0.4 * (ZEROPOINT - np.clip(23.5 - random.exponential(1.5, n), 15.5, 23.5)))
    for a, b, f in zip(x[inside], y[inside], flux[inside], strict=True):
        j, i = int(b + 0.5), int(a + 0.5)
        if 20 <= j < SHAPE[0] - 20 and 20 <= i < SHAPE[1] - 20:
            stamp = f * field.psf.stamp(a, b, 15)
            field.image.science[j - 15 : j + 16, i - 15 : i + 16] += stamp + np.sqrt(stamp) * random.normal(
                size=stamp.shape
            )
    cluster = replace(crowd, x=x[inside], y=y[inside], flux=flux[inside], is_galaxy=np.zeros(inside.sum(), bool))
    everything = pa.concat_tables([reference, reference_stars(cluster, true, exposure.mjd_mid, 3)])
    result = measure_ccd(field.image, exposure, CCD, everything, SETTINGS)
    assert result.catalogue.num_rows > 800
    assert np.sqrt(np.mean(wcs_error_mas(result.wcs, true) ** 2)) < 5.0
