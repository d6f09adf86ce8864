import errno
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from imaging.errors import StorageError
from imaging.io.atomic import atomic_path, content_hash
from imaging.io.images import read_cutout, read_header, read_planes, write_planes

RNG = np.random.default_rng(2)
PLANES = {
    "SCI": RNG.normal(0, 20, (300, 200)).astype(np.float32),
    "MSK": RNG.integers(0, 32767, (300, 200)).astype(np.int16),
    "WGT": np.full((300, 200), 1 / 400, np.float32),
}
HEADER = {
    "EXPNUM": 12345678901,
    "BAND": "i",
    "FWHM": (4.25, "pixels"),
    "DESBIAS": "x.fits",
    "NOTHING": None,
    "SKY": np.nan,
}


def test_planes_survive_writing_and_reading(tmp_path):
    path = tmp_path / "image.fits"
    write_planes(path, PLANES, HEADER)
    planes, header = read_planes(path)
    for name, plane in PLANES.items():
        assert planes[name].dtype == plane.dtype
        assert np.array_equal(planes[name], plane)
    assert (header["EXPNUM"], header["BAND"], header["FWHM"]) == (12345678901, "i", 4.25)
    assert "SKY" not in header
    assert np.array_equal(read_cutout(path, "MSK", slice(10, 20), slice(5, 9)), PLANES["MSK"][10:20, 5:9])


def test_astropy_reads_the_planes_with_their_des_names(tmp_path):
    path = tmp_path / "image.fits"
    write_planes(path, PLANES, HEADER)
    with fits.open(path) as hdus:
        assert [h.header["DES_EXT"] for h in hdus] == ["IMAGE", "MASK", "WEIGHT"]
        assert [h.name for h in hdus] == ["SCI", "MSK", "WGT"]
        hdus.verify("exception")


def test_the_same_planes_give_the_same_bytes(tmp_path):
    for compress in (False, True):
        for name in "ab":
            write_planes(tmp_path / name, PLANES, HEADER, compress=compress)
        assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b")


def test_compression_keeps_integers_and_a_sixteenth_of_the_noise(tmp_path):
    path = tmp_path / "image.fits.fz"
    write_planes(path, PLANES, HEADER, compress=True)
    planes, header = read_planes(path)
    assert np.array_equal(planes["MSK"], PLANES["MSK"])
    assert np.std(planes["SCI"] - PLANES["SCI"]) < 20 / 16 * 0.5
    assert header["BAND"] == "i"
    assert read_header(path, "WGT")["DES_EXT"] == "WEIGHT"


def test_a_failed_write_leaves_nothing(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with pytest.raises(StorageError, match="disk is full") as caught, atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "free some disk space" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.bin"]


@pytest.mark.parametrize(
    ("free", "said"), [(1 << 20, "the disk is full"), (1 << 30, "FITSIO status = 106: error writing to FITS file")]
)
def test_a_library_that_hides_why_it_could_not_write(tmp_path, monkeypatch, free, said):
    """CFITSIO gives a page of text without an error number, on a full disk as on one that fails."""
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    path = tmp_path / "x.fits"
    with pytest.raises(StorageError) as caught, atomic_path(path):
        raise OSError("FITSIO status = 106: error writing to FITS file\nffgcnn could not find column: ZBLANK\n")
    assert str(caught.value).startswith(f"cannot write a file: {said} ({path})")


def test_a_truncated_product_is_an_error_that_says_so(tmp_path):
    path = tmp_path / "image.fits"
    write_planes(path, PLANES, HEADER)
    path.write_bytes(path.read_bytes()[:50_000])
    with pytest.raises(StorageError, match="missing or damaged"):
        read_planes(path)
    with pytest.raises(StorageError, match="missing or damaged"):
        read_planes(tmp_path / "absent.fits")
