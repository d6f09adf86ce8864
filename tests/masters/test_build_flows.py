"""The flows that build masters, from raw frames and processed exposures to the library: built, refused, left out."""

import shutil

import fitsio
import numpy as np
import pytest

from blocks.site import Site
from imaging.exposure import Exposure
from imaging.identity import ExposureId, raw_name
from imaging.io.atomic import content_hash
from imaging.io.calibrations import CalibrationLibrary, read_calibration_image
from imaging.io.images import write_planes
from imaging.io.tables import write_table
from imaging.schemas.matches import ZEROPOINT_MATCHES
from imaging.simulation.night import simulate_night
from imaging.simulation.settings import SimulationSettings
from imaging.tables import make_table
from tasks.engine.jobs import ExitCode
from tasks.raw_files import raw_of_kind

pytestmark = pytest.mark.slow

NIGHT, CCD = 20240510, 33
OBSERVED = Exposure(2000000, "i", 20240511, 60441.0, 90.0, 10.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def afternoon(tmp_path_factory):
    """Return a simulated afternoon: three biases and three dome flats of one CCD, and a library of the camera."""
    root = tmp_path_factory.mktemp("afternoon")
    nothing = {"n_search_exposures": 0, "n_template_epochs": 0, "galaxy_density": 0.0, "star_density": 0.01}
    settings = SimulationSettings(
        ccds=(CCD,), focus_ccds=False, n_bias_exposures=3, n_flat_exposures=3, supernovae_per_ccd=0.0, **nothing
    )
    simulate_night(root, settings, processes=1)
    return root


@pytest.fixture
def site(afternoon, tmp_path):
    """Return a copy of the afternoon that may be spoilt."""
    shutil.copytree(afternoon, tmp_path / "site")
    return Site.at(tmp_path / "site")


def raw_files(site, obstype):
    found = []
    for path in sorted((site.raw / str(NIGHT)).glob("*.fits*")):
        with fitsio.FITS(str(path)) as file:
            if file[0].read_header()["OBSTYPE"].strip() == obstype:
                found.append(path)
    return found


def rewrite(path, **cards):
    with fitsio.FITS(str(path), "rw") as file:
        for key, value in cards.items():
            file[0].write_key(key.replace("_", "-"), value)


def build(command, site, *more):
    return command(site, "build-calibrations", NIGHT, "--ccds", CCD, "--epoch", "new", *more)


def test_masters_are_built_and_entered_for_the_ccds_that_have_them(command, site):
    """A flat that calls itself a bias is left out, and said; other CCDs go on with the masters that they had."""
    biases, flats = raw_files(site, "zero"), raw_files(site, "dome flat")
    assert (len(biases), len(flats)) == (3, 3)
    impostor = flats[0].with_name(raw_name(1299000))
    shutil.copy(flats[0], impostor)
    rewrite(impostor, EXPNUM=1299000, OBSTYPE="zero")
    before = CalibrationLibrary(site.calibrations)
    old = before.find("bias", OBSERVED, CCD)

    code, said = build(command, site)

    assert code is ExitCode.COMPLETE, said
    notes = " ".join(said["summary"]["notes"])
    assert f"CCD {CCD}, bias: exposure 1299000 left out, unlike the others by" in notes
    library = CalibrationLibrary(site.calibrations)
    entries = [entry for entry in library.manifest.entries if entry.epoch == "new"]
    assert {entry.kind for entry in entries} == {"bias", "flat", "bad_pixels"}
    for entry in entries:
        assert entry.ccds == (CCD,)
        assert entry.made_night == NIGHT
        path = library.find(entry.kind, OBSERVED, CCD)
        assert path == site.calibrations / entry.name(CCD, "i")
        assert entry.checksums == {entry.name(CCD, "i"): content_hash(path)}
    difference = read_calibration_image(library.find("bias", OBSERVED, CCD)) - read_calibration_image(old)
    assert abs(float(np.median(difference))) < 0.1
    # The library of the simulation names CCD 34 in its pattern but holds CCD 33 alone.
    assert all(not entry.serves(entry.kind, "i", 34) for entry in entries)
    again, repeated = build(command, site)
    assert again is ExitCode.COMPLETE, repeated
    assert repeated["summary"]["n_computed"] == 0


def test_two_biases_are_too_few(command, site):
    for path in raw_files(site, "zero")[2:]:
        path.unlink()
    code, said = build(command, site)
    assert code is ExitCode.BAD_INPUT
    assert "too few exposures of the kind bias" in said["error"]
    assert "2 on night 20240510" in said["error"] and "at least 3" in said["error"]


def test_flats_that_are_left_out_cost_the_flat_and_the_manifest_stays(command, site):
    flats, bias = raw_files(site, "dome flat"), raw_files(site, "zero")[0]
    number = int(flats[0].name[6:14])
    shutil.copy(bias, flats[0])
    rewrite(flats[0], EXPNUM=number, OBSTYPE="dome flat")
    before = (site.calibrations / "manifest.json").read_bytes()
    code, said = build(command, site)
    assert code is not ExitCode.COMPLETE
    failure = said["summary"]["failures"][str(CCD)]
    assert failure["reason"] == "too_few_exposures"
    assert "(2; allowed: at least 3)" in failure["message"]
    assert (site.calibrations / "manifest.json").read_bytes() == before


def test_a_night_is_that_of_the_headers_and_one_without_flats_is_refused(command, site):
    """A copy of the frames in the folder of another night gives that night none, and its own none twice."""
    other = site.raw / "20240512"
    shutil.copytree(site.raw / str(NIGHT), other)
    code, said = command(site, "build-calibrations", 20240512, "--ccds", CCD)
    assert code is ExitCode.BAD_INPUT
    assert "the night has no dome flats" in said["error"] and "20240512" in said["error"]
    assert [raw.exposure.obstype for raw in raw_of_kind(site, NIGHT, ("zero",))] == ["zero"] * 3
    for path in [*raw_files(site, "dome flat"), *other.glob("*")]:
        path.unlink()
    code, said = build(command, site)
    assert code is ExitCode.BAD_INPUT
    assert "the night has no dome flats" in said["error"]


def write_matches(site, who, ccd, random):
    """Write the zero-point matches of a CCD whose response falls by 30 mmag over its width."""
    n = 80
    columns = {
        field.name: [""] * n if field.type == "string" else np.zeros(n, field.type.to_pandas_dtype())
        for field in ZEROPOINT_MATCHES
    }
    x, y = random.uniform(0, 2048, n), random.uniform(0, 4096, n)
    zeropoint = 31.7 + 0.1 * random.normal() + 0.015 * (x / 1024.0 - 1.0) + random.normal(0.0, 0.02, n)
    columns |= {"x": x, "y": y, "zeropoint_mag": zeropoint, "used": np.ones(n, bool), "band": [who.band] * n}
    columns |= {"zeropoint_error_mag": np.full(n, 0.02, np.float32)}
    stem = site.store / who.folder / who.ccd_stem(ccd)
    write_table(stem.with_name(f"{stem.name}_zpmatches.parquet"), make_table(columns, ZEROPOINT_MATCHES))
    cards = {"EXPNUM": who.expnum, "FILTER": who.band, "MJD-OBS": 60440.2, "EXPTIME": 90.0, "RA": 150.0, "DEC": 2.0}
    cards |= {"OBSTYPE": "object", "AIRMASS": 1.1, "TELRA": 150.0, "TELDEC": 2.0, "CCDNUM": ccd}
    plane = np.zeros((8, 8), np.float32)
    write_planes(stem.with_name(f"{stem.name}_immask.fits"), {"SCI": plane}, cards)


@pytest.fixture
def calibrated(site):
    random = np.random.default_rng(4)
    found = [ExposureId(1299500 + k, "i", 20240510) for k in range(6)]
    for who in found:
        write_matches(site, who, CCD, random)
    return [who.expnum for who in found]


def test_a_star_flat_is_built_and_entered(command, site, calibrated):
    code, said = command(site, "build-star-flat", *calibrated, "--epoch", "new")
    assert code is ExitCode.COMPLETE, said
    flat = read_calibration_image(CalibrationLibrary(site.calibrations).find("star_flat", OBSERVED, CCD))
    slope = 2500.0 * np.log10(flat[:, -1].mean() / flat[:, 0].mean())
    assert abs(slope) == pytest.approx(30.0, abs=8.0)


def test_three_exposures_are_too_few_for_a_star_flat_and_for_sky_modes(command, site, calibrated):
    code, said = command(site, "build-star-flat", *calibrated[:3], "--epoch", "new")
    assert code is ExitCode.BAD_INPUT
    assert "3 of the bands i" in said["error"] and "at least 4" in said["error"]
    code, said = command(site, "build-sky-modes", *calibrated[:3], "--epoch", "new")
    assert code is ExitCode.BAD_INPUT
