"""The commands of the photometric calibration: catalogues built and prefetched, the original's tables exported."""

import json

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy_healpix import HEALPix

from deployments.cli.main import run
from imaging.identity import ExposureId
from imaging.io.images import write_planes
from imaging.io.reference import read_reference_cone, write_reference_catalogue
from imaging.io.skymaps import write_skymap
from imaging.io.tables import write_table
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.reference import REFERENCE_STARS
from imaging.schemas.zeropoints import ZEROPOINTS
from imaging.skymap.model import SkyMap
from imaging.tables import make_table
from tasks.engine.jobs import ExitCode

EXPOSURE = ExposureId(1300001, "i", 20240510)


def command(capsys, *words):
    code = run([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def gaia(n=2000, ra=10.0, dec=-20.0, size=3.0):
    random = np.random.default_rng(1)
    columns = {f.name: np.full(n, 0.1) for f in REFERENCE_STARS}
    columns |= {
        "source_id": np.arange(n),
        "ra": ra + random.uniform(-size, size, n),
        "dec": dec + random.uniform(-size, size, n),
        "ref_epoch": np.full(n, 2016.0),
        "phot_g_mean_mag": random.uniform(8, 20, n),
        "phot_bp_mean_mag": np.full(n, 15.5),
        "phot_rp_mean_mag": np.full(n, 14.7),
        "variable": np.zeros(n, bool),
    }
    return make_table(columns, REFERENCE_STARS)


def write_products(root, ccds=(7, 9)):
    """Leave what the export reads of a calibrated exposure."""
    folder = root / "products" / EXPOSURE.folder
    corners = [(9.9, -20.07), (9.9, -19.93), (10.1, -19.93), (10.1, -20.07)]
    for ccd in ccds:
        header = {"EXPNUM": EXPOSURE.expnum, "BAND": "i", "FILTER": "i DECam", "DATE-OBS": "2024-05-11T01:00:00"}
        header |= {"MJD-OBS": 60441.04, "EXPTIME": 90.0, "AIRMASS": 1.2, "OBSTYPE": "object", "TELRA": "00:40:00"}
        header |= {"TELDEC": "-20:00:00", "FWHM": 4.0, "RA_CENT": 10.0, "DEC_CENT": -20.0}
        for k, (ra, dec) in enumerate(corners, start=1):
            header |= {f"RAC{k}": ra, f"DECC{k}": dec}
        planes = {"SCI": np.zeros((8, 8), np.float32), "MSK": np.zeros((8, 8), np.int16)}
        write_planes(folder / f"{EXPOSURE.ccd_stem(ccd)}_immask.fits", planes, header)
        n = 30
        sources = {f.name: np.zeros(n) for f in CATALOGUE}
        sources |= {name: np.zeros((n, 12), np.float32) for name in ("flux_aper", "flux_aper_error")}
        sources |= {"expnum": np.full(n, EXPOSURE.expnum), "band": ["i"] * n, "ccd": np.full(n, ccd)}
        sources |= {"ra": np.linspace(9.95, 10.05, n), "dec": np.full(n, -20.0), "flux_psf": np.full(n, 1e6)}
        sources |= {"flux_psf_error": np.full(n, 2e3), "flux_auto": np.full(n, 1e6), "number": np.arange(n)}
        write_table(folder / f"{EXPOSURE.ccd_stem(ccd)}_fullcat.parquet", make_table(sources, CATALOGUE))
    rows = {name: [1.0] * len(ccds) for name in ZEROPOINTS.names} | {"ccd": list(ccds), "band": ["i"] * len(ccds)}
    rows |= {f"{kind}zeropoint_mag": [31.7] * len(ccds) for kind in ("", "own_", "exposure_")}
    rows |= {"flags": [0] * len(ccds)}
    write_table(folder / f"{EXPOSURE.stem}_zeropoints.parquet", pa.table(rows, schema=ZEROPOINTS))


def test_export_of_a_calibrated_exposure(tmp_path, capsys):
    write_products(tmp_path)
    write_reference_catalogue(tmp_path / "reference" / "gaia", gaia(), name="test")
    words = ("export-calibration", "--expnum", 1300001, "--reqnum", 1, "--attnum", 1, "--site", tmp_path)
    code, document = command(capsys, *words, "-o", tmp_path / "out", "--star-lists")
    assert code is ExitCode.COMPLETE
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert len(document["files"]) == len(written)
    for name in ("Zero_D01300001_07_r1p1.csv", "Merged_D01300001_09_r1p1.csv", "Merg_allZP_D01300001_07_r1p1.csv",
                 "allZP_D01300001_r1p1.csv", "D01300001_07_r1p1_ZP.csv", "D01300001_r1p1_ZP.csv",
                 "SNSTAR_1300001_07_r1p1.LIST", "SNVETO_1300001_09_r1p1.LIST"):  # fmt: skip
        assert name in written
    stars = (tmp_path / "out" / "SNSTAR_1300001_07_r1p1.LIST").read_text().splitlines()[4:]
    assert len(stars) == 30  # the two CCDs saw the same thirty stars
    vetoes = (tmp_path / "out" / "SNVETO_1300001_07_r1p1.LIST").read_text().splitlines()[4:]
    assert vetoes
    assert min(float(line.split("\t")[3]) for line in vetoes) < 12.0  # brighter than any calibration star
    few, _ = command(capsys, *words, "--ccd", 7, "-o", tmp_path / "few")
    assert few is ExitCode.COMPLETE
    assert not (tmp_path / "few" / "Zero_D01300001_09_r1p1.csv").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [(("--ccd", 12), "CCDs have not been calibrated"), (("--stars-from", "x"), "invalid exposure numbers")],
)
def test_what_cannot_be_exported_is_said(tmp_path, capsys, words, message):
    write_products(tmp_path)
    base = ("export-calibration", "--expnum", 1300001, "--reqnum", 1, "--attnum", 1, "--site", tmp_path)
    code, document = command(capsys, *base, "-o", tmp_path / "out", *words)
    assert code is ExitCode.BAD_INPUT
    assert message in document["error"]


def test_prefetch_for_a_sky_map(tmp_path, capsys):
    write_reference_catalogue(tmp_path / "whole", gaia(20_000, size=9.0), name="whole")
    pixel = HEALPix(32, order="nested").lonlat_to_healpix(10.0 * u.deg, -20.0 * u.deg)
    write_skymap(tmp_path / "map.fits", SkyMap(np.array([5]), np.array([pixel]), np.array([1.0])))
    words = ("reference-catalog", "prefetch", tmp_path / "whole", "--name", "gaia", "--site", tmp_path / "site")
    code, document = command(capsys, *words, "--skymap", tmp_path / "map.fits")
    assert code is ExitCode.COMPLETE
    assert document["n_copied"] == document["n_partitions"] == 9
    assert read_reference_cone(tmp_path / "site" / "reference" / "gaia", 10.0, -20.0, 1.0).num_rows > 100
    bad, document = command(capsys, *words, "--skymap", tmp_path / "map.fits", "--level", 1.5)
    assert bad is ExitCode.BAD_INPUT
    assert "probability" in document["error"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing.csv",), "no source files found"),
        (("a.csv", "--mapping", "unknown"), "no such mapping"),
        (("a.csv", "--mapping", "absent.json"), "mapping file missing"),
        (("a.csv", "--order", 40), "order out of range"),
    ],
)
@pytest.mark.server
def test_what_cannot_be_built_is_said(tmp_path, capsys, words, message, prefect_server, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, document = command(capsys, "reference-catalog", "build", *words, "--site", tmp_path / "site")
    assert code is ExitCode.BAD_INPUT
    assert message in document["error"]
