"""Fit the families of ghosts of bright stars to what surrounds the stars in many exposures.

All stars are seen at once, each in units of its own light. For every displacement per distance from the axis, rings
about the displaced centres are summed, which gives the gain in chi-square of every inner and outer radius. The best
donut is the start of a robust least-squares fit; further families have its displacement and its hole in units of the
radius, as geometrical optics says (:mod:`imaging.difference.ghost_model`), so that a family adds a radius and a
level. A plane and the wings of the star are taken out of every field.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.optimize import least_squares

from imaging.difference.ghost_model import GhostFamily
from imaging.errors import InputError
from imaging.masters.settings import GhostSettings
from imaging.numerics.robust import mad_sigma

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

WING_STEP = 1.5
"""Ratio of neighbouring knots of a star's own profile, a cubic spline of the logarithm of the radius over its square:
smooth, unlike a rim."""

ZONES = (1.0, 0.25, 0.0)
"""Radii that bound the zones around a star, in units of the largest distance. A zone has a plane and a profile of its
own, and loses the bins that are as near to another star: small donuts are seen where stars are many."""

FEWEST_BINS = 40
"""Fewest bins of a zone around a star."""

OTHER_LIGHT = 0.05
"""Largest light of other stars near a bin, in units of that of the star to which it counts."""

UNKNOWN_LEVEL = 2e-10
"""Share of a star's light per pixel that the model does not know: what the sky has taken, ghosts that are no donuts."""

UNKNOWN_SHARE = 0.01
"""Share of the light in a bin that the profile of a star does not know: spikes, neighbours."""

LARGEST_SHIFT = 0.7
"""Largest displacement of a ghost in units of its radius, at the star that is farthest from the axis."""

SAME_RADIUS = 0.1
"""Relative difference of the radii of two families, at least."""

STARTS = (0.3, 0.5)
"""Radii of the hole, in units of the outer radius, from which the fit starts beside the one found by steps: the
cores of the stars hide most of the holes, so that the cost has several minima."""

HOLES = (0.15, 0.75)
"""Smallest and largest radius of a donut's hole, in units of the outer radius."""


@dataclass(frozen=True, eq=False)
class StarBins:
    """The surroundings of one star on one CCD in one exposure, in bins.

    Attributes
    ----------
    star
        Number of the star in the reference catalogue.
    from_axis
        x and y of the star from the optical axis, pixels.
    flux
        Light of the star by its G at the zero point, electrons.
    dx, dy
        (n,) centres of the bins from the star, pixels.
    value
        (n,) electrons per pixel, sky subtracted.
    error
        (n,) errors of the bins.
    """

    star: int
    from_axis: tuple[float, float]
    flux: float
    dx: FloatArray
    dy: FloatArray
    value: FloatArray
    error: FloatArray


def fields_on_ccd(
    binned: NDArray[np.float32],
    side: int,
    stars: Sequence[tuple[int, float, float, float]],
    axis: tuple[float, float],
    limits: tuple[float, float],
) -> list[StarBins]:
    """Return the surroundings of the stars on and beside a CCD; bins near several stars count to none.

    Parameters
    ----------
    binned
        (by, bx) electrons per pixel, sky subtracted; NaN for bins without sky.
    side
        Side of a bin, pixels.
    stars
        Number, x, y and flux of every star.
    axis
        x and y of the optical axis, pixels.
    limits
        Smallest and largest distance from a star, pixels.
    """
    rows, columns = np.nonzero(np.isfinite(binned))
    value = binned[rows, columns].astype(float)
    x, y = (side * (k + 0.5) - 0.5 for k in (columns, rows))
    away = [np.hypot(x - sx, y - sy) for _, sx, sy, _ in stars]
    steps = np.diff(binned, axis=1)
    noise, fields = mad_sigma(steps[np.isfinite(steps)]) / np.sqrt(2.0), []
    for largest, smallest in pairwise(share * limits[1] for share in ZONES):
        light = np.sum([star[3] * (r < largest) for star, r in zip(stars, away, strict=True)], axis=0)
        for (number, sx, sy, flux), r in zip(stars, away, strict=True):
            own = (r < largest) & (light < (1.0 + OTHER_LIGHT) * flux) & (r > max(smallest, limits[0]))
            if own.sum() > FEWEST_BINS:
                error = np.sqrt(noise**2 + (UNKNOWN_LEVEL * flux) ** 2 + (UNKNOWN_SHARE * value[own]) ** 2)
                from_axis = (sx - axis[0], sy - axis[1])
                fields.append(StarBins(number, from_axis, flux, x[own] - sx, y[own] - sy, value[own], error))
    return fields


