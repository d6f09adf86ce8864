"""Families of ghosts by the rims of single images, from ghosts that this file makes."""

from dataclasses import replace

import numpy as np
import pytest

from imaging.difference.ghost_model import GhostFamily, GhostModel, predict_ghosts
from imaging.masters.ghost_levels import SeenGhost, with_rims

AXIS, SHAPE, ERROR = (-4000.0, 6000.0), (4096, 2048), 0.03
TRUE = [(0.0042, 150.0, 7e-9), (0.017, 600.0, 1.4e-9)]
"""Displacement, radius and level of the families."""


def model_of(values):
    families = [
        GhostFamily(displacement=d, outer_pixels=r, inner_pixels=0.35 * r, level=v, level_error=0.2 * v)
        for d, r, v in values
    ]
    return GhostModel(name="ghosts_g.json", band="g", families=families)


def seen_in(random, predicting, n_stars, colours=0.3):
    """Return the ghosts of an image whose stars have other light than predicted, with errors of the fits."""
    stars = [
        (random.uniform(0, 2048), random.uniform(0, 4096), 10 ** random.uniform(9.5, 10.5)) for _ in range(n_stars)
    ]
    factor = np.exp(random.normal(0.0, colours, n_stars))
    before, after = (predict_ghosts(model, stars, AXIS, SHAPE, 0.0) for model in (predicting, model_of(TRUE)))
    ghosts = {(ghost.star, ghost.family): ghost for ghost in after}
    found = []
    for ghost in before:
        true = ghosts[ghost.star, ghost.family]
        level = true.level * factor[ghost.star]
        x, y, radius = np.array([true.x, true.y, true.outer_pixels]) + random.normal(0.0, 0.3, 3)
        error = ERROR * level
        fitted = replace(
            true,
            x=x,
            y=y,
            outer_pixels=radius,
            level=level + random.normal(0.0, error),
            level_error=error,
            outer_error=0.3,
            subtracted=True,
        )
        away = stars[ghost.star][0] - AXIS[0], stars[ghost.star][1] - AXIS[1]
        found.append(SeenGhost(ghost, fitted, away))
    return found


def test_families_get_levels_radii_and_displacements_from_rims():
    random = np.random.default_rng(3)
    wrong = model_of([(1.05 * TRUE[0][0], 151.0, 1.2 * TRUE[0][2]), (1.02 * TRUE[1][0], 597.0, 0.9 * TRUE[1][2])])
    images = [seen_in(random, wrong, 3) for _ in range(8)]
    found = with_rims(wrong, images).families
    error = ERROR * np.sqrt(2.0 / 24)
    ratio = found[0].level / found[1].level / (TRUE[0][2] / TRUE[1][2])
    assert ratio == pytest.approx(1.0, abs=3.0 * error), "colours of stars do not change it"
    for family, (displacement, radius, level) in zip(found, TRUE, strict=True):
        assert family.level == pytest.approx(level, rel=3.0 * 1.25 * 0.3 / np.sqrt(24)), "the median of the colours"
        assert family.outer_pixels == pytest.approx(radius, abs=3.0 * 0.3 / np.sqrt(24))
        assert family.inner_pixels == pytest.approx(0.35 * radius, abs=0.1)
        assert 5000.0 * abs(family.displacement - displacement) < 0.5
        assert 0.02 <= family.ratio_error < 0.03
        assert 0.5 <= family.place_error < 0.6, "the scatter is that of the fits, 0.3 pixels, or the floor"


def test_ghosts_that_scatter_are_less_certain_and_few_change_nothing():
    random = np.random.default_rng(4)
    right = model_of(TRUE)
    assert with_rims(right, []) is right
    assert with_rims(right, [seen_in(random, right, 2)]) == right
    images = [seen_in(random, right, 3) for _ in range(8)]
    moved = [
        [replace(g, fitted=replace(g.fitted, x=g.fitted.x + random.normal(0.0, 3.0))) for g in image]
        for image in images
    ]
    assert with_rims(right, moved).families[1].place_error == pytest.approx(3.0, abs=3.0 * 3.0 * 1.17 / np.sqrt(24))
