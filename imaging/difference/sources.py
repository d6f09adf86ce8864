"""Select the sources whose stamps are used to fit the matching kernel."""

import numpy as np
from numpy.typing import NDArray

from imaging.difference.basis import KernelBasis
from imaging.difference.design import Stamps, build_stamps
from imaging.difference.pair import Side
from imaging.difference.settings import KernelSettings
from imaging.numerics.robust import mad_sigma, weighted_median
from imaging.templates.relative import aperture_fluxes, find_bright_sources

FloatArray = NDArray[np.float64]

MIN_TOTAL = 40
"""Number of stamps up to which cells of a small image may give more stamps than usual."""

RATIO_FLOOR = 0.02
"""Scatter of flux ratios by blends and colours."""

KNOWN_RATIO = 0.07
"""Largest error of a flux ratio used: a signal to noise of twenty in both images."""

CLEAN_RADIUS = 7
"""Radius about a stamp's centre without bad pixels, pixels."""

SAME_SOURCE = (0.5, 2.0)
"""Range of the flux ratio of a constant source for any seeing; transients are outside it."""

STEADY_SHARE, STEADY_SCATTER = 0.7, 0.2
"""Smallest fraction of bright sources seen in both images, and largest scatter of their flux ratios, relative to the
median, that show wrong zero points, not wrong coordinates."""

MAX_RATIOS, MIN_RATIOS, AGREEMENT = 50, 3, 0.1
"""Number of sources tested for a common flux ratio, fewest that must agree, and tolerance."""

MIN_WIDTH = 0.5
"""Lowest brightness of the pixels beside a source's peak, in units of a star's."""

BRIGHT_SHARE = 0.7
"""Highest peak of a stamp, as a fraction of the saturation level."""


def cut_stamps(
    target: Side,
    reference: Side,
    basis: KernelBasis,
    settings: KernelSettings,
    varied: FloatArray | None = None,
) -> Stamps:
    """Cut the stamps for the kernel fit.

    Parameters
    ----------
    target, reference
        The kernel matches the reference to the target.
    basis
        Kernel functions.
    settings
        Brightness, number and size of the stamps.
    varied
        (k, 2) places of further sources that are known to have changed; None if nothing is known.
    """
    x, y = choose_places(target, reference, settings)
    if varied is not None:
        far = np.abs(x[:, None] - varied[:, 0]) + np.abs(y[:, None] - varied[:, 1]) > CLEAN_RADIUS
        x, y = x[far.all(axis=1)], y[far.all(axis=1)]
    return build_stamps(target, reference, x, y, basis, settings)


