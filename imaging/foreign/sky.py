"""Sky of calibrated images of other programs: level and noise of blank sky on a mesh, with sources masked."""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from imaging.image import FloatImage

BoolImage = NDArray[np.bool_]
Value = TypeVar("Value", bound=np.generic)

MESH = 64
"""Side of the mesh of sky and variance, pixels."""

SOURCE_GROWTH = 4
"""Growth of the source masks for the sky measurement, pixels."""

ONLY_PIXELS = {"deblend_nthresh": 1, "clean": False}
"""Options of an extraction of which only the pixels of all sources are used: the same pixels in half the time."""

WIDE_MESH, THIN = 256, 2
"""Side of the mesh for the sky of a whole CCD, pixels: wider than galaxies and halos, which a narrow one takes for sky.
Every so many rows and columns are used."""

STEP_STRIDE, MIN_EQUAL = 7, 0.02
"""Every so many pixels show the step of coarse numbers; fraction of equal neighbours of coarse numbers."""


@dataclass(frozen=True, eq=False)
class SkyModel:
    """Level and noise of an image's sky.

    Attributes
    ----------
    level, variance
        (ny, nx) float32.
    blank
        (ny, nx) bool, pixels without sources and defects.
    """

    level: FloatImage
    variance: FloatImage
    blank: BoolImage


def measure_sky(science: FloatImage, bad: BoolImage, weight: FloatImage | None, side: int = MESH) -> SkyModel:
    """Measure the sky's level and the variance of its pixels on a mesh, with sources masked.

    A weight map derived from the image includes the sources' photon noise and follows noise fluctuations of the sky;
    its median in blank sky does not. Without a weight map the noise is measured.

    Parameters
    ----------
    science
        (ny, nx) float32.
    bad
        (ny, nx) bool, pixels to ignore.
    weight
        (ny, nx) float32, inverse variance; None if there is none.
    side
        Side of the mesh, pixels.
    """
    mesh = {"bw": min(side, science.shape[1]), "bh": min(side, science.shape[0])}
    science = np.where(bad, np.float32(0.0), _dithered(science, bad))
    sources = bad
    for _ in range(2):
        background = sep.Background(science, mask=sources, **mesh)
        _, segmentation = sep.extract(
            science - background.back(), 2.0, err=background.globalrms, mask=bad, segmentation_map=True, **ONLY_PIXELS
        )
        sources = bad | binary_dilation(segmentation != 0, iterations=SOURCE_GROWTH)
    background = sep.Background(science, mask=sources, **mesh)
    level = background.back(dtype=np.float32)
    if weight is None:
        return SkyModel(level, background.rms(dtype=np.float32) ** 2, ~sources)
    variance = np.divide(1.0, weight, out=np.zeros_like(weight), where=weight > 0)
    smooth = sep.Background(variance, mask=sources | (weight <= 0), **mesh).back(dtype=np.float32)
    return SkyModel(level, np.maximum(smooth, np.float32(1e-6) * smooth.max()), ~sources)


def _dithered(science: FloatImage, bad: BoolImage) -> FloatImage:
    """Return pixels with the rounding of integers undone at random: modes of coarse numbers jump by their step."""
    values = np.unique(science[~bad][::STEP_STRIDE])
    if values.size < 2 or np.mean(science[:, 1:] == science[:, :-1]) < MIN_EQUAL:
        return science
    step = float(np.min(np.diff(values)))
    return science + np.random.default_rng(0).uniform(-0.5, 0.5, science.shape).astype(np.float32) * np.float32(step)


def measure_wide_sky(science: FloatImage, bad: BoolImage, weight: FloatImage | None) -> SkyModel:
    """Measure the sky of a whole CCD on a wide mesh from every second row and column.

    Parameters
    ----------
    science, bad, weight
        As in :func:`measure_sky`.
    """
    thin = (slice(None, None, THIN), slice(None, None, THIN))
    thin_weight = None if weight is None else np.ascontiguousarray(weight[thin])
    sky = measure_sky(
        np.ascontiguousarray(science[thin]), np.ascontiguousarray(bad[thin]), thin_weight, WIDE_MESH // THIN
    )
    shape = bad.shape
    return SkyModel(_repeated(sky.level, shape), _repeated(sky.variance, shape), _repeated(sky.blank, shape))


def _repeated(plane: NDArray[Value], shape: tuple[int, ...]) -> NDArray[Value]:
    return np.repeat(np.repeat(plane, THIN, axis=0), THIN, axis=1)[: shape[0], : shape[1]]
