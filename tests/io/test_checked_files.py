"""Files are held against their own sizes, checksums and seals before they are believed."""

import bz2
import json
import lzma
import struct
import warnings

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits

from imaging.errors import CcdError, InputError, StorageError
from imaging.io.calibrated import read_image
from imaging.io.calibration_write import write_calibration_image, write_image_extensions, write_table_extensions
from imaging.io.calibrations import read_calibration_image, read_crosstalk, read_linearity, read_sky_modes
from imaging.io.checked import check_fits, fits_file
from imaging.io.checksums import ones_complement_sum
from imaging.io.damage import DamagedError, reading
from imaging.io.images import read_header, read_planes, write_planes
from imaging.io.raw import index_raw, read_raw_ccd
from imaging.io.sealed import read_sealed, seal, unseal, write_sealed
from imaging.io.tables import read_table, write_table

PIXELS = np.random.default_rng(1).normal(100.0, 10.0, (60, 50)).astype(np.float32)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.fits"
    write_planes(path, {"SCI": PIXELS, "WGT": PIXELS}, {"EXPTIME": 90.0, "OBJECT": "field"})
    return path


def test_checksums_are_those_of_astropy_and_every_flipped_bit_is_noticed(image):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fits.open(image, checksum=True) as hdus:
            assert all("DATASUM" in hdu.header for hdu in hdus)
    content, draws = image.read_bytes(), np.random.default_rng(2)
    check_fits(content)
    for place in draws.integers(0, len(content), 200):
        changed = bytearray(content)
        changed[place] ^= 1 << draws.integers(8)
        with pytest.raises(DamagedError):
            check_fits(bytes(changed))


def test_a_header_is_verified_without_its_data(image):
    content = image.read_bytes()
    image.write_bytes(content.replace(b"'field   '", b"'fjeld   '"))
    with pytest.raises(StorageError, match=r"image\.fits.*CHECKSUM.*To do"):
        read_header(image)
    data = bytearray(content)
    data[2880 * 3] ^= 1
    image.write_bytes(bytes(data))
    assert read_header(image)["OBJECT"] == "field"
    with pytest.raises(StorageError, match="DATASUM"):
        read_planes(image, ("SCI", "WGT"))


def test_a_sum_of_the_image_before_compression_is_not_one_of_the_bytes(tmp_path, real_data):
    """The real raw file states the sums of the images before they were cut and compressed."""
    real = real_data / "raw_decam_cutout" / "cutout_c4d_200306_000415_ori.fits.fz"
    assert len(check_fits(real.read_bytes())) == 71
    index = index_raw(real)
    assert all(not extension.problem for extension in index.extensions.values())
    assert read_raw_ccd(real, index.extensions[1], 941420).pixels.shape == (100, 100)


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("NAXIS2", -(1 << 40)),
        ("NAXIS2", 1 << 40),
        ("ZNAXIS2", 0),
        ("ZNAXIS1", 1 << 40),
        ("ZTILE1", 0),
        ("ZTILE2", -1),
        ("ZBITPIX", 7),
        ("BITPIX", 9),
        ("TFIELDS", 1 << 40),
        ("PCOUNT", -5),
        ("TFORM1", "'1Z'"),
        ("NAXIS1", 9),
        ("NAXIS", 10**9),
    ],
)
def test_sizes_are_held_against_the_file_before_anything_is_allocated(tmp_path, card, value):
    path = tmp_path / "packed.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(PIXELS.astype(np.int16))]).writeto(path)
    content = path.read_bytes()
    places = [i for i in range(2880, len(content), 80) if content[i : i + 8] == card.ljust(8).encode()]
    path.write_bytes(content[: places[0]] + f"{card:8s}= {value:>20}".ljust(80).encode() + content[places[0] + 80 :])
    for read in (read_calibration_image, index_raw):
        with pytest.raises(InputError, match=r"packed\.fits\.fz"):
            read(path)


def test_a_tile_that_lies_outside_of_the_file_is_not_given_to_c_code(tmp_path):
    path = tmp_path / "packed.fits.fz"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(PIXELS.astype(np.int16))]).writeto(path)
    (hdu,) = check_fits(path.read_bytes())[1:]
    for pair in ((-1, 0), (10, -1), (1 << 30, 0), (10, 1 << 30)):
        content = bytearray(path.read_bytes())
        content[hdu.data_start : hdu.data_start + 8] = struct.pack(">ii", *pair)
        with pytest.raises(DamagedError, match="tile"):
            check_fits(bytes(content))


