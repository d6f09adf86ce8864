"""The survey's own sky modes: taken apart into CCDs, fitted, and drawn from its full-size templates."""

import numpy as np
import pytest
from astropy.io import fits

from imaging.detector.ccds import CCDS
from imaging.errors import InputError
from imaging.io.calibrations import read_sky_modes, read_sky_templates
from imaging.sky.fit import fit_sky
from imaging.sky.image import sky_image
from imaging.sky.mini_sky import MiniSky
from imaging.sky.settings import SkySettings

LEFT_OUT = "N30,S30"
USED = [ccd for ccd in CCDS.values() if not ccd.is_focus and ccd.detpos not in LEFT_OUT.split(",")]
SIZE = (224, 230)
"""Superpixels of the abutted focal plane, all 29 400 x 28 672 pixels of it."""


def mode_images():
    """Return a level, a slope and a bowl over the whole focal plane, in superpixels."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]]
    u, v = (x - 112) / 112.0, (y - 112) / 112.0
    return np.stack([1.0 + 0.02 * u, u, u**2 + v**2])


def place(ccd):
    """Return the row and column of a CCD's first superpixel: columns of CCDs stand side by side, half a CCD apart."""
    return round((ccd.detsec[1] - 1) / 2048) * 16, round((ccd.detsec[0] - 1) / 2048) * 16


def write_modes(path, *, half="", block=128, left_out=LEFT_OUT):
    """Write the file as the survey's programs do: flattened over the CCDs in use, row by row."""
    used = np.zeros(SIZE, bool)
    for ccd in USED:
        y, x = place(ccd)
        used[y : y + 32, x : x + (8 if half in ("", True) and ccd.detpos == "S7" else 16)] = True
    table = fits.ImageHDU(mode_images()[:, used].T.astype(np.float32), name="U")
    table.header["BLOCKSIZ"], table.header["MASKVAL"], table.header["BADDET"] = block, -1.0, left_out
    if half is not None:
        table.header["HALFS7"] = half
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path, overwrite=True)
    return path


def part(ccd):
    y, x = place(ccd)
    return mode_images()[:, y : y + 32, x : x + 16]


@pytest.mark.parametrize("half", ["", True, False, None], ids=["blank", "true", "false", "absent"])
def test_every_ccd_gets_its_own_superpixels(tmp_path, half):
    modes = read_sky_modes(write_modes(tmp_path / "modes.fits", half=half))
    assert set(modes.values) == {ccd.ccdnum for ccd in USED}
    assert not {2, 61} & set(modes.values)
    for ccd in USED:
        width = 8 if half in ("", True) and ccd.detpos == "S7" else 16
        assert modes.values[ccd.ccdnum].shape == (3, 32, 16)
        assert np.allclose(modes.values[ccd.ccdnum][..., :width], part(ccd)[..., :width], atol=1e-5)
    assert np.isfinite(modes.values[31]).all()


def test_a_sky_is_fitted_with_them_and_drawn_from_the_full_size_templates(tmp_path):
    modes = read_sky_modes(write_modes(tmp_path / "modes.fits"))
    truth, random = np.array([3000.0, 40.0, -25.0]), np.random.default_rng(1)
    skies = {
        ccd.ccdnum: MiniSky(
            ccd.ccdnum,
            (np.tensordot(truth, part(ccd), axes=1) + random.normal(0.0, 1.0, (32, 16))).astype(np.float32),
        )
        for ccd in USED
    }
    fit = fit_sky(skies, modes, SkySettings())
    assert fit.method == "modes" and fit.reason == ""
    assert fit.coefficients == pytest.approx(truth, abs=0.5)
    fine = np.kron(part(CCDS[33]), np.ones((1, 128, 128))).astype(np.float32)
    templates = fits.ImageHDU(fine, name="TEMPLATES")
    templates.header["DETPOS"], templates.header["CCDNUM"] = CCDS[33].detpos, 33
    fits.HDUList([fits.PrimaryHDU(), templates]).writeto(tmp_path / "c33.fits")
    read = read_sky_templates(tmp_path / "c33.fits", 33)
    assert read.values.shape == (3, 512, 256)
    sky = sky_image(fit, read, 33, (4096, 2048))
    assert np.abs(sky[64::128, 64::128] - np.tensordot(truth, part(CCDS[33]), axes=1)).max() < 1.0


@pytest.mark.parametrize("wrong", [{"block": 256}, {"left_out": "N30"}], ids=["binning", "ccds"])
def test_a_table_of_another_shape_is_refused_with_its_numbers(tmp_path, wrong):
    with pytest.raises(InputError, match="does not match the camera") as caught:
        read_sky_modes(write_modes(tmp_path / "modes.fits", **wrong))
    assert "30464" in str(caught.value.value) and "BADDET" in caught.value.remedy
