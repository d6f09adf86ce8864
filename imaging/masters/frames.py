"""Build the master bias and dome flat of one CCD."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT
from imaging.detector.ccds import Ccd
from imaging.detector.linearity import LinearityTable
from imaging.detrend.calibrations import DetrendCalibrations
from imaging.detrend.chain import detrend_ccd
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.image import RawCcd
from imaging.masters.adu_frames import adu_frame
from imaging.masters.combine import combine_frames
from imaging.masters.settings import MasterSettings
from imaging.numerics.blocks import block_cells

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Master:
    """A combined frame of one CCD.

    Attributes
    ----------
    image
        (ny, nx) float32: ADU above the overscan for a bias, response with median one for a flat.
    levels
        Exposure number to level: median ADU of a bias frame, median electrons of a flat frame.
    noise
        Noise of a pixel of one frame: ADU, or as a fraction of the level.
    n_rejected
        Number of rejected values.
    left_out
        Exposure number to the reason why the whole frame was rejected.
    """

    image: FloatImage
    levels: dict[int, float]
    noise: float
    n_rejected: int
    left_out: dict[int, str]


def master_bias(ccd: Ccd, raws: Mapping[int, RawCcd], night: int, settings: MasterSettings) -> Master:
    """Combine bias frames of one CCD.

    Parameters
    ----------
    ccd
        The CCD.
    raws
        Exposure number to raw extension.
    night
        Night, for the table of known faults.
    settings
        Overscan, clipping.

    Raises
    ------
    CcdError
        With reason ``too_few_exposures``, or as :func:`adu_frame` if that refuses all frames.
    """
    _require_enough(ccd, len(raws), "bias", settings)
    frames: dict[int, FloatImage] = {}
    noise: dict[int, float] = {}
    refused: dict[int, CcdError] = {}
    for number, raw in raws.items():
        with _told(number, refused):
            frame = adu_frame(ccd, {ccd.ccdnum: raw}, night, settings.detrend)
            frames[number], noise[number] = frame.science, frame.noise_adu
    left_out = _reasons(refused, len(raws))
    unlike = outlying_frames(frames, settings.bias_outlier_adu)
    left_out |= {number: f"unlike the others by {by:.1f} ADU" for number, by in unlike.items()}
    kept = [number for number in frames if number not in left_out]
    _require_enough(ccd, len(kept), f"bias that are alike within {settings.bias_outlier_adu:g} ADU", settings)
    image, rejected = combine_frames([frames[n] for n in kept], [noise[n] for n in kept], settings.clip_sigma)
    levels = {number: float(np.median(frames[number][::8, ::8])) for number in kept}
    return Master(image, levels, float(np.median([noise[n] for n in kept])), int(rejected.sum()), left_out)


def master_flat(
    ccd: Ccd,
    raws: Mapping[int, tuple[RawCcd, Exposure]],
    bias: FloatImage,
    linearity: LinearityTable | None,
    settings: MasterSettings,
) -> Master:
    """Combine dome flats of one CCD and band, each scaled to its median.

    Frames without light, saturated, with a level outside the accepted range, or that differ from the others, are
    rejected.

    Parameters
    ----------
    ccd
        The CCD.
    raws
        Exposure number to raw extension and exposure.
    bias
        (ny, nx) float32, master bias, ADU.
    linearity
        Response curves; None to assume a linear response.
    settings
        Range of levels, clipping.

    Raises
    ------
    CcdError
        With reason ``too_few_exposures``, or as :func:`imaging.detrend.chain.detrend_ccd` if that refuses all frames.
    """
    low, high = settings.flat_level_range_electrons
    calibrations = DetrendCalibrations(bias=bias, linearity=linearity)
    frames: dict[int, FloatImage] = {}
    levels: dict[int, float] = {}
    dim_or_bright: dict[int, str] = {}
    refused: dict[int, CcdError] = {}
    for number, (raw, exposure) in raws.items():
        with _told(number, refused):
            detrended = detrend_ccd(ccd, raw, {}, exposure, calibrations, settings.detrend)
            good = (detrended.mask[::8, ::8] & int(NO_WEIGHT)) == 0
            level = float(np.median(detrended.science[::8, ::8][good]))
            if low <= level <= high:
                levels[number] = level
                frames[number] = detrended.science / np.float32(level)
            else:
                dim_or_bright[number] = f"its level is {level:.0f} electrons"
    left_out = _reasons(refused, len(raws)) | dim_or_bright
    _require_enough(ccd, len(frames), f"flat between {low:g} and {high:g} electrons", settings)
    for number, by in outlying_frames(frames, settings.flat_outlier_fraction).items():
        left_out[number] = f"unlike the others by {by:.1%}"
        del frames[number], levels[number]
    _require_enough(ccd, len(frames), f"flat that are alike within {settings.flat_outlier_fraction:.1%}", settings)
    noise = [1.0 / np.sqrt(level) for level in levels.values()]
    image, rejected = combine_frames(list(frames.values()), noise, settings.clip_sigma)
    return Master(image, levels, float(np.median(noise)), int(rejected.sum()), left_out)


@contextmanager
def _told(number: int, refused: dict[int, CcdError]) -> Iterator[None]:
    """Keep the error of a frame that cannot be used, so that the others are combined without it."""
    try:
        yield
    except CcdError as error:
        refused[number] = error


def _reasons(refused: Mapping[int, CcdError], n_frames: int) -> dict[int, str]:
    """Return why frames were refused; raise if none is left, since then the CCD is at fault."""
    if len(refused) == n_frames:
        raise next(iter(refused.values()))
    return {number: f"refused as {error.reason}" for number, error in refused.items()}


def outlying_frames(frames: Mapping[int, FloatImage], limit: float) -> dict[int, float]:
    """Return the frames that differ from the others, and by how much.

    Parameters
    ----------
    frames
        Exposure number to (ny, nx) float32.
    limit
        Difference from the median frame that a tenth of the blocks of 64 pixels may exceed, in the frames' unit.
    """
    blocks = {number: _block_medians(frame) for number, frame in frames.items()}
    middle = np.median(list(blocks.values()), axis=0)
    differences = {number: float(np.percentile(np.abs(block - middle), 90)) for number, block in blocks.items()}
    return {number: by for number, by in differences.items() if by > limit}


def _block_medians(frame: FloatImage) -> NDArray[np.float32]:
    """Return the medians of every fourth pixel of blocks of 64 x 64."""
    sample = frame[: frame.shape[0] // 64 * 64 : 4, : frame.shape[1] // 64 * 64 : 4]
    return np.median(block_cells(sample, 16, 16), axis=2)


def relative_levels(levels: Mapping[int, Mapping[int, float]]) -> dict[int, float]:
    """Return each CCD's level over the camera's: the scale of its flat.

    Parameters
    ----------
    levels
        CCD number to exposure number to level.

    Returns
    -------
    scales
        CCD number to scale: median, over the exposures common to all CCDs, of the level over the CCDs' mean. The mean
        of the scales is one to the precision of the frames.
    """
    shared = sorted(set.intersection(*(set(frames) for frames in levels.values())))
    if not shared:
        raise CcdError(
            "no flat exposure is usable for all CCDs", reason="too_few_exposures", step="finish_masters", value=0
        )
    ccds = sorted(levels)
    table = np.array([[levels[ccd][number] for number in shared] for ccd in ccds])
    scales = np.median(table / table.mean(axis=0), axis=1)
    return dict(zip(ccds, scales.tolist(), strict=True))


def _require_enough(ccd: Ccd, found: int, kind: str, settings: MasterSettings) -> None:
    if found < settings.minimum_exposures:
        raise CcdError(
            f"too few exposures of the kind {kind}",
            reason="too_few_exposures",
            ccd=ccd.ccdnum,
            value=found,
            limit=f"at least {settings.minimum_exposures}",
            remedy="take more exposures, or give another night",
        )
