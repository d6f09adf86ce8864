"""Fit the displacement of images on a CCD to the residuals of reference stars in many exposures.

The model is linear: the displacement that the flat predicts for the tree rings, times an amplitude, and a profile at
each edge (Bernstein et al. 2017, PASP 129, 074503, sections 3.2 and 3.3). All exposures are fitted together by
generalised least squares: the residuals of one exposure are correlated by the turbulence, and a cubic of each exposure
is free, as it is in its solution. Priors draw amplitude and profiles to zero, so that few stars give no correction
rather than a wrong one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from imaging.astrometry.displacement import EDGE_KNOTS_PIXELS, PixelDisplacement, edge_weights, ring_shift
from imaging.astrometry.fit import pixel_polynomial
from imaging.astrometry.turbulence import Turbulence
from imaging.detector.ccds import NX, NY
from imaging.errors import CcdError
from imaging.masters.rings import BIN, TreeRings
from imaging.masters.settings import DisplacementSettings
from imaging.numerics.robust import clipped

FloatArray = NDArray[np.float64]

FREE_DEGREE = 3
"""Degree of the polynomial of each exposure that is free: that of the solution of a CCD."""

FREE_PIXELS = 10.0
"""Prior of its coefficients, effectively none."""

MAS_PER_ARCMIN = 60000.0

EDGE_STRENGTHS = np.geomspace(1e-3, 1.0, 13)
"""Standard deviations tried for the displacement at an edge, pixels; it is taken to fall with the distance."""

RINGS = slice(0, 1)
EDGES = slice(1, 1 + 4 * (len(EDGE_KNOTS_PIXELS) - 1))
PARTS = {"rings": RINGS, "edges": EDGES}
"""Part of the model to its parameters."""


@dataclass(frozen=True, eq=False)
class StarOffsets:
    """Residuals of the reference stars on one CCD of one exposure: (n,) arrays, pixels.

    Attributes
    ----------
    x, y
        Measured positions, 0-based.
    dx, dy
        Measured minus predicted positions.
    error_x, error_y
        Errors of the residuals, those of the reference included.
    turbulence
        Covariance of the turbulence of the exposure.
    to_sky
        (2, 2) derivatives of the standard coordinates by x and y, arcminutes per pixel.
    """

    x: FloatArray
    y: FloatArray
    dx: FloatArray
    dy: FloatArray
    error_x: FloatArray
    error_y: FloatArray
    turbulence: Turbulence
    to_sky: FloatArray

    def turbulence_pixels(self) -> FloatArray:
        """Return the (2n, 2n) covariance of the turbulence: the displacements along x of all stars, then along y."""
        place, n = np.stack([self.x, self.y], axis=-1) @ self.to_sky.T, self.x.size
        covariance = self.turbulence.covariance(place, place).reshape(2, n, 2, n)
        to_pixels = np.linalg.inv(self.to_sky) / MAS_PER_ARCMIN
        turned = np.einsum("ik,knlm,jl->injm", to_pixels, covariance, to_pixels, optimize=True)
        return np.asarray(turned.reshape(2 * n, 2 * n))


@dataclass(frozen=True, eq=False)
class DisplacementFit:
    """The displacements of one CCD.

    Attributes
    ----------
    parameters
        (21,) amplitude of the rings; values of the edges at their knots, pixels.
    errors
        (21,) their errors.
    parts
        What improves the exposures that were left out of the fit: ``rings``, ``edges``.
    gain
        Fall of chi-square of the exposures, each left out in turn.
    gain_error
        Its error from the scatter of the exposures.
    n_stars
        Number of measurements.
    """

    parameters: FloatArray
    errors: FloatArray
    parts: tuple[str, ...]
    gain: float
    gain_error: float
    n_stars: int

    def model(self, name: str, ccd: int, band: str, rings: TreeRings | None) -> PixelDisplacement:
        """Return the displacements of a CCD in a band, under the name of their file."""
        found: dict[str, object] = {"name": name, "ccd": ccd, "band": band}
        if rings is not None and "rings" in self.parts:
            ring = (self.parameters[0] * rings.shift).round(6).tolist()
            found |= {"centre": rings.centre, "first_radius": float(rings.radii[0]), "radius_step": BIN, "ring": ring}
        if "edges" in self.parts:
            found["edges"] = self.parameters[EDGES].reshape(4, -1).round(6).tolist()
        return PixelDisplacement.model_validate(found)


@dataclass(frozen=True, eq=False)
class _Normal:
    """Normal equations of one exposure: ``matrix`` (p, p) and ``vector`` (p,)."""

    matrix: FloatArray
    vector: FloatArray


def fit_displacement(
    exposures: Mapping[int, StarOffsets], rings: TreeRings | None, ccd: int, settings: DisplacementSettings
) -> DisplacementFit:
    """Fit the displacements of one CCD over many exposures.

    Parameters
    ----------
    exposures
        Exposure number to the stars on this CCD.
    rings
        Tree rings of the flat; None without.
    ccd
        CCD number, for the message.
    settings
        Least number of stars, clipping, significance.

    Raises
    ------
    CcdError
        With reason ``too_few_stars``, or ``no_displacement`` if no part of the model improves exposures that were left
        out of the fit.
    """
    kept = {number: _without_outliers(stars, settings) for number, stars in sorted(exposures.items())}
    n_stars = sum(stars.x.size for stars in kept.values())
    if n_stars < settings.minimum_stars or len(kept) < settings.minimum_exposures:
        raise CcdError(
            "too few stars for a map of displacements",
            reason="too_few_stars",
            ccd=ccd,
            value=f"{n_stars} in {len(kept)} exposures",
            limit=f"at least {settings.minimum_stars} in {settings.minimum_exposures}",
            remedy="give more exposures",
        )
    normals = [_normal(stars, rings, settings) for stars in kept.values()]
    prior = _prior(normals)
    known = [name for name in PARTS if name != "rings" or rings is not None]
    tried = [_left_out(normals, prior, parts) for parts in _subsets(known)]
    good = [found for found in tried if found[1] > settings.minimum_significance * found[2]]
    if not good:
        parts, gain, error = max(tried, key=lambda found: found[1])
        raise CcdError(
            "no displacement improves the exposures that were left out of its fit",
            reason="no_displacement",
            ccd=ccd,
            value=f"chi-square falls by {gain:.1f} ({' and '.join(parts)}, {len(kept)} exposures)",
            limit=f"more than {settings.minimum_significance * error:.1f}",
            remedy="give more exposures; without a map positions stay as they are",
        )
    parts, gain, error = max(good, key=lambda found: found[1])
    parameters, covariance = _solved(_sum(normals), prior, parts)
    return DisplacementFit(parameters, np.sqrt(np.diag(covariance)), parts, gain, error, n_stars)


def _without_outliers(stars: StarOffsets, settings: DisplacementSettings) -> StarOffsets:
    """Return the stars whose residuals, after a cubic, do not deviate: false matches and blends do."""
    design = pixel_polynomial(stars.x, stars.y, FREE_DEGREE, (NY, NX))
    keep = np.ones(stars.x.size, bool)
    scale = MAS_PER_ARCMIN * np.sqrt(abs(np.linalg.det(stars.to_sky)))
    turbulence = stars.turbulence.amplitude_mas / scale
    for values, error in ((stars.dx, stars.error_x), (stars.dy, stars.error_y)):
        weight = 1.0 / np.hypot(error, turbulence + settings.floor_pixels)
        solution = np.linalg.lstsq(design * weight[:, None], values * weight, rcond=None)[0]
        keep &= clipped((values - design @ solution) * weight, settings.clip_sigma)
    columns = {name: getattr(stars, name)[keep] for name in ("x", "y", "dx", "dy", "error_x", "error_y")}
    return replace(stars, **columns)


def _normal(stars: StarOffsets, rings: TreeRings | None, settings: DisplacementSettings) -> _Normal:
    """Return the normal equations of one exposure, with turbulence and a cubic as correlated noise."""
    size = EDGES.stop
    design = np.zeros((2, stars.x.size, size))
    if rings is not None:
        design[:, :, 0] = ring_shift(stars.x, stars.y, rings.centre, rings.radii, rings.shift)
    per_edge = edge_weights(stars.x, stars.y)
    knots = per_edge.shape[2]
    for k, weights in enumerate(per_edge):
        design[k // 2, :, 1 + k * knots : 1 + (k + 1) * knots] = weights
    free = FREE_PIXELS * pixel_polynomial(stars.x, stars.y, FREE_DEGREE, (NY, NX))
    noise = np.concatenate([stars.error_x, stars.error_y]) ** 2 + settings.floor_pixels**2
    covariance = stars.turbulence_pixels() + np.kron(np.eye(2), free @ free.T) + np.diag(noise)
    both = design.reshape(-1, size)
    weighted = cho_solve(cho_factor(covariance, lower=True), both)
    return _Normal(both.T @ weighted, weighted.T @ np.concatenate([stars.dx, stars.dy]))


def _sum(normals: list[_Normal]) -> _Normal:
    return _Normal(
        np.asarray(np.sum([n.matrix for n in normals], axis=0)), np.asarray(np.sum([n.vector for n in normals], axis=0))
    )


def _prior(normals: list[_Normal]) -> FloatArray:
    """Return the variances of the parameters; that of the edges has the largest marginal likelihood."""
    fall = EDGE_KNOTS_PIXELS[0] / np.tile(EDGE_KNOTS_PIXELS[:-1], 4)
    whole = _sum(normals)
    matrix, vector = whole.matrix[EDGES, EDGES], whole.vector[EDGES]

    def evidence(strength: float) -> float:
        variance = (strength * fall) ** 2
        precision = matrix + np.diag(1.0 / variance)
        explained = float(vector @ np.linalg.solve(precision, vector))
        return 0.5 * (explained - float(np.linalg.slogdet(precision)[1]) - float(np.sum(np.log(variance))))

    strength = float(max(EDGE_STRENGTHS, key=evidence))
    return np.concatenate([[1.0], (strength * fall) ** 2])


def _subsets(names: list[str]) -> list[tuple[str, ...]]:
    return list(chain.from_iterable(combinations(names, k) for k in range(1, len(names) + 1)))


def _solved(normal: _Normal, prior: FloatArray, parts: tuple[str, ...]) -> tuple[FloatArray, FloatArray]:
    """Return the parameters of some parts, the others 0, and their covariance."""
    chosen = np.concatenate([np.arange(prior.size)[PARTS[name]] for name in parts])
    block = np.ix_(chosen, chosen)
    inverse = np.linalg.inv(normal.matrix[block] + np.diag(1.0 / prior[chosen]))
    parameters, covariance = np.zeros(prior.size), np.zeros((prior.size, prior.size))
    parameters[chosen], covariance[block] = inverse @ normal.vector[chosen], inverse
    return parameters, covariance


def _left_out(
    normals: list[_Normal], prior: FloatArray, parts: tuple[str, ...]
) -> tuple[tuple[str, ...], float, float]:
    """Return the parts, the fall of chi-square of exposures that are left out in turn, and its error."""
    whole, gains = _sum(normals), []
    for own in normals:
        parameters, _ = _solved(_Normal(whole.matrix - own.matrix, whole.vector - own.vector), prior, parts)
        gains.append(float(2.0 * parameters @ own.vector - parameters @ own.matrix @ parameters))
    return parts, float(np.sum(gains)), float(np.std(gains, ddof=1) * np.sqrt(len(gains)))
