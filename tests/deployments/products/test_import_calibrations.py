"""Calibrations that others have made are recognised by what they say, and serve exposures; all others are refused.

The files are written with astropy alone, with the names and cards of those who make them.
"""

import json
import shutil

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from blocks.site import Site
from deployments.cli.main import run
from imaging.bits import BpmBit
from imaging.detector.ccds import CCDS, SCIENCE_CCDS
from imaging.detector.crosstalk import observatory_crosstalk
from imaging.exposure import Exposure
from imaging.io.calibrations import CalibrationLibrary
from imaging.io.detrend_calibrations import detrend_calibration_paths, read_detrend_calibrations
from tasks.engine.jobs import ExitCode

TWO = (25, 33)
"""S1 and N2; amplifier A is right on the first and left on the second."""

SHAPE = (4096, 2048)
OBSERVED = Exposure(1300001, "i", 20230924, 60211.1, 90.0, 150.0, 2.0, 1.2)


@pytest.fixture
def import_files(tmp_path, capsys):
    """Run the command on a site; return exit code and document."""

    def command(*words):
        code = run(["import-calibrations", *map(str, words), "--site", str(tmp_path / "site"), "--json"])
        return ExitCode(code), json.loads(capsys.readouterr().out)

    return command


@pytest.fixture
def library(tmp_path):
    return lambda: CalibrationLibrary(Site.at(tmp_path / "site").calibrations)


def refused(answer, *texts):
    code, document = answer
    assert code is ExitCode.BAD_INPUT
    assert all(text in document["error"] for text in texts), document["error"]


def response_of(ccd):
    """Return the response of a CCD to the lamp, without structure: some per cent from CCD to CCD."""
    return np.full(SHAPE, 0.97 if ccd == 33 else 1.03, np.float32)


def flat_in_adu(ccd):
    """Return a flat of frames that were never multiplied by the gains."""
    flat = response_of(ccd)
    for amplifier in CCDS[ccd].amplifiers:
        flat[:, amplifier.columns] *= 4.0 / amplifier.gain
    return flat


def write_pipeline(path, images, obstype, date="2023-09-15T21:04:11.2"):
    """Write a master of the Community Pipeline: one compressed extension per CCD."""
    primary = fits.PrimaryHDU()
    cards = {
        "OBSTYPE": obstype,
        "PROCTYPE": "MasterCal",
        "DATE-OBS": date,
        "FILTER": "i DECam SDSS c0003 7835.0 1470.0",
    }
    primary.header.update(cards)
    hdus = [primary]
    for ccd, image in images.items():
        hdus.append(fits.CompImageHDU(image, compression_type="GZIP_1", quantize_level=0.0, name=CCDS[ccd].detpos))
        hdus[-1].header["CCDNUM"] = ccd
    fits.HDUList(hdus).writeto(path)
    return path


def write_survey(path, image, **cards):
    """Write a file of the Dark Energy Survey: one CCD."""
    hdu = fits.PrimaryHDU(image)
    hdu.header.update(cards)
    hdu.writeto(path)
    return path


def untrimmed(image, ccd):
    whole = np.full((4146, 2160), 7.0, np.float32)
    first = 0 if CCDS[ccd].a_is_left else 50
    whole[first : first + 4096, 56:2104] = image
    return whole


def write_curves(path, factor=1.001):
    """Write the observatory's linearity table: 62 tables that state nothing but their columns."""
    adu = np.arange(0.0, 50001.0, 500.0)
    hdus = [fits.PrimaryHDU()]
    for ccd in SCIENCE_CCDS:
        columns = {"ADU": adu, "ADU_LINEAR_A": adu * factor, "ADU_LINEAR_B": adu * (1.0 + 1e-4 * ccd)}
        hdus.append(fits.BinTableHDU.from_columns([fits.Column(k, "D", array=v) for k, v in columns.items()]))
    fits.HDUList(hdus).writeto(path)
    return path


