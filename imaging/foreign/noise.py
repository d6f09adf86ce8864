"""Noise of calibrated images of other programs: correlation of neighbouring pixels, electrons per unit.

Resampled images have correlated noise. Its autocorrelation in blank sky enters the whitening of a difference. Where no
card states the gain, the variance at the places of sources shows it: photons make it rise by one over the gain per
unit of flux.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import binary_dilation
from scipy.stats import chi2

from imaging.image import FloatImage
from imaging.numerics.robust import mad_sigma
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]
BoolImage = NDArray[np.bool_]

LAGS = 6
"""Number of lags along each axis."""

FAR = slice(9, 13)
"""Lags beyond those of any interpolation: what is left there along both axes are gradients of the sky and halos."""

NEAR = 3
"""Lags along each axis that an interpolation correlates; at larger ones faint sources do, which are no noise."""

CORRELATION = "CORRELATION"
"""Extension of final images of stacks with the autocorrelation of their noise."""

CORRELATED = 0.03
"""Lag-one correlation above which an image was resampled; white noise of 10^5 pixels gives 0.003."""

CLIP_SIGMA, WINDOW = 4.0, 1024
"""Largest noise of a pixel that is used, sigma; side of the part of an image that is used, pixels."""

MIN_BLANK, MOST_BLANK = 2000, 1_000_000
"""Fewest blank pixels to measure a correlation or a width; of more than twice as many as the second only some rows are
used, which tell the width to 0.1 %."""

SCALE_LIMITS, SCALE_CARD = (0.67, 1.5), "WGTSCALE"
"""Noise of the sky over that of a weight map that is right in itself; keyword of that ratio where it is not."""

MIN_CONTRAST, MIN_NOISE_SLOPE = 1.3, -0.3
"""Smallest ratio of variances that tells whether the noise follows the weights; power below which it contradicts."""

MIN_RISE, MIN_PIXELS = 0.2, 50
"""Smallest relative rise of a weight map's variance in sources, and fewest pixels, to derive a gain from it."""

STAMP_HALF_WIDTH, FIT_RANGE = 6, (1.0, 200.0)
"""Half width of a star's stamp, pixels; range of its flux per pixel, in sigma of the sky, in which photons dominate."""

MIN_STARS, ROUNDS, MAX_SQUARE = 5, 5, 10.0
"""Fewest stars, rounds of the fit, and largest squared deviation in units of the expected one."""

STEPS_BESIDE, LEAST_NEIGHBOUR = ((-1, 0), (1, 0), (0, -1), (0, 1)), 0.5
"""Pixels beside a peak (y, x); fraction of the PSF's light below which one is too faint for a star."""

CLIPPED_MEAN = float(chi2.cdf(MAX_SQUARE, 3) / chi2.cdf(MAX_SQUARE, 1))
"""Mean of the squared deviations below the largest one, in units of the expected one."""

CONTRADICTING_SIGMA = 5.0
"""Difference from the expected rise of the scatter in stars, in units of its error, that contradicts a gain."""


