"""The PSF fit of an image of the pupil, drawn by Fourier transforms; seeing alone takes the small basis."""

import numpy as np
import pytest

from imaging.psf.fit import fit_psf
from imaging.psf.profile import SEEING
from imaging.psf.settings import PsfSettings

SIDE, SPACING, SKY = 630, 90, 3600.0
STEP, SAMPLES = 0.2, 320
"""Pixels per sample of the drawn function, and their number along an axis."""

SEEING_PIXELS, APERTURE_PIXELS = 3.4, 22.22
FREQUENCY_X, FREQUENCY_Y = np.meshgrid(*2 * [np.fft.fftfreq(SAMPLES, STEP)])


def transform(edge_pixels):
    """Return the transform of the image of an annular pupil with four vanes and coma, in Kolmogorov seeing.

    Rays from the edge of the pupil land ``edge_pixels`` from the centre (geometrical optics).
    """
    u, v = np.meshgrid(*2 * [np.linspace(-1.0, 1.0, 801)])
    r = np.hypot(u, v)
    open_ = (r < 1.0) & (r > 0.35) & (np.minimum(np.abs(u), np.abs(v)) > 0.02)
    x, y = edge_pixels * (u + 0.1 * (u**2 + v**2 / 3)), edge_pixels * (v + 0.1 * 2 * u * v / 3)
    edges = (np.arange(SAMPLES + 1) - SAMPLES / 2 - 0.5) * STEP
    light, *_ = np.histogram2d(y[open_], x[open_], [edges, edges])
    frequency = np.hypot(FREQUENCY_X, FREQUENCY_Y) * SEEING_PIXELS / 0.976
    response = np.exp(-3.442 * frequency ** (5 / 3)) * np.sinc(FREQUENCY_X) * np.sinc(FREQUENCY_Y)
    image = np.fft.fft2(np.fft.ifftshift(light / light.sum())) * response
    offsets = (np.arange(SAMPLES) - SAMPLES // 2) * STEP
    inside = np.hypot(offsets, offsets[:, None]) < APERTURE_PIXELS / 2
    return image / np.fft.fftshift(np.fft.ifft2(image).real)[inside].sum()


def drawn(image, dx, dy, half):
    """Return the values at pixels around a star that is (dx, dy) from the central one."""
    moved = np.fft.ifft2(image * np.exp(-2j * np.pi * (FREQUENCY_X * dx + FREQUENCY_Y * dy))).real / STEP**2
    chosen = SAMPLES // 2 + round(1 / STEP) * np.arange(-half, half + 1)
    return np.fft.fftshift(moved)[np.ix_(chosen, chosen)]


def fitted(image, fwhm_pixels):
    random = np.random.default_rng(5)
    n = SIDE // SPACING
    places = SPACING // 2 + SPACING * np.arange(n)
    column, row = (each.ravel() for each in np.meshgrid(places, places))
    dx, dy = random.uniform(-0.5, 0.5, (2, column.size))
    flux = 10.0 ** random.uniform(5.0, 6.3, column.size)
    science = random.normal(0.0, SKY**0.5, (SIDE, SIDE))
    isophotes = np.zeros((SIDE, SIDE), np.int32)
    for k in range(column.size):
        near = (slice(row[k] - 30, row[k] + 31), slice(column[k] - 30, column[k] + 31))
        star = flux[k] * drawn(image, dx[k], dy[k], 30)
        science[near] += star + random.normal(0.0, 1.0, star.shape) * np.sqrt(np.maximum(star, 0.0))
        isophotes[near] = k + 1
    weight = np.full((SIDE, SIDE), 1 / SKY, np.float32)
    settings = PsfSettings(maximum_degree=0)
    return fit_psf(science.astype(np.float32), weight, isophotes, column + dx, row + dy, flux, fwhm_pixels, settings)


def residual(image, model):
    """Return the rms of model minus truth over that of the truth, up to a shift."""
    found, shift, h = model.stamp(315.0, 315.0, 15), np.zeros(2), 0.02
    for _ in range(4):
        dx, dy = shift
        true = drawn(image, dx, dy, 15)
        moved = drawn(image, dx + h, dy, 15), drawn(image, dx, dy + h, 15)
        slopes = np.stack([(each - true).ravel() / h for each in moved], axis=-1)
        step = np.linalg.lstsq(slopes, (found - true).ravel(), rcond=None)[0]
        shift = shift + step
    return np.sqrt(np.sum((found - true) ** 2) / np.sum(true**2))


def test_an_image_of_the_pupil_takes_the_functions_it_needs():
    image = transform(5.5)
    result = fitted(image, 7.5)
    assert residual(image, result.model) < 0.005
    assert result.n_basis > SEEING.size
    assert result.used.all()


@pytest.mark.parametrize("edge_pixels", [0.0, 0.5])
def test_seeing_takes_no_more_functions(edge_pixels):
    image = transform(edge_pixels)
    result = fitted(image, SEEING_PIXELS)
    assert result.n_basis == SEEING.size
    assert residual(image, result.model) < 0.003
