"""Drawing stamps: the compiled twin agrees with the model, slopes are derivatives."""

import numpy as np
import pytest
from astropy.modeling.models import Moffat2D

from imaging.psf.draw import draw_stamp, draw_stamp_and_slopes, local_samples, position_terms
from imaging.psf.model import PsfModel
from imaging.simulation.star_fields import MoffatPsf


def random_model(degree=2):
    random = np.random.default_rng(4)
    step, size = 0.6, 61
    truth = MoffatPsf(fwhm_pixels=4.0)
    offsets = (np.arange(size) - size // 2) * step
    r2 = offsets[:, None] ** 2 + offsets[None, :] ** 2
    images = [np.exp(-0.5 * r2 / (1.7 + 0.2 * k) ** 2) * (1.0 if k == 0 else random.normal(0, 0.03)) for k in range(6)]
    coefficients = np.array(images[: (degree + 1) * (degree + 2) // 2], np.float32) / 20.0
    return PsfModel(coefficients, degree, step, (1023.5, 2047.5), (1024.0, 2048.0), truth.fwhm_pixels)


@pytest.mark.parametrize(("x", "y"), [(1000.0, 2000.0), (12.3, 4000.8), (2047.0, 0.49), (77.5, 77.5)])
@pytest.mark.parametrize("degree", [0, 2])
def test_compiled_stamp_equals_the_models(x, y, degree):
    model = random_model(degree)
    terms = position_terms(x, y, model.degree, model.origin, model.scale)
    samples = local_samples(model.coefficients, terms, 1000)
    dx, dy = x - np.floor(x + 0.5), y - np.floor(y + 0.5)
    stamp = draw_stamp(samples, model.step, dx, dy, 20)
    assert np.abs(stamp - model.stamp(x, y, 20)).max() < 1e-6 * stamp.max()


def test_a_smaller_cut_of_the_samples_gives_the_same_core():
    model = random_model()
    terms = position_terms(300.0, 300.0, model.degree, model.origin, model.scale)
    whole = draw_stamp(local_samples(model.coefficients, terms, 1000), model.step, 0.3, -0.2, 6)
    cut = draw_stamp(local_samples(model.coefficients, terms, int(7 / model.step) + 5), model.step, 0.3, -0.2, 6)
    assert np.abs(whole - cut).max() < 1e-7


def test_slopes_are_derivatives():
    model = random_model(0)
    samples = model.coefficients[0]
    _, slope_x, slope_y = draw_stamp_and_slopes(samples, model.step, 0.1, 0.2, 8)
    h = 0.01
    for slope, a, b in ((slope_x, (0.1 + h, 0.2), (0.1 - h, 0.2)), (slope_y, (0.1, 0.2 + h), (0.1, 0.2 - h))):
        expected = (draw_stamp(samples, model.step, *a, 8) - draw_stamp(samples, model.step, *b, 8)) / (2 * h)
        assert np.abs(slope - expected).max() < 0.015 * np.abs(expected).max()


@pytest.mark.parametrize("step", [0.4361, 0.5047, 0.56])
@pytest.mark.parametrize("place", [(700.0, 900.0), (700.31, 900.0), (699.77, 900.45)])
def test_a_stamp_between_samples_is_the_tabulated_function(step, place):
    def profile(x, y):
        return Moffat2D(amplitude=1.0, x_0=x, y_0=y, gamma=4.0, alpha=3.3)

    offsets = np.arange(-70, 71) * step
    tabulated = profile(0.0, 0.0)(*np.meshgrid(offsets, offsets))[None].astype(np.float32)
    model = PsfModel(tabulated, 0, step, (1023.5, 2047.5), (1024.0, 2048.0), 3.7)
    dx, dy = place[0] - np.floor(place[0] + 0.5), place[1] - np.floor(place[1] + 0.5)
    pixels = np.arange(-15, 16)
    expected = profile(dx, dy)(*np.meshgrid(pixels, pixels))
    found = model.stamp(*place, 15)
    assert np.abs(found - expected).max() < 1e-4
    assert found.sum() == pytest.approx(expected.sum(), rel=2e-5)