def write_defects(path, boxes, **meta):
    rows = Table(rows=boxes, names=("x0", "y0", "width", "height"), dtype=[np.int32] * 4)
    rows.meta.update({"OBSTYPE": "defects", "INSTRUME": "decam", "DETECTOR": 33, "CALIBDATE": "2023-07-16T00:00:00"})
    rows.meta.update({"CALIB_ID": "detector=33 calibDate=2023-07-16T00:00:00 ccd=33 ccdnum=33 filter=None"} | meta)
    rows.write(path, format="ascii.ecsv")
    return path


def test_masters_of_the_community_pipeline_and_tables_of_the_observatory_serve_an_exposure(
    tmp_path, import_files, library
):
    """Biases with overscan, flats of frames in ADU, defects, curves by place: all of one pipeline's own forms."""
    biases = {ccd: untrimmed(np.full(SHAPE, 0.1 * ccd, np.float32), ccd) for ccd in TWO}
    bias = write_pipeline(tmp_path / "c4d_230915_210411_zci.fits.fz", biases, "zero")
    flats = {ccd: flat_in_adu(ccd) for ccd in TWO}
    flat = write_pipeline(tmp_path / "c4d_230915_212200_fci.fits.fz", flats, "dome flat")
    defects = write_defects(tmp_path / "20230716T0000.ecsv", [(0, 0, 2048, 15), (712, 100, 2, 50)])
    curves = write_curves(tmp_path / "linearity_table_v0.4.fits")

    code, document = import_files(bias, flat, defects, curves)

    assert code is ExitCode.COMPLETE, document
    said = {row["file"]: row for row in document["files"]}
    assert said[bias.name]["classified"] == ("Community Pipeline bias, 2 CCDs, night 20230915, with overscan, trimmed")
    assert said[flat.name]["classified"].endswith(
        "flat, i, 2 CCDs, night 20230915, trimmed already, normalised over the focal plane, frames in ADU, "
        "multiplied by the gains"
    )
    assert said[defects.name]["classified"] == "LSST defects bad_pixels, CCD 33, night 20230716"
    assert said[curves.name]["classified"] == "observatory linearity, 62 CCDs, night 20120912"
    found = library()
    for ccd in TWO:
        paths = detrend_calibration_paths(found, OBSERVED, 33) | {
            kind: found.find(kind, OBSERVED, ccd) for kind in ("bias", "flat", "linearity")
        }
        if ccd == 25:
            paths["bad_pixels"] = write_survey(tmp_path / "none.fits", np.zeros(SHAPE, np.int16), CCDNUM=25)
        read = read_detrend_calibrations(paths, ccd, "i")
        assert (read.bias == np.float32(0.1 * ccd)).all()
        assert np.ptp(read.flat) < 1e-5, "the step between the amplifiers is gone"
        assert read.linearity.linear["B"][-1] == pytest.approx(50000.0 * (1.0 + 1e-4 * ccd))
        assert read.defaults == ("crosstalk",)
        if ccd == 33:
            assert np.count_nonzero(read.bad_pixels) == 2048 * 15 + 100
            assert set(np.unique(read.bad_pixels)) == {0, int(BpmBit.BIAS_MASK)}
    ratio = [float(np.median(fits.getdata(found.find("flat", OBSERVED, ccd)))) for ccd in TWO]
    assert ratio[0] / ratio[1] == pytest.approx(1.03 / 0.97, rel=1e-5)
    for entry in found.manifest.entries:
        assert list(entry.sources) == list(entry.forms)
        assert all(said[name]["checksum"] == checksum for name, checksum in entry.sources.items())
    assert {entry.epoch for entry in found.manifest.entries} == {"cp20230915", "lsst20230716", "ctio20120912"}


def test_defects_hold_from_their_date_on(tmp_path, import_files, library):
    early = write_defects(tmp_path / "early.ecsv", [(5, 5, 1, 1)], CALIBDATE="1970-01-01T00:00:00")
    late = write_defects(tmp_path / "late.ecsv", [(5, 5, 2, 1)])
    assert import_files(early, late)[0] is ExitCode.COMPLETE
    names = {
        night: library().find("bad_pixels", Exposure(1, "i", night, 6e4, 9.0, 0.0, 0.0, 1.0), 33).parent.name
        for night in (20130101, 20230924)
    }
    assert names == {20130101: "lsst20120912", 20230924: "lsst20230716"}


