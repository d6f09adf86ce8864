"""A simulated raw file is written the way the observatory writes it."""

import numpy as np
import pytest
from astropy.io import fits

from imaging.detector.ccds import CCDS
from imaging.io.raw import index_raw, read_raw_ccd
from imaging.io.raw_write import encode_extension, encode_primary, write_raw
from imaging.simulation.plan import plan_exposures
from imaging.simulation.raw_headers import extension_cards, header_angle_deg, primary_cards, sexagesimal
from imaging.simulation.settings import SimulationSettings

DATE = "2024-05-10T00:00:00"


@pytest.fixture(scope="module")
def exposure():
    return plan_exposures(SimulationSettings(ccds=(27, 34), n_search_exposures=1, n_template_epochs=0))[0]


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory, exposure):
    """Return a file of all 70 CCDs with very small pixels arrays."""
    folder = tmp_path_factory.mktemp("raw")
    parts = []
    for ccd in CCDS.values():
        path = folder / f"{ccd.ccdnum}.part"
        pixels = np.full((7, 12), 2000 + ccd.ccdnum, dtype=np.uint16)
        pixels[3, 4] = 65535
        path.write_bytes(encode_extension(extension_cards(exposure, ccd), pixels, DATE))
        parts.append(path)
    path = folder / "DECam_01300001.fits.fz"
    write_raw(path, encode_primary(primary_cards(exposure, len(parts)), DATE), parts)
    return path


@pytest.fixture(scope="module")
def real_file(real_data):
    return real_data / "raw_decam_cutout" / "cutout_c4d_200306_000415_ori.fits.fz"


def cards(header):
    """Return (key, type) of every card; a float that happens to be whole is still a float."""
    return [(card.keyword, type(card.value)) for card in header.cards]


@pytest.mark.real_data
def test_every_key_of_a_real_file_in_its_order_with_its_type(whole_file, real_file):
    with (
        fits.open(whole_file, disable_image_compression=True) as ours,
        fits.open(real_file, disable_image_compression=True) as real,
    ):
        assert len(ours) == len(real) == 71
        for simulated, observed in zip(ours, real, strict=True):
            assert cards(simulated.header) == cards(observed.header), observed.name
            assert simulated.name == observed.name
            constant = {"DETSIZE", "INSTRUME", "OBSERVAT", "DATASEC", "BIASSECA", "AMPSECB", "GAINA", "CD1_2", "FPA"}
            for key in constant & set(observed.header):
                assert simulated.header[key] == observed.header[key]


@pytest.mark.real_data
def test_comments_are_those_of_a_real_file(whole_file, real_file):
    with (
        fits.open(whole_file, disable_image_compression=True) as ours,
        fits.open(real_file, disable_image_compression=True) as real,
    ):
        for simulated, observed in zip(ours, real, strict=True):
            for ours_card, real_card in zip(simulated.header.cards, observed.header.cards, strict=True):
                if not ours_card.keyword.endswith("HECKSUM") and not ours_card.keyword.endswith("DATASUM"):
                    assert real_card.comment.startswith(ours_card.comment[:30]), ours_card.keyword


def test_checksums_are_right(whole_file):
    with fits.open(whole_file, disable_image_compression=True, checksum=True) as hdus:  # a wrong one warns
        for hdu in hdus:
            assert hdu.verify_checksum() == 1
            assert hdu.verify_datasum() == 1


def test_the_reader_finds_every_ccd_and_its_pixels(whole_file):
    index = index_raw(whole_file)
    assert list(index.extensions) == list(CCDS)
    assert index.exposure.band == "i"
    assert index.exposure.night == 20240510
    for ccdnum in (25, 61, 74):
        raw = read_raw_ccd(whole_file, index.extensions[ccdnum], index.exposure.expnum)
        assert raw.pixels.dtype == np.uint16
        assert raw.pixels[0, 0] == 2000 + ccdnum
        assert raw.pixels[3, 4] == 65535
        assert raw.header["DETPOS"] == CCDS[ccdnum].detpos


def test_no_name_of_a_person_is_in_the_headers(whole_file):
    with fits.open(whole_file, disable_image_compression=True) as hdus:
        for key in ("OBSERVER", "PROPOSER", "DTPI"):
            assert hdus[0].header[key] == "Simulation"


def test_sexagesimal_text():
    assert sexagesimal(-21.2044439) == "-21:12:15.998"
    assert sexagesimal(5.613430) == "05:36:48.348"
    assert sexagesimal(-0.5) == "-00:30:00.000"
    assert header_angle_deg(84.201451234, hours=True) == pytest.approx(84.20145, abs=1e-5)
