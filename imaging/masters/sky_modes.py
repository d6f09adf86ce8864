"""Derive the sky modes of a band by robust principal-component analysis of the skies of many exposures.

The method is that of Bernstein et al. (2017, PASP 129, 114502, section 4): components of the mini-skies over the focal
plane first, then, CCD by CCD, the response of every bin of the images to their amplitudes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from imaging.bits import NOT_SKY
from imaging.errors import InputError
from imaging.masters.settings import SkyModeSettings
from imaging.numerics.blocks import block_cells
from imaging.numerics.robust import clipped, mad_sigma
from imaging.sky.mini_sky import MiniSky
from imaging.sky.modes import SkyModes

FloatArray = NDArray[np.float64]


CONVERGED = 1e-5
"""Relative change of the mean sky below which the iteration stops."""


@dataclass(frozen=True, eq=False)
class FoundModes:
    """Sky modes and the amplitudes of the exposures used.

    Attributes
    ----------
    modes
        Mode 0 is the mean sky, near one; the others have an rms of one.
    amplitudes
        Exposure number to (n_modes,) amplitudes, electrons.
    rms_fraction
        Robust scatter of the superpixels about the modes, as a fraction of the sky.
    shares
        (n_modes - 1,) rms amplitude of each further mode as a fraction of the sky.
    """

    modes: SkyModes
    amplitudes: dict[int, FloatArray]
    rms_fraction: float
    shares: FloatArray


def find_sky_modes(skies: Mapping[int, Mapping[int, MiniSky]], settings: SkyModeSettings) -> FoundModes:
    """Derive the sky modes.

    Parameters
    ----------
    skies
        Exposure number to CCD number to mini-sky, all of one band. CCDs missing in any exposure are ignored.
    settings
        Number of modes, clipping.

    Raises
    ------
    InputError
        If there are too few exposures, or no CCD is common to them.
    """
    expnums = sorted(skies)
    if len(expnums) < settings.minimum_exposures:
        raise InputError(
            "too few exposures for sky modes",
            value=len(expnums),
            limit=f"at least {settings.minimum_exposures}",
            remedy="give more exposures of the band, of different fields",
        )
    ccds = sorted(set.intersection(*(set(skies[expnum]) for expnum in expnums)))
    if not ccds:
        raise InputError("no CCD is common to the exposures", value=", ".join(map(str, expnums)))
    values = np.stack([np.concatenate([skies[e][c].values.ravel() for c in ccds]) for e in expnums]).astype(float)
    level = np.nanmedian(values, axis=1, keepdims=True)
    mean = _filled_median(values / level)
    scaled = values / level / np.nanmedian(values / level / mean, axis=1, keepdims=True)
    mean, components, good = _components(scaled, mean, min(settings.n_modes, len(expnums) - 1) - 1, settings)
    vectors = np.concatenate([mean[None], components])
    amplitudes = np.stack([_amplitudes(vectors, row, ok) for row, ok in zip(values, good, strict=True)])
    residual = (values - amplitudes @ vectors) / level
    shape = skies[expnums[0]][ccds[0]].values.shape
    by_ccd = vectors.reshape(len(vectors), len(ccds), *shape).astype(np.float32)
    return FoundModes(
        modes=SkyModes({ccd: np.ascontiguousarray(by_ccd[:, k]) for k, ccd in enumerate(ccds)}),
        amplitudes=dict(zip(expnums, amplitudes, strict=True)),
        rms_fraction=mad_sigma(residual[good]),
        shares=np.sqrt(np.mean((amplitudes[:, 1:] / level) ** 2, axis=0)),
    )


def _filled_median(values: FloatArray) -> FloatArray:
    """Return the median over the exposures; superpixels without data are one."""
    seen = np.isfinite(values).any(axis=0)
    median = np.ones(values.shape[1])
    median[seen] = np.nanmedian(values[:, seen], axis=0)
    return median


def _components(
    skies: FloatArray, mean: FloatArray, n: int, settings: SkyModeSettings
) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
    """Find mean and components of skies of unit level, with clipping.

    Clipped and unknown values are replaced by the model. The initial mean is a median, which is not a linear
    combination of the skies, so that the mean is corrected by its residual after the components.

    Returns
    -------
    mean, components, good
        (n_superpixels,), (n, n_superpixels) of unit rms, and which values of the skies were used.
    """
    known = np.isfinite(skies)
    good, model = known, np.zeros(skies.shape)
    vectors = np.zeros((n, skies.shape[1]))
    for _ in range(settings.maximum_iterations):
        left, sizes, right = np.linalg.svd(np.where(good, skies - mean, model), full_matrices=False)
        model = (left[:, :n] * sizes[:n]) @ right[:n]
        vectors = right[:n]
        residual = skies - mean - model
        good = known.copy()
        good[known] = clipped(residual[known], settings.clip_sigma)
        correction = np.where(good, residual, 0.0).sum(axis=0) / np.maximum(good.sum(axis=0), 1)
        mean = mean + correction
        if np.abs(correction).max() < CONVERGED:
            break
    rms = np.sqrt(np.mean(vectors**2, axis=1, keepdims=True))
    signs = np.where(vectors.sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    return mean, signs * vectors / rms, good


def _amplitudes(vectors: FloatArray, values: FloatArray, good: NDArray[np.bool_]) -> FloatArray:
    solution, *_ = np.linalg.lstsq(vectors[:, good].T, values[good], rcond=None)
    return np.asarray(solution, dtype=float)


def bin_sky(science: NDArray[np.float32], mask: NDArray[np.int16], side: int) -> NDArray[np.float32]:
    """Return medians of the sky pixels of blocks: (ny / side, nx / side); NaN if less than half are sky."""
    ny, nx = science.shape
    values = np.where((mask & int(NOT_SKY)) == 0, science, np.float32(np.nan))
    blocks = block_cells(values, side, side).reshape(-1, side * side)
    enough = np.isfinite(blocks).sum(axis=1) * 2 >= side * side
    binned = np.full(len(blocks), np.nan, dtype=np.float32)
    binned[enough] = np.nanmedian(blocks[enough], axis=1)
    return binned.reshape(ny // side, nx // side)


def fit_templates(
    binned: Sequence[NDArray[np.float32]], amplitudes: Sequence[FloatArray], settings: SkyModeSettings
) -> NDArray[np.float32]:
    """Fit the response of every bin of a CCD to the amplitudes of the modes.

    Parameters
    ----------
    binned
        (by, bx) skies of the CCD, electrons, one per exposure; NaN for bins without sky.
    amplitudes
        (n_modes,) amplitudes of each exposure.
    settings
        Clipping.

    Returns
    -------
    templates
        (n_modes, by, bx) float32; bins with fewer than two exposures more than modes get their neighbours' value.
    """
    values = np.stack([image.ravel() for image in binned]).astype(float)
    design = np.stack(amplitudes)
    weight = np.isfinite(values).astype(float)
    filled = np.where(weight > 0, values, 0.0)
    level = design[:, :1]
    solution = np.zeros((design.shape[1], values.shape[1]))
    for _ in range(3):
        scaled = weight / level**2
        normal = np.einsum("ek,el,ep->pkl", design, design, scaled)
        right = np.einsum("ek,ep->pk", design, scaled * filled)
        solvable = weight.sum(axis=0) >= design.shape[1] + 2
        solution[:, solvable] = np.linalg.solve(normal[solvable], right[solvable][..., None])[..., 0].T
        residual = (values - design @ solution) / level
        sigma = mad_sigma(residual[np.isfinite(residual)])
        weight = (np.abs(np.nan_to_num(residual, nan=np.inf)) < settings.clip_sigma * sigma).astype(float)
    templates = solution.reshape(-1, *binned[0].shape)
    return _repaired(templates, solvable.reshape(binned[0].shape)).astype(np.float32)


def _repaired(templates: FloatArray, good: NDArray[np.bool_]) -> FloatArray:
    """Replace bins without a solution by the nearest bin with one."""
    if good.all() or not good.any():
        return templates
    nearest = distance_transform_edt(~good, return_distances=False, return_indices=True)
    return templates[:, *nearest]
