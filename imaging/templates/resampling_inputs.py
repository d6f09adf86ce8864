"""Prepare a final image for resampling once: repair of defects, mask growth, centroids of stars."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from imaging.image import CalibratedImage, CcdImage, FloatImage, ResamplingInputs
from imaging.psf.model import PsfModel
from imaging.templates.pixels import changed_places, grow_bits
from imaging.templates.relative import find_bright_sources
from imaging.templates.saturated import repair_pixels
from imaging.templates.settings import ResamplingInputSettings

FloatArray = NDArray[np.float64]

MAX_STARS = 400
"""Number of stars sufficient to align two images."""

MIN_SNR, MAX_PEAK = 15.0, 0.8
"""Lowest signal to noise of a star's peak pixel, and its highest value as a fraction of the saturation level."""


def make_resampling_inputs(
    pixels: CcdImage, psf: PsfModel, saturation_electrons: float, settings: ResamplingInputSettings
) -> ResamplingInputs:
    """Repair an image, grow its mask and find its stars.

    Parameters
    ----------
    pixels
        The final image, sky subtracted.
    psf
        Its PSF.
    saturation_electrons
        Saturation level.
    settings
        Widest interpolated defect, growth of the mask.
    """
    repaired = repair_pixels(pixels, psf, settings.repair_gap_pixels)
    repaired_at = np.flatnonzero(repaired != pixels.science).astype(np.int32)
    grown = grow_bits(pixels.mask, settings.mask_growth_pixels)
    grown_at = changed_places(pixels.mask, grown)
    return ResamplingInputs(
        repaired_at=repaired_at,
        repaired=repaired.reshape(-1)[repaired_at],
        grown_at=grown_at,
        grown=grown.reshape(-1)[grown_at],
        stars=_stars(pixels, psf, saturation_electrons),
        repair_gap_pixels=settings.repair_gap_pixels,
        mask_growth_pixels=settings.mask_growth_pixels,
    )


def resampling_inputs_of(image: CalibratedImage, settings: ResamplingInputSettings | None = None) -> ResamplingInputs:
    """Return the stored resampling inputs of an image, or compute them.

    Parameters
    ----------
    image
        The image.
    settings
        Required settings; None accepts any stored ones, and uses the defaults if there are none.
    """
    laid = image.resampling_inputs
    if laid is not None and (settings is None or settings == _settings_of(laid)):
        return laid
    return make_resampling_inputs(
        image.pixels, image.psf, image.saturation_electrons, settings or ResamplingInputSettings()
    )


def with_resampling_inputs(image: CalibratedImage, settings: ResamplingInputSettings) -> CalibratedImage:
    """Return an image with resampling inputs for these settings."""
    return replace(image, resampling_inputs=resampling_inputs_of(image, settings))


def _settings_of(resampling_inputs: ResamplingInputs) -> ResamplingInputSettings:
    return ResamplingInputSettings(
        repair_gap_pixels=resampling_inputs.repair_gap_pixels, mask_growth_pixels=resampling_inputs.mask_growth_pixels
    )


def _stars(pixels: CcdImage, psf: PsfModel, saturation_electrons: float) -> FloatArray:
    """Return (n, 2) centroids of the brightest unsaturated sources."""
    x, y, _ = find_bright_sources(
        pixels.science, pixels.weight, min_snr=MIN_SNR, maximum=MAX_PEAK * saturation_electrons
    )
    centres = _window(pixels.science, x[:MAX_STARS], y[:MAX_STARS], psf.fwhm_pixels / 2.3548)
    return centres[np.isfinite(centres[:, 0])]


@numba.njit(cache=True)
def _window(science: FloatImage, x: FloatArray, y: FloatArray, sigma: float) -> FloatArray:
    """Return (n, 2) Gaussian-windowed centroids, NaN if the iteration leaves the source or the image."""
    ny, nx = science.shape
    reach = int(np.ceil(3.0 * sigma))
    out = np.full((x.size, 2), np.nan)
    for k in range(x.size):
        cx, cy = x[k], y[k]
        for _ in range(20):
            i0, j0 = int(np.rint(cx)) - reach, int(np.rint(cy)) - reach
            if i0 < 0 or j0 < 0 or i0 + 2 * reach >= nx or j0 + 2 * reach >= ny:
                break
            total = mx = my = 0.0
            for j in range(j0, j0 + 2 * reach + 1):
                for i in range(i0, i0 + 2 * reach + 1):
                    dx, dy = i - cx, j - cy
                    value = science[j, i] * np.exp(-0.5 * (dx * dx + dy * dy) / (sigma * sigma))
                    total += value
                    mx += value * dx
                    my += value * dy
            if total <= 0.0:
                break
            cx += 2.0 * mx / total
            cy += 2.0 * my / total
            if (cx - x[k]) ** 2 + (cy - y[k]) ** 2 > 9.0:
                break
            if mx * mx + my * my < (1e-3 * total) ** 2:
                out[k, 0], out[k, 1] = cx, cy
                break
    return out


SETTINGS = "RESAMPLING"
"""Extension with the widest interpolated defect and the growth of the mask, pixels."""

SETTINGS_0_1 = "GROUNDWORK"
"""Name of this extension in version 0.1."""

LISTS: dict[str, Any] = {
    "REPAIRED_AT": np.int32,
    "REPAIRED": np.float32,
    "GROWN_AT": np.int32,
    "GROWN": np.int16,
    "STARS": np.float64,
}
"""Other extensions and their fields; empty ones are omitted."""

EXTENSIONS = (SETTINGS, SETTINGS_0_1, *LISTS)


def resampling_planes(resampling_inputs: ResamplingInputs) -> dict[str, NDArray[Any]]:
    """Return the FITS extensions of resampling inputs."""
    arrays: dict[str, NDArray[Any]] = {
        SETTINGS: np.array([resampling_inputs.repair_gap_pixels, resampling_inputs.mask_growth_pixels], dtype=np.int32),
        "REPAIRED_AT": resampling_inputs.repaired_at,
        "REPAIRED": resampling_inputs.repaired,
        "GROWN_AT": resampling_inputs.grown_at,
        "GROWN": resampling_inputs.grown,
        "STARS": resampling_inputs.stars,
    }
    return {name: array for name, array in arrays.items() if array.size}


def resampling_inputs_from(planes: Mapping[str, NDArray[Any]]) -> ResamplingInputs | None:
    """Return the resampling inputs from a file's extensions, None if there are none.

    Parameters
    ----------
    planes
        Extensions of the file, including those of EXTENSIONS that it has.
    """
    stated = planes.get(SETTINGS, planes.get(SETTINGS_0_1))
    if stated is None:
        return None
    gap, growth = stated.tolist()
    arrays = {name: planes.get(name, np.empty(0, dtype=kind)) for name, kind in LISTS.items()}
    return ResamplingInputs(
        repaired_at=arrays["REPAIRED_AT"],
        repaired=arrays["REPAIRED"],
        grown_at=arrays["GROWN_AT"],
        grown=arrays["GROWN"],
        stars=arrays["STARS"].reshape(-1, 2),
        repair_gap_pixels=gap,
        mask_growth_pixels=growth,
    )
