"""Apply the star flat: ratio of the response to stars to that to uniform light."""

from collections.abc import MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.detrend.history import record_correction
from imaging.detrend.pixels import divide_flat


def apply_star_flat(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    header: MutableMapping[str, Any],
    star_flat: NDArray[np.float32],
    name: str | bool = True,
) -> int:
    """Divide a sky-subtracted image by the star flat.

    The dome flat includes scattered light (reflections, pupil ghost) and the unequal area of pixels; the star flat
    corrects for both (Bernstein et al. 2017, PASP 129, 114502).

    Parameters
    ----------
    science, mask
        (ny, nx) float32 electrons, sky subtracted, and int16; changed. Pixels without a positive star flat become BPM.
    header
        Keywords; DESSTAR is written.
    star_flat
        (ny, nx) float32, near one.
    name
        Name of the calibration file.

    Returns
    -------
    n_bad
        Pixels without a positive star flat.

    Raises
    ------
    InputError
        If a star flat has already been applied.
    """
    record_correction(header, "DESSTAR", name)
    return divide_flat(science, mask, star_flat)