@pytest.mark.parametrize(("packer", "name"), [(bz2, "bzip2"), (lzma, "xz")])
def test_a_file_that_a_program_has_packed_is_named_as_such(tmp_path, packer, name):
    (tmp_path / "a.fits").write_bytes(packer.compress(bytes(5760)))
    with pytest.raises(InputError, match=rf"a.fits: the file is compressed with {name}, unpack it first"):
        read_image(tmp_path / "a.fits")


def test_two_extensions_of_one_ccd_cost_both_ccds_by_name(tmp_path):
    primary = fits.PrimaryHDU()
    cards = {"EXPNUM": 5, "FILTER": "i DECam", "MJD-OBS": 60440.1, "EXPTIME": 90.0, "OBSTYPE": "object"}
    primary.header.update(cards | {"TELRA": "10:00:00", "TELDEC": "-20:00:00", "NEXTEND": 3})

    def extension(ccd, position):
        hdu = fits.ImageHDU(np.full((4, 4), 7, np.int16))
        hdu.header.update({"CCDNUM": ccd, "DETPOS": position})
        return hdu

    def index(*pairs):
        fits.HDUList([primary, *(extension(*pair) for pair in pairs)]).writeto(tmp_path / "raw.fits", overwrite=True)
        return index_raw(tmp_path / "raw.fits")

    found = index((25, "S29"), (1, "S29"), (2, "S30")).extensions
    assert {ccd for ccd, extension in found.items() if not extension.problem} == {1, 2}
    found = index((1, "S29"), (1, "S30"), (3, "S31")).extensions
    assert {ccd for ccd, extension in found.items() if not extension.problem} == {1, 3}
    assert "position of CCD 1" in index((2, "S29")).extensions[2].problem
    with pytest.raises(CcdError, match=r"CCD 2.*number of another CCD"):
        read_raw_ccd(tmp_path / "raw.fits", index((1, "S29"), (1, "S30")).extensions[2], 5)
    found = index((1, ""), (1, ""), (3, "")).extensions
    assert "two extensions" in found[1].problem and not found[3].problem


def test_an_extension_that_is_lost_in_a_damaged_file_is_known_to_be_lost(tmp_path):
    primary = fits.PrimaryHDU()
    cards = {"EXPNUM": 5, "FILTER": "i DECam", "MJD-OBS": 60440.1, "EXPTIME": 90.0, "OBSTYPE": "object"}
    primary.header.update(cards | {"TELRA": "10:00:00", "TELDEC": "-20:00:00", "NEXTEND": 3})
    hdus = [fits.ImageHDU(np.full((4, 4), 7, np.int16), fits.Header({"CCDNUM": ccd})) for ccd in (1, 2, 3)]
    path = tmp_path / "raw.fits"
    fits.HDUList([primary, *hdus]).writeto(path)
    assert not index_raw(path).lost
    content = path.read_bytes()
    for damaged in (content[: 2880 * 3 + 100], content[: 2880 * 3 + 2879]):
        path.write_bytes(damaged)
        index = index_raw(path)
        assert index.lost and list(index.extensions) == [1]


NONSENSE = {
    "bias": (np.full((20, 20), np.nan), np.full((20, 20), 1e9), np.full((20, 20), 3000.0)),
    "flat": (np.zeros((20, 20)), np.full((20, 20), np.nan), np.full((20, 20), -1.0), np.full((20, 20), 1e4)),
    "star_flat": (np.zeros((20, 20)), np.full((20, 20), np.inf), np.full((20, 20), 9.0)),
}


@pytest.mark.parametrize("kind", NONSENSE)
def test_a_master_that_cannot_be_is_refused_with_its_limits(tmp_path, kind):
    path = tmp_path / f"{kind}.fits"
    for image in NONSENSE[kind]:
        write_calibration_image(path, image.astype(np.float32), {})
        with pytest.raises(InputError, match=rf"{kind}\.fits.*not.* between .*To do"):
            read_calibration_image(path, kind=kind)
        assert read_calibration_image(path).shape == (20, 20)  # a picture of another kind may hold these
    some = np.full((20, 20), 0.0 if kind == "bias" else 1.0, np.float32)
    some[:9] = np.nan  # of a dead amplifier
    write_calibration_image(path, some, {})
    assert np.isnan(read_calibration_image(path, kind=kind)).sum() == 180


