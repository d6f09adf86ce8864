"""PSFEx files: round trip, astropy's view, real files of another program, damage."""

import numpy as np
import pytest
from astropy.io import fits

from imaging.errors import InputError, StorageError
from imaging.io.psf import read_psf, write_psf
from imaging.psf.model import PsfModel
from imaging.psf.shape import aperture_flux, model_fwhm, normalised


def small_model():
    offsets = (np.arange(61) - 30) * 0.5
    r2 = offsets[:, None] ** 2 + offsets[None, :] ** 2
    core = (1 + r2 / 3.5**2) ** -3.0
    coefficients = np.array([core, 0.02 * core * r2 / 20, -0.01 * core], np.float32)
    model = PsfModel(coefficients, 1, 0.5, (1023.5, 2047.5), (1024.0, 2048.0), 3.6, 88, 1.02)
    return normalised(model)


def test_round_trip(tmp_path):
    model = small_model()
    write_psf(tmp_path / "a.psf", model)
    again = read_psf(tmp_path / "a.psf")
    assert again.origin == model.origin
    assert again.scale == model.scale
    assert (again.degree, again.step, again.n_stars) == (1, 0.5, 88)
    assert again.chi2 == pytest.approx(1.02)
    assert np.abs(again.coefficients - model.coefficients).max() <= 1e-6 * model.coefficients.max()


def test_file_says_what_psfex_says(tmp_path):
    model = small_model()
    write_psf(tmp_path / "a.psf", model)
    with fits.open(tmp_path / "a.psf") as hdus:
        table = hdus["PSF_DATA"]
        assert table.data["PSF_MASK"].shape == (1, 3, 61, 61)
        header = table.header
        for key in ("LOADED", "ACCEPTED", "CHI2", "POLNAXIS", "POLGRP1", "POLNAME2", "POLNGRP", "PSF_FWHM"):
            assert key in header
        assert header["POLDEG1"] == 1
        assert header["POLZERO1"] == 1024.5, "positions are 1-based in the file"
        assert header["PSF_SAMP"] == 0.5
        assert (header["PSFAXIS1"], header["PSFAXIS3"]) == (61, 3)
        total = table.data["PSF_MASK"][0, 0].sum()
        assert header["PSFNORM"] == 22.22
    # The samples add up to 1 / PSF_SAMP^2, and the wings outside the reference aperture: 1 % of this profile.
    assert 1.0 < total * 0.5**2 < 1.015, "flux per pixel"


def test_same_model_same_bytes(tmp_path):
    write_psf(tmp_path / "a.psf", small_model())
    write_psf(tmp_path / "b.psf", small_model())
    assert (tmp_path / "a.psf").read_bytes() == (tmp_path / "b.psf").read_bytes()


def test_foreign_normalisation_is_brought_to_ours(tmp_path):
    model = small_model()
    total = PsfModel(model.coefficients * np.float32(0.97), 1, 0.5, model.origin, model.scale, 3.6)
    write_psf(tmp_path / "a.psf", total)
    assert aperture_flux(read_psf(tmp_path / "a.psf")) == pytest.approx(1.0, abs=1e-6)


def test_files_of_the_last_version_which_add_up_to_one_are_read(tmp_path):
    model = small_model()
    write_psf(tmp_path / "a.psf", model)
    with fits.open(tmp_path / "a.psf") as hdus:
        hdus[1].data["PSF_MASK"] *= 0.5**2
        del hdus[1].header["PSFNORM"]
        hdus.writeto(tmp_path / "old.psf", checksum=True)
    again = read_psf(tmp_path / "old.psf")
    assert np.abs(again.coefficients - model.coefficients).max() <= 2e-4 * model.coefficients.max()


def test_damage_is_said(tmp_path):
    with pytest.raises(StorageError):
        read_psf(tmp_path / "absent.psf")
    (tmp_path / "text.psf").write_text("no fits")
    with pytest.raises(StorageError):
        read_psf(tmp_path / "text.psf")
    wrong = fits.BinTableHDU.from_columns(
        [fits.Column("PSF_MASK", "50E", dim="(5,5,2)", array=np.zeros((1, 2, 5, 5), np.float32))]
    )
    wrong.header["POLDEG1"] = 2
    fits.HDUList([fits.PrimaryHDU(), wrong]).writeto(tmp_path / "wrong.psf")
    with pytest.raises(InputError):
        read_psf(tmp_path / "wrong.psf")


@pytest.mark.real_data
def test_models_of_the_legacy_surveys_are_read(real_data):
    files = sorted((real_data / "decam_epochs" / "calib").rglob("*-psfex.fits"))
    assert len(files) == 9
    for path in files:
        model = read_psf(path)
        assert model.degree == 2
        assert aperture_flux(model) == pytest.approx(1.0, abs=1e-6)
        # PSFEx quotes the mean width of the stars; the model's origin lies off the chip for some of the cut-outs.
        assert model_fwhm(model) == pytest.approx(model.fwhm_pixels, rel=0.12)
        assert 30 < model.noise_pixels(120.0, 120.0) < 160


@pytest.mark.optional
@pytest.mark.parametrize("place", [(300.0, 700.0), (1023.5, 2047.5), (1900.0, 3900.0)])
def test_galsims_reader_of_the_surveys_files_draws_the_same_stars(tmp_path, place):
    """Its positions count from one and its profile has unit flux, ours unit flux in the reference aperture."""
    galsim_des = pytest.importorskip("galsim.des")
    galsim = pytest.importorskip("galsim")
    model = small_model()
    write_psf(tmp_path / "a.psf", model)
    profile = galsim_des.DES_PSFEx(str(tmp_path / "a.psf")).getPSF(galsim.PositionD(place[0] + 1, place[1] + 1))
    # The model's samples hold the response of the pixel.
    drawn = profile.drawImage(nx=41, ny=41, scale=1.0, method="no_pixel").array
    ours = model.stamp(np.floor(place[0] + 0.5), np.floor(place[1] + 0.5), 20)
    difference = drawn / drawn.sum() - ours / ours.sum()
    assert np.sqrt((difference**2).sum() / ((ours / ours.sum()) ** 2).sum()) < 0.003
