"""Calibrations are taken from the extension that says it is of the CCD and the band; anything else is refused by name.

The files are written with astropy alone, in the forms of those who make them: one file per CCD (DES), one extension
per CCD in the order of the readout (Community Pipeline), one table per CCD (the observatory).
"""

import json

import numpy as np
import pytest
from astropy.io import fits

from imaging.detector.ccds import CCDS, SCIENCE_CCDS
from imaging.errors import InputError
from imaging.io.calibrations import (
    read_bad_pixels,
    read_brighter_fatter,
    read_calibration_image,
    read_crosstalk,
    read_linearity,
    read_sky_modes,
    read_sky_templates,
)
from imaging.io.colour_terms import read_colour_terms

HELD = (25, 1, 33, 62)
"""CCDs of a file, in no order; S1, S29, N2 and N31."""

SHAPE = (40, 20)


def bias_of(ccd):
    return np.full(SHAPE, 0.5 * ccd, np.float32)


def flat_of(ccd):
    return np.full(SHAPE, 1.0 + 0.01 * ccd, np.float32)


def bits_of(ccd):
    return np.full(SHAPE, ccd, np.int16)


def templates_of(ccd):
    return np.stack([flat_of(ccd), 0.1 * flat_of(ccd)])


READERS = {
    "bias": (bias_of, lambda path, ccd, band: read_calibration_image(path, ccd, kind="bias")),
    "flat": (flat_of, lambda path, ccd, band: read_calibration_image(path, ccd, band=band, kind="flat")),
    "star_flat": (flat_of, lambda path, ccd, band: read_calibration_image(path, ccd, band=band, kind="star_flat")),
    "bad_pixels": (bits_of, lambda path, ccd, band: read_bad_pixels(path, ccd)),
    "sky_templates": (templates_of, lambda path, ccd, band: read_sky_templates(path, ccd, band).values),
}
BANDED = ("flat", "star_flat", "sky_templates")


def cards_of(ccd, how):
    """State a CCD in one of the ways that files do."""
    ways = {"CCDNUM": ccd, "DETPOS": CCDS[ccd].detpos, "EXTNAME": CCDS[ccd].detpos}
    return {key: ways[key] for key in how.split()}


def write_pipeline_master(path, image_of, *, how="EXTNAME CCDNUM DETPOS", packed=False, band="i", ccds=HELD):
    """Write what the Community Pipeline does: an empty primary HDU with the filter, an extension per CCD."""
    primary = fits.PrimaryHDU()
    primary.header["FILTER"] = f"{band} DECam SDSS c0003 7835.0 1470.0"
    primary.header["PROCTYPE"], primary.header["OBSTYPE"] = "MasterCal", "zero"
    hdus = [primary]
    for ccd in ccds:
        image = image_of(ccd)
        lossless = {"compression_type": "GZIP_1", "quantize_level": 0.0}
        hdu = fits.CompImageHDU(image, **lossless) if packed else fits.ImageHDU(image)
        hdu.header.update(cards_of(ccd, how))
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path, checksum=True)
    return path


def write_survey_master(path, image, header):
    hdu = fits.PrimaryHDU(image)
    hdu.header.update(header)
    hdu.writeto(path)
    return path


@pytest.mark.parametrize("how", ["EXTNAME CCDNUM DETPOS", "EXTNAME", "CCDNUM", "DETPOS"])
@pytest.mark.parametrize("kind", READERS)
def test_the_extension_of_the_ccd_is_taken_wherever_it_lies(tmp_path, kind, how):
    image_of, read = READERS[kind]
    path = write_pipeline_master(tmp_path / "master.fits.fz", image_of, how=how, packed=kind != "sky_templates")
    for ccd in HELD:
        np.testing.assert_array_equal(read(path, ccd, "i"), image_of(ccd))
    with pytest.raises(InputError, match=r"CCD 34: calibration of another CCD .*master\.fits\.fz: CCDs 1,25,33,62"):
        read(path, 34, "i")


