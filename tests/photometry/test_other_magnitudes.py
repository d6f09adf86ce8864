"""Zero points of AUTO and aperture magnitudes: the stars' light outside of the aperture is part of them."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.errors import InputError
from imaging.photometry.magnitudes import MAGNITUDES, check_magnitudes, fluxes, matches_of
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.zeropoint import ccd_zeropoint
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.matches import ZEROPOINT_MATCHES
from imaging.tables import make_table

SETTINGS = PhotometrySettings()
ZEROPOINT_MAG = 31.4
N = 400


@pytest.fixture(scope="module")
def ccd() -> tuple[pa.Table, pa.Table]:
    """Return the catalogue of stars of a CCD and its matches: apertures hold 40 % to 100 % of the light, AUTO 96 %."""
    rng = np.random.default_rng(6)
    true_mag = rng.uniform(15.0, 21.0, N)
    true = 10.0 ** (0.4 * (ZEROPOINT_MAG - true_mag))
    share = np.linspace(0.4, 1.0, 12)
    error = np.hypot(np.sqrt(true), 150.0)
    aper = true[:, None] * share + rng.normal(0, 1, (N, 12)) * error[:, None]
    columns = {field.name: np.zeros(N) for field in CATALOGUE}
    columns |= {"band": ["i"] * N, "number": rng.permutation(N) + 7}
    columns |= {"flux_psf": true, "flux_psf_error": error, "flux_aper": aper.astype(np.float32)}
    columns |= {"flux_aper_error": np.repeat(error[:, None], 12, axis=1).astype(np.float32)}
    columns |= {"flux_auto": 0.96 * true + rng.normal(0, 1, N) * error, "flux_auto_error": error}
    catalogue = make_table(columns, CATALOGUE)
    chosen = rng.permutation(N)[:300]
    found = {field.name: np.zeros(300) for field in ZEROPOINT_MATCHES}
    found |= {"band": ["i"] * 300, "reference": ["gaia"] * 300, "number": np.asarray(columns["number"])[chosen]}
    found |= {"reference_mag": true_mag[chosen], "reference_mag_error": np.full(300, 0.005)}
    found |= {"used": true_mag[chosen] < 20.0}
    return catalogue, make_table(found, ZEROPOINT_MATCHES)


@pytest.mark.parametrize(("name", "share"), [("mag_auto", 0.96), ("mag_aper_1", 0.4), ("mag_aper_12", 1.0)])
def test_the_zero_point_makes_up_for_the_light_outside(ccd, name, share):
    catalogue, matches = ccd
    table = matches_of(matches, catalogue, name, SETTINGS)
    assert table.schema.equals(matches.schema)
    zeropoint, used = ccd_zeropoint(table, SETTINGS)
    truth = ZEROPOINT_MAG + 2.5 * np.log10(share)
    assert abs(zeropoint.zeropoint_mag - truth) < 4 * zeropoint.zeropoint_error_mag
    assert zeropoint.zeropoint_error_mag < 0.002
    assert 50 < used.sum() <= np.sum(matches.column("used").to_numpy())


def test_faint_and_unmeasured_stars_are_left_out(ccd):
    catalogue, matches = ccd
    flux = catalogue.column("flux_auto").to_numpy().copy()
    flux[: N // 2] = np.nan
    number = catalogue.schema.get_field_index("flux_auto")
    changed = catalogue.set_column(number, catalogue.schema.field(number), pa.array(flux, pa.float32()))
    used = matches_of(matches, changed, "mag_auto", SETTINGS).column("used").to_numpy()
    unmeasured = set(catalogue.column("number").to_numpy()[: N // 2])
    assert used.any()
    assert not any(used[k] for k, n in enumerate(matches.column("number").to_numpy()) if n in unmeasured)


def test_apertures_are_counted_from_one(ccd):
    catalogue, _ = ccd
    values = np.array(catalogue.column("flux_aper").to_pylist())
    assert np.allclose(fluxes(catalogue, "mag_aper_8")[0], values[:, 7])
    assert len(MAGNITUDES) == 14


@pytest.mark.parametrize("name", ["mag_aper_13", "mag_model", "flux_auto", ""])
def test_unknown_magnitudes_are_refused_by_name(name):
    with pytest.raises(InputError, match="unknown magnitudes"):
        check_magnitudes(name)
