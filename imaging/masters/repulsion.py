"""Brighter-fatter kernels from pairs of dome flats: charge that repels charge correlates the noise of neighbours.

The difference of two flats of one level holds photon noise only. To first order pixel p gains the charge
``mean * sum_c A(p - c) q(c)`` of the fluctuations q, where A is the change of its area by a charge at c, so that the
covariance at a distance is ``mean^2 (2 A + mean A * A)`` (Antilogus et al. 2014, JINST 9, C03048; Astier et al. 2019,
A&A 629, A36). Areas do not determine the shifts of borders. As Antilogus et al. do, the shift of a border is taken as a
smooth function of the distance of the charge from the border, times the cosine of its direction; the borders of the
charge's own pixel have a strength of their own along rows and along columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import maximum_filter
from scipy.optimize import least_squares
from scipy.signal import convolve2d

from imaging.detrend.brighter_fatter import BrighterFatterKernel
from imaging.errors import CcdError
from imaging.masters.settings import RepulsionSettings
from imaging.numerics.robust import mad_sigma

FloatArray = NDArray[np.float64]
FloatImage = NDArray[np.float32]

REACH = 6
"""Rows and columns of the kernels."""

FAR = 8
"""Lags along the rows beyond which covariances are those of the overscan, which a row has in common."""

BLOCK, DEGREE = 128, 3
"""Side of the blocks and degree of the polynomial through their means, which is subtracted from a difference."""


AROUND = 3
"""Pixels around a rejected one that are rejected with it."""

ROUNDING_ADU = 12.0**-0.5
"""Noise of the converter."""

MOST_LIKELY = np.array([-2.0, 0.0, 0.0, 0.0, 0.0])
SPREADS = np.array([0.5, 0.15, 0.1, 0.3, 0.3])
"""Prior of the parameters of :func:`_kernel` after the strength: Coulomb's law, alike along rows and columns."""


@dataclass(frozen=True, eq=False)
class FlatCovariance:
    """Covariances of the noise of a pair of flats in one amplifier.

    Attributes
    ----------
    mean_electrons
        Mean signal.
    relative
        (REACH, REACH) covariance of pixels (rows, columns) apart over the square of the mean; [0, 0] is the
        variance without read noise.
    error
        Error of a covariance along an axis, over the square of the mean.
    """

    mean_electrons: float
    relative: FloatArray
    error: float

    def beyond_photons(self) -> FloatArray:
        """Return the covariances beyond the photon noise: negative for the variance, which repulsion lowers."""
        found = self.relative.copy()
        found[0, 0] -= 1.0 / self.mean_electrons
        return found


