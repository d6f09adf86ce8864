"""The trend of the stars' width with the charge at their peak is measured with its error."""

import numpy as np
import pytest

from imaging.psf.brightness import trend_of_stars
from imaging.psf.fit import fit_psf
from imaging.psf.settings import PsfSettings

N_STARS, HALF, FWHM, BETA, SKY = 144, 30, 4.0, 3.0, 3000.0
PER_100K = 1e-5
RANDOM = np.random.default_rng(11)
PEAK = 10.0 ** RANDOM.uniform(3.7, 5.1, N_STARS)
X, Y = (
    50.0 + 80.0 * k + RANDOM.uniform(-0.5, 0.5, N_STARS) for k in (np.arange(N_STARS) % 12, np.arange(N_STARS) // 12)
)
ALPHA = 0.5 * FWHM / np.sqrt(2.0 ** (1.0 / BETA) - 1.0)
FLUX = PEAK * np.pi * ALPHA**2 / (BETA - 1.0)


def stars(growth):
    """Draw stars whose width grows by a share per electron at the peak of the star without it."""
    image = np.zeros((980, 980))
    grid = np.arange(-HALF, HALF + 1)
    for x, y, peak in zip(X, Y, PEAK, strict=True):
        i, j = round(x), round(y)
        scale = 1.0 + growth * peak
        r2 = ((grid - (x - i)) ** 2 + ((grid - (y - j)) ** 2)[:, None]) / (ALPHA * scale) ** 2
        image[j - HALF : j + HALF + 1, i - HALF : i + HALF + 1] += peak / scale**2 * (1.0 + r2) ** -BETA
    return (RANDOM.poisson(image + SKY) - SKY).astype(np.float32)


@pytest.mark.parametrize("percent", [0.0, 0.6, 1.5, -1.0])
def test_growth_of_the_stars_with_their_peaks(percent):
    science = stars(percent / 100.0 * PER_100K)
    none = np.zeros(science.shape, np.int32)
    weight = np.full(science.shape, 1.0 / SKY, np.float32)
    fitted = fit_psf(science, weight, none, X, Y, FLUX, FWHM, PsfSettings())
    trend, error = (100.0 / PER_100K * value for value in (fitted.peak_trend, fitted.peak_trend_error))
    assert 0.02 < error < 0.06
    assert trend == pytest.approx(percent, abs=3.0 * error)


def test_stated_error_is_the_scatter_of_the_trends():
    random = np.random.default_rng(5)
    peak = random.lognormal(0.0, 1.0, 100)
    peak -= peak.mean()
    pulls = []
    for _ in range(400):
        width = 0.6 * peak + random.normal(0.0, 2.0, 100)
        width[:3] += 60.0
        trend, error = trend_of_stars(width * peak, peak**2)
        pulls.append((trend - 0.6) / error)
    assert abs(np.mean(pulls)) < 3.0 / 20.0
    assert np.std(pulls) == pytest.approx(1.0, abs=0.12)


def test_too_few_stars_and_stars_of_one_peak_give_no_trend():
    peak = np.where(np.arange(30) < 9, 1.0, 0.0)
    assert np.isnan(trend_of_stars(peak, peak)).all()
    assert np.isnan(trend_of_stars(np.zeros(30), np.zeros(30))).all()
