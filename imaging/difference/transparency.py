"""Measure the difference in transparency of two images that varies within a CCD: thin clouds.

The kernel's sum is constant over the CCD, because both images are flat-fielded. Thin clouds dim the stars by per cents
over arcminutes. The brightness of every source relative to the matched template is interpolated as a Gaussian process
with fitted length and amplitude, beside a scatter of single sources (variables, errors of the PSF).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from imaging.difference.settings import RegistrationSettings
from imaging.difference.source_field import NODE, log_likelihood, node_distances
from imaging.difference.tiles import bands
from imaging.image import FloatImage
from imaging.numerics.robust import excess_scatter, mad_sigma

FloatArray = NDArray[np.float64]

MIN_SCATTER = 0.01
"""Least scatter of the brightness beyond its errors that is interpolated: variables and PSF errors leave less."""

SHARES = (0.5, 0.8, 0.95, 0.99)
"""Shares of the scatter's variance tried for the part that neighbours have in common."""

CLIP_SIGMA, MAX_ROUNDS, MIN_GAIN = 4.0, 5, 4.0
"""Limit of a source's deviation from its neighbours, rounds of clipping, and least gain in log likelihood."""


@dataclass(frozen=True, eq=False)
class Transparency:
    """A smooth field of relative brightness.

    Attributes
    ----------
    excess
        (n, m) relative excess of the search image's brightness at every 64th pixel, starting at zero.
    length_pixels
        Correlation length.
    rms_before, rms_after
        Scatter of the sources beyond their errors, the latter by leave-one-out prediction.
    """

    excess: FloatArray
    length_pixels: float
    rms_before: float
    rms_after: float

    def opposite(self) -> "Transparency":
        """Return the field for the other image."""
        return replace(self, excess=1.0 / (1.0 + self.excess) - 1.0)


def fit_transparency(
    x: FloatArray,
    y: FloatArray,
    scale: FloatArray,
    error: FloatArray,
    shape: tuple[int, int],
    settings: RegistrationSettings,
) -> Transparency | None:
    """Interpolate the relative brightness of sources as a Gaussian process; None if it does not vary smoothly.

    Parameters
    ----------
    x, y
        (n,) positions, pixels.
    scale, error
        (n,) relative excess of brightness and its standard error.
    shape
        (ny, nx) of the image.
    settings
        Lengths to try, fewest sources.
    """
    good = np.isfinite(scale) & (error > 0)
    good &= np.abs(scale - np.median(scale[good])) < 6.0 * mad_sigma(scale[good]) if good.any() else good
    before = excess_scatter(scale[good], error[good])
    if np.count_nonzero(good) < settings.min_stars or before < MIN_SCATTER or not settings.correct:
        return None
    for _ in range(MAX_ROUNDS):
        px, py, values, errors = x[good], y[good], scale[good], error[good]
        distance = np.hypot(px[:, None] - px, py[:, None] - py)
        scatter = excess_scatter(values, errors)
        tried = [(0.0, settings.scales_pixels[0])] + [(s, length) for s in SHARES for length in settings.scales_pixels]
        models = [_covariance(distance, errors, scatter, *one) for one in tried]
        likelihoods = [log_likelihood(values, model) for model in models]
        best = int(np.argmax(likelihoods))
        if likelihoods[best] < likelihoods[0] + MIN_GAIN:
            return None
        inverse = np.linalg.inv(models[best])
        left, width = (inverse @ values) / np.diag(inverse), 1.0 / np.sqrt(np.diag(inverse))
        near = np.abs(left) < CLIP_SIGMA * width
        if near.all() or np.count_nonzero(near) < settings.min_stars:
            break
        good[np.flatnonzero(good)[~near]] = False
    share, length = tried[best]
    excess = share * scatter**2 * np.exp(-node_distances(px, py, shape) / length) @ (inverse @ values)
    return Transparency(excess, length, before, excess_scatter(left, errors))


def apply_transparency(image: FloatImage, field: Transparency) -> FloatImage:
    """Return an image with its brightness changed by a field, interpolated linearly.

    Parameters
    ----------
    image
        (ny, nx) float32.
    field
        Relative excess of brightness.
    """
    ny, nx = image.shape
    across = (field.excess @ _hats(nx, field.excess.shape[1]).T).astype(np.float32)
    down = _hats(ny, field.excess.shape[0]).astype(np.float32)
    out = image.copy()
    for rows in bands(ny):
        out[rows] *= np.float32(1.0) + down[rows] @ across
    return out


def _hats(n: int, nodes: int) -> FloatArray:
    """Return (n, nodes) weights of linear interpolation."""
    return np.maximum(1.0 - np.abs(np.arange(n)[:, None] / NODE - np.arange(nodes)), 0.0)


def _covariance(distance: FloatArray, error: FloatArray, scatter: float, share: float, length: float) -> FloatArray:
    own = error**2 + (1.0 - share) * scatter**2
    return share * scatter**2 * np.exp(-distance / length) + np.diag(own)
