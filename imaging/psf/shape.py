"""FWHM, ellipticity and aperture normalisation of a PSF model."""

from dataclasses import replace

import numpy as np

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.numerics.gaussian import FWHM_TO_SIGMA
from imaging.psf.model import FloatArray, PsfModel

FINE_STEP = 0.2
"""Pixels per sample for the measurement of sizes and shapes."""

NORMALISED = 1e-4
"""Largest deviation from one of the flux in the reference aperture without a correction."""


def model_fwhm(model: PsfModel) -> float:
    """Return the full width at half maximum at a PSF's origin: that of the disk with the area above half maximum."""
    core = _core(model)
    level = 0.5 * core.max()
    slope = np.hypot(*np.gradient(core))
    share = np.clip((core - level) / np.maximum(slope, 1e-12) + 0.5, 0.0, 1.0)
    return float(2.0 * np.sqrt(share.sum() / np.pi) * FINE_STEP)


def psf_ellipticity(model: PsfModel) -> float:
    """Return 1 - b/a at a PSF's origin, from second moments under a Gaussian window of the PSF's width."""
    core = _core(model)
    offsets = (np.arange(core.shape[0]) - core.shape[0] // 2) * FINE_STEP
    dx, dy = np.meshgrid(offsets, offsets)
    sigma2 = (model.fwhm_pixels * FWHM_TO_SIGMA) ** 2
    window = core * np.exp(-0.5 * (dx**2 + dy**2) / sigma2)
    xx, xy, yy = (float((window * p).sum() / window.sum()) for p in (dx * dx, dx * dy, dy * dy))
    inverse = np.linalg.inv([[xx, xy], [xy, yy]]) - np.eye(2) / sigma2
    low, high = np.linalg.eigvalsh(inverse)
    return float(1.0 - np.sqrt(max(low, 1e-6) / high))


def aperture_flux(model: PsfModel) -> float:
    """Return a PSF's flux in the reference aperture at its origin; one by the model's convention."""
    samples = model.samples(*model.origin)
    offsets = (np.arange(samples.shape[0]) - samples.shape[0] // 2) * model.step
    radius = np.hypot(*np.meshgrid(offsets, offsets))
    inside = np.clip((REFERENCE_APERTURE_PIXELS / 2 - radius) / model.step + 0.5, 0.0, 1.0)
    return float((samples * inside).sum() * model.step**2)


def normalised(model: PsfModel) -> PsfModel:
    """Return a PSF normalised to unit flux in the reference aperture at its origin; unchanged if it already is."""
    flux = aperture_flux(model)
    if abs(flux - 1.0) < NORMALISED:
        return model
    return replace(model, coefficients=(model.coefficients / np.float32(flux)).astype(np.float32))


def _core(model: PsfModel) -> FloatArray:
    """Return a finely sampled image of the PSF within 1.5 FWHM of its centre."""
    reach = int(np.ceil(1.5 * model.fwhm_pixels / FINE_STEP))
    offsets = FINE_STEP * np.arange(-reach, reach + 1, dtype=np.float64)
    return model.at_offsets(*model.origin, offsets, offsets)
