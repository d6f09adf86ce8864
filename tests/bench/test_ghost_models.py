"""Rows about ghosts, and the model that simulated nights get, from models that this file writes."""

import numpy as np
import pytest

from bench.ghost_models import EPOCH, KIND, give_ghosts
from bench.ghosts import Compared, _compare_one, family_rows, subtraction_rows
from blocks.site import Site
from imaging.difference.ghost_model import Ghost, GhostFamily, GhostModel
from imaging.exposure import Exposure
from imaging.io.calibrations import CalibrationLibrary
from imaging.io.ghosts import read_ghosts, write_ghosts
from imaging.simulation.exposures import FOCAL_PLANE_RADIUS_PIXELS
from imaging.simulation.ghosts import (
    CHIEF_RAY_SLOPE,
    PIXEL_MM,
    REFLECTIONS,
    ghost_centres,
    ghost_radius_pixels,
)
from imaging.simulation.optical_psf import OBSCURATION
from tasks.calibration_files import master_path

DRAWN = REFLECTIONS[1]
RADIUS = ghost_radius_pixels(DRAWN)
SHIFT = 2.0 * DRAWN.gap_mm * CHIEF_RAY_SLOPE / PIXEL_MM / FOCAL_PLANE_RADIUS_PIXELS


def model_of(radius=RADIUS, shift=SHIFT):
    family = GhostFamily(
        displacement=shift, outer_pixels=radius, inner_pixels=OBSCURATION * RADIUS, level=2e-9, level_error=2e-10
    )
    return GhostModel(name="ghosts_i.json", band="i", families=[family])


def test_an_error_of_a_radius_or_a_place_is_stated():
    assert [(row.value, row.ok) for row in family_rows(model_of(), "i")] == [(pytest.approx(0.0, abs=1e-9), True)] * 3
    radius, hole, place = family_rows(model_of(1.02 * RADIUS, SHIFT + 1e-3), "i")
    assert (radius.value, radius.ok) == (pytest.approx(2.0), False)
    assert hole.ok
    assert (place.value, place.ok) == (pytest.approx(5.0), False)


def test_a_subtracted_ghost_is_compared_with_that_of_its_star():
    x, y, flux = np.array([500.0, 900.0]), np.array([700.0, 3000.0]), np.array([1e9, 3e9])
    cx, cy = ghost_centres(DRAWN, 27, x, y)
    level = DRAWN.fraction * flux[1] / (np.pi * RADIUS**2 * (1.0 - OBSCURATION**2))
    found = Compared(n_predicted=4, cpu_s=[0.5])
    for dx, factor in ((3.0, 1.04), (100.0, 1.0)):
        ghost = Ghost(cx[1] + dx, cy[1], RADIUS + 4.0, OBSCURATION * RADIUS, 4.0, factor * level, 0.1, subtracted=True)
        _compare_one(ghost, 27, (x, y, flux), found)
    assert found.rims == [pytest.approx(5.0)]
    assert found.levels == [pytest.approx(0.04)]
    rows = {row.name: row for row in subtraction_rows(found, "i")}
    assert (rows["i: ghosts predicted"].value, rows["i: subtracted ghosts"].value) == (4, 1)
    assert rows["i: subtracted ghosts, median distance of the rim from the drawn one"].ok is False
    assert rows["i: subtracted ghosts, median error of the level"].ok


def test_a_night_gets_the_model_that_the_folder_holds(tmp_path):
    kept, site = Site.at(tmp_path / "kept" / "ghosts_i"), Site.at(tmp_path / "night")
    path = master_path(kept, EPOCH, KIND, 0, "i")
    path.parent.mkdir(parents=True)
    write_ghosts(path, model_of())
    site.calibrations.mkdir(parents=True)
    give_ghosts(site, tmp_path / "kept", "i")
    observed = Exposure(1300001, "i", 20240510, 60440.2, 90.0, 100.0, 2.0, 1.1)
    assert read_ghosts(CalibrationLibrary(site.calibrations).find(KIND, observed, 27), "i") == model_of()
