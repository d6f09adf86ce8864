"""Choose the fields of a night from its sky map and the exposures that are known."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from blocks.site import Site
from imaging.detector.ccds import FIELD_RADIUS_DEG
from imaging.detector.status import working_ccds
from imaging.errors import InputError
from imaging.io.exposure_list import ListedExposure
from imaging.planning.fields import Region, choose_fields, region_points, tiling
from imaging.planning.order import PlanSettings, Schedule, observing_order
from imaging.planning.visibility import night_hours
from imaging.skymap.model import SkyMap
from imaging.templates.settings import TemplateSettings
from imaging.wcs.sphere import separation_deg, unit_vectors
from tasks.plan_fields import eligible_templates, template_footprints
from tasks.prepare_templates import known_exposures


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What is to be planned.

    Attributes
    ----------
    night
        Local date at its beginning, YYYYMMDD.
    bands
        Bands of every field, in order.
    exptime_s
        Sum of the exposure times of a field, seconds.
    exposures
        List of possible templates; None for the raw files of the site.
    archive
        Whether exposures of the archive count as templates.
    """

    night: int
    bands: tuple[str, ...]
    exptime_s: float
    exposures: Path | None = None
    archive: bool = False


def schedule_fields(
    site: Site, sky: SkyMap, request: PlanRequest, settings: PlanSettings
) -> tuple[Schedule, list[str]]:
    """Choose the fields of a night and their order; return them, and what to know about them.

    Raises
    ------
    InputError
        If the list of exposures cannot be read, or the archive not be searched.
    """
    notes = list(sky.notes())
    listed: list[ListedExposure] = []
    try:
        listed += known_exposures(site, request.exposures)
    except InputError as error:
        if request.exposures is not None:
            raise
        notes.append(f"{error.problem}; those of the site or of a list (--exposures) count")
    region = region_points(sky, settings.level)
    rules = TemplateSettings()
    if request.archive:
        known = {item.exposure.expnum for item in listed}
        listed += _of_archive(region, request, known, rules)
    begin, end = night_hours(request.night, settings.twilight_deg)
    by_band = {
        band: eligible_templates(listed, band, request.night, 0.5 * (begin + end), rules) for band in request.bands
    }
    images = {band: template_footprints(items) for band, items in by_band.items()}
    places = {(item.exposure.ra_deg, item.exposure.dec_deg) for items in by_band.values() for item in items}
    centres = tiling(region, sorted(places))
    fields = choose_fields(region, centres, working_ccds(request.night), images, settings.max_fields)
    visit_s = request.exptime_s + settings.overhead_s * len(request.bands)
    return observing_order(fields, request.night, visit_s, settings), notes


def _of_archive(
    region: Region, request: PlanRequest, known: Collection[int], rules: TemplateSettings
) -> Sequence[ListedExposure]:
    """Return the exposures of the archive around a region that are not known."""
    from deployments.archive.night import listed_of, template_nights
    from deployments.archive.search import ArchiveQuery, Cone, archive_client, search

    middle = np.average(unit_vectors(region.ra_deg, region.dec_deg), axis=0, weights=region.probability)
    ra, dec = (
        float(np.degrees(np.arctan2(middle[1], middle[0])) % 360.0),
        float(np.degrees(np.arctan2(middle[2], np.hypot(middle[0], middle[1])))),
    )
    reach = float(np.max(separation_deg(ra, dec, region.ra_deg, region.dec_deg))) + 2.0 * FIELD_RADIUS_DEG
    query = ArchiveQuery(
        "raw",
        nights=template_nights(request.night, rules),
        bands=request.bands,
        cone=Cone(ra, dec, min(reach, 180.0)),
        min_exptime_s=rules.min_exptime_s,
    )
    with archive_client() as client:
        files = search(client, [query]).files
    return [listed_of(file) for file in files if file.expnum is not None and file.expnum not in known]