class _Stack:
    """All bins of all stars, with a plane and the star's wings of every field taken out of whatever is fitted."""

    def __init__(self, fields: Sequence[StarBins], settings: GhostSettings) -> None:
        self.settings, self.n_fields = settings, len(fields)
        self.field = np.repeat(np.arange(len(fields)), [f.dx.size for f in fields])
        self.dx, self.dy, self.value = (np.concatenate([getattr(f, k) for f in fields]) for k in ("dx", "dy", "value"))
        self.away = np.array([f.from_axis for f in fields])
        self.flux = np.array([f.flux for f in fields])[self.field]
        self.smooth = [np.ones_like(self.dx), self.dx, self.dy, *_profiles(np.hypot(self.dx, self.dy))]
        self.weight = 1.0 / np.concatenate([f.error for f in fields])
        self.keep(np.ones(self.value.size, bool))

    def keep(self, good: NDArray[np.bool_]) -> None:
        """Give bins that are not good no weight."""
        self.weight = np.where(good, self.weight, 0.0)
        self.shapes: list[FloatArray] = []
        for values in self.smooth:
            left = self.without_smooth(values)
            length = np.sqrt(np.bincount(self.field, left**2, self.n_fields))
            self.shapes.append(left / np.maximum(length, 1e-12)[self.field])

    def without_smooth(self, values: FloatArray) -> FloatArray:
        """Return weighted values without a plane and the star's wings, field by field."""
        left = values * self.weight
        for shape in self.shapes:
            left = left - np.bincount(self.field, left * shape, self.n_fields)[self.field] * shape
        return left

    def donut(self, slope: float, hole: float, outer: float) -> FloatArray:
        """Return the light of a donut of level one in every bin."""
        shape, displacement = _family(slope, hole, outer, 1.0, 0.0), slope * outer
        ux, uy = (displacement * self.away[:, k][self.field] for k in range(2))
        return self.flux * shape.share(self.dx - ux, self.dy - uy, float(self.settings.bin_pixels))

    def column(self, slope: float, hole: float, outer: float) -> FloatArray:
        """Return the weighted light of a donut of level one without what is smooth."""
        return self.without_smooth(self.donut(slope, hole, outer))

    def design(self, geometry: FloatArray) -> FloatArray:
        """Return the weighted columns of the donuts of a geometry (slope, hole, radii): (n, k)."""
        columns = [self.column(geometry[0], geometry[1], outer) for outer in geometry[2:]]
        return np.array(columns).reshape(-1, self.value.size).T

    def residual(self, geometry: FloatArray) -> FloatArray:
        """Return what the best levels of the donuts leave, sigma."""
        design, target = self.design(geometry), self.without_smooth(self.value)
        return np.asarray(target - design @ np.linalg.lstsq(design, target, rcond=None)[0])


def _profiles(radius: FloatArray) -> FloatArray:
    """Return the functions of the radius of which stars' own profiles are sums: (k, n)."""
    log = np.log(radius)
    n = int(np.ceil((log.max() - log.min()) / np.log(WING_STEP)))
    knots = log.min() + (log.max() + 1e-9 - log.min()) * np.arange(-3, n + 4) / n
    return BSpline.design_matrix(log, knots, 3).toarray().T * (radius.min() / radius) ** 2


