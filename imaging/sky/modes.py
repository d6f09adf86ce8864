"""Sky modes: principal components of the sky over the focal plane.

The modes are the principal components of many skies in one band; mode 0 is the mean sky, the others are its gradients,
ghosts and fringes (Bernstein et al. 2017, PASP 129, 114502, section 4).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.errors import InputError


@dataclass(frozen=True, eq=False)
class SkyModes:
    """Modes in superpixels, for every CCD.

    Attributes
    ----------
    values
        CCD number to (n_modes, 32, 16) float32: response of the superpixels' medians to each mode. Mode 0 is near one
        everywhere, the others have a size of order one.
    """

    values: Mapping[int, NDArray[np.float32]]

    def __post_init__(self) -> None:
        counts = {array.shape[0] for array in self.values.values() if array.ndim == 3}
        if len(counts) != 1 or any(array.ndim != 3 for array in self.values.values()):
            raise InputError("sky modes of the CCDs do not match in number", value=sorted(counts))

    @property
    def n_modes(self) -> int:
        """Number of modes."""
        return int(next(iter(self.values.values())).shape[0])


@dataclass(frozen=True, eq=False)
class SkyTemplates:
    """Modes of one CCD at the resolution of their structure.

    Attributes
    ----------
    ccdnum
        CCD number.
    values
        (n_modes, ny / b, nx / b) float32: each value is the mode's mean over b x b pixels.
    """

    ccdnum: int
    values: NDArray[np.float32]


def templates_of_modes(modes: SkyModes, ccdnum: int) -> SkyTemplates:
    """Use a CCD's superpixels as templates, if no finer ones exist.

    Raises
    ------
    InputError
        If the modes do not cover the CCD.
    """
    try:
        return SkyTemplates(ccdnum, modes.values[ccdnum])
    except KeyError:
        raise InputError("the sky modes do not cover this CCD", ccd=ccdnum) from None
