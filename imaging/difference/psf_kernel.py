"""Matching kernel from two PSF models, for images with too few sources to fit one."""

import numpy as np
from numpy.typing import NDArray

from imaging.difference.basis import KernelBasis
from imaging.numerics.convolution import convolve
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]

HALF = 12
"""Least half width of the compared PSFs, pixels; at least the kernel's, whose outer pixels nothing else determines."""


def unit_kernel(
    reference: PsfModel,
    target: PsfModel,
    basis: KernelBasis,
    place: tuple[float, float],
    shift: tuple[float, float] = (0.0, 0.0),
    moments: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> tuple[FloatArray, float]:
    """Compute the constant kernel that turns one PSF into another one, shifted and widened.

    Its sum is free in the fit: PSFs of unit flux in an aperture have different fluxes beyond it, and a sum of one would
    be reached by a pedestal.

    Parameters
    ----------
    reference, target
        PSF models of the convolved image and of the other one.
    basis
        Kernel functions.
    place
        Position at which the PSFs are compared, pixels.
    shift
        Shift of the target along x and y, pixels.
    moments
        Excess of the target's second moments xx, yy and xy over those of its model, square pixels; small.

    Returns
    -------
    coefficients
        (m,) of the kernel functions, divided by the sum.
    total
        Sum of the kernel.
    """
    half = max(HALF, basis.half_width)
    offsets = np.arange(-half - basis.half_width, half + basis.half_width + 1.0)
    wide = reference.at_offsets(*place, offsets, offsets)
    inner = offsets[basis.half_width : -basis.half_width]
    around = np.arange(inner[0] - 1.0, inner[-1] + 2.0)
    wider = target.at_offsets(*place, around - shift[0], around - shift[1])
    goal = wider[1:-1, 1:-1] + 0.5 * sum(m * c for m, c in zip(moments, _second_differences(wider), strict=True))
    goal = goal.ravel()
    columns = np.array([convolve(wide, image, "valid").ravel() for image in basis.images])
    weight = 1.0 / (np.abs(goal) + 0.01 * goal.max())
    normal = (columns * weight) @ columns.T
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    coefficients = np.linalg.solve(normal, (columns * weight) @ goal)
    return coefficients / coefficients[0], float(coefficients[0])


def _second_differences(image: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the second derivatives xx and yy, and twice xy, without the outermost pixels."""
    middle = image[1:-1, 1:-1]
    xx = image[1:-1, 2:] + image[1:-1, :-2] - 2.0 * middle
    yy = image[2:, 1:-1] + image[:-2, 1:-1] - 2.0 * middle
    xy = 0.25 * (image[2:, 2:] + image[:-2, :-2] - image[2:, :-2] - image[:-2, 2:])
    return xx, yy, 2.0 * xy