def _family(slope: float, hole: float, outer: float, level: float, error: float) -> GhostFamily:
    """Return the family of a radius: its displacement and its hole are in proportion to that."""
    return GhostFamily(
        displacement=slope * outer,
        outer_pixels=outer,
        inner_pixels=hole * outer,
        level=level,
        level_error=error,
    )


def fit_families(fields: Sequence[StarBins], settings: GhostSettings) -> list[GhostFamily]:
    """Fit the families of ghosts to the surroundings of many stars.

    Parameters
    ----------
    fields
        The surroundings, of one band.
    settings
        Limits.

    Raises
    ------
    InputError
        If there are too few stars, or no ghost is seen.
    """
    n_stars = len({field.star for field in fields})
    if n_stars < settings.minimum_stars:
        raise InputError(
            "too few bright stars for a model of their ghosts",
            value=f"{n_stars} brighter than G = {settings.faintest_mag:g}",
            limit=f"at least {settings.minimum_stars}",
            remedy="give more exposures, of other fields",
        )
    stack, geometry, found = _Stack(fields, settings), np.zeros(2), []
    for number in range(settings.maximum_families):
        if number:
            stack.keep(_agreeing(stack.residual(geometry), stack, settings))
        residual = stack.residual(geometry)
        start = np.append(geometry, _next(stack, residual, geometry)) if number else _first(stack, residual)
        geometry = _refined(stack, start)
        families = _levels(stack, len(fields), geometry)
        if all(family.level > settings.minimum_significance * error for family, error in families):
            found = [family for family, _ in families]  # a family alone may be unsure by the light of the others
    if not found:
        raise InputError(
            "no ghost of a bright star is seen",
            value=f"{n_stars} stars brighter than G = {settings.faintest_mag:g}",
            limit=f"a donut of {settings.minimum_significance:g} sigma",
            remedy="give more exposures; without a model ghosts are sought in every difference",
        )
    return found


def _agreeing(residual: FloatArray, stack: _Stack, settings: GhostSettings) -> NDArray[np.bool_]:
    """Return which bins do not deviate upwards or downwards: sources and trails do."""
    good = stack.weight > 0
    return good & (np.abs(residual) < settings.clip_sigma * mad_sigma(residual[good]))


def _first(stack: _Stack, residual: FloatArray) -> FloatArray:
    """Return slope, hole and radius of the donut that reduces the chi-square most.

    For every displacement the sums over rings about the centres give all pairs of radii at once.
    """
    settings = stack.settings
    width = 0.5 * settings.bin_pixels
    n = int(settings.largest_pixels / width)
    light, plain = stack.weight * residual * stack.flux, (stack.weight * stack.flux) ** 2
    far = float(np.hypot(*stack.away.T).max())
    outer, inner = np.arange(1, n + 1)[:, None], np.arange(n)[None, :]
    allowed = (inner > HOLES[0] * outer) & (inner < HOLES[1] * outer) & (outer * width > settings.smallest_pixels)
    best, found = -np.inf, np.zeros(3)
    reach = LARGEST_SHIFT * settings.largest_pixels
    for displacement in np.arange(-reach, reach, settings.bin_pixels) / far:
        ux, uy = (displacement * stack.away[:, k][stack.field] for k in range(2))
        ring = np.minimum((np.hypot(stack.dx - ux, stack.dy - uy) / width).astype(np.int64), n)
        sums = [np.concatenate([[0.0], np.cumsum(np.bincount(ring, w, n + 1)[:n])]) for w in (light, plain)]
        inside, weight = (s[1:, None] - s[None, :-1] for s in sums)
        possible = allowed & (inside > 0) & (abs(displacement) * far < LARGEST_SHIFT * outer * width)
        gain = np.where(possible, inside**2 / np.maximum(weight, 1e-9 * plain.sum()), -np.inf)
        at = np.unravel_index(int(np.argmax(gain)), gain.shape)
        if gain[at] > best:
            radius = width * (at[0] + 1.0)
            best, found = float(gain[at]), np.array([displacement / radius, at[1] / (at[0] + 1.0), radius])
    return found


