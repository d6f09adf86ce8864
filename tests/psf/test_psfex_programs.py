"""PSFEx and SExtractor themselves: files that PSFEx writes, and photometry with files that this project writes."""

import numpy as np
import pytest
from astropy.io import fits

from bench.peers import peers_installed, photometry_with, run_peers
from imaging.image import CcdImage
from imaging.io.psf import read_psf, write_psf

pytestmark = [
    pytest.mark.optional,
    pytest.mark.skipif(not peers_installed(), reason="SExtractor or PSFEx are not installed"),
]

SIDE, NOISE, ALPHA, BETA = 400, 10.0, 3.3, 3.0
"""Pixels along a side, electrons, and a Moffat profile of 3.4 pixels FWHM."""

STARS = 100


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """A field of stars of known flux in the reference aperture, and the files that the programs made of it."""
    rng = np.random.default_rng(5)
    grid = 40.0 * (np.arange(10) + 0.5)
    x, y = (axis.ravel() + rng.uniform(-3, 3, STARS) for axis in np.meshgrid(grid, grid))
    flux = 10 ** rng.uniform(4.3, 5.2, STARS)
    image = rng.normal(0.0, NOISE, (SIDE, SIDE))
    rows, columns = np.mgrid[:SIDE, :SIDE]
    inside = 1.0 - (1.0 + 11.11**2 / ALPHA**2) ** (1.0 - BETA)  # of a Moffat profile within 11.11 pixels
    for a, b, f in zip(x, y, flux, strict=True):
        r2 = (rows - b) ** 2 + (columns - a) ** 2
        image += f / inside * (BETA - 1.0) / (np.pi * ALPHA**2) * (1.0 + r2 / ALPHA**2) ** -BETA
    image += rng.normal(0.0, 1.0, image.shape) * np.sqrt(np.clip(image, 0.0, None))
    weight = np.full(image.shape, NOISE**-2, np.float32)
    pixels = CcdImage(image.astype(np.float32), np.zeros(image.shape, np.int16), weight, {})
    folder = tmp_path_factory.mktemp("peers")
    peers = run_peers(pixels, folder, 3.4, 1e6)
    return folder, peers, x, y, flux


def masks(path):
    with fits.open(path) as hdus:
        return hdus[1].data["PSF_MASK"][0], hdus[1].header


def of_stars(found, x, y):
    """Return the number in the catalogue of each star."""
    distance = np.hypot(found.x[None, :] - x[:, None], found.y[None, :] - y[:, None])
    assert distance.min(axis=1).max() < 0.5
    return distance.argmin(axis=1)


def test_a_file_of_psfex_sampled_finer_than_the_pixels_is_read_and_written_back_alike(field, tmp_path):
    folder, *_ = field
    theirs, header = masks(folder / "first.psf")
    step = header["PSF_SAMP"]
    assert step < 0.9
    assert theirs[0].sum() * step**2 == pytest.approx(1.0, abs=0.02), "what PSFEx adds up to"
    model = read_psf(folder / "first.psf")
    write_psf(tmp_path / "again.psf", model)
    ours, again = masks(tmp_path / "again.psf")
    # PSFEx normalises in the same aperture, measured on the pixels.
    assert np.abs(ours - theirs).max() < 0.01 * theirs.max()
    for key in ("POLZERO1", "POLZERO2", "POLSCAL1", "POLSCAL2", "POLDEG1", "PSFAXIS1"):
        assert again[key] == pytest.approx(header[key], rel=1e-6)
    assert again["PSF_SAMP"] == pytest.approx(step, rel=1e-6)


def test_sextractors_psf_fluxes_with_our_file_are_those_with_psfexs_and_the_true_ones(field):
    folder, peers, x, y, flux = field
    write_psf(folder / "ours.psf", read_psf(folder / "first.psf"))
    ours = photometry_with("ours.psf", folder, 3.4, 1e6)
    for found in (peers, ours):
        magnitudes = -2.5 * np.log10(found.flux_psf[of_stars(found, x, y)] / flux)
        assert abs(np.median(magnitudes)) < 0.01
