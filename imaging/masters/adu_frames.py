"""A raw frame of one CCD as master calibrations start from it: ADU above overscan, crosstalk and bias."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import NX, Ccd
from imaging.detector.crosstalk import CrosstalkMatrix
from imaging.detrend.amplifiers import AmplifierFigures, amplifier_figures
from imaging.detrend.crosstalk import CrosstalkSources, remove_crosstalk
from imaging.detrend.overscan import Overscan, measure_overscan
from imaging.detrend.pixels import subtract_overscan
from imaging.detrend.settings import DetrendSettings
from imaging.image import RawCcd

FloatImage = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AduFrame:
    """A trimmed frame.

    Attributes
    ----------
    science
        (ny, nx) float32, ADU.
    mask
        (ny, nx) int16; SATURATE marks pixels at the ceiling of the converter.
    amplifiers
        Amplifiers A and B.
    overscans
        Amplifier to overscan.
    """

    science: FloatImage
    mask: NDArray[np.int16]
    amplifiers: tuple[AmplifierFigures, AmplifierFigures]
    overscans: Mapping[str, Overscan]

    @property
    def noise_adu(self) -> float:
        """The larger of the amplifiers' read noise."""
        return max(overscan.noise_adu for overscan in self.overscans.values())


def adu_frame(
    ccd: Ccd,
    raws: Mapping[int, RawCcd],
    night: int,
    settings: DetrendSettings,
    *,
    crosstalk: CrosstalkMatrix | None = None,
    bias: FloatImage | None = None,
) -> AduFrame:
    """Trim a frame and subtract its overscan, then crosstalk and bias, if they are given.

    Parameters
    ----------
    ccd
        The CCD.
    raws
        CCD number to raw extension: the CCD itself and those with crosstalk into it.
    night
        Night, for the table of known faults.
    settings
        Overscan and header limits.
    crosstalk
        Crosstalk of the camera; None not to correct it.
    bias
        (ny, nx) float32, ADU; None not to subtract it.

    Raises
    ------
    CcdError
        With reason ``unexpected_shape``.
    """
    raw = raws[ccd.ccdnum]
    shape = (raw.pixels.shape[0], raw.pixels.shape[1])
    science = np.empty((ccd.ny, NX), dtype=np.float32)
    mask = np.zeros((ccd.ny, NX), dtype=np.int16)
    overscans: dict[str, Overscan] = {}
    amplifiers = amplifier_figures(ccd, raw.header, shape, night, settings)
    for a in amplifiers:
        overscan = overscans[a.name] = measure_overscan(raw.pixels, a.overscan, settings)
        place = (a.data.y0, a.data.x0, overscan.levels_adu, science, mask)
        subtract_overscan(raw.pixels, *place, a.columns.start, a.width)
    if crosstalk is not None:
        sources = CrosstalkSources(raws, night, settings)
        sources.add(ccd.ccdnum, amplifiers, overscans)
        remove_crosstalk(science, mask, ccd.ccdnum, sources, crosstalk)
    if bias is not None:
        science -= bias
    return AduFrame(science, mask, amplifiers, overscans)