def _next(stack: _Stack, residual: FloatArray, geometry: FloatArray) -> float:
    """Return the radius of the further donut that reduces the chi-square most."""
    settings = stack.settings
    radii = np.arange(settings.smallest_pixels, settings.largest_pixels, 0.5 * settings.bin_pixels)
    radii = radii[np.abs(radii[:, None] / geometry[2:] - 1.0).min(axis=1) > SAME_RADIUS]
    columns = [stack.column(geometry[0], geometry[1], float(outer)) for outer in radii]
    gains = [max(float(c @ residual), 0.0) ** 2 / max(float(c @ c), 1e-12) for c in columns]
    return float(radii[int(np.argmax(gains))])


def _refined(stack: _Stack, geometry: FloatArray) -> FloatArray:
    """Return the geometry of all families by least squares; the amplitudes are solved for at every step."""
    far, side = float(np.hypot(*stack.away.T).max()), float(stack.settings.bin_pixels)
    largest = float(geometry[2:].max())
    scale = np.concatenate([[side / (largest * far), side / largest], np.full(len(geometry) - 2, side)])
    low, high = np.zeros((2, len(geometry)))
    low[:2], high[:2] = (-LARGEST_SHIFT / far, HOLES[0]), (LARGEST_SHIFT / far, HOLES[1])
    low[2:], high[2:] = stack.settings.smallest_pixels, stack.settings.largest_pixels
    loss = 3.0 * max(mad_sigma(stack.residual(geometry)), 1e-9)
    fits = []
    for hole in (geometry[1], *STARTS) if len(geometry) < 5 else geometry[1:2]:
        start = np.concatenate([geometry[:1], [hole], geometry[2:]])
        start = np.clip(start, low + 1e-3 * (high - low), high - 1e-3 * (high - low))
        fits.append(
            least_squares(
                lambda p: stack.residual(p * scale),
                start / scale,
                bounds=(low / scale, high / scale),
                loss="soft_l1",
                f_scale=loss,
                diff_step=0.01,
                xtol=1e-4,
                ftol=1e-6,
                max_nfev=20,
            )
        )
    return np.asarray(min(fits, key=lambda fit: float(fit.cost)).x * scale)


def _levels(stack: _Stack, n: int, geometry: FloatArray) -> list[tuple[GhostFamily, float]]:
    """Return the families with their levels, and the error of each by leaving out one field after the other."""
    design, target = stack.design(geometry), stack.without_smooth(stack.value)
    rows = np.searchsorted(stack.field, np.arange(n + 1))
    parts = [(design[a:b].T @ design[a:b], design[a:b].T @ target[a:b]) for a, b in pairwise(rows)]
    matrix, vector = (np.sum(k, axis=0) for k in zip(*parts, strict=True))
    levels = np.linalg.lstsq(matrix, vector, rcond=None)[0]
    others = np.array([np.linalg.lstsq(matrix - m, vector - v, rcond=None)[0] for m, v in parts])
    error = np.sqrt((n - 1.0) / n * np.sum((others - levels) ** 2, axis=0))
    found = []
    for j, outer in enumerate(geometry[2:].tolist()):
        seen = [(m[j, j], v[j] - m[j] @ levels) for m, v in parts if m[j, j] > 0]
        weight, rest = np.array(seen).T
        scatter = float(np.sqrt(np.sum(rest**2 / weight) / np.sum(weight)))
        slope, hole = geometry[:2].tolist()
        family = _family(slope, hole, outer, float(levels[j]), float(np.hypot(error[j], scatter)))
        found.append((family, float(error[j])))
    return found
