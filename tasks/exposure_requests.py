"""Processing requests and nominal CCD footprints of exposures that are only known from an exposure list."""

from collections.abc import Iterable

import numpy as np

from imaging.detector.ccds import NX, NY
from imaging.detector.distortion import seed_wcs
from imaging.detector.status import working_ccds
from imaging.exposure import Exposure
from imaging.io.exposure_list import ListedExposure
from imaging.templates.select import TemplateCandidate
from imaging.wcs.sphere import footprint
from tasks.requests import ExposureRequest, Version


def request_of_listed(item: ListedExposure, version: Version) -> ExposureRequest:
    """Return the request to process an exposure of an exposure list under a version."""
    e = item.exposure
    return ExposureRequest(expnum=e.expnum, band=e.band, night=e.night, **version.model_dump())


def candidate_of_listed(item: ListedExposure) -> TemplateCandidate:
    """Return an exposure of an exposure list as a candidate template."""
    return TemplateCandidate(item.exposure, listed_footprints(item), t_eff=item.t_eff, first_mjd=item.first_mjd)


def listed_footprints(item: ListedExposure) -> dict[int, np.ndarray]:
    """Return the footprints of an exposure or a stack of a list; see :func:`nominal_footprints`."""
    if item.corners is not None:
        return {ccd: np.array(corners, dtype=float) for ccd, corners in item.corners.items()}
    return nominal_footprints(item.exposure, item.ccds)


def nominal_footprints(exposure: Exposure, ccds: Iterable[int] | None = None) -> dict[int, np.ndarray]:
    """Return CCD number to (4, 2) corners, RA and Dec in degrees, from the pointing alone; good to some arcseconds.

    Only these CCDs are included; if none are given, those that were functional on the night.
    """
    wanted = working_ccds(exposure.night) if ccds is None else ccds
    return {ccd: footprint(seed_wcs(ccd, exposure.ra_deg, exposure.dec_deg), NX, NY) for ccd in wanted}
