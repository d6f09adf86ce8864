"""Find the tree rings of a CCD in its dome flat, and the displacement of images that follows from them.

A ring of pixels that collects from a larger area is brighter in the flat. The position on the sky is the integral of
the sizes of the pixels, so that the displacement along the radius is minus the integral of the flat's excess (Plazas,
Bernstein and Sheldon 2014, PASP 126, 750). The rings are circles about the centre of the silicon boule, which is not
on the CCD.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.optimize import minimize

from imaging.astrometry.fit import pixel_polynomial
from imaging.errors import CcdError
from imaging.numerics.blocks import block_cells
from imaging.numerics.robust import clipped

FloatArray = NDArray[np.float64]

BIN = 4
"""Side of the bins of the flat, and width of the steps in radius, pixels."""

EDGE = 64
"""Width of the border of the CCD that is not used, pixels: its fields are not those of the rings."""

DEFECT = 0.05
"""Relative deviation of a pixel from its bin above which it is left out."""

COARSE_DEGREE = 5
"""Degree of the polynomial of each amplifier that takes out the illumination."""

SMOOTH_PIXELS = 160.0
"""Sigma of the smoothing that is subtracted: broader structure is illumination, and the solution's polynomials take
displacements of this scale."""

FINE_PIXELS = 10.0
"""Sigma of the smoothing before directions are measured, pixels."""

SEARCH_PIXELS = 60.0
"""First step of the search for the centre, pixels; half a ring or less."""

FEWEST_BINS = 40
"""Fewest bins of the flat at a radius of the profile."""

FEWEST_VALUES = 1000
"""Fewest bins of the flat."""

AGREEMENT = 0.5
"""Least correlation of the profiles on the two sides of the CCD, seen from the centre."""


@dataclass(frozen=True, eq=False)
class TreeRings:
    """The rings of one CCD.

    Attributes
    ----------
    centre
        x and y, pixels, 0-based.
    radii
        (m,) radii, pixels, in steps of :data:`BIN`.
    shift
        (m,) displacement of images away from the centre, pixels.
    agreement
        Correlation of the profiles on the two sides of the CCD.
    """

    centre: tuple[float, float]
    radii: FloatArray
    shift: FloatArray
    agreement: float


def find_rings(flat: NDArray[np.float32], ccd: int) -> TreeRings:
    """Find centre and profile of the tree rings in a dome flat.

    Parameters
    ----------
    flat
        (ny, nx) flat, any normalisation; pixels that are not positive are left out.
    ccd
        CCD number, for the message.

    Raises
    ------
    CcdError
        With reason ``no_rings`` if there are no circles on which both sides of the CCD agree.
    """
    halves = [_excess(np.where(_checkerboard(flat.shape) == k, flat, np.nan)) for k in range(2)]
    used = halves[0][1] & halves[1][1]
    rows, columns = np.nonzero(used)
    places = np.stack([columns, rows]).astype(np.float64) * BIN + (BIN - 1) / 2
    values = 0.5 * (halves[0][0] + halves[1][0])[used]
    if values.size < FEWEST_VALUES or not values.std() > 0.0:
        raise _no_rings(ccd, f"{values.size} bins with structure")
    start = _first_centre(halves[0][0], halves[1][0], used, places)
    centre = _refined_centre(places, values / values.std(), start)
    agreement = _agreement(places, values, centre)
    if not agreement > AGREEMENT:
        raise _no_rings(ccd, f"correlation {agreement:.2f} of the two sides of the CCD")
    profile, number = _profile(places, values, centre)
    profile[number < FEWEST_BINS] = 0.0
    shift = -BIN * (np.cumsum(profile) - 0.5 * profile)
    shift -= gaussian_filter1d(shift, SMOOTH_PIXELS / BIN, mode="nearest")
    inside = np.flatnonzero(number > 0)
    kept = slice(int(inside[0]), int(inside[-1]) + 1)
    return TreeRings(centre, BIN * np.arange(float(profile.size))[kept], shift[kept], agreement)


def _no_rings(ccd: int, value: str) -> CcdError:
    return CcdError(
        "no tree rings in the flat",
        reason="no_rings",
        ccd=ccd,
        value=value,
        limit=f"above {AGREEMENT}, from {FEWEST_VALUES} bins",
        remedy="build the flat from more frames",
    )


def _agreement(places: FloatArray, values: FloatArray, centre: tuple[float, float]) -> float:
    """Return the correlation of the profiles on the two sides of the CCD, seen from the centre."""
    turned = np.exp(1j * np.arctan2(places[1] - centre[1], places[0] - centre[0]))
    side = np.angle(turned / turned.mean()) > 0.0
    profiles = [_profile(places[:, part], values[part], centre) for part in (side, ~side)]
    size = min(profile.size for profile, _ in profiles)
    both = np.all([number[:size] >= FEWEST_BINS for _, number in profiles], axis=0)
    if both.sum() < FEWEST_BINS:
        return 0.0
    return float(np.corrcoef([profile[:size][both] for profile, _ in profiles])[0, 1])


def _excess(flat: NDArray[np.float32]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return the binned relative excess of a flat over its surroundings, and which bins are used."""
    ny, nx = flat.shape[0] // BIN, flat.shape[1] // BIN
    cells = block_cells(flat[: ny * BIN, : nx * BIN], BIN, BIN)
    with np.errstate(invalid="ignore", divide="ignore"):
        good = np.abs(cells / np.nanmedian(cells, axis=2, keepdims=True) - 1.0) < DEFECT
        image = np.log(np.sum(cells, axis=2, where=good) / good.sum(axis=2), dtype=np.float64)
    used = np.isfinite(image)
    border = EDGE // BIN
    inside = np.zeros_like(used)
    inside[border:-border, border:-border] = True
    used &= inside
    excess = np.zeros((ny, nx))
    for half in (slice(0, nx // 2), slice(nx // 2, nx)):
        excess[:, half], used[:, half] = _flattened(image[:, half], used[:, half])
    return excess, used


def _checkerboard(shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return zeros and ones like the fields of a chessboard."""
    return np.asarray(np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2)


def _flattened(image: FloatArray, used: NDArray[np.bool_]) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Return an amplifier without its illumination and broad structure, and the bins that do not deviate."""
    ny, nx = image.shape
    rows, columns = np.nonzero(used)
    if used.sum() < 100:
        return np.zeros_like(image), np.zeros_like(used)
    design = pixel_polynomial(columns.astype(np.float64), rows.astype(np.float64), COARSE_DEGREE, (ny, nx))
    left, thin = image[used], slice(None, None, 7)
    for _ in range(3):
        good = clipped(left[thin], 4.0)
        coefficients = np.linalg.lstsq(design[thin][good], image[used][thin][good], rcond=None)[0]
        left = image[used] - design @ coefficients
    keep = used.copy()
    keep[used] = clipped(left, 5.0)
    values = np.zeros_like(image)
    values[used] = left
    values[~keep] = 0.0
    weight = gaussian_filter(keep.astype(float), SMOOTH_PIXELS / BIN)
    smooth = gaussian_filter(values, SMOOTH_PIXELS / BIN) / np.maximum(weight, 1e-6)
    return np.where(keep, values - smooth, 0.0), keep


def _first_centre(first: FloatArray, second: FloatArray, used: NDArray[np.bool_], places: FloatArray) -> FloatArray:
    """Return the point from which the gradients of the flat radiate.

    The gradients of one half of the pixels are the instruments for those of the other: their noise is independent, so
    that it does not draw the centre to the middle of the CCD as in least squares.
    """
    normals = []
    for half in (first, second):
        up, right = (gradient[used] for gradient in np.gradient(gaussian_filter(half, FINE_PIXELS / BIN)))
        normals.append(np.stack([up, -right]))
    one, two = normals
    cross = one @ two.T
    wanted = one @ (two * places).sum(axis=0) + two @ (one * places).sum(axis=0)
    return np.asarray(np.linalg.solve(cross + cross.T, wanted))


def _refined_centre(places: FloatArray, values: FloatArray, start: FloatArray) -> tuple[float, float]:
    """Return the centre whose profile explains most; the second search leaves a local maximum of the first."""
    for step in (SEARCH_PIXELS, SEARCH_PIXELS / 6.0):
        simplex = start + step * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        options = {"initial_simplex": simplex, "xatol": 0.3}
        start = minimize(lambda centre: -_power(places, values, centre), start, method="Nelder-Mead", options=options).x
    return float(start[0]), float(start[1])


def _power(places: FloatArray, values: FloatArray, centre: FloatArray) -> float:
    """Return the variance that a profile about a centre explains, summed over the bins."""
    mean, number = _profile(places, values, (float(centre[0]), float(centre[1])))
    return float(np.sum(mean**2 * number))


def _profile(places: FloatArray, values: FloatArray, centre: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Return the mean at multiples of :data:`BIN` from a centre, each value shared by two, and their weights."""
    radius = np.hypot(places[0] - centre[0], places[1] - centre[1]) / BIN
    below = radius.astype(np.int64)
    share = radius - below
    size = int(below.max()) + 2
    parts = [(below, 1.0 - share), (below + 1, share)]
    weight = sum(np.bincount(index, part, size) for index, part in parts)
    total = sum(np.bincount(index, part * values, size) for index, part in parts)
    return total / np.maximum(weight, 1e-3), np.asarray(weight)
