"""What is left of bright stars, measured against the distance from them, as a part of the noise.

The significance knows two errors of the subtracted template, those of its scale and of its position. A wrong PSF,
colours and the brighter-fatter effect leave more, in the cores of stars or in rings around them. In proportion to the
flux this is similar for stars of similar brightness; it is measured there and added to the noise in quadrature.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_cdt

from imaging.bits import MaskBit
from imaging.difference.filter import FilteredDifference
from imaging.difference.residual_noise import ResidualNoise
from imaging.image import FloatImage, MaskImage
from imaging.templates.relative import find_bright_sources
from imaging.templates.stack import StackMakeup

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

MIN_SNR = 30.0
"""Lowest signal to noise of a star, in the flux that was subtracted: a sixth of it, which a badly focused image leaves
beside the core, is a detection."""

EDGES = np.array([0.0, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0, 14.0, 19.0, 25.0])
"""Edges of the rings, pixels; in proportion larger, as END and CORE are, where the PSF is wider than EDGES_FWHM."""

END = 31.0
"""Radius to which the residual of the last ring falls, linearly, to nothing, pixels."""

EDGES_FWHM = 5.0
"""Full width at half maximum of the PSF up to which these edges hold, pixels."""

GROUP = 15
"""Number of stars of similar brightness in which the rings are measured together; fewer are not measured."""

MAX_STARS = 240
"""Largest number of stars measured: half of them the brightest, half spread over all fluxes."""

SHARE, WIDTH = 0.90, 1.645
"""Share of pixels within a number of sigma: a tenth of the stars may vary without effect on the measured noise."""

OTHER_LIGHT = 0.1
"""Highest flux of the template in a pixel beyond the star's core, in units of the star's; more is a neighbour's."""

CORE = 5.0
"""Radius of a star's core, pixels."""

BORDER_ERROR = 0.45
"""Error of the convolved image near the border, in units of the brightest light between border and pixel times the
fraction of the kernel that is beyond the border: 0.3 to 0.48 for stars at any distance from it."""

EDGE_STRIPS = (1, 4, 8, 12, 16, 24, 36)
"""Distances from the border between which the residuals of sources are measured together, pixels."""

EDGE_STRIDE = 4
"""Every so-manieth row and column of the mask tells where the templates end."""

EDGE_SNR, EDGE_PIXELS = 10.0, 600
"""Lowest signal to noise of the template there, and fewest pixels: those of 25 cells or more."""

EDGE_CELL, PER_CELL = 32, 24
"""Side of a cell, pixels, and number of its pixels that count."""

EDGE_SHARES = ((SHARE, WIDTH), (0.98, 2.326))
"""Shares of their pixels within numbers of sigma: what is displaced depends on the distance and is no Gaussian. The
second counts with twice as many pixels."""


