"""Read how coarsely the real pixels of a compressed image were rounded."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

DITHERED = ("SUBTRACTIVE_DITHER_1", "SUBTRACTIVE_DITHER_2")
"""Values of ZQUANTIZ with which a constant comes back as noise of one step (FITS standard 4.0, section 10.2)."""


def dither_steps(path: Path, number: int) -> NDArray[np.float32] | None:
    """Return the step of each row of an image that was rounded with a dither; None for every other image.

    Parameters
    ----------
    path, number
        File, and number of the extension.

    Returns
    -------
    steps
        (ny,) largest difference of two pixels that held the same value; zero where a row was kept exactly.
    """
    with fits.open(path, disable_image_compression=True, memmap=True, lazy_load_hdus=True) as file:
        header = file[number].header
        if str(header.get("ZQUANTIZ", "")).strip() not in DITHERED or "ZSCALE" not in file[number].columns.names:
            return None
        scales = np.abs(np.nan_to_num(np.asarray(file[number].data["ZSCALE"], dtype=np.float32)))
        nx, ny = int(header["ZNAXIS1"]), int(header["ZNAXIS2"])
        width, height = int(header.get("ZTILE1", nx)), int(header.get("ZTILE2", 1))
    rows = scales.reshape(-1, -(-nx // width)).max(axis=1)
    return np.repeat(rows, height)[:ny]