@pytest.mark.parametrize("kind", READERS)
def test_a_file_of_one_other_ccd_is_refused(tmp_path, kind):
    image_of, read = READERS[kind]
    header = {"CCDNUM": 33, "DETPOS": "N2", "BAND": "i"}
    path = write_survey_master(tmp_path / "D_c33_master.fits", image_of(33), header)
    np.testing.assert_array_equal(read(path, 33, "i"), image_of(33))
    with pytest.raises(InputError, match=r"another CCD .*D_c33_master\.fits: CCD 33; allowed: CCD 34"):
        read(path, 34, "i")


@pytest.mark.parametrize("kind", READERS)
def test_a_file_that_does_not_say_its_ccd_or_says_two_is_refused(tmp_path, kind):
    image_of, read = READERS[kind]
    silent = write_survey_master(tmp_path / "silent.fits", image_of(33), {"BAND": "i"})
    with pytest.raises(InputError, match=r"silent\.fits.*CCDNUM") as caught:
        read(silent, 33, "i")
    assert caught.value.problem == "the calibration file does not say of which CCD it is"
    torn = write_survey_master(tmp_path / "torn.fits", image_of(33), {"BAND": "i", "CCDNUM": 33, "DETPOS": "N4"})
    with pytest.raises(InputError, match=r"torn\.fits.*contradicts itself.*CCDNUM = 33, DETPOS = N4"):
        read(torn, 33, "i")
    twice = write_pipeline_master(tmp_path / "twice.fits", image_of, ccds=(33, 33, 1), how="CCDNUM")
    with pytest.raises(InputError, match=r"two extensions of one CCD .*twice\.fits: extensions 1, 2"):
        read(twice, 33, "i")


@pytest.mark.parametrize("kind", BANDED)
def test_a_file_of_another_band_is_refused(tmp_path, kind):
    image_of, read = READERS[kind]
    single = write_survey_master(tmp_path / "D_c33_z.fits", image_of(33), {"CCDNUM": 33, "BAND": "z"})
    many = write_pipeline_master(tmp_path / "fci_z.fits", image_of, band="z")
    for path in (single, many):
        np.testing.assert_array_equal(read(path, 33, "z"), image_of(33))
        with pytest.raises(InputError, match=rf"another band .*{path.name}: band z; allowed: band i"):
            read(path, 33, "i")
    torn = write_survey_master(tmp_path / "torn.fits", image_of(33), {"CCDNUM": 33, "BAND": "z", "FILTER": "i DECam"})
    with pytest.raises(InputError, match=r"torn\.fits.*BAND = z, FILTER = i DECam"):
        read(torn, 33, "z")
    silent = write_survey_master(tmp_path / "silent.fits", image_of(33), {"CCDNUM": 33})
    if kind == "sky_templates":  # the survey's do not say it
        np.testing.assert_array_equal(read(silent, 33, "z"), image_of(33))
    else:
        with pytest.raises(InputError, match="does not say its band"):
            read(silent, 33, "z")


def test_planes_of_the_survey_beside_the_image_are_not_taken_for_it(tmp_path):
    """DES files may hold SCI, MSK and WGT of one CCD; the CCD is stated once, in the primary header or in SCI."""
    planes = [fits.ImageHDU(image, name=name) for name, image in
              (("MSK", bits_of(3)), ("WGT", 9 * flat_of(3)), ("SCI", bias_of(33)))]  # fmt: skip
    primary = fits.PrimaryHDU()
    primary.header["CCDNUM"] = 33
    fits.HDUList([primary, *planes]).writeto(tmp_path / "planes.fits")
    np.testing.assert_array_equal(read_calibration_image(tmp_path / "planes.fits", 33, kind="bias"), bias_of(33))
    with pytest.raises(InputError, match="another CCD"):
        read_calibration_image(tmp_path / "planes.fits", 34, kind="bias")


