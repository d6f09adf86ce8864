"""Detect sources: weighted matched filter, connected pixels, deblending.

The filter is that of Bosch, AlSayyad, Armstrong et al. (2018, PASJ 70, S5, section 4.7.2) with a Gaussian for the
PSF: the image is divided by its variance before smoothing, so that bad pixels are ignored and noisy amplifiers have
less weight, and the result is the signal-to-noise of a point source at each pixel. Connected pixels and the deblending
tree are those of SExtractor (Bertin and Arnouts 1996), through sep.
"""

from dataclasses import dataclass

import numpy as np
import sep
from numba import njit
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.catalogue.settings import CatalogueSettings
from imaging.errors import CcdError
from imaging.image import CcdImage, FloatImage, MaskImage
from imaging.numerics.gaussian import FWHM_TO_SIGMA

MESH_PIXELS = 64
"""Mesh size of the background subtracted if a halo covers the CCD."""

SEP_MERGED = 1
"""sep's flag of a source that was deblended from another one."""


@dataclass(frozen=True, eq=False)
class Detections:
    """Sources found on an image.

    Attributes
    ----------
    x, y
        (n,) float64, brightest pixel of the smoothed image, 0-based.
    deblended
        (n,) bool, split from a neighbour.
    segmentation
        (ny, nx) int32, number of the source from 1 in each pixel of its isophote, 0 elsewhere.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    deblended: NDArray[np.bool_]
    segmentation: NDArray[np.int32]

    def __len__(self) -> int:
        return self.x.size


def matched_filter(science: FloatImage, mask: MaskImage, weight: FloatImage, fwhm_pixels: float) -> NDArray[np.float32]:
    """Return the signal-to-noise ratio of a Gaussian source at every pixel.

    Saturated pixels are included with the image's median weight, so that a saturated star is one source and not a ring
    of fragments.

    Parameters
    ----------
    science, mask, weight
        (ny, nx) planes; the sky is subtracted.
    fwhm_pixels
        Width of the filter.

    Returns
    -------
    snr
        (ny, nx) float32; zero where no pixel under the filter carries weight.
    """
    sigma = fwhm_pixels * FWHM_TO_SIGMA
    radius = max(2, int(np.ceil(2.0 * sigma)))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    good = weight[::8, ::8]
    good = good[good > 0]
    typical = np.float32(np.median(good)) if good.size else np.float32(0.0)
    return _filter(science, mask, weight, typical, taps, np.int16(MaskBit.SATURATE), np.int16(_never_detected()))


def _never_detected() -> int:
    return int(NO_WEIGHT & ~MaskBit.SATURATE & ~MaskBit.TRAIL)


@njit(cache=True)
def _filter(
    science: FloatImage,
    mask: MaskImage,
    weight: FloatImage,
    typical: np.float32,
    taps: NDArray[np.float32],
    saturated: np.int16,
    never: np.int16,
) -> NDArray[np.float32]:
    """Compute sum(k w d) / sqrt(sum(k^2 w)) for a separable kernel k, in two passes over rows."""
    ny, nx = science.shape
    radius = taps.size // 2
    squares = taps * taps
    signal = np.empty((ny, nx), np.float32)
    power = np.empty((ny, nx), np.float32)
    row_signal = np.zeros(nx + 2 * radius, np.float32)
    row_power = np.zeros(nx + 2 * radius, np.float32)
    for j in range(ny):
        for i in range(nx):
            w = weight[j, i]
            if mask[j, i] & saturated and not mask[j, i] & never:
                w = typical
            row_power[radius + i] = w
            row_signal[radius + i] = w * science[j, i] if w > 0.0 else np.float32(0.0)
        signal[j] = 0.0
        power[j] = 0.0
        out_signal, out_power = signal[j], power[j]
        for t in range(taps.size):
            k, k2 = taps[t], squares[t]
            in_signal, in_power = row_signal[t : t + nx], row_power[t : t + nx]
            for i in range(nx):
                out_signal[i] += k * in_signal[i]
                out_power[i] += k2 * in_power[i]
    snr = np.empty((ny, nx), np.float32)
    column_signal = np.empty(nx, np.float32)
    column_power = np.empty(nx, np.float32)
    for j in range(ny):
        column_signal[:] = 0.0
        column_power[:] = 0.0
        for t in range(max(0, radius - j), min(taps.size, ny + radius - j)):
            k, k2 = taps[t], squares[t]
            in_signal, in_power = signal[j + t - radius], power[j + t - radius]
            for i in range(nx):
                column_signal[i] += k * in_signal[i]
                column_power[i] += k2 * in_power[i]
        for i in range(nx):
            p = column_power[i]
            snr[j, i] = column_signal[i] / np.sqrt(p) if p > 0.0 else np.float32(0.0)
    return snr


def detect(image: CcdImage, fwhm_pixels: float, settings: CatalogueSettings) -> Detections:
    """Find and deblend the sources of an image.

    If more of the image is above the threshold than sources can cover (the halo of a very bright star, a wrong sky), a
    mesh of local medians is subtracted first.

    Parameters
    ----------
    image
        Sky-subtracted pixels with mask and weight.
    fwhm_pixels
        Seeing, the width of the matched filter.
    settings
        Thresholds.

    Raises
    ------
    CcdError
        If there are too many sources to separate.
    """
    snr = matched_filter(image.science, image.mask, image.weight, fwhm_pixels)
    if np.mean(snr[::8, ::8] > settings.detection_snr) > settings.maximum_covered_fraction:
        level = sep.Background(image.science, mask=image.weight <= 0, bw=MESH_PIXELS, bh=MESH_PIXELS).back()
        snr = matched_filter(image.science - level, image.mask, image.weight, fwhm_pixels)
    sep.set_extract_pixstack(max(1_000_000, snr.size // 2))
    sep.set_sub_object_limit(4096)
    try:
        found, segmentation = sep.extract(
            snr,
            settings.detection_snr,
            minarea=settings.minimum_area_pixels,
            filter_kernel=None,
            deblend_nthresh=settings.deblend_levels,
            deblend_cont=settings.deblend_contrast,
            clean=True,
            segmentation_map=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # sep raises nothing more specific when its buffers overflow
        raise _too_many(f"sep: {error}", settings) from error
    if len(found) > settings.maximum_sources:
        raise _too_many(len(found), settings)
    return Detections(
        found["xcpeak"].astype(float),
        found["ycpeak"].astype(float),
        (found["flag"] & SEP_MERGED) != 0,
        segmentation,
    )


def _too_many(value: object, settings: CatalogueSettings) -> CcdError:
    return CcdError(
        "too many sources to separate",
        reason="too_many_sources",
        step="detect",
        value=value,
        limit=settings.maximum_sources,
        remedy="check the sky subtraction of this CCD, or raise detection_snr",
    )
