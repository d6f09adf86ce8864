"""Processing requests and nominal CCD footprints of exposures that are only known from an exposure list."""

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
    return TemplateCandidate(item.exposure, nominal_footprints(item.exposure), t_eff=item.t_eff)


def nominal_footprints(exposure: Exposure) -> dict[int, np.ndarray]:
    """Return CCD number to (4, 2) corners, RA and Dec in degrees, from the pointing alone; good to some arcseconds.

    Only CCDs that were functional on the night are included.
    """
    return {
        ccd: footprint(seed_wcs(ccd, exposure.ra_deg, exposure.dec_deg), NX, NY) for ccd in working_ccds(exposure.night)
    }
