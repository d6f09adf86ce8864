"""Zero points of whole simulated exposures, at the level of catalogues, against the truth."""

import numpy as np
import pytest

from bench.calibration import SETTINGS, safety_nets
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.photometry.cascade import cascade_magnitudes
from imaging.photometry.colours import ColourTerms, band_magnitudes
from imaging.photometry.match import match_reference
from imaging.photometry.solve import solve_exposure_zeropoints
from imaging.photometry.zeropoint import ccd_zeropoint
from imaging.schemas.zeropoints import ZeropointFlag
from imaging.simulation.calibrated_fields import make_field, observe


@pytest.fixture(scope="module")
def field():
    return make_field(5)


def own_zeropoints(field, observed, terms=None):
    exposure = observed.exposure
    reference = reference_at_epoch(field.gaia, exposure.mjd_mid, AstrometrySettings())
    gaia = band_magnitudes(field.gaia, exposure.band, terms or field.colour_terms)
    magnitudes = cascade_magnitudes(field.gaia, gaia, {}, SETTINGS.preference, exposure.band)
    own = {}
    for ccd, catalogue in observed.catalogues.items():
        own[ccd], _ = ccd_zeropoint(match_reference(catalogue, reference, magnitudes, SETTINGS), SETTINGS)
    return own


@pytest.mark.parametrize(("band", "limit_mmag"), [("i", 3.0), ("u", 8.0)])
def test_zero_points_are_right_within_their_errors(field, band, limit_mmag):
    observed = observe(field, band, 0)
    rows = solve_exposure_zeropoints(own_zeropoints(field, observed), observed.exposure, SETTINGS).to_pylist()
    error = np.array([row["zeropoint_mag"] - observed.true_zeropoint_mag[row["ccd"]] for row in rows])
    stated = np.array([row["zeropoint_error_mag"] for row in rows])
    assert len(rows) == 62
    assert 1000 * np.sqrt(np.mean(error**2)) < limit_mmag
    # A single exposure draws once the error that its CCDs share, and slopes that the same stars give to all exposures.
    assert 0.5 < np.sqrt(np.mean((error / stated) ** 2)) < 2.0
    assert all(row["flags"] == 0 for row in rows)


def test_the_exposures_solution_is_better_than_its_ccds_alone(field):
    observed = observe(field, "u", 1)
    own = own_zeropoints(field, observed)
    rows = solve_exposure_zeropoints(own, observed.exposure, SETTINGS).to_pylist()
    alone, tied = (
        np.std([row[name] - observed.true_zeropoint_mag[row["ccd"]] for row in rows])
        for name in ("own_zeropoint_mag", "zeropoint_mag")
    )
    assert tied < 0.9 * alone


def test_a_ccd_without_stars_is_predicted_through_clouds(field):
    observed = observe(field, "r", 3)
    own = own_zeropoints(field, observed)
    truth = observed.true_zeropoint_mag
    missing = {ccd: value for ccd, value in own.items() if ccd not in (1, 62)}
    empty = type(own[1])(None, None, None, 0, 0)
    rows = {
        row["ccd"]: row
        for row in solve_exposure_zeropoints(missing | {1: empty, 62: empty}, observed.exposure, SETTINGS).to_pylist()
    }
    for ccd in (1, 62):  # corners of the focal plane, where the clouds have to be extrapolated
        assert rows[ccd]["flags"] == ZeropointFlag.TOO_FEW_STARS
        error = abs(rows[ccd]["zeropoint_mag"] - truth[ccd])
        assert error < 4.0 * rows[ccd]["zeropoint_error_mag"]
        assert error < 0.05


def test_the_safety_nets_hold(field):
    observed = observe(field, "z", 0)
    assert all(safety_nets(own_zeropoints(field, observed), observed).values())


def test_a_band_without_terms_has_no_zero_points(field):
    observed = observe(field, "i", 0, ccds=(26, 27, 33, 34))
    own = own_zeropoints(field, observed, ColourTerms(bands={}))
    rows = solve_exposure_zeropoints(own, observed.exposure, SETTINGS).to_pylist()
    assert all(row["zeropoint_mag"] is None for row in rows)
    assert all(row["flags"] & ZeropointFlag.UNCALIBRATED for row in rows)


def test_gaias_broad_band_in_place_of_the_bands_is_far_off(field):
    # What the original did: a zero point that is tenths of a magnitude off, and a scatter to match.
    from imaging.photometry.colours import ColourTerm

    broad = ColourTerms(bands={"z": ColourTerm(coefficients=(0.0,), colour_min=0.4, colour_max=2.8, scatter_mag=0.0)})
    observed = observe(field, "z", 0, ccds=(26, 27, 33, 34))
    own = own_zeropoints(field, observed, broad)
    for ccd, value in own.items():
        assert value.zeropoint_mag - observed.true_zeropoint_mag[ccd] > 0.2
        assert value.scatter_mag > 0.1
