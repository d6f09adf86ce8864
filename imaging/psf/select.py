"""Select PSF stars from the point-source locus in size and concentration."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.errors import CcdError
from imaging.numerics.robust import mad_sigma
from imaging.psf.settings import PsfSettings

FloatArray = NDArray[np.float64]

SEEING_TOLERANCE = 0.3
"""Largest relative difference of a star's size from the seeing."""


@dataclass(frozen=True, eq=False)
class StarCandidates:
    """Input of the selection; every array has one entry per source.

    Attributes
    ----------
    x, y
        Centroids, pixels.
    flux
        Electrons in the reference aperture.
    snr
        Signal to noise in a small aperture.
    fwhm_pixels
        Width of the core; NaN if not measured.
    concentration_mag
        Magnitude difference between a small and a large aperture.
    ellipticity
        1 - b/a of the isophote.
    clean
        bool; not deblended, no masked pixel, not saturated, away from the border, centroid found.
    neighbour_fraction
        Fraction of the star's surroundings occupied by neighbours or masks.
    """

    x: FloatArray
    y: FloatArray
    flux: FloatArray
    snr: FloatArray
    fwhm_pixels: FloatArray
    concentration_mag: FloatArray
    ellipticity: FloatArray
    clean: NDArray[np.bool_]
    neighbour_fraction: FloatArray


def stellar_size(fwhm_pixels: FloatArray) -> float:
    """Return the common size of the stars among many sources.

    Stars have one size, galaxies are larger, and sharper sources are already excluded: the smallest common size is that
    of the stars. The distribution of the logarithms is smoothed with a Gaussian of 4 %; a size is common if its density
    reaches 0.4 of the highest.

    Parameters
    ----------
    fwhm_pixels
        (n,) sizes, positive and finite, n > 0.
    """
    logs = np.log(fwhm_pixels)
    grid = np.arange(logs.min() - 0.1, logs.max() + 0.1, 0.01)
    density = np.exp(-0.5 * ((grid[:, None] - logs[None, :]) / 0.04) ** 2).sum(axis=1)
    before, after = np.append(0.0, density[:-1]), np.append(density[1:], 0.0)
    common = (density >= before) & (density >= after) & (density >= 0.4 * density.max())
    best = grid[np.argmax(common)]
    near = np.abs(logs - best) < 0.06
    return float(np.exp(np.median(logs[near]))) if near.any() else float(np.exp(best))


def select_psf_stars(
    sources: StarCandidates, settings: PsfSettings, seeing_pixels: float | None = None
) -> NDArray[np.int64]:
    """Select PSF stars.

    Clean sources of high signal to noise near the stellar size are clipped in size and concentration about a plane in
    position, which keeps the stars of a varying PSF and removes compact galaxies.

    Parameters
    ----------
    sources
        Candidates.
    settings
        Limits.
    seeing_pixels
        Seeing, if known: sources of very different size are ignored.

    Returns
    -------
    chosen
        Indices of the stars, brightest first.

    Raises
    ------
    CcdError
        If there are too few.
    """
    low, high = settings.size_range_pixels
    if seeing_pixels is not None:
        low, high = (1.0 - SEEING_TOLERANCE) * seeing_pixels, (1.0 + SEEING_TOLERANCE) * seeing_pixels
    stellar = (
        sources.clean
        & (sources.snr > settings.minimum_snr)
        & (sources.fwhm_pixels > low)
        & (sources.fwhm_pixels < high)
        & np.isfinite(sources.concentration_mag)
        & (sources.ellipticity < settings.maximum_ellipticity)
    )
    usable = stellar
    for limit in settings.neighbour_limits:
        usable = stellar & (sources.neighbour_fraction <= limit)
        if usable.sum() >= settings.enough_stars:
            break
    if usable.sum() < settings.minimum_stars:
        raise _too_few(int(usable.sum()), settings)
    common = stellar_size(sources.fwhm_pixels[usable])
    keep = usable & (np.abs(sources.fwhm_pixels / common - 1.0) < settings.locus_half_width)
    for values in (sources.fwhm_pixels, sources.concentration_mag):
        keep = _clip_about_plane(sources, values, keep, settings.locus_sigma)
    chosen = np.flatnonzero(keep)
    if chosen.size < settings.minimum_stars:
        raise _too_few(chosen.size, settings)
    return chosen[np.argsort(-sources.flux[chosen], kind="stable")][: settings.maximum_stars]


def _clip_about_plane(
    sources: StarCandidates, values: FloatArray, keep: NDArray[np.bool_], n_sigma: float
) -> NDArray[np.bool_]:
    design = np.stack([np.ones_like(sources.x), sources.x / 2048.0, sources.y / 4096.0], axis=-1)
    for _ in range(5):
        if keep.sum() < 12:
            return keep
        plane, *_ = np.linalg.lstsq(design[keep], values[keep], rcond=None)
        residual = values - design @ plane
        sigma = mad_sigma(residual[keep])
        new = keep & (np.abs(residual - np.median(residual[keep])) <= n_sigma * sigma)
        if sigma == 0.0 or new.sum() == keep.sum():
            break
        keep = new
    return keep


def _too_few(found: int, settings: PsfSettings) -> CcdError:
    return CcdError(
        "too few stars for a PSF model",
        reason="too_few_psf_stars",
        step="psf",
        value=found,
        limit=f"at least {settings.minimum_stars} clean stars above S/N {settings.minimum_snr:g}",
        remedy="check the focus, guiding and clouds of this exposure; the CCD is skipped",
    )