def pair_covariance(
    first: FloatImage,
    second: FloatImage,
    bad: NDArray[np.bool_] | None,
    gain: float,
    slope: float,
    noise_adu: float,
    clip_sigma: float,
) -> FlatCovariance:
    """Measure the covariances of an amplifier's noise in a pair of flats.

    Parameters
    ----------
    first, second
        (ny, nx) float32, ADU above overscan and bias.
    bad
        (ny, nx) bool, pixels to leave out; None for none.
    gain
        Electrons per ADU.
    slope
        Derivative of the linear signal by the measured one at this level.
    noise_adu
        Read noise.
    clip_sigma
        Rejection limit of pixels: cosmic rays.
    """
    means = [float(np.median(image[::4, ::4])) for image in (first, second)]
    difference = (first - second * np.float32(means[0] / means[1])) / np.float32(np.sqrt(2.0))
    struck = np.abs(difference) > clip_sigma * mad_sigma(difference[::4, ::4])
    good = ~maximum_filter(struck, size=2 * AROUND + 1)  # what is beside the tracks of cosmic rays is correlated, too
    if bad is not None:
        good &= ~bad
    rows, columns = (n // BLOCK * BLOCK for n in difference.shape)
    noise, weight = (image[:rows, :columns].astype(np.float32) for image in (difference, good))
    noise = (noise - _smooth(noise * weight, weight)) * weight
    sums, counts = _lags(noise), _lags(weight)
    covariance = sums / np.maximum(counts, 1.0)
    common = covariance[0, FAR:].mean()
    covariance[0, 1:REACH] -= common
    covariance[0, 0] -= common + noise_adu**2 + ROUNDING_ADU**2
    square = means[0] ** 2
    relative = covariance[:REACH, :REACH] * slope**2 / square
    error = float(relative[0, 0]) / np.sqrt(float(weight.sum()))
    return FlatCovariance(means[0] * gain, relative.astype(np.float64), error)


def fit_repulsion(pairs: Sequence[FlatCovariance], ccdnum: int, settings: RepulsionSettings) -> BrighterFatterKernel:
    """Fit the kernel of a CCD to the covariances of its pairs of flats.

    Parameters
    ----------
    pairs
        Covariances of all pairs and amplifiers.
    ccdnum
        CCD number, for the message.
    settings
        Least significance.

    Raises
    ------
    CcdError
        With reason ``too_few_exposures``, or ``repulsion_not_seen`` if neighbours are not correlated significantly.
    """
    if len(pairs) < settings.minimum_pairs:
        _refuse("too few pairs of flats", "too_few_exposures", ccdnum, str(len(pairs)), str(settings.minimum_pairs))
    weights = np.array([1.0 / pair.error**2 for pair in pairs])
    mean = float(np.average([pair.mean_electrons for pair in pairs], weights=weights))
    relative = np.average([pair.beyond_photons() for pair in pairs], axis=0, weights=weights)
    error = np.full(relative.shape, 1.0 / np.sqrt(weights.sum()))
    error[1:, 1:] /= np.sqrt(2.0)
    significance = float(min(relative[0, 1], relative[1, 0]) / error[0, 1])
    if significance < settings.minimum_significance:
        value, limit = f"{significance:.1f} sigma", f"{settings.minimum_significance:g} sigma"
        _refuse("the noise of neighbours is not correlated significantly", "repulsion_not_seen", ccdnum, value, limit)
    # A field that falls with the inverse of the distance changes no area but that of the charge's own pixel. Only the
    # loss of variance tells it; its error is that of the gain, by which the photon noise is known.
    error[0, 0] = np.hypot(np.sqrt(2.0) * error[0, 1], settings.gain_error / mean)
    start = np.append(np.log(relative[0, 1] * 0.7), MOST_LIKELY)

    def deviations(parameters: FloatArray) -> FloatArray:
        model = _relative_covariance(_kernel(parameters), mean)
        return np.concatenate([((model - relative) / error).ravel(), (parameters[1:] - MOST_LIKELY) / SPREADS])

    return _kernel(least_squares(deviations, start, x_scale=0.1).x)


def _kernel(parameters: FloatArray) -> BrighterFatterKernel:
    """Return the kernel of some parameters.

    They are logarithms: strength half a pixel away, slope and curvature in the logarithm of the distance, rows against
    columns, and the own pixel's borders along rows and along columns.
    """
    strength, slope, curvature, rows, own_right, own_top = parameters
    along, across = np.meshgrid(np.arange(REACH) + 0.5, np.arange(REACH, dtype=float))
    distance = np.hypot(along, across)
    far = np.log(distance / 0.5)
    field = np.exp(np.clip(strength + slope * far + curvature * far**2, -80.0, 0.0)) * along / distance
    right, top = field * np.exp(rows), field.T * np.exp(-rows)
    right[0, 0] *= np.exp(own_right)
    top[0, 0] *= np.exp(own_top)
    return BrighterFatterKernel(right, top)


def _relative_covariance(kernel: BrighterFatterKernel, mean: float) -> FloatArray:
    """Return the covariances of a flat over the square of its mean, for lags from 0: (REACH, REACH)."""
    area = _areas(kernel)
    second = convolve2d(area, area, mode="same")
    total = 2.0 * area + mean * second
    middle = area.shape[0] // 2
    return np.asarray(total[middle : middle + REACH, middle : middle + REACH])


def _areas(kernel: BrighterFatterKernel) -> FloatArray:
    """Return the change of the area of each pixel by one electron in the middle one."""
    n = kernel.right.shape[0]
    size = 2 * n + 3
    offset = np.arange(size) - n - 1

    def shift(quarter: FloatArray) -> FloatArray:
        """Shift of the border beyond each pixel; quarter[across, along]."""
        found = np.zeros((size, size))
        for row, across in enumerate(offset):
            for column, along in enumerate(offset):
                place = along if along >= 0 else -along - 1
                if abs(across) < n and place < n:
                    found[row, column] = quarter[abs(across), place] * (-1.0 if along >= 0 else 1.0)
        return found

    right, top = shift(kernel.right), shift(kernel.top.T).T
    area = right + top
    area[:, 1:] -= right[:, :-1]
    area[1:] -= top[:-1]
    return area


def _smooth(values: FloatImage, weight: FloatImage) -> FloatImage:
    """Return the polynomial through the means of blocks: the lamp may light the field differently in two frames."""
    shape = (values.shape[0] // BLOCK, BLOCK, values.shape[1] // BLOCK, BLOCK)
    total, count = (image.reshape(shape).sum(axis=(1, 3), dtype=float) for image in (values, weight))
    degrees = [min(DEGREE, n - 1) for n in total.shape]
    blocks = [
        legendre.legvander((np.arange(n) + 0.5) * 2.0 / n - 1.0, d) for n, d in zip(total.shape, degrees, strict=True)
    ]
    pixels = [
        legendre.legvander((np.arange(n) + 0.5) * 2.0 / n - 1.0, d) for n, d in zip(values.shape, degrees, strict=True)
    ]
    means = np.where(count > 0, total / np.maximum(count, 1.0), 0.0)
    terms = np.linalg.pinv(blocks[0]) @ means @ np.linalg.pinv(blocks[1]).T
    return np.asarray(pixels[0] @ terms @ pixels[1].T, dtype=np.float32)


def _lags(image: FloatImage) -> FloatArray:
    """Return the sums of products of pixels (rows, columns) apart, over both directions of the columns."""
    shape = tuple(fft.next_fast_len(n + 2 * FAR, real=True) for n in image.shape)
    power = np.abs(fft.rfft2(image, s=shape)) ** 2
    sums = fft.irfft2(power, s=shape)
    forward, backward = sums[: 2 * FAR, : 2 * FAR], sums[: 2 * FAR, -np.arange(2 * FAR)]
    return np.asarray(0.5 * (forward + backward), dtype=np.float64)


def _refuse(problem: str, reason: str, ccdnum: int, value: str, limit: str) -> None:
    raise CcdError(
        problem,
        reason=reason,
        ccd=ccdnum,
        step="measure_repulsion",
        value=value,
        limit=f"at least {limit}",
        remedy="give more dome flats, of 40 000 electrons and more",
    )
