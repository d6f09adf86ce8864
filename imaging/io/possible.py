"""What is physically possible: limits of calibrations without a checksum, in one table with their sources.

Gain, read noise and saturation of an amplifier have their ranges in :class:`imaging.detrend.settings.DetrendSettings`;
values of a header outside of them are replaced by those of the camera and told. A calibration outside of the limits
here is refused, because nothing can replace it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.io.damage import DamagedError


@dataclass(frozen=True, slots=True)
class Limit:
    """Range of the values of a calibration.

    Attributes
    ----------
    low, high
        Range of every value that counts.
    typical
        Range of their median; None if it has none.
    share
        Least share of the values that must be in the range.
    source
        Where the limits come from.
    """

    low: float
    high: float
    typical: tuple[float, float] | None
    share: float
    source: str


ADU = 65536.0
"""Levels of the 16-bit converter."""

LIMITS = {
    "bias": Limit(-ADU, ADU, (-500.0, 500.0), 0.5, "level after overscan: 0; converter of 16 bits (Flaugher 2015)"),
    "flat": Limit(0.0, 10.0, (0.2, 5.0), 0.5, "normalised to the camera's mean; an amplifier may be dead"),
    "star_flat": Limit(0.0, 10.0, (0.5, 2.0), 0.5, "corrections of some per cent (Bernstein 2017)"),
    "colour_slope": Limit(-0.05, 0.05, None, 1.0, "passbands of DECam's CCDs: some mmag per mag (Li 2016)"),
    "pixel_displacement": Limit(-1.0, 1.0, None, 1.0, "tree rings 0.1 pixels, edges 0.4 (Plazas 2014)"),
    "ghost_displacement": Limit(-0.2, 0.2, None, 1.0, "per pixel from the axis; below the ghost's radius at the edge"),
    "ghost_radius": Limit(1.0, 5000.0, None, 1.0, "gaps of 0.05 to 200 mm at the focal ratio 2.9"),
    "ghost_level": Limit(0.0, 1e-5, None, 1.0, "a few 1e-3 of the light over the area of the donut"),
    "linearity": Limit(-ADU, 4 * ADU, None, 1.0, "converter of 16 bits; corrections of some per cent"),
    "crosstalk": Limit(-0.1, 0.1, None, 1.0, "largest coefficient of DECam's matrix of 2013: 0.0025"),
    "onset": Limit(0.0, 1e12, None, 1.0, "an amplifier that stays linear has an onset beyond the converter's range"),
    "brighter_fatter": Limit(-10.0, 10.0, None, 1.0, "pixels per electron; measured: 1e-6 (Gruen 2015)"),
    "sky_modes": Limit(-100.0, 100.0, None, 1.0, "first mode near one, others of order one (Bernstein 2017)"),
    "first_sky_mode": Limit(0.0, 100.0, (1e-3, 100.0), 0.5, "mean sky of a CCD over that of the camera"),
    "colour_terms": Limit(-30.0, 30.0, None, 1.0, "differences of passbands of at most some magnitudes"),
}
"""Limits by kind of calibration."""

LINEARITY_CHANGE = 0.5
"""Largest relative correction of a signal above 1000 ADU; DECam's reach 0.1 near saturation (Bernstein 2017)."""

LINEARITY_REACH_ADU = 20000.0
"""Signal that a response curve must reach: half of the full well. Nothing is corrected above its end."""


def require_possible(values: NDArray[Any], kind: str) -> None:
    """Raise if values are outside the limits of their kind.

    Raises
    ------
    DamagedError
        If too many are not finite or outside, or their median is.
    """
    limit = LIMITS[kind]
    with np.errstate(invalid="ignore"):
        good = (values >= limit.low) & (values <= limit.high)
    share = float(good.mean()) if good.size else 0.0
    if share < limit.share:
        raise DamagedError(
            f"{kind.replace('_', ' ')}: {1 - share:.3g} of the values are not between {limit.low:g} and {limit.high:g} "
            f"({limit.source})"
        )
    if limit.typical is not None:
        median = float(np.median(values[good][:: max(good.size >> 16, 1)]))
        if not limit.typical[0] <= median <= limit.typical[1]:
            raise DamagedError(
                f"{kind.replace('_', ' ')}: median {median:.4g}, not between {limit.typical[0]:g} and "
                f"{limit.typical[1]:g} ({limit.source})"
            )


def require_linear(adu: NDArray[np.float64], linear: NDArray[np.float64]) -> None:
    """Raise if a response curve is not finite and increasing, or corrects by more than is possible.

    Raises
    ------
    DamagedError
        If it does.
    """
    for values in (adu, linear):
        require_possible(values, "linearity")
    bright = adu > 1000.0
    if np.any(np.diff(linear) < 0) or np.any(np.abs(linear - adu)[bright] > LINEARITY_CHANGE * adu[bright]):
        raise DamagedError("the linear signal does not increase with the one read, or differs by half of it")
    if adu[-1] < LINEARITY_REACH_ADU:
        raise DamagedError(f"linearity: the curve ends at {adu[-1]:g} ADU; allowed: at least {LINEARITY_REACH_ADU:g}")
