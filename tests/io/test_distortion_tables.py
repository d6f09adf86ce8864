"""Distortions in tables of the file: sky positions are those of astropy; refused where they cannot be."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from imaging.errors import InputError
from imaging.io.calibrated import read_head, read_image

NY, NX, SCALE = 240, 320, 0.05 / 3600
CORNERS = np.array([[0, 0], [NX - 1, 0], [NX - 1, NY - 1], [0, NY - 1], [NX / 2, NY / 3]], float).T
SIP = {"A_ORDER": 2, "A_2_0": 3e-6, "A_1_1": -2e-6, "B_ORDER": 2, "B_0_2": 4e-6}


def write(path, *, kind, sip=False, wave=0.0, missing=False):
    """Write an image whose pixels tables of 17 x 13 nodes move by half a pixel, smoothly or in waves."""
    header = fits.Header({"CRPIX1": 150.5, "CRPIX2": 99.0, "CRVAL1": 150.1, "CRVAL2": 2.2, "RADESYS": "ICRS"})
    suffix = "-SIP" if sip else ""
    header.update({"CTYPE1": f"RA---TAN{suffix}", "CTYPE2": f"DEC--TAN{suffix}"})
    header.update({"CD1_1": -SCALE, "CD1_2": 0.1 * SCALE, "CD2_1": 0.1 * SCALE, "CD2_2": SCALE})
    header.update({"EXTNAME": "SCI"} | (SIP if sip else {}))
    names = {"CPDIS": ("CPDIS", "DP", "WCSDVARR"), "D2IMDIS": ("D2IMDIS", "D2IM", "D2IMARR")}[kind]
    y, x = np.mgrid[-1:1:13j, -1:1:17j]
    tables = []
    for axis in (1, 2):
        header[f"{names[0]}{axis}"] = "Lookup"
        for record, value in (("EXTVER", axis), ("NAXES", 2), ("AXIS.1", 1), ("AXIS.2", 2)):
            header.append(fits.Card(f"{names[1]}{axis}", f"{record}: {value:.1f}"))
        moved = 0.3 + 0.5 * axis * x * y - 0.4 * y**2 + wave * np.sin(20 * x)
        table = fits.ImageHDU(moved.astype(np.float32), name=names[2], ver=axis)
        table.header.update({"CRPIX1": 1.0, "CRPIX2": 1.0, "CRVAL1": 1.0, "CRVAL2": 1.0})
        table.header.update({"CDELT1": (NX - 1) / 16, "CDELT2": (NY - 1) / 12})
        tables.append(table)
    pixels = np.random.default_rng(1).normal(0.0, 3.0, (NY, NX)).astype(np.float32)
    image = fits.ImageHDU(pixels, header)
    fits.HDUList([fits.PrimaryHDU(), image, *tables[: 0 if missing else 2]]).writeto(path)
    return path


@pytest.mark.parametrize("sip", [False, True])
@pytest.mark.parametrize("kind", ["CPDIS", "D2IMDIS"])
def test_positions_are_those_of_astropy_with_the_tables(tmp_path, kind, sip):
    path = write(tmp_path / "image.fits", kind=kind, sip=sip)
    with fits.open(path) as file:
        known = np.array(WCS(file[1].header, file).all_pix2world(*CORNERS, 0))
        cards = {k: v for k, v in file[1].header.items() if not k.startswith(("CPDIS", "DP", "D2IM"))}
    plain = np.array(WCS(fits.Header(cards)).all_pix2world(*CORNERS, 0))
    shrink = np.array([[np.cos(np.radians(2.2))], [1.0]]) / SCALE
    assert np.abs((plain - known) * shrink).max() > 0.3, "the tables matter"
    for wcs in (read_image(path, extension="SCI").wcs, read_head(path, "SCI").wcs):
        assert np.abs((np.array(wcs.pixel_to_sky(*CORNERS)) - known) * shrink).max() < 0.02
        assert np.abs(np.array(wcs.sky_to_pixel(*known)) - CORNERS).max() < 0.02


@pytest.mark.parametrize(
    ("change", "words"), [({"missing": True}, "tables .* cannot be read"), ({"wave": 0.3}, "polynomials do not")]
)
def test_tables_that_are_absent_or_of_waves_are_refused(tmp_path, change, words):
    with pytest.raises(InputError, match=words):
        read_image(write(tmp_path / "image.fits", kind="CPDIS", **change))