def test_files_of_the_survey_are_recognised_by_name_and_header(tmp_path, import_files, library):
    tag = "D_n20230913t0923_{}c33_r4033p02_{}.fits"
    image, bits = np.full(SHAPE, 0.5, np.float32), np.zeros(SHAPE, np.int16)
    bits[100, 200] = int(BpmBit.BIAS_HOT)
    cards = {"CCDNUM": 33, "DETPOS": "N2"}
    files = [
        write_survey(tmp_path / tag.format("", "biascor"), image, FILETYPE="cal_biascor", **cards),
        write_survey(tmp_path / tag.format("i_", "norm-dflatcor"), response_of(33), BAND="i", **cards),
        write_survey(tmp_path / tag.format("", "bpm"), bits, **cards),
        write_survey(tmp_path / "Y6A1_20230908t1117_i_c33_r3762p01_starflat.fits", response_of(33), BAND="i", **cards),
    ]
    code, document = import_files(*files)
    assert code is ExitCode.COMPLETE, document
    assert [row["kind"] for row in document["files"]] == ["bias", "flat", "bad_pixels", "star_flat"]
    assert [row["night"] for row in document["files"]] == [20230913, 20230913, 20230913, 20230908]
    read = read_detrend_calibrations(detrend_calibration_paths(library(), OBSERVED, 33), 33, "i")
    assert read.bad_pixels[100, 200] == BpmBit.BIAS_HOT, "the survey's codes are kept"
    assert library().find("star_flat", OBSERVED, 33).is_file()


def test_crosstalk_text_and_a_linearizer_are_read(tmp_path, import_files, library):
    line = "{} {} {} 1.13e-05 4.078154e+04 1.537540e-04 -6.980507e-08 5.963848e-12\n"
    text = tmp_path / "DECam_xtalk_20150901.txt"
    text.write_text("# victim source x x_err src_nl poly_coeff\n" + line.format("ccd33B", "ccd33A", "2.5e-04"))
    added = [np.linspace(0.0, 2100.0, 21001).round(1).tolist(), np.linspace(0.0, -2100.0, 21001).round(1).tolist()]
    amplifiers = {name: {"linearityType": "LookupTable", "linearityCoeffs": [row, 0]} for row, name in enumerate("AB")}
    metadata = [["INSTRUME", "String", "DECam", ""], ["DETECTOR", "Int", 33, ""],
                ["CALIBDATE", "String", "1970-01-01T00:00:00", ""]]  # fmt: skip
    document = {"amplifiers": amplifiers, "detectorId": 33, "hasTable": True, "tableData": added}
    yaml = tmp_path / "n2.yaml"
    yaml.write_text(f"metadata: !<lsst.daf.base.PropertyList> {json.dumps(metadata)}\n"
                    + "".join(f"{key}: {json.dumps(value)}\n" for key, value in document.items()))  # fmt: skip
    code, said = import_files(text, yaml)
    assert code is ExitCode.COMPLETE, said
    assert [row["classified"] for row in said["files"]] == [
        "observatory crosstalk, CCD 33, night 20120912", "LSST linearizer linearity, CCD 33, night 20120912"
    ]  # fmt: skip
    found = library()
    assert found.find("crosstalk", OBSERVED, 33).read_text() == text.read_text()
    calibration = found.find("linearity", OBSERVED, 33)
    table = fits.getdata(calibration, "CCD33")
    assert table["ADU_LINEAR_A"][1000] - table["ADU"][1000] == pytest.approx(100.0)
    assert table["ADU_LINEAR_B"][1000] - table["ADU"][1000] == pytest.approx(-100.0)
    yaml.write_text(yaml.read_text().replace("LookupTable", "Squared"))
    refused(import_files(yaml), "linearityType = Squared")
    short = json.dumps(document | {"metadata": metadata, "tableData": [row[:2001] for row in added]})
    yaml.write_text(short)
    refused(import_files(yaml), "the curve ends at 2000 ADU; allowed: at least 20000")
    assert len(observatory_crosstalk().terms) > 200, "the package's own matrix is another"