@pytest.mark.parametrize("ccd", [33, 25])
def test_an_untrimmed_master_loses_its_overscan_on_the_right_side(tmp_path, ccd):
    """Post-scan rows lie above the data of N CCDs and below those of S CCDs; 56 columns at either side."""
    whole = np.full((4146, 2160), -999.0, np.float32)
    data = np.random.default_rng(ccd).normal(0.0, 2.0, (4096, 2048)).astype(np.float32)
    first = 0 if CCDS[ccd].detpos.startswith("N") else 50
    whole[first : first + 4096, 56:2104] = data
    header = {"CCDNUM": ccd, "BUNIT": "adu", "DATASEC": f"[57:2104,{first + 1}:{first + 4096}]"}
    path = write_survey_master(tmp_path / "bias.fits", whole, header)
    np.testing.assert_array_equal(read_calibration_image(path, ccd, kind="bias"), data)
    odd = write_survey_master(tmp_path / "odd.fits", whole, header | {"DATASEC": "[57:2104,26:4121]"})
    with pytest.raises(InputError, match=r"odd\.fits.*DATASEC = \[57:2104,26:4121\]"):
        read_calibration_image(odd, ccd, kind="bias")


def test_units_and_normalisation_that_are_not_ours_are_refused(tmp_path):
    electrons = write_survey_master(tmp_path / "bias.fits", bias_of(3), {"CCDNUM": 3, "BUNIT": "electron"})
    with pytest.raises(InputError, match=r"bias\.fits.*BUNIT = electron"):
        read_calibration_image(electrons, 3, kind="bias")
    level = write_survey_master(tmp_path / "level.fits", bias_of(3) + 2000, {"CCDNUM": 3})
    with pytest.raises(InputError, match=r"median 200\d, not between"):
        read_calibration_image(level, 3, kind="bias")
    counts = write_survey_master(tmp_path / "flat.fits", 21000.0 * flat_of(3), {"CCDNUM": 3, "BAND": "i"})
    with pytest.raises(InputError, match=r"flat\.fits.*not between 0 and 10"):
        read_calibration_image(counts, 3, band="i", kind="flat")


ADU = np.arange(0.0, 60001.0, 500.0)


def curves_of(ccd):
    return {"ADU": ADU, "ADU_LINEAR_A": ADU * (1.0 + 1e-4 * ccd), "ADU_LINEAR_B": ADU * (1.0 - 1e-4 * ccd)}


def write_curves(path, ccds, how):
    """Write the observatory's table: an extension per CCD that states it by some cards, or by its place alone."""
    hdus = [fits.PrimaryHDU()]
    for ccd in ccds:
        hdu = fits.BinTableHDU.from_columns([fits.Column(k, "D", array=v) for k, v in curves_of(ccd).items()])
        hdu.header.update(cards_of(ccd, how))
        hdus.append(hdu)
    fits.HDUList(hdus).writeto(path)
    return path


def test_the_observatory_table_is_read_by_place_if_it_says_nothing_else(tmp_path):
    path = write_curves(tmp_path / "linearity_table_v0.4.fits", SCIENCE_CCDS, "")
    for ccd in (1, 33, 62):
        np.testing.assert_allclose(read_linearity(path, ccd).linear["A"], curves_of(ccd)["ADU_LINEAR_A"])
    short = write_curves(tmp_path / "short.fits", SCIENCE_CCDS[:40], "")
    with pytest.raises(InputError, match=r"does not say of which CCD it is .*short\.fits"):
        read_linearity(short, 33)


