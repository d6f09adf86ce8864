"""Cards that are no FITS or state nonsense: an optional one is unknown, a needed one costs the exposure by name."""

import numpy as np
import pytest

from imaging.errors import InputError
from imaging.io.raw import index_raw, read_exposure, read_raw_ccd

CARDS = {"EXPNUM": "552909", "MJD-OBS": "57983.1", "EXPTIME": "90.0", "OBSTYPE": "'object  '", "AIRMASS": "1.2"}
CARDS |= {"FILTER": "'i DECam SDSS c0003 7835.0 1470.0'", "TELRA": "'10:00:00.0'", "TELDEC": "'-20:00:00.0'"}
CARDS |= {"RA": "'10:00:01.0'", "DEC": "'-20:00:01.0'"}
NONSENSE = ["NaN", "1,2", "'1,2'", "'unknown'", "-inf", "''"]


def write(path, primary, extension):
    """Write a raw file whose cards hold the given texts as they are."""

    def header(first, cards):
        lines = [*first, *(f"{key:8s}= {text:>20s}" for key, text in cards.items()), "END"]
        text = "".join(line.ljust(80) for line in lines)
        return text.ljust(-(-len(text) // 2880) * 2880).encode("ascii")

    simple = ["SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    0"]
    image = ["XTENSION= 'IMAGE   '", "BITPIX  =                   16", "NAXIS   =                    2"]
    image += ["NAXIS1  =                    4", "NAXIS2  =                    3", "PCOUNT  =                    0"]
    image += ["GCOUNT  =                    1"]
    pixels = np.arange(12, dtype=">i2").tobytes().ljust(2880, b"\0")
    path.write_bytes(header(simple, primary) + header(image, {"CCDNUM": "10"} | extension) + pixels)
    return path


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("key", ["AIRMASS", "TELRA", "TELDEC", "SKYBRITE", "MAGZERO", "HUMIDITY"])
def test_an_optional_card_is_unknown_and_the_exposure_goes_on(tmp_path, key, text):
    path = write(tmp_path / "raw.fits", CARDS | {key: text}, {"GAINA": text})
    index = index_raw(path)
    exposure = read_exposure(path)
    assert index.exposure.expnum == exposure.expnum == 552909
    assert (exposure.ra_deg, exposure.dec_deg) == pytest.approx((150.0, -20.0), abs=0.01)
    assert np.isnan(exposure.airmass) == (key == "AIRMASS")
    raw = read_raw_ccd(path, index.extensions[10], exposure.expnum)
    assert raw.pixels.shape == (3, 4) and raw.header["CCDNUM"] == 10


@pytest.mark.parametrize("text", NONSENSE)
@pytest.mark.parametrize("key", ["EXPNUM", "MJD-OBS", "EXPTIME"])
def test_a_needed_card_costs_the_exposure_by_name(tmp_path, key, text):
    path = write(tmp_path / "raw.fits", CARDS | {key: text}, {})
    for read in (index_raw, read_exposure):
        with pytest.raises(InputError, match=key):
            read(path)


def test_a_pointing_without_any_number_is_named(tmp_path):
    path = write(tmp_path / "raw.fits", CARDS | {"TELRA": "'x'", "RA": "NaN"}, {})
    with pytest.raises(InputError, match="TELRA"):
        read_exposure(path)
