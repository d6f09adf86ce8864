"""Linearity correction: response curve of each amplifier."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import AmplifierName
from imaging.errors import InputError


@dataclass(frozen=True, eq=False)
class LinearityTable:
    """Linearity of one CCD, as tabulated in the linearity file.

    Attributes
    ----------
    adu
        (n,) signal as read, ADU above the bias, increasing.
    linear
        Amplifier to (n,) signal on a linear scale, ADU.
    """

    adu: NDArray[np.float64]
    linear: dict[AmplifierName, NDArray[np.float64]]

    def __post_init__(self) -> None:
        if self.adu.size < 2 or np.any(np.diff(self.adu) <= 0):
            raise InputError("linearity table is not increasing", value=f"{self.adu.size} rows")

    def corrections(self, amplifier: AmplifierName) -> tuple[int, NDArray[np.float32]]:
        """Tabulate the correction to add to a signal, on a grid of 1 ADU.

        Outside the table's range no correction is applied.

        Returns
        -------
        first_adu
            Signal of the first entry.
        corrections
            (m,) float32, ADU to be added at ``first_adu``, ``first_adu + 1``, ...
        """
        first, last = int(np.ceil(self.adu[0])), int(np.floor(self.adu[-1]))
        grid = np.arange(first, last + 1, dtype=float)
        return first, (np.interp(grid, self.adu, self.linear[amplifier]) - grid).astype(np.float32)
