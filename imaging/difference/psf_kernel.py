"""Matching kernel from two PSF models, for images with too few sources to fit one."""

import numpy as np
from scipy.signal import fftconvolve

from imaging.difference.basis import KernelBasis
from imaging.difference.design import Stamps
from imaging.difference.kernel import MatchingKernel
from imaging.image import FloatImage
from imaging.psf.model import PsfModel


def kernel_from_psfs(
    reference: PsfModel, target: PsfModel, basis: KernelBasis, shape: tuple[int, int], stamps: Stamps
) -> MatchingKernel:
    """Compute the constant kernel that matches one PSF to another, with its sum from the source fluxes.

    Parameters
    ----------
    reference, target
        PSF models of the convolved image and of the other one.
    basis
        Kernel functions.
    shape
        (ny, nx) of the images.
    stamps
        Stamps (possibly none) to measure the background and the chi-square.
    """
    x, y = shape[1] / 2, shape[0] / 2
    half = 12
    wide = reference.stamp(x, y, half + basis.half_width)
    goal = target.stamp(x, y, half).ravel()
    columns = np.array([fftconvolve(wide, image, mode="valid").ravel() for image in basis.images])
    weight = 1.0 / (np.abs(goal) + 0.01 * goal.max())
    first, others = columns[0], columns[1:]
    normal = (others * weight) @ others.T
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    solution = np.linalg.solve(normal, (others * weight) @ (goal - first))
    coefficients = np.concatenate([[1.0], solution])[:, None]
    background, chi2, error = 0.0, float("nan"), 0.01
    if len(stamps.x):
        images = np.tensordot(coefficients[:, 0], basis.images, axes=1)
        model = stamps.convolved(np.repeat(images[None], len(stamps.x), axis=0))
        scale, error = _scale(model, stamps)
        coefficients, model = coefficients * scale, model * np.float32(scale)
        residual = stamps.data - model
        background = float(np.median(residual))
        chi2 = float(np.median(np.sum(stamps.weight * (residual - background) ** 2, axis=1) / stamps.n_pixels))
    return MatchingKernel(
        *(basis, coefficients, np.array([background]), (x, y), (x, y)),
        order=0,
        level=int(basis.levels.max()),
        n_stamps=len(stamps.x),
        n_rejected=0,
        chi2=chi2,
        sum_error=error,
    )


def _scale(model: FloatImage, stamps: Stamps) -> tuple[float, float]:
    """Return the median flux ratio of the stamps to the model and its error; one without usable stamps."""
    centred = model - model.mean(axis=1, keepdims=True)
    power = np.sum(stamps.weight * centred**2, axis=1, dtype=float)
    known = power > 50.0**2
    if not known.any():
        return 1.0, 0.02
    ratio = np.sum(stamps.weight * centred * (stamps.data - stamps.data.mean(axis=1, keepdims=True)), axis=1) / power
    scatter = float(np.std(ratio[known])) if known.sum() > 1 else 0.01
    return float(np.median(ratio[known])), max(scatter / np.sqrt(known.sum()), 0.002)