def add_edge_residuals(noise: ResidualNoise, mask: MaskImage, makeup: StackMakeup | None = None) -> None:
    """Add to the noise what is left of sources near the edges of CCDs, relative to their light, in place.

    The electric field at the edges of a CCD takes some of a star's light and displaces it; the other image has seen the
    star elsewhere. The left and the right border of the search image are measured together, so are the lower and the
    upper one, the ends of what the templates cover, and those of single templates. In fields with few stars nothing is
    measured.

    Parameters
    ----------
    noise
        The noise.
    mask
        (ny, nx) int16, mask of the difference.
    makeup
        Inputs of the stack; None for a single template.
    """
    norm, template = noise.filtered.norm, noise.filtered.template_flux
    for rows, columns in _edge_strips(mask, makeup):
        bright = (norm[rows, columns] > 0) & (template[rows, columns] * np.sqrt(norm[rows, columns]) > EDGE_SNR)
        rows, columns = rows[bright], columns[bright]
        known, sigma = noise.measured_at(rows, columns)
        light = template[rows, columns].astype(float)
        some = _few_of_each_cell(rows, columns, light**2 / known)
        if some.size < EDGE_PIXELS:
            continue
        shares = EDGE_SHARES[: some.size // EDGE_PIXELS]
        needed = [np.quantile((known * ((sigma / w) ** 2 - 1.0) / light**2)[some], share) for share, w in shares]
        noise.add(rows, columns, max(*needed, 0.0) * light**2)


def _few_of_each_cell(rows: IntArray, columns: IntArray, values: FloatArray) -> IntArray:
    """Return the places of the highest values of every cell, so that no single bright star counts for all."""
    cell = (rows // EDGE_CELL << 32) + columns // EDGE_CELL
    order = np.lexsort((-values, cell))
    _, first, count = np.unique(cell[order], return_index=True, return_counts=True)
    return order[np.arange(cell.size) - np.repeat(first, count) < PER_CELL]


def _edge_strips(mask: MaskImage, makeup: StackMakeup | None) -> Iterator[tuple[IntArray, IntArray]]:
    """Yield rows and columns of the pixels at similar distances from borders, and then from ends of templates."""
    ny, nx = mask.shape
    for axis, (along, across) in enumerate(((nx, ny), (ny, nx))):
        for first, last in pairwise(EDGE_STRIPS):
            distance = np.arange(first, min(last, along // 2))
            there = np.concatenate([distance, along - 1 - distance])
            places = np.meshgrid(np.arange(1, across - 1), there, indexing="ij")
            rows, columns = (p.ravel() for p in (places if axis == 0 else places[::-1]))
            yield rows, columns
    covered = (mask[::EDGE_STRIDE, ::EDGE_STRIDE] & np.int16(MaskBit.EDGE)) == 0
    distance, outer = _from_ends(covered), EDGE_STRIPS[-1] // EDGE_STRIDE
    distance[:outer], distance[-outer:], distance[:, :outer], distance[:, -outer:] = 0, 0, 0, 0
    distance[~covered & binary_dilation(distance > 0)] = 1  # half of a PSF is seen there
    for first, last in pairwise(EDGE_STRIPS):
        yield _pixels(EDGE_STRIDE * distance, first, last, EDGE_STRIDE, mask.shape)
    if makeup is not None:
        blocks = np.moveaxis(makeup.shares, 2, 0) > 0
        distance = np.min([np.where(own, _from_ends(own), max(own.shape)) for own in blocks], axis=0)
        for number in (1, 2):
            yield _pixels(distance, number, number + 1, makeup.block, mask.shape)


def _from_ends(covered: NDArray[np.bool_]) -> IntArray:
    """Return the number of cells to the next one that is not covered; a large one if all are."""
    if covered.all():
        return np.full(covered.shape, max(covered.shape))
    return np.asarray(distance_transform_cdt(covered, "chessboard"), dtype=np.int64)


def _pixels(distance: IntArray, first: int, last: int, side: int, shape: tuple[int, int]) -> tuple[IntArray, IntArray]:
    """Return rows and columns of the pixels, not at the border, of cells at a distance from first to below last."""
    cells, steps = np.argwhere((distance >= first) & (distance < last)), np.arange(side)
    rows, columns = (side * c[:, None, None] for c in cells.T)
    rows, columns = np.broadcast_arrays(rows + steps[:, None], columns + steps)
    known = (rows > 0) & (columns > 0) & (rows < shape[0] - 1) & (columns < shape[1] - 1)
    return rows[known], columns[known]


def add_star_residuals(noise: ResidualNoise, model: FloatImage, halo: BoolArray | None = None) -> FloatArray:
    """Add the residuals of bright stars to the noise of a difference, in place.

    Parameters
    ----------
    noise
        The noise, and the errors that are known already.
    model
        (ny, nx) float32, the matched template.
    halo
        (ny, nx) bool, halos of saturated stars: what they leave there is not that of the stars in them.

    Returns
    -------
    residual
        (rings,) residuals of the brightest stars, as a fraction of their flux; zeros if there are too few stars.
    """
    x, y, flux = _stars(noise.filtered, model)
    measured = noise.filtered.norm[y, x] > 0
    if halo is not None:
        measured &= ~halo[y, x]
    if measured.sum() < GROUP:
        return np.zeros(EDGES.size - 1)
    number = int(measured.sum())
    spread = np.linspace(0, number - 1, min(number, MAX_STARS // 2)).astype(int)
    chosen = np.flatnonzero(measured)[np.union1d(np.arange(min(number, MAX_STARS // 2)), spread)]
    level, table = _measure(noise, x[chosen], y[chosen], flux[chosen])
    noise.add_image(_variance(model.shape, _growth(noise.filtered), (x, y, flux), level, table))
    return table[-1]


def add_motions(noise: ResidualNoise, moved: FloatArray) -> None:
    """Add the residuals of stars that moved to the noise of a difference, in place.

    Parameters
    ----------
    noise
        The noise.
    moved
        (k, 3) position and motion per axis, pixels.
    """
    if not len(moved):
        return
    template, reach = noise.filtered.template_flux, int(EDGES[-1])
    variance = np.zeros(template.shape, dtype=np.float32)
    for x, y, motion in moved.tolist():
        i, j = round(x), round(y)
        near = (slice(max(j - reach, 0), j + reach + 1), slice(max(i - reach, 0), i + reach + 1))
        along_y, along_x = np.gradient(template[near])
        variance[near] = np.maximum(variance[near], motion**2 * (along_x**2 + along_y**2))
    noise.add_image(variance)


def add_border_residuals(noise: ResidualNoise, beyond: FloatArray) -> None:
    """Add to the noise of a difference what the kernel misses beyond the image's border, in place.

    The convolution continues the image with its outermost pixels. A star beyond the border whose light only the kernel
    brings in is not foreseen.

    Parameters
    ----------
    noise
        The noise.
    beyond
        (n,) fraction of the kernel beyond the border for a pixel 0, 1, ... pixels from it.
    """
    if not beyond.size:
        return
    template, psf = noise.filtered.template_flux, np.abs(noise.filtered.psf_stamps.mean(axis=(0, 1)))
    profile, half = psf.sum(axis=0) / psf.sum(), psf.shape[0] // 2
    extended = np.pad(np.pad(beyond, (half, 0), mode="edge"), (0, 2 * half))
    seen = np.convolve(extended, profile, mode="valid")  # the filter sees pixels nearer to the border, too
    variance = np.zeros_like(template)
    for there, light in zip(_from_borders(variance), _from_borders(template), strict=True):
        highest = np.maximum.accumulate(np.maximum(light[:, : seen.size], 0.0), axis=1)
        there[:, : seen.size] += (BORDER_ERROR * seen[: light.shape[1]] * highest) ** 2
    noise.add_image(variance)


def _from_borders(image: FloatImage) -> tuple[FloatImage, ...]:
    """Return an image seen from each border: (n, m) with the distance from it as the second axis."""
    return image, image[:, ::-1], image.T, image.T[:, ::-1]


def _growth(filtered: FilteredDifference) -> float:
    """Return the width of the PSF, that of a Gaussian with its noise area, in units of EDGES_FWHM; at least one."""
    area = 1.0 / float(np.median(np.sum(filtered.psf_stamps**2, axis=(2, 3))))
    return max(2.3548 * float(np.sqrt(area / (4.0 * np.pi))) / EDGES_FWHM, 1.0)


def _stars(filtered: FilteredDifference, model: FloatImage) -> tuple[IntArray, IntArray, FloatArray]:
    """Return x, y and flux of the bright sources of the template, saturated ones too, the brightest first."""
    good = filtered.norm[::8, ::8][filtered.norm[::8, ::8] > 0]
    if not good.size:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
    peak = float(np.median(filtered.psf_stamps.max(axis=(2, 3))))
    lowest = MIN_SNR / float(np.sqrt(np.median(good))) * peak
    xs, ys, height = find_bright_sources(model, np.ones_like(model), min_snr=lowest, maximum=np.inf, border=1)
    x, y = xs.astype(np.int64), ys.astype(np.int64)
    seen = filtered.norm[y, x] > 0
    ratio = float(np.median(filtered.template_flux[y, x][seen] / height[seen])) if seen.any() else 1.0 / peak
    return x, y, ratio * height


def _measure(noise: ResidualNoise, x: IntArray, y: IntArray, flux: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (g,) logarithms of flux, increasing, and (g, rings) residuals as a fraction of it."""
    norm, template = noise.filtered.norm, noise.filtered.template_flux
    (ny, nx), reach, growth = norm.shape, int(EDGES[-1]), _growth(noise.filtered)
    grid = (np.rint(growth * d.ravel()).astype(np.int64) for d in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    dy, dx = grid  # as many places for a wide PSF
    radius = np.hypot(dx, dy) / growth
    inside = radius < EDGES[-1]
    dx, dy, radius = dx[inside], dy[inside], radius[inside]
    rows, columns = y[:, None] + dy, x[:, None] + dx
    outside = (rows < 1) | (columns < 1) | (rows > ny - 2) | (columns > nx - 2)
    rows, columns = np.clip(rows, 1, ny - 2), np.clip(columns, 1, nx - 2)
    good = ~outside & (norm[rows, columns] > 0)
    good &= (radius < CORE) | (template[rows, columns] < OTHER_LIGHT * flux[:, None])
    known, sigma = noise.measured_at(rows[good], columns[good])
    # the squared fraction of the flux that, added to what is known, puts a pixel at so many sigma
    needed = np.zeros(good.shape)
    needed[good] = known * ((sigma / WIDTH) ** 2 - 1.0)
    needed /= flux[:, None] ** 2
    groups = np.array_split(np.argsort(flux), max(flux.size // GROUP, 1))
    ring = np.digitize(radius, EDGES) - 1
    table = np.zeros((len(groups), EDGES.size - 1))
    for number, group in enumerate(groups):
        for k in range(EDGES.size - 1):
            sample = needed[np.ix_(group, ring == k)][good[np.ix_(group, ring == k)]]
            if sample.size >= GROUP:
                table[number, k] = np.sqrt(max(float(np.quantile(sample, SHARE)), 0.0))
    return np.array([np.log(np.median(flux[group])) for group in groups]), table


def _variance(
    shape: tuple[int, ...],
    growth: float,
    stars: tuple[IntArray, IntArray, FloatArray],
    level: FloatArray,
    table: FloatArray,
) -> FloatImage:
    """Return (ny, nx) float32, the variance of a point source's flux by the residuals of all stars."""
    ny, nx = shape
    reach = int(END * growth)
    radius = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    places = growth * np.append(0.5 * (EDGES[1:] + EDGES[:-1]), END)
    out = np.zeros((ny, nx), dtype=np.float32)
    for a, b, f in zip(*stars, strict=True):
        rings = [np.interp(np.log(f), level, column) for column in table.T]
        patch = (f * np.interp(radius, places, [*rings, 0.0])) ** 2
        ys, xs = slice(max(b - reach, 0), min(b + reach + 1, ny)), slice(max(a - reach, 0), min(a + reach + 1, nx))
        out[ys, xs] += patch[ys.start - b + reach : ys.stop - b + reach, xs.start - a + reach : xs.stop - a + reach]
    return out
