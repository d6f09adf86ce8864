"""Red stars are sharper than blue ones: GalSim's stars, whose width depends on the colour, have the right fluxes."""

import numpy as np
import pytest

from imaging.catalogue.psf_photometry import psf_photometry
from imaging.catalogue.settings import CatalogueSettings
from imaging.image import CcdImage
from imaging.psf.colour import EXPECTED_PER_MAG, REFERENCE_COLOUR_MAG, flux_factor, width_per_mag
from imaging.psf.fit import fit_psf
from imaging.psf.settings import PsfSettings

N, HALF, FWHM, SKY = 100, 40, 3.7, 3600.0
RANDOM = np.random.default_rng(7)
COLOUR = np.where(RANDOM.random(N) < 0.6, RANDOM.normal(0.85, 0.2, N), RANDOM.normal(2.4, 0.4, N))
FLUX = 10.0 ** RANDOM.uniform(5.0, 6.0, N)
X, Y = (85.0 + 90.0 * k + RANDOM.uniform(-0.5, 0.5, N) for k in (np.arange(N) % 10, np.arange(N) // 10))


def stars(per_mag):
    """Draw stars whose width changes with colour."""
    galsim = pytest.importorskip("galsim")
    image = np.zeros((980, 980))
    for k, (x, y) in enumerate(zip(X, Y, strict=True)):
        star = galsim.Kolmogorov(fwhm=FWHM * (1.0 + per_mag * (COLOUR[k] - REFERENCE_COLOUR_MAG)), flux=FLUX[k])
        i, j = round(x), round(y)
        drawn = galsim.ImageD(2 * HALF + 1, 2 * HALF + 1)
        star.drawImage(drawn, scale=1.0, offset=(x - i, y - j), method="no_pixel")
        image[j - HALF : j + HALF + 1, i - HALF : i + HALF + 1] += drawn.array
    noisy = RANDOM.poisson(image + SKY).astype(np.float32) - np.float32(SKY)
    mask = np.zeros(image.shape, np.int32)
    return CcdImage(noisy, mask, np.full(image.shape, 1.0 / SKY, np.float32), {})


def contrast(flux):
    """Return the ratio of measured to true fluxes of the red over that of the blue stars, minus one, and its error."""
    ratio, red = flux / FLUX, COLOUR > 1.6
    error = np.hypot(*(ratio[part].std() / np.sqrt(part.sum()) for part in (red, ~red)))
    return ratio[red].mean() / ratio[~red].mean() - 1.0, error


@pytest.mark.parametrize(("band", "per_mag"), [("g", -0.0047), ("g", -0.0065), ("i", 0.0)])
def test_fluxes_of_red_and_blue_stars(band, per_mag):
    image = stars(per_mag)
    fitted = fit_psf(image.science, image.weight, image.mask, X, Y, FLUX, FWHM, PsfSettings(), COLOUR, band)
    psf, settings = fitted.model, CatalogueSettings()
    assert psf.width_per_mag == pytest.approx(per_mag, abs=0.0008)
    raw = psf_photometry(image, psf, X, Y, FLUX, settings).flux
    flux = raw * flux_factor(psf, settings.psf_fit_radius_fwhm * psf.fwhm_pixels, COLOUR)
    trend, error = contrast(flux)
    assert error < 0.001
    assert abs(trend) < 0.0005 + 2.0 * error
    if per_mag:
        assert contrast(raw)[0] > 0.005


def test_without_colours_nothing_changes():
    image = stars(-0.0047)
    given = (image.science, image.weight, image.mask, X, Y, FLUX, FWHM, PsfSettings())
    plain, unknown = fit_psf(*given), fit_psf(*given, np.full(N, np.nan), "g")
    assert plain.model.width_per_mag == 0.0
    assert (flux_factor(plain.model, 6.0, COLOUR) == 1.0).all()
    assert (flux_factor(unknown.model, 6.0, np.full(3, np.nan)) == 1.0).all()
    assert np.array_equal(plain.model.coefficients, unknown.model.coefficients)


def test_few_stars_give_the_expected_change_and_many_their_own():
    colour, error = np.linspace(-0.5, 1.5, 5), np.full(5, 0.01)
    assert width_per_mag(colour, 0.01 * colour, error, "g")[0] == pytest.approx(EXPECTED_PER_MAG["g"], abs=0.0015)
    colour = np.linspace(-0.5, 1.5, 400)
    noise = np.random.default_rng(1).normal(0.0, 0.002, 400)
    assert width_per_mag(colour, -0.009 * colour + noise, np.full(400, 0.002), "g")[0] == pytest.approx(
        -0.009, abs=8e-4
    )