@pytest.mark.parametrize("how", ["CCDNUM", "EXTNAME", "DETPOS"])
def test_linearity_tables_that_state_their_ccd_are_read_by_it(tmp_path, how):
    backwards = SCIENCE_CCDS[::-1]
    path = write_curves(tmp_path / "table.fits", backwards, how)
    for ccd in (1, 33, 62):
        np.testing.assert_allclose(read_linearity(path, ccd).linear["B"], curves_of(ccd)["ADU_LINEAR_B"])
    some = write_curves(tmp_path / "some.fits", HELD, how)
    with pytest.raises(InputError, match=r"CCD 34: calibration of another CCD .*some\.fits: CCDs 1,25,33,62"):
        read_linearity(some, 34)
    with fits.open(some, mode="update") as hdus:
        hdus[1].header["CCDNUM"], hdus[1].header["DETPOS"] = 34, "S1"
    with pytest.raises(InputError, match="contradicts itself about its CCD"):
        read_linearity(some, 34)


def test_kernels_of_another_ccd_are_refused(tmp_path):
    kernels = [fits.ImageHDU(np.eye(5) * 1e-6 * k, name=f"{CCDS[ccd].detpos}{border}")
               for k, (ccd, border) in enumerate([(33, "R"), (33, "T"), (1, "R"), (1, "T")], 1)]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), *kernels]).writeto(tmp_path / "bf.fits")
    assert read_brighter_fatter(tmp_path / "bf.fits", 1).top[0, 0] == 4e-6
    with pytest.raises(InputError, match=r"CCD 34: no kernels of this CCD .*bf\.fits: kernels of N2, S29"):
        read_brighter_fatter(tmp_path / "bf.fits", 34)
    with fits.open(tmp_path / "bf.fits", mode="update") as hdus:
        hdus["S29T"].header["CCDNUM"] = 2
    with pytest.raises(InputError, match=r"S29T states CCDNUM = 2; S29 is CCD 1"):
        read_brighter_fatter(tmp_path / "bf.fits", 1)


@pytest.mark.parametrize("how", ["CCDNUM", "EXTNAME"])
def test_sky_modes_belong_to_the_ccds_and_the_band_that_they_state(tmp_path, how):
    def modes_of(ccd):
        return np.full((3, 32, 16), 0.01 * ccd, np.float32)

    path = write_pipeline_master(tmp_path / "modes.fits", modes_of, how=how)
    modes = read_sky_modes(path, "i").values
    assert {ccd: float(values[0, 0, 0]) for ccd, values in modes.items()} == pytest.approx(
        {ccd: 0.01 * ccd for ccd in HELD}
    )
    with pytest.raises(InputError, match=r"another band .*modes\.fits: band i; allowed: band z"):
        read_sky_modes(path, "z")
    twice = write_pipeline_master(tmp_path / "twice.fits", modes_of, ccds=(1, 1), how=how)
    with pytest.raises(InputError, match=r"twice\.fits.*two extensions of one CCD"):
        read_sky_modes(twice, "i")


def test_crosstalk_goes_into_the_amplifier_that_the_line_names(tmp_path):
    path = tmp_path / "crosstalk.txt"
    line = "{} {} 1.34e-04 1.13e-05 4.078154e+04 1.537540e-04 -6.980507e-08 5.963848e-12\n"
    path.write_text(line.format("ccd25B", "ccd25A") + line.format("ccd33A", "ccd01B"))
    matrix = read_crosstalk(path)
    assert [(term.victim, term.source) for term in matrix.into(33)] == [((33, "A"), (1, "B"))]
    assert matrix.into(34) == ()
    path.write_text(line.format("ccd75B", "ccd25A"))
    with pytest.raises(InputError, match=r"crosstalk\.txt.*\(75, 'B'\)"):
        read_crosstalk(path)


def test_colour_terms_of_a_band_that_the_camera_does_not_have_are_refused(tmp_path):
    term = {"coefficients": [0.1, 0.2], "colour_min": 0.5, "colour_max": 2.0, "scatter_mag": 0.01}
    path = tmp_path / "colour_terms.json"
    path.write_text(json.dumps({"bands": {"i": term}}))
    assert set(read_colour_terms(path).bands) == {"i"}
    path.write_text(json.dumps({"bands": {"i": term, "lum": term}}))
    with pytest.raises(InputError, match=r"colour_terms\.json.*lum"):
        read_colour_terms(path)
