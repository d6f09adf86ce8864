"""The step moves the stars of a template to the epoch of the search image, by the reference catalogue."""

import numpy as np
import pytest

from imaging.difference.prepare import moffat_psf
from imaging.image import CalibratedImage, CcdImage
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import make_table
from imaging.templates.motions import ShownStars
from imaging.wcs.tpv import TpvWcs

PSF, SHAPE, FLUX, MJD, YEAR = moffat_psf(4.0), (120, 160), 3e5, 59000.0, 365.25
LINEAR = np.stack([np.arange(11) == 1, np.arange(11) == 1]).astype(float)
WCS = TpvWcs((150.0, -20.0), (80.0, 60.0), np.diag([-7.3e-5, 7.3e-5]), LINEAR)
MAS_PER_PIXEL = 7.3e-5 * 3.6e6
HEADER = {
    "EXPNUM": 1,
    "MJD-OBS": MJD,
    "EXPTIME": 1.0,
    "OBSTYPE": "object",
    "FILTER": "i",
    "TELRA": 150.0,
    "TELDEC": -20.0,
}


def catalogue(x: float, y: float, *, east_mas: float, north_mas: float):
    """Return one star that is at a pixel in 2000.0, with its proper motion per year."""
    ra, dec = WCS.pixel_to_sky(np.array([x]), np.array([y]))
    columns = {name: np.zeros(1) for name in REFERENCE_STARS.names}
    columns |= {"source_id": np.array([1]), "variable": np.array([False]), "ra": ra, "dec": dec}
    return make_table(
        columns | {"ref_epoch": np.array([2000.0]), "pmra": np.array([east_mas]), "pmdec": np.array([north_mas])},
        REFERENCE_STARS,
    )


def image_of(x: float, y: float) -> CalibratedImage:
    star = FLUX * PSF.at_offsets(80.0, 60.0, np.arange(SHAPE[1]) - x, np.arange(SHAPE[0]) - y)
    planes = star.astype(np.float32), np.zeros(SHAPE, np.int16), np.full(SHAPE, 60.0**-2, np.float32)
    return CalibratedImage(CcdImage(*planes, HEADER), WCS, PSF, 30.0, 2500.0, 1.5e5, "template")


def test_three_years_of_proper_motion():
    """The star of the template is where it was in its year; 50 mas are 0.19 pixels, and east is left."""
    years = (MJD - 51544.5) / YEAR
    reference = catalogue(70.0, 50.0, east_mas=50.0, north_mas=-30.0)
    step = np.array([-50.0, -30.0]) / MAS_PER_PIXEL
    then, now = np.array([70.0, 50.0]) + step * years, np.array([70.0, 50.0]) + step * (years + 3)
    moved = ShownStars(reference, MJD + 3 * YEAR).as_in_search(image_of(*then)).pixels.science
    before, expected = (image_of(*place).pixels.science for place in (then, now))
    assert np.abs(before - expected).max() > 0.1 * expected.max()
    assert np.abs(moved - expected).max() < 0.002 * expected.max()


def test_a_star_without_known_motion_stays():
    image = image_of(70.0, 50.0)
    still = ShownStars(catalogue(70.0, 50.0, east_mas=np.nan, north_mas=np.nan), MJD + 3 * YEAR).as_in_search(image)
    assert still.pixels.science == pytest.approx(image_of(70.0, 50.0).pixels.science)
