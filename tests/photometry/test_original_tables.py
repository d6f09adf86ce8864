"""The original's tables, columns and flags, and its lists of stars."""

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pytest

from imaging.identity import ExposureId
from imaging.io.original_tables import write_csv
from imaging.photometry.original import (
    all_zp_row,
    calibrated_catalogue,
    catalogue_list_row,
    merged_all_row,
    merged_rows,
    original_flags,
    zero_row,
)
from imaging.photometry.star_lists import (
    StarListSettings,
    calibration_stars,
    list_text,
    veto_radius_arcsec,
    veto_stars,
)
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.zeropoints import ZeropointFlag
from imaging.tables import column, make_table

EXPOSURE = ExposureId(1300001, "i", 20240510, 4, 5)
SETTINGS = StarListSettings()


def zeropoint(ccd, own=31.7, adopted=31.7, flags=0):
    return {
        "ccd": ccd,
        "own_zeropoint_mag": own,
        "own_zeropoint_error_mag": None if own is None else 0.003,
        "zeropoint_mag": adopted,
        "zeropoint_error_mag": None if adopted is None else 0.002,
        "exposure_zeropoint_mag": adopted,
        "n_matched": 150,
        "n_used": 120,
        "flags": flags,
    }


def sources(flux, **changes):
    n = len(flux)
    columns = {f.name: np.zeros(n) for f in CATALOGUE}
    columns |= {name: np.zeros((n, 12), np.float32) for name in ("flux_aper", "flux_aper_error")}
    columns |= {
        "expnum": np.full(n, 123456789012),
        "band": ["i"] * n,
        "number": np.arange(1, n + 1) + 70_000,
        "ra": 10.0 + 0.01 * np.arange(n),
        "flux_psf": np.asarray(flux, float),
        "flux_psf_error": np.abs(np.asarray(flux, float)) / 500.0,
        "flux_auto": np.asarray(flux, float),
        "flux_auto_error": np.abs(np.asarray(flux, float)) / 300.0,
        "spread_model_error": np.full(n, 0.0005),
    }
    return make_table(columns | changes, CATALOGUE)


def test_the_sign_and_the_error_are_the_originals():
    row = zero_row(EXPOSURE, zeropoint(7))
    assert row == {
        "FILENAME": "D01300001_i_07_r4p5_fullcat.fits",
        "Nall": 150,
        "Nclipped": 120,
        "ZP": -31.7,
        "ZPrms": 0.003,
        "magType": "mag_psf",
    }


def test_flags_and_differences_of_the_exposure():
    flag = ZeropointFlag
    rows = [zeropoint(c, own=31.7 + 0.001 * c) for c in range(1, 9)]
    rows.append(zeropoint(9, own=31.9, flags=int(flag.OUTLIER)))
    rows.append(zeropoint(10, own=None, flags=int(flag.TOO_FEW_STARS)))
    merged = merged_rows(EXPOSURE, rows, {9: {"EXPNUM": 1300001, "CCDNUM": 9}})
    assert merged[9]["NewZPFlag"] == 1 - 1000
    assert merged[9]["DiffZP"] == pytest.approx(-0.2, abs=0.01)
    assert merged[9]["DiffZP1"] == pytest.approx(1000 * merged[9]["DiffZP"])
    assert merged[9]["NewZP"] == -31.7
    assert merged[10]["NewZPFlag"] == 1
    assert merged[10]["ZP"] is None
    assert merged[1]["NewZPFlag"] == 0
    assert merged[1]["Percent1"] == pytest.approx(10.0)
    assert merged_all_row(EXPOSURE, 9, merged[9])["NewZPFlag"] == -999
    assert original_flags(int(flag.MANY_OUTLIERS)) == (0, 0, -9999)
    everything = all_zp_row(EXPOSURE, rows)
    assert (everything["REQNUM"], everything["ATTNUM"], everything["NumStarsAll"]) == (4, 5, 1500)
    assert everything["stdsigclipzp"] == pytest.approx(0.003 / 3)


