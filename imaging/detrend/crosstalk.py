"""Subtract crosstalk from other amplifiers."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.detector.ccds import CCDS
from imaging.detector.crosstalk import CrosstalkMatrix, CrosstalkTerm
from imaging.detrend.amplifiers import AmplifierFigures, amplifier_figures
from imaging.detrend.overscan import Overscan, measure_overscan
from imaging.detrend.pixels import subtract_crosstalk
from imaging.detrend.settings import DetrendSettings
from imaging.errors import CcdError
from imaging.image import RawCcd


class CrosstalkSources:
    """Raw CCDs that are sources of crosstalk, with the overscan of each amplifier measured once.

    Parameters
    ----------
    raws
        CCD number to raw extension.
    night
        Night of the exposure, for the table of known faults.
    settings
        Overscan and flagging.
    """

    def __init__(self, raws: Mapping[int, RawCcd], night: int, settings: DetrendSettings) -> None:
        self.raws, self.night, self.settings = raws, night, settings
        self._amplifiers: dict[int, tuple[AmplifierFigures, ...]] = {}
        self._overscans: dict[tuple[int, str], Overscan] = {}

    def add(self, ccdnum: int, amplifiers: tuple[AmplifierFigures, ...], overscans: Mapping[str, Overscan]) -> None:
        """Store amplifiers and overscans of a CCD that were already measured."""
        self._amplifiers[ccdnum] = amplifiers
        self._overscans |= {(ccdnum, name): overscan for name, overscan in overscans.items()}

    def amplifier(self, ccdnum: int, name: str) -> AmplifierFigures | None:
        """Return an amplifier's properties; None if its CCD was not read or has the wrong shape."""
        if ccdnum not in self.raws:
            return None
        if ccdnum not in self._amplifiers:
            raw = self.raws[ccdnum]
            shape = (raw.pixels.shape[0], raw.pixels.shape[1])
            try:
                self._amplifiers[ccdnum] = amplifier_figures(CCDS[ccdnum], raw.header, shape, self.night, self.settings)
            except CcdError:
                self._amplifiers[ccdnum] = ()
        return next((a for a in self._amplifiers[ccdnum] if a.name == name), None)

    def overscan(self, ccdnum: int, amplifier: AmplifierFigures) -> Overscan:
        """Return the overscan of an amplifier."""
        key = (ccdnum, amplifier.name)
        if key not in self._overscans:
            self._overscans[key] = measure_overscan(self.raws[ccdnum].pixels, amplifier.overscan, self.settings)
        return self._overscans[key]


def remove_crosstalk(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    ccdnum: int,
    sources: CrosstalkSources,
    matrix: CrosstalkMatrix,
) -> dict[str, float]:
    """Subtract every term of the crosstalk matrix whose victim is this CCD.

    The sources are used as read, above their overscan: crosstalk within them would matter at second order only, below
    1e-6 of their signal. Amplifiers on different sides are read in opposite directions, so that the image of the
    source is mirrored in the victim.

    Parameters
    ----------
    science, mask
        (ny, nx) float32 and int16, ADU above the overscan; changed.
    ccdnum
        The victim.
    sources
        Raw CCDs, the victim itself included.
    matrix
        Crosstalk of the camera.

    Returns
    -------
    quality
        ``crosstalk_largest_adu``, ``crosstalk_flagged`` (pixels), ``crosstalk_sources_missing`` (terms skipped because
        the source CCD could not be read).
    """
    largest, missing = 0.0, 0
    for term in matrix.into(ccdnum):
        source = sources.amplifier(*term.source)
        victim = sources.amplifier(*term.victim)
        if source is None or victim is None:
            missing += 1
        else:
            largest = max(largest, _subtract(science, mask, term, victim, source, sources))
    return {
        "crosstalk_largest_adu": largest,
        "crosstalk_flagged": float(np.count_nonzero(mask & np.int16(MaskBit.SSXTALK))),
        "crosstalk_sources_missing": float(missing),
    }


def _subtract(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    term: CrosstalkTerm,
    victim: AmplifierFigures,
    source: AmplifierFigures,
    sources: CrosstalkSources,
) -> float:
    """Subtract one term; return its largest correction, ADU."""
    settings, ccdnum = sources.settings, term.source[0]
    saturation = settings.saturation_fraction * source.saturation_adu
    return subtract_crosstalk(
        science,
        mask,
        victim.columns.start,
        sources.raws[ccdnum].pixels,
        (source.data.y0, source.data.x0),
        sources.overscan(ccdnum, source).levels_adu,
        victim.width,
        victim.is_left != source.is_left,
        (term.coefficient, term.onset_adu, saturation, settings.crosstalk_flag_adu),
        np.array(term.polynomial, dtype=float),
    )