def test_what_is_not_certain_is_refused_by_name_and_nothing_is_written(tmp_path, import_files):
    image, cards = np.full(SHAPE, 0.5, np.float32), {"CCDNUM": 33, "DETPOS": "N2"}
    good = write_survey(tmp_path / "D_n20230913t0923_c33_r1p1_biascor.fits", image, **cards)
    names = {
        "DECam_Master_20140209v2-zG_ci_z_33.fits": "fringe",
        "DECam_Master_20140209v2-iI_ci_i_33.fits": "not stated whether images are divided",
        "something.fits": "neither its content",
    }
    for name, why in names.items():
        refused(import_files(good, write_survey(tmp_path / name, image, **cards)), name, why)
    illumination = tmp_path / "DECam_Master_20140209v2-iI_ci_i_33.fits"
    code, document = import_files(illumination, "--kind", "star_flat", "--night", 20140209, "--epoch", "said")
    assert (code, document["files"][0]["kind"], document["files"][0]["band"]) == (ExitCode.COMPLETE, "star_flat", "i")
    refused(import_files(tmp_path / "DECam_Master_20140209v2-zG_ci_z_33.fits", "--kind", "star_flat"), "fringe")
    shutil.rmtree(tmp_path / "site" / "calibrations")
    unlike = write_survey(tmp_path / "D_n20230913t0923_c34_r1p1_biascor.fits", image, **cards)
    refused(import_files(unlike), "the name says CCD 34, the header CCD 33")
    torn = write_survey(tmp_path / "D_n20230913t0923_c33_r2p2_biascor.fits", image, OBSTYPE="dome flat", **cards)
    refused(import_files(torn), "header says flat, name says bias")
    undated = write_survey(tmp_path / "b.fits", image, OBSTYPE="zero", **cards)
    refused(import_files(undated), "does not say its night", "--night")
    twice = write_survey(tmp_path / "D_n20230913t0923_c33_r3p3_biascor.fits", image, **cards)
    refused(import_files(good, twice), "two files hold the same calibration")
    small = write_survey(tmp_path / "D_n20230913t0924_c33_r4p4_biascor.fits", image[:2048], **cards)
    refused(import_files(small), "wrong size", "2048 x 2048 pixels")
    refused(import_files(write_defects(tmp_path / "a.ecsv", [(2040, 5, 9, 1)])), "box 2040 5 9 1")
    refused(import_files(write_defects(tmp_path / "b.ecsv", [(5, 5, 1, 1)], INSTRUME="HSC")), "INSTRUME = HSC")
    refused(import_files(write_defects(tmp_path / "c.ecsv", [(5, 5, 1, 1)], DETECTOR=34)), "contradicts CALIB_ID")
    nameless = write_survey(tmp_path / "nameless.fits", image, FILTER="i", **cards)
    for kind in ("crosstalk", "pixel_displacement", "ghosts"):
        refused(import_files(nameless, "--kind", kind), f"the kind {kind} is not read from FITS files")
    (tmp_path / "notes.txt").write_text("a list of things\n")
    refused(import_files(tmp_path / "notes.txt"), "notes.txt", "unknown meaning")
    assert not (tmp_path / "site" / "calibrations").exists()


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (lambda ccd: np.ones(SHAPE, np.float32), "normalised per CCD"),
        (lambda ccd: 20000.0 * response_of(ccd), "not between 0 and 10"),
        (lambda ccd: response_of(ccd) ** 0.5 * flat_in_adu(ccd) ** 0.5, "neither of frames in electrons"),
    ],
    ids=["per CCD", "counts", "half a gain"],
)
def test_flats_of_another_normalisation_or_unit_are_refused(tmp_path, import_files, response, why):
    flats = {ccd: response(ccd) for ccd in TWO}
    path = write_pipeline(tmp_path / "c4d_230915_212200_fci.fits.fz", flats, "dome flat")
    refused(import_files(path), why)
    assert not (tmp_path / "site" / "calibrations").exists()
