"""Stated errors of the centroids of reference stars whose neighbours are too close to be detected."""

import numpy as np
import pytest

from imaging.detector.distortion import seed_wcs
from imaging.exposure import Exposure
from imaging.measure.chain import measure_ccd
from imaging.measure.settings import MeasureSettings
from imaging.simulation.star_fields import MoffatPsf, draw_field, reference_stars
from imaging.tables import column

CCD, SHAPE, FWHM = 40, (1100, 1000), 3.8


def test_stars_with_hidden_neighbours_state_larger_errors():
    """Every fourth star has a neighbour of a fifth to a half of its light within a FWHM, which moves its centroid."""
    random = np.random.default_rng(5)
    exposure = Exposure(1300001, "i", 20240510, 60441.0, 90.0, 197.45, -23.38, 1.2)
    psf = MoffatPsf(fwhm_pixels=FWHM, shape=SHAPE)
    field = draw_field(8, psf=psf, n_stars=700, n_galaxies=0, mag_range=(15.5, 21.0), bad_columns=0)
    inside = (np.minimum(field.x, field.y) > 30) & (field.x < SHAPE[1] - 30) & (field.y < SHAPE[0] - 30)
    hidden = np.flatnonzero(inside & (np.arange(field.x.size) % 4 == 0))
    n = hidden.size
    away, angle, share = random.uniform(0.6, 1.0, n) * FWHM, random.uniform(0.0, 6.28, n), random.uniform(0.2, 0.5, n)
    for k, star in enumerate(hidden):
        x, y = field.x[star] + away[k] * np.cos(angle[k]), field.y[star] + away[k] * np.sin(angle[k])
        j, i = int(y + 0.5), int(x + 0.5)
        stamp = share[k] * field.flux[star] * psf.stamp(x, y, 15)
        field.image.science[j - 15 : j + 16, i - 15 : i + 16] += stamp + np.sqrt(stamp) * random.normal(size=(31, 31))
    true = seed_wcs(CCD, exposure.ra_deg, exposure.dec_deg).shifted(20.0, -10.0)
    measured = measure_ccd(
        field.image, exposure, CCD, reference_stars(field, true, exposure.mjd_mid, 8), MeasureSettings()
    )
    matches = measured.matches
    x, y, x_error, y_error = (column(matches, name).astype(float) for name in ("x", "y", "x_error", "y_error"))
    star = np.hypot(field.x[:, None] - x, field.y[:, None] - y).argmin(axis=0)
    pull = np.hypot((x - field.x[star]) / x_error, (y - field.y[star]) / y_error) / np.sqrt(2.0)
    blend = np.isin(star, hidden)
    assert blend.sum() > 50
    assert np.median(pull[blend]) < 9.0  # 25 with the errors of photons alone
    assert np.quantile(pull[blend], 0.9) < 14.0  # 115
    assert 0.7 < np.median(pull[~blend]) < 0.95  # 0.83 for normal errors
    assert np.quantile(pull[~blend], 0.9) < 2.0  # 1.52
    rows = column(matches, "number") - 1
    of_psf, chi2 = (column(measured.catalogue, name)[rows].astype(float) for name in ("x_error", "chi2_psf"))
    assert x_error == pytest.approx(of_psf * np.sqrt(np.maximum(chi2, 1.0)), rel=1e-5)
