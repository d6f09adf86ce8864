"""The templates that a plan of fields can count on, from the exposures that are known."""

from collections.abc import Iterable, Sequence

import numpy as np

from imaging.exposure import Exposure
from imaging.io.exposure_list import ListedExposure
from imaging.skymap.footprints import Footprints
from imaging.templates.select import TemplateCandidate, rule_broken
from imaging.templates.settings import TemplateSettings
from tasks.exposure_requests import listed_footprints


def eligible_templates(
    listed: Iterable[ListedExposure], band: str, night: int, mjd: float, settings: TemplateSettings
) -> list[ListedExposure]:
    """Return the exposures that may serve as templates in a band for observations of a night.

    Parameters
    ----------
    listed
        Known exposures.
    band
        Band.
    night, mjd
        The night, YYYYMMDD, and the time of the observations, MJD UTC.
    settings
        Rules of the choice of templates.
    """
    search = Exposure(0, band, night, mjd, 60.0, 0.0, 0.0, 1.0)
    others = (item for item in listed if item.exposure.night != night)
    candidates = ((item, TemplateCandidate(item.exposure, {}, item.t_eff, first_mjd=item.first_mjd)) for item in others)
    return [item for item, candidate in candidates if not rule_broken(search, candidate, settings)]


def template_footprints(templates: Sequence[ListedExposure]) -> Footprints:
    """Return the nominal CCD images of exposures."""
    images = [(item.exposure, ccd, c) for item in templates for ccd, c in listed_footprints(item).items()]
    n = len(images)
    return Footprints(
        expnum=np.array([exposure.expnum for exposure, _, _ in images], dtype=np.int64),
        ccd=np.array([ccd for _, ccd, _ in images], dtype=np.int64),
        band=np.array([exposure.band for exposure, _, _ in images], dtype=str),
        mjd=np.array([exposure.mjd for exposure, _, _ in images]),
        corners=np.array([corners for _, _, corners in images]).reshape(n, 4, 2),
        m50_mag=np.full(n, np.nan),
    )
