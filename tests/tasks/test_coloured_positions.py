"""Final catalogues: positions for the colours of the sources, and fluxes that the areas of pixels have not changed."""

import numpy as np
import pyarrow as pa
import pytest

from imaging.astrometry.displacement import PixelDisplacement
from imaging.astrometry.solution import Chromatic, TiedCcd
from imaging.detector.distortion import seed_wcs
from imaging.image import CcdImage
from imaging.photometry.expected_colours import source_colours
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.transparency import FLUXES
from imaging.schemas.catalogue import CATALOGUE
from imaging.tables import column, make_table
from tasks.calibrate import place_sources, without_areas


def test_each_source_gets_the_shift_of_its_own_colour():
    seed = seed_wcs(27, 150.0, -30.0)
    chromatic = Chromatic(typical_mag=1.0, range_mag=(0.5, 3.0), terms_mas=[[20.0, 0.0, 0.0], [-40.0, 2.0, 0.0]])
    tied = TiedCcd.without_others(seed, 100, 10.0).model_copy(update={"chromatic": chromatic})
    x, y = np.array([100.0, 1900.0, 700.0, 800.0]), np.array([50.0, 4000.0, 2000.0, 2100.0])
    zero = np.zeros(4)
    sources = {"number": np.array([7, 2, 9, 4]), "flux_psf": zero + 100.0, "flux_psf_error": zero + 1.0}
    sources |= {"spread_model": zero}
    catalogue = pa.table(sources | {"x": x, "y": y, "ra": zero, "dec": zero})
    colour, g_mag = pa.array([2.0, 0.5, None], pa.float32()), np.full(3, 18.0)
    matches = pa.table({"number": np.array([4, 7, 2]), "colour_mag": colour, "reference_mag": g_mag})
    matches = matches.append_column("colour_error_mag", pa.array(np.full(3, 0.1)))
    ra, dec = seed.pixel_to_sky(x, y)
    colours = source_colours(catalogue, matches, PhotometrySettings())
    placed = place_sources(catalogue, tied, (4096, 2048), colours)
    east, north = (column(placed, "ra") - ra) * np.cos(np.radians(dec)) * 3.6e6, (column(placed, "dec") - dec) * 3.6e6
    assert east == pytest.approx([-10.0, 0.0, 0.0, 20.0], abs=0.3)  # the plane's axes turn by half a degree
    assert north == pytest.approx([20.5, 0.0, 0.0, -38.0], abs=0.3)


def test_fluxes_are_not_divided_by_the_areas_of_the_pixels_where_a_map_is_known():
    edges = [[-0.16, -0.08, 0.0, 0.0, 0.0], *[[0.0] * 5] * 3]
    tied = TiedCcd.without_others(seed_wcs(27, 150.0, -30.0), 100, 10.0)
    mapped = tied.model_copy(update={"displacement": PixelDisplacement(name="m", ccd=27, band="i", edges=edges)})
    columns = {"x": np.array([12.0, 1000.0]), "y": np.full(2, 700.0)}
    columns |= {n: np.full((2, 12) if n.startswith("flux_aper") else 2, 1000.0) for n in FLUXES}
    schema = pa.schema([CATALOGUE.field(name) for name in columns])
    catalogue = make_table(columns, schema)
    plane = np.ones((4096, 2048), np.float32)
    image = CcdImage(plane, np.zeros(plane.shape, np.int16), plane, {})
    changed, table = without_areas(image, catalogue, mapped)
    for name in ("flux_psf", "flux_psf_error", "flux_auto", "peak"):
        assert column(table, name) == pytest.approx([990.0, 1000.0], abs=0.1)  # the slope between 8 and 16 pixels
    assert column(table, "flux_aper")[0] == pytest.approx(np.full(12, 990.0), abs=0.1)
    assert changed.science[700, [12, 1000]] == pytest.approx([0.99, 1.0], abs=1e-4)
    assert changed.weight[700, 12] == pytest.approx(0.99**-2, abs=1e-3)
    assert without_areas(image, catalogue, tied) == (image, catalogue)