def test_calibrated_sources():
    merged = merged_rows(EXPOSURE, [zeropoint(7)], {})[7]
    table = calibrated_catalogue(sources([1e5, -50.0, 2e4]), merged, 4.0)
    assert table.column_names[:6] == ["ID", "EXPNUM", "CCDNUM", "NUMBER", "ALPHAWIN_J2000", "DELTAWIN_J2000"]
    assert len(table.column_names) == 25
    assert column(table, "EXPNUM")[0] == 123456789012  # the original's 16 bits held 32767
    assert column(table, "MAG_PSF")[0] == pytest.approx(31.7 - 12.5)
    assert column(table, "MAGERR_PSF")[0] == pytest.approx(1.0857 / 500, rel=1e-3)
    assert table.column("MAG_PSF").to_pylist()[1] is None
    assert (column(table, "CLASS_STAR") > 0.8).all()
    none = merged_rows(EXPOSURE, [zeropoint(7, own=None, adopted=None, flags=9)], {})[7]
    assert calibrated_catalogue(sources([1e5]), none, 4.0).column("MAG_PSF").null_count == 1


def test_what_is_unknown_is_empty_in_the_file(tmp_path):
    header = {"AIRMASS": 1.2, "EXPTIME": 90.0, "RA_CENT": 10.0, "DEC_CENT": -20.0}
    row = catalogue_list_row(EXPOSURE, 7, header)
    write_csv(tmp_path / "a.csv", [row, row | {"AIRMASS": None}])
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0].replace('"', "").split(",")[:5] == ["EXPNUM", "FILENAME", "NITE", "BAND", "CCDNUM"]
    assert pacsv.read_csv(tmp_path / "a.csv").column("AIRMASS").null_count == 1
    assert "-999" not in lines[2]


def listed(ra, mag, error=0.004, **changes):
    n = len(ra)
    columns = {
        "ALPHAWIN_J2000": ra,
        "DELTAWIN_J2000": np.full(n, -30.0),
        "MAG_PSF": mag,
        "MAGERR_PSF": np.full(n, error),
        "SPREAD_MODEL": np.zeros(n),
        "FLAGS": np.zeros(n),
        "IMAFLAGS_ISO": np.zeros(n),
    }
    return pa.table({name: np.asarray(values, float) for name, values in (columns | changes).items()})


def test_detections_of_one_star_are_merged_across_ra_zero():
    here = 0.3 / 3600.0 / np.cos(np.radians(30.0))
    first, second = listed([359.99999, 10.0], [17.00, 18.0]), listed([360.0 - 0.00001 + here, 11.0], [17.02, 19.0])
    stars = calibration_stars([first, second], SETTINGS)
    assert len(stars) == 3
    merged = np.argmin(stars.mag)
    assert stars.mag[merged] == pytest.approx(17.01)
    assert stars.mag_error[merged] == pytest.approx(0.004 / np.sqrt(2))
    assert abs((stars.ra[merged] + 180) % 360 - 180) < 0.001


def test_only_good_stars_calibrate():
    bad = listed([1.0, 2.0, 3.0, 4.0, 5.0], [17.0, 11.0, 22.0, 17.0, 17.0], SPREAD_MODEL=[-0.02, 0, 0, 0, 0],
                 FLAGS=[0, 0, 0, 3, 0], IMAFLAGS_ISO=[0, 0, 0, 0, 1])  # fmt: skip
    assert len(calibration_stars([bad], SETTINGS)) == 0
    assert len(calibration_stars([listed([1.0], [17.0], error=0.02)], SETTINGS)) == 0
    assert len(calibration_stars([], SETTINGS)) == 0


def test_the_brightest_stars_get_the_widest_veto():
    ra, dec = np.array([2.0, 1.0, 3.0]), np.full(3, -30.0)
    mag, g = np.array([15.0, np.nan, 17.0]), np.array([15.3, 6.0, 17.2])
    veto = veto_stars(ra, dec, mag, g, SETTINGS)
    assert veto.ra.tolist() == [1.0, 2.0]  # in order of right ascension; the faint one needs none
    assert veto.radius_arcsec.tolist() == [48.0, 30.0]
    assert veto_radius_arcsec(np.array([40.0]))[0] == 0.0
    lines = list_text(veto, "i", "r4p5").splitlines()
    assert lines[2] == "# NVAR: 7"
    assert lines[4].split("\t") == ["1", "1.000000", "-30.000000", "6.0000", "0.5000", "48.000000", "6"]
    assert list_text(calibration_stars([], SETTINGS), "i", "r4p5").splitlines()[2] == "# NVAR: 5"
