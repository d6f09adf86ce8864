"""Levels and places of the families of ghosts by rims in single images, and how far single ghosts deviate from them.

The stars of an image differ from the light that their G predicts, by their colours; all ghosts of a star by the same
factor. So factors of the stars and levels of the families are solved for together, from the ghosts that
:func:`imaging.difference.ghost_fit.fit_ghosts` fits. The light falls within pixels at a rim, so that neither the sky
nor the halo of a star changes the level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.difference.ghost_fit import fit_ghosts
from imaging.difference.ghost_model import Ghost, GhostFamily, GhostModel, predict_ghosts
from imaging.image import CcdImage
from imaging.numerics.robust import excess_scatter, weighted_median

FloatArray = NDArray[np.float64]

FEWEST = 3
"""Fewest ghosts of a family for its level by rims."""

FAINTEST_SIGMA = 0.2
"""Least level of a ghost whose rims are fitted, in units of the noise of a pixel."""

RATIO_FLOOR, PLACE_FLOOR = 0.02, 0.5
"""Error of a family's level in units of another's beyond that of the fit: the ratio is a property of the surfaces, the
same for all stars; least error of a ghost's place, pixels."""

STEPS = 30
"""Number of alternations between stars and families."""


@dataclass(frozen=True, eq=False)
class SeenGhost:
    """A ghost that is seen in an image.

    Attributes
    ----------
    predicted, fitted
        As a model predicts it, and as it is.
    from_axis
        x and y of the star from the optical axis, pixels.
    """

    predicted: Ghost
    fitted: Ghost
    from_axis: tuple[float, float]

    @property
    def moved(self) -> FloatArray:
        """Distance of the fitted centre from the predicted one: (2,) pixels."""
        return np.array([self.fitted.x - self.predicted.x, self.fitted.y - self.predicted.y])

    @property
    def place_weight(self) -> float:
        """Weight of its place."""
        return 1.0 / (self.fitted.outer_error**2 + PLACE_FLOOR**2)


def fitted_ghosts(
    pixels: CcdImage, stars: Sequence[tuple[float, float, float]], axis: tuple[float, float], model: GhostModel
) -> list[SeenGhost]:
    """Return the ghosts that are seen in an image.

    Parameters
    ----------
    pixels
        Final image.
    stars
        x, y (pixels) and flux (electrons by G and the zero point) of the bright stars.
    axis
        x and y of the optical axis.
    model
        Families of the band.
    """
    good = pixels.weight[::16, ::16]
    if not (good > 0).any():
        return []
    sigma = 1.0 / float(np.sqrt(np.median(good[good > 0])))
    least = FAINTEST_SIGMA * sigma
    predicted = predict_ghosts(model, stars, axis, pixels.shape, least)
    pairs = zip(predicted, fit_ghosts(pixels, predicted, sigma, least), strict=True)
    places = [(x - axis[0], y - axis[1]) for x, y, _ in stars]
    return [SeenGhost(before, after, places[before.star]) for before, after in pairs if after.subtracted]


def with_rims(model: GhostModel, images: Sequence[Sequence[SeenGhost]]) -> GhostModel:
    """Return the model with levels, radii and displacements by the ghosts that are seen, and their errors.

    Parameters
    ----------
    model
        Model by which the ghosts were predicted.
    images
        The ghosts of every image.
    """
    seen = [ghost for image in images for ghost in image]
    if not seen:
        return model
    family = np.array([ghost.predicted.family for ghost in seen])
    names = np.array([(k, ghost.predicted.star) for k, image in enumerate(images) for ghost in image])
    star = np.unique(names, axis=0, return_inverse=True)[1].ravel()
    level, error = np.array([(g.fitted.level, g.fitted.level_error) for g in seen]).T / [
        g.predicted.level for g in seen
    ]
    factor, light = _solved(family, star, level, error, len(model.families))
    expected = factor[family] * light[star]
    several = np.bincount(star)[star] > 1
    families = []
    for number, found in enumerate(model.families):
        own = family == number
        if own.sum() >= FEWEST:
            found = found.model_copy(
                update={name: getattr(found, name) * float(factor[number]) for name in ("level", "level_error")}
            )
            found = _placed(found, [seen[k] for k in np.flatnonzero(own)])
        if (own & several).sum() >= FEWEST:
            ratio, ratio_error = (values[own & several] / expected[own & several] for values in (level, error))
            total = np.hypot(ratio_error, excess_scatter(ratio, ratio_error))
            mean = 1.0 / float(np.sqrt(np.sum(total**-2)))
            found = found.model_copy(update={"ratio_error": float(np.hypot(mean, RATIO_FLOOR))})
        families.append(found)
    return model.model_copy(update={"families": families})


def _placed(family: GhostFamily, seen: Sequence[SeenGhost]) -> GhostFamily:
    """Return a family with radii and displacement by its ghosts, and the error of a single one."""
    weight = np.array([ghost.place_weight for ghost in seen])
    away, moved = np.array([ghost.from_axis for ghost in seen]), np.array([ghost.moved for ghost in seen])
    slope = float(np.sum(weight[:, None] * away * moved) / np.sum(weight[:, None] * away**2))
    wider = np.array([ghost.fitted.outer_pixels - ghost.predicted.outer_pixels for ghost in seen])
    outer = float(np.average(wider, weights=weight))
    rest = np.column_stack([moved - slope * away, wider - outer])
    hole = family.inner_pixels / family.outer_pixels
    return family.model_copy(
        update={
            "displacement": family.displacement + slope,
            "outer_pixels": family.outer_pixels + outer,
            "inner_pixels": hole * (family.outer_pixels + outer),
            "place_error": max(1.4826 * float(np.median(np.abs(rest), axis=0).max()), PLACE_FLOOR),
        }
    )


def _solved(
    family: NDArray[np.int64], star: NDArray[np.int64], level: FloatArray, error: FloatArray, n: int
) -> tuple[FloatArray, FloatArray]:
    """Return the factors of the families and of the stars whose products are the levels; the stars' median is one."""
    weight = 1.0 / (error**2 + (RATIO_FLOOR * level) ** 2)
    factor, light = np.ones(n), np.ones(int(star.max()) + 1)
    for _ in range(STEPS):
        up, down = (np.bincount(star, weight * v, light.size) for v in (level * factor[family], factor[family] ** 2))
        light = up / down
        light /= weighted_median(light, np.bincount(star, weight, light.size))
        up, down = (np.bincount(family, weight * v, n) for v in (level * light[star], light[star] ** 2))
        factor = np.where(down > 0, up / np.maximum(down, 1e-300), 1.0)
    return factor, light
