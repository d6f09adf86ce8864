"""Stacks on the sky: the part with data, undersampled stars, and electrons where no weight shows them."""

import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from bench.foreign_stacks import tangent
from imaging.difference.prepare import moffat_psf
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.foreign.identity import ForeignCcd
from imaging.foreign.stacks import dark_sky_flux
from imaging.image import LoadedImage
from imaging.measure.imported import nominal_wcs
from imaging.measure.imported_stack import import_stack
from imaging.measure.settings import MeasureSettings
from imaging.schemas.reference import REFERENCE_STARS
from imaging.wcs.foreign import wcs_of_header

SHAPE, PLACE = (300, 340), (150.0, -20.0)
EXPOSURE = Exposure(2_000_000_000, "i", 20240319, 60389.2, 1.0, *PLACE, math.nan)
SHOWN = ForeignCcd("Legacy Surveys", EXPOSURE, 1, None, 60342.0)


def stack(science, weight) -> LoadedImage:
    cards = tangent(PLACE, SHAPE, 0.262)
    none = np.zeros(SHAPE, np.int16)
    planes = (science.astype(np.float32), none, weight.astype(np.float32))
    return LoadedImage(*planes, wcs_of_header(cards, SHAPE), cards, None, 22.5, math.inf, False, "brick")


def stars(fwhm: float) -> np.ndarray:
    rng, psf = np.random.default_rng(4), moffat_psf(fwhm)
    science = rng.normal(0.0, 0.05, SHAPE)
    axis = np.arange(-12.0, 13.0)
    for x, y, flux in zip(rng.uniform(20, 320, 60), rng.uniform(20, 280, 60), rng.uniform(5, 300, 60), strict=True):
        i, j = round(x), round(y)
        light = flux * psf.at_offsets(x, y, axis + i - x, axis + j - y)
        science[j - 12 : j + 13, i - 12 : i + 13] += light
    return science


def test_a_stack_that_does_not_sample_its_stars_is_refused():
    image, psf = stack(stars(1.35), np.full(SHAPE, 400.0)), moffat_psf(1.35)
    with pytest.raises(CcdError) as caught:
        import_stack(image, SHOWN, REFERENCE_STARS.empty_table(), MeasureSettings(), psf=psf, gain=1000.0)
    assert caught.value.reason == "undersampled"


def test_a_stack_without_data_is_refused():
    image = stack(np.zeros(SHAPE), np.zeros(SHAPE))
    with pytest.raises(CcdError) as caught:
        import_stack(image, SHOWN, pa.Table.from_pylist([], schema=REFERENCE_STARS), MeasureSettings())
    assert caught.value.reason == "no_good_pixels"


def test_the_coordinates_of_a_stack_are_those_of_its_header():
    image = stack(np.zeros(SHAPE), np.ones(SHAPE))
    cut = replace(image, wcs=image.wcs.shifted(-70.0, 30.0))
    x, y = np.array([0.0, 339.0, 170.0]), np.array([0.0, 10.0, 299.0])
    found, truth = nominal_wcs(cut, SHOWN).pixel_to_sky(x, y), cut.wcs.pixel_to_sky(x, y)
    assert np.abs(np.subtract(found, truth)).max() * 3600.0 < 1e-4


def test_the_dark_sky_is_that_of_observers_targets():
    """DECam's dark sky in i is 19.9 mag per square arcsecond in AB (DECam exposure-time calculator)."""
    flux = dark_sky_flux("i", 22.5, 1.0)
    assert 22.5 - 2.5 * math.log10(flux) == pytest.approx(20.0, abs=0.4)
