"""Names of candidates from their positions."""

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def candidate_ids(ra_deg: FloatArray, dec_deg: FloatArray) -> list[str]:
    """Name positions ``GWJhhmmss.ss+ddmmss.s``, truncated rather than rounded, as the IAU recommends.

    Positions with the same name get a letter in the given order.

    Parameters
    ----------
    ra_deg, dec_deg
        (n,) positions, degrees, ICRS.
    """
    centiseconds = np.floor(np.mod(ra_deg, 360.0) / 15.0 * 360000.0 + 1e-6).astype(np.int64) % 8640000
    deciseconds = np.floor(np.abs(dec_deg) * 36000.0 + 1e-6).astype(np.int64)
    names = [
        f"GWJ{h:02d}{m:02d}{s:02d}.{c:02d}{sign}{d:02d}{dm:02d}{ds:02d}.{t}"
        for h, m, s, c, sign, d, dm, ds, t in zip(
            (centiseconds // 360000).tolist(),
            (centiseconds // 6000 % 60).tolist(),
            (centiseconds // 100 % 60).tolist(),
            (centiseconds % 100).tolist(),
            np.where(dec_deg < 0, "-", "+").tolist(),
            (deciseconds // 36000).tolist(),
            (deciseconds // 600 % 60).tolist(),
            (deciseconds // 10 % 60).tolist(),
            (deciseconds % 10).tolist(),
            strict=True,
        )
    ]
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        count = seen.get(name, 0)
        seen[name] = count + 1
        if count:
            names[i] = name + _letter(count)
    return names


def _letter(number: int) -> str:
    """Return a, b, ..., z, aa, ab, ... for 1, 2, ..."""
    text = ""
    while number > 0:
        number, digit = divmod(number - 1, 26)
        text = chr(ord("a") + digit) + text
    return text