def test_curves_modes_and_crosstalk_that_cannot_be_are_refused(tmp_path):
    adu = np.linspace(0, 60000, 50)
    for curve in (adu * 2, adu[::-1], np.full(50, np.nan), adu - 40000):
        table = {"ADU": adu, "ADU_LINEAR_A": adu, "ADU_LINEAR_B": curve}
        write_table_extensions(tmp_path / "curves.fits", {"CCD04": table})
        with pytest.raises(InputError, match=r"curves\.fits"):
            read_linearity(tmp_path / "curves.fits", 4)
    modes = np.ones((3, 32, 16), np.float32)
    for change in (np.nan, np.inf, 1e9, 0.0):
        changed = modes.copy()
        changed[0] = change
        write_image_extensions(tmp_path / "modes.fits", {"CCD01": modes, "CCD02": changed}, {})
        with pytest.raises(InputError, match=r"modes\.fits"):
            read_sky_modes(tmp_path / "modes.fits")
    line = "ccd25B ccd25A {} 1.13e-05 {} 1.537540e-04 -6.980507e-08 5.963848e-12\n"
    good = line.format("1.34e-04", "4.078154e+04")
    odd = [line.format(*words) for words in (("nan", "4e4"), ("0.5", "4e4"), ("1e-4", "-5"), ("1e-4", "nan"))]
    for text in (*odd, good + good, good.replace("ccd25A", "ccd99A")):
        (tmp_path / "crosstalk.txt").write_text(text)
        with pytest.raises(InputError, match=r"crosstalk\.txt.*To do"):
            read_crosstalk(tmp_path / "crosstalk.txt")


def test_a_sealed_document_is_read_by_everybody_and_believed_only_as_it_was_written(tmp_path):
    path, document = tmp_path / "a.json", {"b": [1, 2.5], "a": {"c": "text"}}
    for text in (json.dumps(document), json.dumps(document, indent=1) + "\n", "{}"):
        write_sealed(path, text)
        assert json.loads(read_sealed(path)) == json.loads(text)
        content = path.read_bytes()
        assert json.loads(content) == json.loads(text)
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1 << (place % 8)
            path.write_bytes(bytes(changed))
            try:
                assert json.loads(read_sealed(path)) == json.loads(text)
            except ValueError:
                continue
    rewritten = json.dumps(json.loads(seal(json.dumps(document))) | {"b": 3}, indent=1).encode()
    assert json.loads(unseal(rewritten)) == {"b": 3, "a": {"c": "text"}}
    with pytest.raises(ValueError, match="edited by hand"):
        unseal(seal('{"old": 1}').replace(b"1", b"2"))
    assert unseal(b'{"old": 1}') == b'{"old": 1}'


def test_a_table_of_which_a_byte_changed_is_not_believed(tmp_path):
    path, table = tmp_path / "a.parquet", pa.table({"x": np.arange(50.0), "name": ["a"] * 50})
    write_table(path, table)
    content, draws = path.read_bytes(), np.random.default_rng(3)
    assert read_table(path).equals(table)
    for place in draws.integers(0, len(content), 150):
        changed = bytearray(content)
        changed[place] ^= 1 << draws.integers(8)
        path.write_bytes(bytes(changed))
        try:
            assert read_table(path).equals(table)
        except StorageError as error:
            assert "a.parquet" in str(error) and error.remedy


def test_what_libraries_raise_names_file_reason_and_remedy(tmp_path):
    for cause, reason in (
        (KeyError("x"), "'x'"),
        (RecursionError("deep\nlines"), "deep"),
        (MemoryError(), "MemoryError"),
    ):
        with pytest.raises(InputError) as caught, reading(tmp_path / "f.x", "file damaged", "copy it"):
            raise cause
        assert str(caught.value) == f"file damaged ({tmp_path / 'f.x'}: {reason}). To do: copy it."
        assert caught.value.__cause__ is cause
    completed = pytest.raises(InputError, match=r"no number \(.*f\.x: 7\)\. To do: copy it")
    with completed, reading(tmp_path / "f.x", "file damaged", "copy it"):
        raise InputError("no number", value=7)
    absent = pytest.raises(InputError, match=r"^absent \(.*f\.x\)")
    with absent, reading(tmp_path / "f.x", "damaged", "copy it", missing="absent"):
        fits_file(tmp_path / "f.x")


def test_a_profiler_that_holds_a_frame_does_not_stop_a_reader(tmp_path, monkeypatch):
    """Dask's profiler samples frames; an array of the mapped file in one of them lives a moment longer."""
    held = []

    def sampled(data, start=0):
        held.append(np.frombuffer(data, dtype=">u4"))
        return ones_complement_sum(data, start)

    monkeypatch.setattr("imaging.io.checked.ones_complement_sum", sampled)
    path = tmp_path / "image.fits"
    fits.PrimaryHDU(np.arange(100, dtype=np.int16)).writeto(path, checksum=True)
    assert fits_file(path) == str(path)
    assert held
