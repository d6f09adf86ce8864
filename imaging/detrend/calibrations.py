"""Calibrations of one CCD for detrending."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from imaging.detector.crosstalk import CrosstalkMatrix
from imaging.detector.linearity import LinearityTable
from imaging.detrend.brighter_fatter import BrighterFatterKernel
from imaging.errors import InputError


@dataclass(frozen=True, eq=False)
class DetrendCalibrations:
    """The calibrations of one CCD; None skips the correction.

    Attributes
    ----------
    bias
        (ny, nx) float32, ADU above the overscan.
    flat
        (ny, nx) float32, response to uniform light, near one.
    bad_pixels
        (ny, nx) int16, bits of :class:`imaging.bits.BpmBit`.
    linearity
        Response curves.
    crosstalk
        Crosstalk matrix of the camera.
    brighter_fatter
        Kernel of the CCD.
    names
        Kind of calibration (``bias``, ``flat``, ``bad_pixels``, ``linearity``, ``crosstalk``, ``brighter_fatter``) to
        the name of its file, for the header.
    defaults
        Kinds of :data:`imaging.detrend.defaults.DEFAULTS` that the library lacks.
    """

    bias: NDArray[np.float32] | None = None
    flat: NDArray[np.float32] | None = None
    bad_pixels: NDArray[np.int16] | None = None
    linearity: LinearityTable | None = None
    crosstalk: CrosstalkMatrix | None = None
    brighter_fatter: BrighterFatterKernel | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    defaults: tuple[str, ...] = ()

    def require_shape(self, shape: tuple[int, int]) -> None:
        """Raise if a calibration image does not have the size of the CCD.

        Raises
        ------
        InputError
            If the size differs.
        """
        for kind in ("bias", "flat", "bad_pixels"):
            image = getattr(self, kind)
            if image is not None and image.shape != shape:
                raise InputError(
                    f"calibration has the wrong size: {kind}",
                    value=f"{image.shape} in {self.names.get(kind, 'the image given')}",
                    limit=shape,
                    remedy="copy the file of this CCD into the calibration library again",
                )
