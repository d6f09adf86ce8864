"""Each star takes its magnitude from the first catalogue that knows it, and says from which."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.photometry.cascade import cascade_magnitudes
from imaging.photometry.colours import BandMagnitudes
from imaging.photometry.settings import PhotometrySettings
from imaging.schemas.reference import CALIBRATED_STARS, REFERENCE_STARS
from imaging.tables import make_table

PREFERENCE = ("des_dr2", "ps1_dr2", "gaia")


def gaia_stars(n=6, **changes):
    columns = {
        f.name: np.zeros(n) if pa.types.is_floating(f.type) else np.arange(n)
        for f in REFERENCE_STARS
        if f.name != "variable"
    }
    columns |= {
        "ra": 359.999 + 0.001 * np.arange(n),
        "dec": np.full(n, -30.0),
        "ref_epoch": np.full(n, 2016.0),
        "variable": [False] * n,
    }
    return make_table(columns | changes, REFERENCE_STARS)


def survey(ra, mags, band="i", epoch=2016.0):
    n = len(ra)
    columns = {f.name: pa.nulls(n, f.type) for f in CALIBRATED_STARS}
    columns |= {
        "source_id": np.arange(n),
        "ra": np.asarray(ra) % 360.0,
        "dec": np.full(n, -30.0),
        "ref_epoch": np.full(n, epoch),
        f"mag_{band}": pa.array(mags, pa.float32()),
        f"mag_{band}_error": pa.array([None if mag is None else 0.01 for mag in mags], pa.float32()),
    }
    return make_table(columns, CALIBRATED_STARS)


def from_gaia(n=6, usable=True):
    return BandMagnitudes(np.full(n, 18.0), np.full(n, 0.02), np.full(n, usable))


def test_the_preferred_catalogue_is_taken_and_recorded():
    stars = gaia_stars()
    ra = 359.999 + 0.001 * np.arange(6)
    surveys = {"ps1_dr2": survey(ra[:4], [16.0] * 4), "des_dr2": survey(ra[:2], [15.0, None])}
    found = cascade_magnitudes(stars, from_gaia(), surveys, PREFERENCE, "i")
    assert found.catalogue.tolist() == ["des_dr2", "ps1_dr2", "ps1_dr2", "ps1_dr2", "gaia", "gaia"]
    assert found.mag.tolist() == [15.0, 16.0, 16.0, 16.0, 18.0, 18.0]
    assert found.usable.all()


def test_a_band_may_have_an_order_of_its_own():
    settings = PhotometrySettings(preference_by_band={"u": ("gaia", "skymapper_dr4")})
    surveys = {"skymapper_dr4": survey([359.999], [15.0], band="u")}
    usual = cascade_magnitudes(gaia_stars(), from_gaia(), surveys, PhotometrySettings().preferred("u"), "u")
    other = cascade_magnitudes(gaia_stars(), from_gaia(), surveys, settings.preferred("u"), "u")
    assert usual.catalogue.tolist() == ["skymapper_dr4"] + ["gaia"] * 5
    assert other.catalogue.tolist() == ["gaia"] * 6
    assert settings.preferred("g") == PhotometrySettings().preference


def test_another_band_falls_through_to_gaia_or_to_nothing():
    surveys = {"des_dr2": survey([359.999], [15.0], band="r")}
    assert set(cascade_magnitudes(gaia_stars(), from_gaia(), surveys, PREFERENCE, "i").catalogue) == {"gaia"}
    none = cascade_magnitudes(gaia_stars(), from_gaia(usable=False), surveys, PREFERENCE, "u")
    assert not none.usable.any()
    assert np.isnan(none.mag).all()


def test_stars_that_have_moved_are_found_and_variables_are_not_used():
    # 300 mas a year to the east: 6 arcseconds in the twenty years between Gaia and the survey.
    stars = gaia_stars(2, pmra=np.array([300.0, 0.0]), variable=[False, True])
    there = np.array([359.999 - 6.0 / 3600.0 / np.cos(np.radians(30.0)), 360.0])
    old = {"des_dr2": survey(there, [15.0, 15.0], epoch=1996.0)}
    found = cascade_magnitudes(stars, from_gaia(2, usable=False), old, PREFERENCE, "i")
    assert found.usable.tolist() == [True, False]


def test_a_star_of_the_survey_serves_one_star_only():
    stars = gaia_stars(2, ra=np.array([10.0, 10.0 + 0.5 / 3600.0]))
    found = cascade_magnitudes(stars, from_gaia(2), {"des_dr2": survey([10.0 + 0.1 / 3600], [15.0])}, PREFERENCE, "i")
    assert found.catalogue.tolist() == ["des_dr2", "gaia"]


def test_the_order_of_preference_decides():
    surveys = {name: survey([359.999], [mag]) for name, mag in (("ps1_dr2", 16.0), ("des_dr2", 15.0))}
    for preference, mag in ((PREFERENCE, 15.0), (("ps1_dr2", "des_dr2"), 16.0), (("gaia", "des_dr2"), 18.0)):
        found = cascade_magnitudes(gaia_stars(1), from_gaia(1), surveys, preference, "i")
        assert found.mag[0] == pytest.approx(mag)
