"""FITS files as astropy reads them: the standard, compression, keywords, tables, catalogues, PSF models."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from imaging.errors import InputError, StorageError
from imaging.export.catalogue import DesColumn
from imaging.io.calibration_write import write_calibration_image, write_image_extensions, write_table_extensions
from imaging.io.calibrations import read_bad_pixels, read_brighter_fatter, read_calibration_image, read_linearity
from imaging.io.images import read_cutout, read_header, read_planes, write_planes
from imaging.io.ldac import write_ldac
from imaging.io.packets import cutout_bytes, cutout_stamp
from imaging.io.psf import _model

NOISE = 30.0
SHAPE = (160, 128)


@pytest.fixture(scope="module")
def planes():
    rng = np.random.default_rng(11)
    science = rng.normal(0.0, NOISE, SHAPE).astype(np.float32)
    science[40:44] = 0.0
    mask = rng.integers(-32768, 32768, SHAPE).astype(np.int16)
    return {"SCI": science, "MSK": mask, "WGT": np.full(SHAPE, NOISE**-2, np.float32)}


def test_a_compressed_product_is_standard_fits_and_its_error_is_that_of_the_quantisation(tmp_path, planes):
    path = tmp_path / "a.fits.fz"
    write_planes(path, planes, {"BAND": "i"}, compress=True)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus[0].data is None
        assert all(isinstance(hdu, fits.CompImageHDU) for hdu in hdus[1:])
        science, mask = hdus["SCI"].data, hdus["MSK"].data
        assert np.array_equal(mask, planes["MSK"])
    with fits.open(path, disable_image_compression=True) as hdus:
        assert {hdu.header["ZCMPTYPE"] for hdu in hdus[1:]} == {"RICE_1"}
        assert hdus["SCI"].header["ZQUANTIZ"] == "SUBTRACTIVE_DITHER_2"
        assert hdus["SCI"].header["ZDITHER0"] == 1
    assert np.all(science[40:44] == 0.0)
    # Dithered rounding to a sixteenth of the noise is uniform over one step: its scatter is step / sqrt(12). The
    # noise of each row is estimated by CFITSIO from differences of neighbours, to some 10 %.
    error = np.delete(science - planes["SCI"], slice(40, 44), axis=0)
    assert error.std() == pytest.approx(NOISE / 16 / np.sqrt(12), rel=0.1)
    assert abs(error.mean()) < 5 * NOISE / 16 / np.sqrt(12 * error.size)


def test_keywords_of_the_encoding_are_the_files_own_and_the_others_keep_value_and_comment(tmp_path, planes):
    given = {"NAXIS1": 7, "BZERO": 5.0, "BSCALE": 2.0, "EXTNAME": "OTHER", "BITPIX": 8, "CHECKSUM": "x"}
    given |= {"SEEING": (np.float32(0.5), "arcsec"), "NSTARS": np.int64(12), "GOOD": True, "BAD": np.inf, "NO": None}
    write_planes(tmp_path / "a.fits", planes, given)
    with fits.open(tmp_path / "a.fits") as hdus:
        header = hdus[0].header
        assert (header["NAXIS1"], header["NAXIS2"], header["BITPIX"], header["EXTNAME"]) == (128, 160, -32, "SCI")
        assert (header["SEEING"], header.comments["SEEING"]) == (0.5, "arcsec")
        assert (header["NSTARS"], header["GOOD"]) == (12, True)
        assert not {"BZERO", "BSCALE", "BAD", "NO"} & set(header) and header["CHECKSUM"] != "x"
        assert np.array_equal(hdus[0].data, planes["SCI"])
        assert hdus[2].header["EXTNAME"] == "WGT" and "NSTARS" not in hdus[2].header


@pytest.mark.parametrize("compress", [False, True])
def test_cutouts_are_the_slices_of_the_plane(tmp_path, planes, compress):
    path = tmp_path / "a.fits"
    write_planes(path, planes, {}, compress=compress)
    with fits.open(path) as hdus:
        whole = np.array(hdus["MSK"].data)

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(st.tuples(*(st.integers(0, n - 1) for n in (*SHAPE, *SHAPE))))
    def check(corners):
        (y0, y1), (x0, x1) = sorted(corners[0::2]), sorted(corners[1::2])
        y, x = slice(y0, y1 + 1), slice(x0, x1 + 1)
        assert np.array_equal(read_cutout(path, "MSK", y, x), whole[y, x])

    check()


def test_planes_are_asked_for_by_name_and_missing_ones_are_named_with_the_file(tmp_path, planes):
    path = tmp_path / "part.fits"
    write_planes(path, {"SCI": planes["SCI"], "STARS": np.ones((3, 2))}, {"EXPNUM": 9})
    found, header = read_planes(path, ("SCI", "MSK"), present_only=True, optional=("STARS", "GROWN"))
    assert set(found) == {"SCI", "STARS"} and header["EXPNUM"] == 9
    assert found["STARS"].dtype == np.float64 and found["STARS"].dtype.isnative
    for read in (
        lambda: read_planes(path),
        lambda: read_planes(path, ("MSK",), present_only=True),
        lambda: read_header(path, "WGT"),
        lambda: read_cutout(path, "WGT", slice(0, 1), slice(0, 1)),
    ):
        with pytest.raises(StorageError, match=r"part\.fits"):
            read()


@pytest.mark.parametrize("level", [0.0, 1234.0, -600.0])
def test_a_quantised_calibration_is_within_half_a_step_in_half_the_bytes(tmp_path, level):
    step, rng = 0.25, np.random.default_rng(3)
    image = (level + rng.normal(0.0, 40.0, SHAPE)).astype(np.float32)
    image[5, 5], image[6, 6] = level + 1e5, level - 1e5
    for name, width in (("exact", None), ("stepped", step)):
        write_calibration_image(tmp_path / f"{name}.fits", image, {"CCDNUM": 3}, step=width)
    with fits.open(tmp_path / "stepped.fits", do_not_scale_image_data=True) as hdus:
        hdus.verify("exception")
        header, counts = hdus[0].header, hdus[0].data
        assert (header["BITPIX"], header["BSCALE"], header["CCDNUM"]) == (16, step, 3)
        zero = header["BZERO"]
        assert zero % step == 0 and abs(zero - np.median(image)) < 5 * 40 * np.sqrt(np.pi / 2 / counts[::16, ::16].size)
        assert (counts[5, 5], counts[6, 6]) == (32767, -32768)
    found = read_calibration_image(tmp_path / "stepped.fits")
    error = found - image
    error[5, 5] = error[6, 6] = 0.0
    rounding = np.spacing(np.float32(1500.0))
    assert found.dtype == np.float32 and np.abs(error).max() <= step / 2 + rounding
    assert found[5, 5] == pytest.approx(zero + 32767 * step)
    assert np.array_equal(read_calibration_image(tmp_path / "exact.fits"), image)
    sizes = [(tmp_path / f"{name}.fits").stat().st_size for name in ("exact", "stepped")]
    assert sizes[0] - sizes[1] >= image.nbytes // 2 - 2880


def test_tables_keep_integers_units_and_comments(tmp_path):
    adu = np.arange(5) * 10_000
    columns = {"ADU": adu, "ADU_LINEAR_A": adu * 1.02, "ADU_LINEAR_B": adu * 0.99}
    path = tmp_path / "linearity.fits"
    write_table_extensions(path, {"CCD07": columns, "": columns}, {"ADU": "adu"}, {"SITE": ("CTIO", "where")})
    table = Table.read(path, hdu="CCD07")
    assert [table.dtype[name].kind for name in columns] == ["i", "f", "f"]
    assert table["ADU"].unit == "adu" and table["ADU_LINEAR_A"].unit is None
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus[1].header.comments["SITE"] == "where" and hdus[2].name == "" and hdus[0].data is None
    linear = read_linearity(path, 7)
    for name in "AB":
        assert np.array_equal(linear.linear[name], columns[f"ADU_LINEAR_{name}"])
    with pytest.raises(InputError, match=r"linearity\.fits"):
        read_linearity(path, 8)


def test_kernels_are_found_by_the_position_of_the_ccd_and_the_border(tmp_path):
    kernels = {name: np.full((3, 3), k, np.float32) for k, name in enumerate(("S29R", "S29T", "N31R", "N31T"))}
    write_image_extensions(tmp_path / "bf.fits", kernels, {"VERSION": 4})
    assert fits.getval(tmp_path / "bf.fits", "VERSION") == 4
    south, north = read_brighter_fatter(tmp_path / "bf.fits", 1), read_brighter_fatter(tmp_path / "bf.fits", 62)
    assert [k[0, 0] for k in (south.right, south.top, north.right, north.top)] == [0, 1, 2, 3]
    with pytest.raises(InputError, match=r"bf\.fits"):
        read_brighter_fatter(tmp_path / "bf.fits", 2)


def test_bad_pixels_of_compressed_and_unsigned_files_keep_their_bits(tmp_path):
    bits = np.random.default_rng(5).integers(0, 32767, SHAPE).astype(np.uint16)
    fits.PrimaryHDU(bits).writeto(tmp_path / "plain.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(bits.astype(np.int16))]).writeto(tmp_path / "packed.fits.fz")
    for name in ("plain.fits", "packed.fits.fz"):
        found = read_bad_pixels(tmp_path / name)
        assert found.dtype == np.int16 and np.array_equal(found, bits)


def test_an_ldac_file_holds_the_header_card_by_card_and_the_columns_with_units(tmp_path):
    n = 4
    columns = {
        "NUMBER": DesColumn(np.arange(1, n + 1, dtype=np.int32), "J", "", "running number"),
        "FLUX_APER": DesColumn(np.arange(3.0 * n, dtype=np.float32).reshape(n, 3), "3E", "count", "fluxes"),
        "ALPHA_J2000": DesColumn(np.linspace(10, 11, n), "D", "deg", "right ascension"),
    }
    header = {"EXPNUM": 123456, "BAND": "g", "SKY": 12.5, "COMMENT": "left out", "NOTHING": None}
    write_ldac(tmp_path / "a.cat", columns, header)
    with fits.open(tmp_path / "a.cat") as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus[1:]] == ["LDAC_IMHEAD", "LDAC_OBJECTS"]
        lines = hdus["LDAC_IMHEAD"].data["Field Header Card"][0]
        assert [len(line) <= 80 for line in lines] == [True] * 4 and lines[-1].strip() == "END"
        again = fits.Header.fromstring("".join(line.ljust(80) for line in lines))
        assert dict(again) == {"EXPNUM": 123456, "BAND": "g", "SKY": 12.5}
        comments = [hdus["LDAC_OBJECTS"].header.comments[f"TTYPE{k}"] for k in (1, 2, 3)]
        assert comments == ["running number", "fluxes", "right ascension"]
    table = Table.read(tmp_path / "a.cat", hdu="LDAC_OBJECTS")
    assert table["FLUX_APER"].unit == "count" and table["ALPHA_J2000"].unit == "deg"
    for name, item in columns.items():
        assert np.array_equal(table[name], item.values)


def test_the_stamp_of_a_packet_is_a_gzipped_fits_image_without_a_time(tmp_path):
    stamp = np.random.default_rng(6).normal(size=(31, 33))
    content = cutout_bytes(stamp, {})
    (tmp_path / "stamp.fits.gz").write_bytes(content)
    assert content[:2] == b"\x1f\x8b" and content[4:8] == b"\0\0\0\0"
    assert np.array_equal(fits.getdata(tmp_path / "stamp.fits.gz"), stamp.astype(np.float32))
    assert np.array_equal(cutout_stamp(content), stamp.astype(np.float32))


def test_a_psf_file_without_keywords_is_one_image_in_steps_of_a_pixel(tmp_path):
    mask = np.random.default_rng(7).uniform(size=(1, 5, 5)).astype(np.float32)
    model = _model({}, mask, tmp_path)
    assert (model.degree, model.step, model.origin, model.scale, model.n_stars) == (0, 1.0, (0.0, 0.0), (1.0, 1.0), 0)
    assert np.array_equal(model.coefficients, mask) and np.isnan(model.fwhm_pixels) and np.isnan(model.chi2)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_a_psf_file_gives_flux_per_pixel_about_a_centre_that_counts_from_one(tmp_path, degree):
    n = {1: 3, 2: 6, 3: 10}[degree]
    mask = np.random.default_rng(degree).uniform(size=(n, 7, 7)).astype(np.float32)
    keys = {"POLDEG1": degree, "PSF_SAMP": 0.5, "POLZERO1": 11.0, "POLZERO2": 21.0, "POLSCAL1": 2.0, "POLSCAL2": 3.0}
    model = _model(keys | {"ACCEPTED": 17, "PSF_FWHM": 4.0, "CHI2": 1.5}, mask, tmp_path)
    assert (model.origin, model.scale) == ((10.0, 20.0), (2.0, 3.0))
    assert (model.n_stars, model.fwhm_pixels, model.chi2) == (17, 4.0, 1.5)
    assert model.samples(10.0, 20.0) == pytest.approx(mask[0], rel=1e-6)
    # In PSFEx's order the second term is the first power of x, the one after the powers of x that of y.
    slope_x = model.samples(12.0, 20.0) - model.samples(10.0, 20.0)
    assert slope_x == pytest.approx(mask[1 : degree + 1].sum(axis=0), rel=1e-4)


@pytest.mark.parametrize(("shape", "degree"), [((3, 6, 6), 1), ((3, 5, 7), 1), ((2, 5, 5), 1), ((3, 5, 5), 2)])
def test_psf_files_of_an_impossible_shape_are_refused_with_their_name(tmp_path, shape, degree):
    with pytest.raises(InputError, match=r"strange\.psf.*square images of odd size"):
        _model({"POLDEG1": degree}, np.ones(shape, np.float32), tmp_path / "strange.psf")
