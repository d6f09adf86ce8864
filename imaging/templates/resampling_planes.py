"""Keep what was worked out on a final image in its file, beside SCI, MSK and WGT, as lists of pixels and of stars."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.image import ResamplingInputs

SETTINGS = "GROUNDWORK"
"""Extension that says that there is resampling_inputs: the widest bridged defect and the growth of the mask, pixels."""

LISTS: dict[str, Any] = {
    "REPAIRED_AT": np.int32,
    "REPAIRED": np.float32,
    "GROWN_AT": np.int32,
    "GROWN": np.int16,
    "STARS": np.float64,
}
"""Extensions with the rest and what they hold; one that would be empty is left out."""

EXTENSIONS = (SETTINGS, *LISTS)


def resampling_planes(resampling_inputs: ResamplingInputs) -> dict[str, NDArray[Any]]:
    """Return the extensions that keep resampling_inputs in the file of its image."""
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
    """Return the resampling_inputs that a file keeps, None if it keeps none.

    Parameters
    ----------
    planes
        Extensions of the file, at least those of EXTENSIONS that it has.
    """
    if SETTINGS not in planes:
        return None
    gap, growth = planes[SETTINGS].tolist()
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
