"""Processed exposures to which one calibration of a band is fitted: ghosts, sky modes, star flats, displacements."""

from collections.abc import Sequence

from blocks.folders import load_site
from blocks.site import Site
from imaging.errors import InputError
from imaging.identity import ExposureId
from tasks.calibration_files import require_one_period
from tasks.requests import ExposureRequest


def fitted_exposures(
    exposures: Sequence[ExposureRequest], site: str, first: int | None, last: int | None, least: int
) -> tuple[Site, list[ExposureId], tuple[int, int] | None]:
    """Return the site, the exposures and the first and last night for which their calibration holds.

    The nights are None, for all within the limits of age, unless both are given. The step that fits takes at least
    ``least`` exposures, which the error names.

    Raises
    ------
    InputError
        If there are no exposures, or they are of several stable periods.
    """
    if not exposures:
        raise InputError("no exposures to fit a calibration to", limit=f"at least {least}")
    place = load_site(site).storing_in(exposures[0].destination)
    identities = [request.exposure_id() for request in exposures]
    require_one_period(place, identities)
    return place, identities, None if first is None or last is None else (first, last)


def band_of(exposures: Sequence[ExposureId], what: str, least: int) -> str:
    """Return the band of the exposures to which something is fitted.

    Raises
    ------
    InputError
        If there are too few, or they are of several bands.
    """
    bands = sorted({exposure.band for exposure in exposures})
    if len(bands) != 1 or len(exposures) < least:
        raise InputError(
            f"{what} needs several exposures of one band",
            value=f"{len(exposures)} of the bands {', '.join(bands)}",
            limit=f"at least {least} of one band",
        )
    return bands[0]
