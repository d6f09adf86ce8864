"""Final catalogues: reference stars get the positions of their colours, other sources those of the typical colour."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.astrometry.solution import Chromatic, TiedCcd
from imaging.detector.distortion import seed_wcs
from imaging.photometry.expected_colours import source_colours
from imaging.photometry.settings import PhotometrySettings
from imaging.tables import column
from tasks.calibrate import place_sources


def test_each_source_gets_the_shift_of_its_own_colour():
    seed = seed_wcs(27, 150.0, -30.0)
    chromatic = Chromatic(typical_mag=1.0, range_mag=(0.5, 3.0), terms_mas=[[20.0, 0.0, 0.0], [-40.0, 2.0, 0.0]])
    tied = TiedCcd.without_others(seed, 100, 10.0).model_copy(update={"chromatic": chromatic})
    x, y = np.array([100.0, 1900.0, 700.0, 800.0]), np.array([50.0, 4000.0, 2000.0, 2100.0])
    zero = np.zeros(4)
    sources = {"number": np.array([7, 2, 9, 4]), "flux_psf": zero + 100.0, "spread_model": zero}
    catalogue = pa.table(sources | {"x": x, "y": y, "ra": zero, "dec": zero})
    colour, g_mag = pa.array([2.0, 0.5, None], pa.float32()), np.full(3, 18.0)
    matches = pa.table({"number": np.array([4, 7, 2]), "colour_mag": colour, "reference_mag": g_mag})
    ra, dec = seed.pixel_to_sky(x, y)
    colours = source_colours(catalogue, matches, PhotometrySettings())
    placed = place_sources(catalogue, tied, (4096, 2048), colours)
    east, north = (column(placed, "ra") - ra) * np.cos(np.radians(dec)) * 3.6e6, (column(placed, "dec") - dec) * 3.6e6
    assert east == pytest.approx([-10.0, 0.0, 0.0, 20.0], abs=0.3)  # the plane's axes turn by half a degree
    assert north == pytest.approx([20.5, 0.0, 0.0, -38.0], abs=0.3)
