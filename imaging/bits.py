"""Mask bits of images (DES BADPIX) and of bad-pixel calibration maps (DES BPMDEF).

The values are those of the Dark Energy Survey, so that masks can be exchanged with its tools.
"""

from enum import IntFlag

import numpy as np
from numpy.typing import NDArray


class MaskBit(IntFlag):
    """Bits of the image mask (DES BADPIX); their meanings are in :data:`MEANINGS`."""

    BPM = 1
    SATURATE = 2
    INTERP = 4
    BADAMP = 8
    CRAY = 16
    STAR = 32
    TRAIL = 64
    EDGEBLEED = 128
    SSXTALK = 256
    EDGE = 512
    STREAK = 1024
    SUSPECT = 2048
    FIXED = 4096
    NEAREDGE = 8192
    TAPEBUMP = 16384


MEANINGS: dict[MaskBit, str] = {
    MaskBit.BPM: "bad in the calibration map",
    MaskBit.SATURATE: "above the amplifier's saturation level",
    MaskBit.INTERP: "value interpolated from its neighbours",
    MaskBit.BADAMP: "amplifier unusable",
    MaskBit.CRAY: "cosmic ray",
    MaskBit.STAR: "halo of a bright star",
    MaskBit.TRAIL: "bleed trail",
    MaskBit.EDGEBLEED: "bleed that ran into the readout edge",
    MaskBit.SSXTALK: "crosstalk from a super-saturated source",
    MaskBit.EDGE: "glowing edge",
    MaskBit.STREAK: "satellite or aircraft",
    MaskBit.SUSPECT: "nominally useful, photometry questionable",
    MaskBit.FIXED: "column repaired by an additive constant",
    MaskBit.NEAREDGE: "near the edge, distorted",
    MaskBit.TAPEBUMP: "tape bump",
}
"""Meaning of each bit of the image mask."""


class BpmBit(IntFlag):
    """Bits of the bad-pixel calibration map (DES BPMDEF)."""

    FLAT_MIN = 1
    FLAT_MAX = 2
    FLAT_MASK = 4
    BIAS_HOT = 8
    BIAS_WARM = 16
    BIAS_MASK = 32
    BIAS_COL = 64
    EDGE = 128
    CORR = 256
    SUSPECT = 512
    FUNKY_COL = 1024
    WACKY_PIX = 2048
    BADAMP = 4096
    NEAREDGE = 8192
    TAPEBUMP = 16384


BPM_TO_MASK: dict[BpmBit, MaskBit] = {
    BpmBit.FLAT_MIN: MaskBit.BPM,
    BpmBit.FLAT_MAX: MaskBit.BPM,
    BpmBit.FLAT_MASK: MaskBit.BPM,
    BpmBit.BIAS_HOT: MaskBit.BPM,
    BpmBit.BIAS_WARM: MaskBit.BPM,
    BpmBit.BIAS_MASK: MaskBit.BPM,
    BpmBit.BIAS_COL: MaskBit.BPM,
    BpmBit.FUNKY_COL: MaskBit.BPM,
    BpmBit.WACKY_PIX: MaskBit.BPM,
    BpmBit.EDGE: MaskBit.EDGE,
    BpmBit.BADAMP: MaskBit.BADAMP,
    BpmBit.SUSPECT: MaskBit.SUSPECT,
    BpmBit.NEAREDGE: MaskBit.NEAREDGE,
    BpmBit.TAPEBUMP: MaskBit.TAPEBUMP,
}
"""Image bit of each calibration bit; CORR has no counterpart and is dropped, as in the original pipeline."""

NOT_SKY = (
    MaskBit.BPM
    | MaskBit.SATURATE
    | MaskBit.INTERP
    | MaskBit.BADAMP
    | MaskBit.CRAY
    | MaskBit.STAR
    | MaskBit.TRAIL
    | MaskBit.EDGEBLEED
    | MaskBit.SSXTALK
    | MaskBit.EDGE
    | MaskBit.STREAK
)
"""Pixels not used to measure the sky."""

NO_WEIGHT = (
    MaskBit.BPM
    | MaskBit.SATURATE
    | MaskBit.BADAMP
    | MaskBit.CRAY
    | MaskBit.TRAIL
    | MaskBit.EDGEBLEED
    | MaskBit.EDGE
    | MaskBit.STREAK
)
"""Pixels with weight zero in the measurement of sources."""

NOT_SEARCHED = NO_WEIGHT | MaskBit.SSXTALK
"""Pixels with weight zero in template stacks and differences. The crosstalk of a saturated source is known to a few per
cent only: what its correction leaves is as sharp as a star."""


def bpm_to_mask(bpm: NDArray[np.integer]) -> NDArray[np.int16]:
    """Translate a bad-pixel calibration map into image mask bits.

    Parameters
    ----------
    bpm
        (ny, nx) integer, :class:`BpmBit` values.

    Returns
    -------
    mask
        (ny, nx) int16, :class:`MaskBit` values.
    """
    mask = np.zeros(bpm.shape, dtype=np.int16)
    for bpm_bit, mask_bit in BPM_TO_MASK.items():
        mask[(bpm & int(bpm_bit)) != 0] |= np.int16(mask_bit)
    return mask