def blank_correlation(science: FloatImage, sigma: FloatImage, blank: BoolImage) -> FloatArray | None:
    """Measure the autocorrelation of the noise in blank sky.

    A smooth sky that the mesh has not followed correlates over all lags alike, and is taken out.

    Parameters
    ----------
    science
        (ny, nx) float32, sky subtracted.
    sigma
        (ny, nx) standard deviation of a pixel.
    blank
        (ny, nx) pixels without sources and defects.

    Returns
    -------
    correlation
        (6, 6) at lags 0 to 5 in y and x, one at lag zero; None if neighbours are uncorrelated or there is too little
        blank sky.
    """
    window = _blankest(blank)
    science, sigma, blank = science[window], sigma[window], blank[window]
    values = np.where(blank, science, np.float32(0.0)) / sigma
    used = blank & (np.abs(values) < CLIP_SIGMA)
    if np.count_nonzero(used) < MIN_BLANK:
        return None
    values = np.where(used, values - np.float32(values[used].mean()), np.float32(0.0))
    size = [fft.next_fast_len(n + FAR.stop, real=True) for n in values.shape]
    sums, pairs = (fft.irfft2(np.abs(fft.rfft2(v, s=size)) ** 2, s=size) for v in (values, used.astype(float)))
    covariance = np.divide(sums, pairs, out=np.zeros_like(sums), where=pairs > 0.5)
    below = covariance[:, (-np.arange(LAGS)) % size[1]][:LAGS]
    error = 1.0 / math.sqrt(np.count_nonzero(used))
    smooth = min(float(covariance[0, FAR].mean()), float(covariance[FAR, 0].mean()))
    smooth = smooth if smooth > 3.0 * error * covariance[0, 0] else 0.0
    lags = 0.5 * (covariance[:LAGS, :LAGS] + below) - smooth
    correlation = lags / lags[0, 0]
    if max(abs(correlation[0, 1]), abs(correlation[1, 0])) < CORRELATED:
        return None
    correlation[np.abs(correlation) < 3.0 * error] = 0.0
    return correlation