def choose_places(
    target: Side, reference: Side, settings: KernelSettings, *, steady: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Select the brightest clean sources, distributed evenly over the image, without overlap.

    Parameters
    ----------
    target, reference
        The kernel matches the reference to the target.
    settings
        Brightness, number and size of the stamps.
    steady
        Whether to leave out sources of unusual flux ratio.

    Returns
    -------
    x, y
        (n,) peaks, pixels.
    """
    x, y = _bright(reference, settings)
    side = settings.stamp_cell_pixels
    n_cells = -(-target.science.shape[0] // side) * -(-target.science.shape[1] // side)
    quota = max(settings.stamps_per_cell, -(-MIN_TOTAL // n_cells))
    per_cell: dict[tuple[int, int], int] = {}
    taken: dict[tuple[int, int], list[tuple[float, float]]] = {}
    chosen: list[tuple[float, float]] = []
    distance = settings.stamp_half_width
    for a, b in zip(x, y, strict=True):
        cell = (int(b) // side, int(a) // side)
        if per_cell.get(cell, 0) >= quota or not _is_clean(target, reference, int(a), int(b), steady=steady):
            continue
        key = (int(b) // distance, int(a) // distance)
        near = [p for j in (-1, 0, 1) for i in (-1, 0, 1) for p in taken.get((key[0] + j, key[1] + i), [])]
        if any(max(abs(p[0] - a), abs(p[1] - b)) < distance for p in near):
            continue
        per_cell[cell] = per_cell.get(cell, 0) + 1
        taken.setdefault(key, []).append((a, b))
        chosen.append((a, b))
    places = np.array(chosen).reshape(-1, 2)
    if steady:
        places = places[_is_steady(target, reference, places[:, 0], places[:, 1])]
    return places[:, 0], places[:, 1]


def _is_clean(target: Side, reference: Side, x: int, y: int, *, steady: bool) -> bool:
    """Return whether a source has only good pixels, is not saturated, and, if it is to be steady, is in both images."""
    around = (slice(y - CLEAN_RADIUS, y + CLEAN_RADIUS + 1), slice(x - CLEAN_RADIUS, x + CLEAN_RADIUS + 1))
    if not ((target.weight[around] > 0).all() and (reference.weight[around] > 0).all()):
        return False
    if target.science[around].max() >= BRIGHT_SHARE * target.saturation:
        return False
    if not steady:
        return True
    first, second = float(target.science[around].sum()), float(reference.science[around].sum())
    return SAME_SOURCE[0] * second < first < SAME_SOURCE[1] * second


def _is_steady(target: Side, reference: Side, x: FloatArray, y: FloatArray) -> NDArray[np.bool_]:
    """Return which sources have a consistent flux ratio; a variable star would distort the kernel of a small image."""
    ratio, error = _flux_ratios(target, reference, x, y)
    known = error < KNOWN_RATIO
    if known.sum() < 3:
        return np.ones(x.size, dtype=bool)
    return ~known | (np.abs(ratio - np.median(ratio[known])) < RATIO_FLOOR + 4.0 * error)


def flux_ratio(target: Side, reference: Side, x: FloatArray, y: FloatArray) -> tuple[float, float]:
    """Measure the flux ratio of two images from aperture fluxes; one with a large error if there are no sources."""
    ratio, error = _flux_ratios(target, reference, x, y)
    known = error < KNOWN_RATIO
    if not known.any():
        return 1.0, 0.02
    weight = 1.0 / (error[known] ** 2 + RATIO_FLOOR**2)
    return weighted_median(ratio[known], weight), float(1.25 / np.sqrt(weight.sum()))


def _bright(image: Side, settings: KernelSettings) -> tuple[FloatArray, FloatArray]:
    """Return the unsaturated sources of an image that are as wide as a star, brightest first."""
    x, y, _ = find_bright_sources(
        *(image.science, image.weight),
        min_snr=settings.stamp_snr,
        maximum=BRIGHT_SHARE * image.saturation,
        border=CLEAN_RADIUS + 1,
    )
    i, j = x.astype(int), y.astype(int)
    star, peak = image.psf.stamp(image.science.shape[1] // 2, image.science.shape[0] // 2, 1), image.science[j, i]
    wide = np.ones(x.size, dtype=bool)
    for dj, di in ((0, 1), (1, 0)):  # bad columns, rows and single pixels are narrower along one axis at least
        beside = 0.5 * (image.science[j + dj, i + di] + image.science[j - dj, i - di])
        usual = 0.5 * (star[1 + dj, 1 + di] + star[1 - dj, 1 - di]) / star[1, 1]
        wide &= beside > MIN_WIDTH * usual * peak
    return x[wide], y[wide]


def common_ratio(target: Side, reference: Side, settings: KernelSettings) -> float:
    """Return the common flux ratio of bright sources in two images; NaN if they do not agree.

    Parameters
    ----------
    target, reference
        The two images.
    settings
        Source selection.
    """
    x, y = (places[:MAX_RATIOS] for places in _bright(reference, settings))
    ratio, error = _flux_ratios(target, reference, x, y)
    ratio = ratio[error < KNOWN_RATIO]
    if ratio.size < MIN_RATIOS:
        return float("nan")
    middle = float(np.median(ratio))
    agree = np.abs(ratio / middle - 1.0) < AGREEMENT
    return middle if agree.sum() >= MIN_RATIOS else float("nan")


def common_share(target: Side, reference: Side, settings: KernelSettings) -> tuple[float, int]:
    """Return the fraction of bright sources that are at their place in the other image too, and their number.

    Parameters
    ----------
    target, reference
        The two images.
    settings
        Source selection.
    """
    x, y = (places[:MAX_RATIOS] for places in _bright(reference, settings))
    side = np.arange(-CLEAN_RADIUS, CLEAN_RADIUS + 1)
    rows, columns = (
        y.astype(int)[:, None, None] + side[:, None],
        x.astype(int)[:, None, None] + side,
    )
    good = (target.weight[rows, columns] > 0).all(axis=(1, 2)) & (reference.weight[rows, columns] > 0).all(axis=(1, 2))
    first, second = (image.science[rows, columns].sum(axis=(1, 2))[good] for image in (target, reference))
    return float(np.mean(first > SAME_SOURCE[0] * second)) if first.size else float("nan"), int(first.size)


def steady_ratio(target: Side, reference: Side, settings: KernelSettings) -> float | None:
    """Return the one flux ratio that most bright sources have, however far from one; None if they have none.

    Parameters
    ----------
    target, reference
        The two images.
    settings
        Source selection.
    """
    ratio, error = _flux_ratios(target, reference, *_bright(reference, settings))
    known = ratio[np.isfinite(error)]
    if known.size < STEADY_SHARE * ratio.size or mad_sigma(known) > STEADY_SCATTER * np.median(known):
        return None
    return float(np.median(known))


def _flux_ratios(target: Side, reference: Side, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (n,) flux ratios and their errors; the error is infinite if there is no ratio."""
    first, first_error = aperture_fluxes(target.science, target.weight, x, y, BRIGHT_SHARE * target.saturation)
    second, second_error = aperture_fluxes(
        reference.science, reference.weight, x, y, BRIGHT_SHARE * reference.saturation
    )
    known = (first > 3.0 * first_error) & (second > 3.0 * second_error)
    one = np.ones_like(first)
    ratio = np.divide(first, second, out=one.copy(), where=known)
    error = np.hypot(
        np.divide(first_error, first, out=one.copy(), where=known),
        np.divide(second_error, second, out=one.copy(), where=known),
    )
    return ratio, np.where(known, error, np.inf)
