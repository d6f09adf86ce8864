"""Pairs for the zero point: mutual, within their errors, stellar, clean."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.astrometry.reference import ReferenceStars
from imaging.photometry.colours import BandMagnitudes
from imaging.photometry.match import match_reference
from imaging.photometry.settings import PhotometrySettings
from imaging.schemas.catalogue import CATALOGUE
from imaging.tables import column, make_table

SETTINGS = PhotometrySettings()
ARCSEC = 1.0 / 3600.0
ZEROPOINT = 31.5


def reference(ra, dec, good=None):
    n = len(ra)
    few = np.full(n, 0.5)
    return ReferenceStars(
        np.arange(n) + 100,
        np.asarray(ra, float),
        np.asarray(dec, float),
        few,
        few,
        np.full(n, 17.0),
        np.full(n, 1.0),
        np.full(n, 0.03),
        np.ones(n, bool) if good is None else np.asarray(good),
    )


def catalogue(ra, dec, flux, **changes):
    n = len(ra)
    columns = {}
    for field in CATALOGUE:
        if pa.types.is_fixed_size_list(field.type):
            columns[field.name] = np.zeros((n, 12), np.float32)
        elif pa.types.is_string(field.type):
            columns[field.name] = ["i"] * n
        else:
            columns[field.name] = np.zeros(n)
    flux = np.asarray(flux, float)
    columns |= {
        "ra": np.asarray(ra),
        "dec": np.asarray(dec),
        "x_error": np.full(n, 0.02),
        "y_error": np.full(n, 0.02),
        "flux_psf": flux,
        "flux_psf_error": flux / 200.0,
        "spread_model_error": np.full(n, 0.0003),
        "number": np.arange(1, n + 1),
    }
    return make_table(columns | changes, CATALOGUE)


def magnitudes(mag, usable=None):
    mag = np.asarray(mag, float)
    return BandMagnitudes(mag, np.full(mag.size, 0.015), np.ones(mag.size, bool) if usable is None else usable)


def field(n=30, seed=0):
    random = np.random.default_rng(seed)
    ra, dec = random.uniform(0.0, 0.1, n), random.uniform(-0.05, 0.05, n)
    mag = random.uniform(16, 19, n)
    return ra, dec, mag, 10 ** (0.4 * (ZEROPOINT - mag))


def test_every_star_gives_the_zero_point():
    ra, dec, mag, flux = field()
    matches = match_reference(catalogue(ra, dec, flux), reference(ra, dec), magnitudes(mag), SETTINGS)
    assert matches.num_rows == 30
    assert column(matches, "used").all()
    assert column(matches, "zeropoint_mag") == pytest.approx(ZEROPOINT, abs=1e-5)
    assert column(matches, "zeropoint_error_mag") == pytest.approx(np.hypot(0.015, 1.0857 / 200), rel=0.01)


def test_across_ra_zero_and_at_the_pole():
    _, _, mag, flux = field()
    random = np.random.default_rng(2)
    for ra, dec in (
        (random.uniform(-0.05, 0.05, 30) % 360.0, random.uniform(-0.05, 0.05, 30)),
        (random.uniform(0, 360, 30), 90.0 - random.uniform(0.005, 0.1, 30)),
    ):
        matches = match_reference(catalogue(ra, dec, flux), reference(ra, dec), magnitudes(mag), SETTINGS)
        assert matches.num_rows == 30


def test_pairs_must_be_close_in_their_errors_and_mutual():
    ra, dec = np.array([0.0, 0.01, 0.02]), np.zeros(3)
    shifted = ra + np.array([0.05, 0.6, 0.0]) * ARCSEC
    sources = catalogue(np.append(shifted, 0.02 + 0.1 * ARCSEC), np.append(dec, 0.0), [1e5, 1e5, 1e5, 1e5])
    matches = match_reference(sources, reference(ra, dec), magnitudes([17.0] * 3), SETTINGS)
    # 0.6 arcsec is 14 errors away; of two sources at the third star the nearer one is taken.
    assert column(matches, "source_id").tolist() == [100, 102]
    assert column(matches, "number").tolist() == [1, 3]


def test_unfit_sources_stay_in_the_table_unused():
    ra, dec, mag, flux = field(6)
    sources = catalogue(
        ra,
        dec,
        flux,
        flags=np.array([0, 4, 2, 0, 0, 1]),
        mask=np.array([0, 0, 0, 16, 0, 0]),
        spread_model=np.array([0, 0, 0, 0, 0.01, 0]),
    )
    matches = match_reference(sources, reference(ra, dec), magnitudes(mag), SETTINGS)
    assert column(matches, "used").tolist() == [True, False, False, False, False, True]


def test_unfit_stars_and_faint_sources_are_not_used():
    ra, dec, mag, flux = field(4)
    sources = catalogue(ra, dec, flux, flux_psf_error=flux * np.array([0.005, 0.005, 0.1, 0.005]))
    usable = np.array([True, False, True, True])
    matches = match_reference(sources, reference(ra, dec, [True, True, True, False]), magnitudes(mag, usable), SETTINGS)
    assert column(matches, "used").tolist() == [True, False, False, False]


def test_nothing_to_match_is_an_empty_table():
    ra, dec, mag, flux = field(5)
    far = reference(ra + 10.0, dec)
    assert match_reference(catalogue(ra, dec, flux), far, magnitudes(mag), SETTINGS).num_rows == 0
    none = magnitudes(np.full(5, np.nan), np.zeros(5, bool))
    assert match_reference(catalogue(ra, dec, flux), reference(ra, dec), none, SETTINGS).num_rows == 0
    assert match_reference(CATALOGUE.empty_table(), reference(ra, dec), magnitudes(mag), SETTINGS).num_rows == 0