def _blankest(blank: BoolImage) -> tuple[slice, slice]:
    """Return the window with the most blank pixels; one is enough to measure a correlation."""
    starts = [range(0, max(n - WINDOW // 2, 1), WINDOW) for n in blank.shape]
    windows = [(slice(j, j + WINDOW), slice(i, i + WINDOW)) for j in starts[0] for i in starts[1]]
    return max(windows, key=lambda window: int(np.count_nonzero(blank[window])))


def long_range(correlation: FloatArray | None) -> float:
    """Return the variance of the mean of many pixels over that of uncorrelated ones: the sum of the correlation."""
    if correlation is None:
        return 1.0
    near = correlation[:NEAR, :NEAR]
    twice = np.where(np.arange(NEAR) > 0, 2.0, 1.0)
    return max(float(twice @ near @ twice), 1.0)


def gain_of_weights(science: FloatImage, variance: FloatImage, blank_variance: FloatImage) -> float | None:
    """Derive the gain from a weight map that includes the photons of the sources.

    Parameters
    ----------
    science
        (ny, nx) float32, sky subtracted.
    variance
        (ny, nx) of the weight map; not finite for bad pixels.
    blank_variance
        (ny, nx) that of blank sky.

    Returns
    -------
    gain
        Photo-electrons per unit; None if the map does not rise in sources.
    """
    rise = variance - blank_variance
    bright = np.isfinite(variance) & (science > 10.0 * np.sqrt(blank_variance))
    bright &= variance < 1e4 * blank_variance
    if np.count_nonzero(bright) < MIN_PIXELS or np.median(rise[bright] / blank_variance[bright]) < MIN_RISE:
        return None
    return float(1.0 / np.median(rise[bright] / science[bright]))


def gain_of_stars(
    science: FloatImage,
    variance: FloatImage,
    psf: PsfModel,
    x: FloatArray,
    y: FloatArray,
    correlation: FloatArray | None = None,
    stated: float | None = None,
) -> float | None:
    """Derive the gain from the scatter of stars about the PSF.

    The fit of a star takes a part of its noise. In a resampled image the noise of the photons is that of the input,
    reduced as the sky's is, and the fit takes a larger part, because it is as smooth as the star.

    Parameters
    ----------
    science, variance
        (ny, nx) float32, sky subtracted, and variance of blank sky; not finite for bad pixels.
    psf
        Point-spread function.
    x, y
        (n,) peaks of stars, pixels.
    correlation
        (6, 6) autocorrelation of the noise; None if it is white.
    stated
        Gain that the stars may contradict.

    Returns
    -------
    gain
        Photo-electrons per unit; None if there are too few stars, no rise of the scatter is seen, or it agrees with the
        stated gain within five sigma.
    """
    half, points = STAMP_HALF_WIDTH, []
    lags = None if correlation is None else _stamp_correlation(correlation)
    for a, b in zip(x.astype(int), y.astype(int), strict=True):
        window = (slice(b - half, b + half + 1), slice(a - half, a + half + 1))
        data, noise = science[window].astype(float), np.sqrt(variance[window].astype(float))
        if data.shape != (2 * half + 1, 2 * half + 1) or not np.isfinite(noise).all():
            continue
        point = _deviations(data, noise, psf, float(a), float(b), lags, long_range(correlation))
        points += [] if point is None else [point]
    if len(points) < MIN_STARS:
        return None
    light, square, sky = (np.concatenate(part) for part in zip(*points, strict=True))
    inside = (light > FIT_RANGE[0] * sky) & (light < FIT_RANGE[1] * sky)
    if np.count_nonzero(inside) < MIN_PIXELS:
        return None
    rise, error = _rise((light / sky)[inside], (square / sky**2)[inside])
    unit = float(np.median(sky))
    agrees = stated is not None and abs(rise - 1.0 / (stated * unit)) < CONTRADICTING_SIGMA * error
    return None if agrees or rise <= 0.0 else 1.0 / (rise * unit)


def _rise(u: FloatArray, squares: FloatArray) -> tuple[float, float]:
    """Return by how much squared deviations rise with the light, both in units of the sky's noise, and its error."""
    design, v = np.stack([u, u**2], axis=1), squares - 1.0
    rise = np.zeros(2)
    for _ in range(ROUNDS):  # a squared deviation scatters by its own expectation
        expected = 1.0 + design @ np.maximum(rise, 0.0)
        keep = np.ones(u.size, dtype=np.bool_)
        if rise.any():
            keep, v = squares < MAX_SQUARE * expected, squares / CLIPPED_MEAN - 1.0
        root = 1.0 / expected[keep]
        weighted = design[keep] * root[:, None]
        rise = np.linalg.lstsq(weighted, v[keep] * root, rcond=None)[0].astype(np.float64)
        if rise[1] < 0.0:  # the square is the error of the PSF
            rise = np.array([float(np.sum(root**2 * u[keep] * v[keep]) / np.sum((root * u[keep]) ** 2)), 0.0])
    return float(rise[0]), math.sqrt(2.0 * float(np.linalg.inv(weighted.T @ weighted)[0, 0]))


def _stamp_correlation(correlation: FloatArray) -> FloatArray:
    """Return the (n, n) correlation matrix of the pixels of a star's stamp."""
    lags = np.zeros((2 * STAMP_HALF_WIDTH + 1,) * 2)
    lags[:LAGS, :LAGS] = correlation
    rows, columns = (index.ravel() for index in np.indices(lags.shape))
    return lags[np.abs(rows[:, None] - rows[None, :]), np.abs(columns[:, None] - columns[None, :])]


def _deviations(
    data: FloatArray, noise: FloatArray, psf: PsfModel, x: float, y: float, lags: FloatArray | None, reach: float
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Fit flux, position and background of a star; return light, squared deviation and sky sigma of its pixels.

    None for what is sharper than a star.

    The fit takes a part of the noise, most of it in the core. The deviation is divided by the part of the sky's noise
    that is left, and the light is that whose photons would give it in white noise.
    """
    half, dx, dy = STAMP_HALF_WIDTH, 0.0, 0.0
    for _ in range(3):
        axis = np.arange(-half, half + 1.0)
        stamp = psf.at_offsets(x, y, axis - dx, axis - dy)
        slope_y, slope_x = np.gradient(stamp)
        columns = np.stack([stamp.ravel(), slope_x.ravel(), slope_y.ravel(), np.ones(stamp.size)], axis=1)
        flux, mx, my, level = np.linalg.lstsq(columns / noise.ravel()[:, None], (data / noise).ravel(), rcond=None)[0]
        if flux <= 0:
            break
        dx, dy = (float(np.clip(d - m / flux, -2.0, 2.0)) for d, m in ((dx, mx), (dy, my)))
    if _is_sharper(data - level, stamp, noise):
        return None
    light = flux * stamp
    fitted = (columns @ np.array([flux, mx, my, level])).reshape(stamp.shape)
    square = ((data - fitted) ** 2).ravel()
    weighted = columns / noise.ravel()[:, None]
    left = np.eye(data.size) - columns @ np.linalg.pinv(weighted) / noise.ravel()[None, :]
    spread = noise.ravel() / np.median(noise)
    of_sky = _variances(left * spread[None, :], lags) / spread**2
    root = np.sqrt(np.maximum(light.ravel(), 0.0))
    of_light = _variances(left * root[None, :], lags) / reach  # the photons are those of the input
    return of_light / of_sky, square / of_sky, noise.ravel()


def _is_sharper(data: FloatArray, stamp: FloatArray, noise: FloatArray) -> bool:
    """Return whether a pixel beside the peak is fainter than the PSF allows: a hot pixel, or a cosmic ray."""
    middle, beside = (STAMP_HALF_WIDTH,) * 2, tuple(np.array(STEPS_BESIDE).T + STAMP_HALF_WIDTH)
    expected = stamp[beside] / stamp[middle] * data[middle]
    return bool(np.any(data[beside] < LEAST_NEIGHBOUR * expected - CLIP_SIGMA * noise[beside]))


def _variances(matrix: FloatArray, lags: FloatArray | None) -> FloatArray:
    """Return the variances of linear combinations of correlated values, the diagonal of M R M^T; of white ones too."""
    return np.einsum("ij,ij->i", matrix if lags is None else matrix @ lags, matrix)


def blank_scale(science: FloatImage, weight: FloatImage, blank: BoolImage) -> float:
    """Return the width of blank sky in units of the weight map's sigma; NaN without blank pixels."""
    rows = _some_rows(blank)
    science, weight, blank = science[rows], weight[rows], blank[rows]
    values = (science * np.sqrt(weight))[blank & (weight > 0)]
    return mad_sigma(values.astype(float)) if values.size >= MIN_BLANK else float("nan")


def noise_slope(science: FloatImage, variance: FloatImage, blank: BoolImage) -> float | None:
    """Return the power with which the measured variance of blank sky follows the stated one: 1 if that is right.

    Parameters
    ----------
    science, variance
        (ny, nx) float32, sky subtracted, and stated variance of the sky.
    blank
        (ny, nx) pixels without sources and defects.

    Returns
    -------
    slope
        Between the quarters of the lowest and the highest variance; None where they are too similar, or too small.
    """
    rows = _some_rows(blank)
    stated, values = variance[rows][blank[rows]], science[rows][blank[rows]]
    if stated.size < 4 * MIN_BLANK:
        return None
    low, high = np.percentile(stated, (25, 75))
    if not high > MIN_CONTRAST * low > 0.0:
        return None
    quarters = [stated <= low, stated >= high]
    measured = [mad_sigma(values[part].astype(float)) ** 2 for part in quarters]
    expected = [float(np.median(stated[part])) for part in quarters]
    return math.log(measured[1] / measured[0]) / math.log(expected[1] / expected[0]) if min(measured) > 0 else None


def _some_rows(blank: BoolImage) -> slice:
    """Return the rows of an image whose blank pixels tell the width of the noise."""
    return slice(None, None, max(1, np.count_nonzero(blank) // MOST_BLANK))


def without_sources(bad: BoolImage, segmentation: NDArray[np.int32], growth: int) -> BoolImage:
    """Return the pixels of blank sky: neither bad nor within ``growth`` pixels of a source."""
    return ~(bad | binary_dilation(segmentation != 0, iterations=growth))
