"""Calibrations survive the way through their files."""

import numpy as np
import pytest

from imaging.bits import BpmBit
from imaging.detector.crosstalk import format_crosstalk, observatory_crosstalk
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.atomic import write_text
from imaging.io.calibration_write import write_calibration_image, write_image_extensions, write_table_extensions
from imaging.io.calibrations import (
    CalibrationEntry,
    CalibrationLibrary,
    read_linearity,
    read_sky_modes,
    read_sky_templates,
    write_manifest,
)
from imaging.io.detrend_calibrations import detrend_calibration_paths, read_detrend_calibrations

EXPOSURE = Exposure(1300001, "i", 20240510, 60440.0, 90.0, 150.0, 2.0, 1.2)
FILES = {
    "bias": "bias_{ccd:02d}.fits",
    "flat": "flat_{ccd:02d}.fits",
    "bad_pixels": "bpm_{ccd:02d}.fits",
    "linearity": "linearity.fits",
    "crosstalk": "crosstalk.txt",
    "brighter_fatter": "bf.fits",
}


@pytest.fixture
def library(tmp_path):
    random = np.random.default_rng(1)
    bias = random.normal(0, 2, (32, 16)).astype(np.float32)
    write_calibration_image(tmp_path / "bias_33.fits", bias, {"CCDNUM": 33})
    write_calibration_image(tmp_path / "flat_33.fits", np.full((32, 16), 0.98, np.float32), {"CCDNUM": 33, "BAND": "i"})
    bad = np.zeros((32, 16), np.int16)
    bad[3, 4] = BpmBit.BIAS_HOT
    write_calibration_image(tmp_path / "bpm_33.fits", bad, {"CCDNUM": 33})
    adu = np.array([0.0, 1000.0, 60000.0])
    table = {"ADU": adu, "ADU_LINEAR_A": adu * 1.01, "ADU_LINEAR_B": adu * 0.99}
    write_table_extensions(tmp_path / "linearity.fits", {"CCD33": table})
    write_text(tmp_path / "crosstalk.txt", format_crosstalk(observatory_crosstalk().terms))
    kernel = random.random((4, 4))
    write_image_extensions(tmp_path / "bf.fits", {"N2R": kernel, "N2T": 2 * kernel}, {})
    entries = tuple(
        CalibrationEntry(epoch="e1", kind=kind, files=files, band="i" if kind == "flat" else None, made_night=20240501)
        for kind, files in FILES.items()
    )
    write_manifest(tmp_path, entries)
    return CalibrationLibrary(tmp_path), bias, bad, kernel


def test_everything_that_detrending_needs_is_read(library):
    found, bias, bad, kernel = library
    calibrations = read_detrend_calibrations(detrend_calibration_paths(found, EXPOSURE, 33), 33, "i")
    np.testing.assert_array_equal(calibrations.bias, bias)
    np.testing.assert_array_equal(calibrations.bad_pixels, bad)
    assert calibrations.bias.dtype == np.float32
    assert calibrations.bad_pixels.dtype == np.int16
    assert (calibrations.flat == np.float32(0.98)).all()
    assert calibrations.linearity.linear["A"][1] == 1010.0
    first, corrections = calibrations.linearity.corrections("B")
    assert first == 0
    assert corrections[500] == pytest.approx(-5.0)
    assert len(calibrations.crosstalk.terms) == len(observatory_crosstalk().terms)
    np.testing.assert_array_equal(calibrations.brighter_fatter.top, 2 * kernel)
    assert calibrations.names["bias"] == "bias_33.fits"
    assert calibrations.names["crosstalk"] == "crosstalk.txt"


def test_a_linearity_file_without_the_ccd_is_refused(library):
    with pytest.raises(InputError, match="of another CCD"):
        read_linearity(library[0].root / "linearity.fits", 34)


def test_sky_modes_and_templates_are_read_by_ccd(tmp_path):
    modes = {f"CCD{ccd:02d}": np.full((3, 32, 16), float(ccd), np.float32) for ccd in (5, 33)}
    write_image_extensions(tmp_path / "modes.fits", modes, {"BAND": "i"})
    read = read_sky_modes(tmp_path / "modes.fits")
    assert set(read.values) == {5, 33}
    assert read.n_modes == 3
    assert (read.values[33] == 33.0).all()
    template = np.arange(3 * 8 * 4, dtype=np.float32).reshape(3, 8, 4)
    write_calibration_image(tmp_path / "template.fits", template, {"CCDNUM": 33})
    np.testing.assert_array_equal(read_sky_templates(tmp_path / "template.fits", 33).values, template)


def test_damaged_sky_modes_are_refused(tmp_path):
    write_text(tmp_path / "modes.fits", "not FITS")
    with pytest.raises(InputError, match="damaged"):
        read_sky_modes(tmp_path / "modes.fits")
