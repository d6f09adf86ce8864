"""What a night holds: its search exposures, the templates that they may need, and what has been searched."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from blocks.nights import RegisteredNight
from blocks.site import Site
from imaging.identity import ExposureId
from imaging.templates.select import TemplateTarget, choose_templates
from imaging.templates.settings import TemplateSettings
from tasks.associate import SearchedCcd
from tasks.fingerprints import fingerprint
from tasks.listed import listed_candidate, listed_request, nominal_footprints
from tasks.quality_files import read_quality
from tasks.raw_files import is_at_hand
from tasks.records import StepJob
from tasks.requests import ExposureRequest, Version
from tasks.templates import TemplateCcd, chosen_templates, summaries_of


@dataclass(frozen=True, slots=True)
class NightPlan:
    """The exposures of a night.

    Attributes
    ----------
    search
        Its search exposures, in order of time.
    templates
        Number of a search exposure to the exposures that may serve it.
    """

    search: tuple[ExposureRequest, ...]
    templates: Mapping[int, tuple[ExposureRequest, ...]]

    @property
    def all(self) -> tuple[ExposureRequest, ...]:
        """Every exposure once: templates that somebody waits for first, then the search exposures."""
        needed = {t.expnum: t for templates in self.templates.values() for t in templates}
        return (*(needed[expnum] for expnum in sorted(needed)), *self.search)


def plan_night(registered: RegisteredNight, version: Version, settings: TemplateSettings) -> NightPlan:
    """Sort the exposures of a registered night, and find the templates worth processing by their nominal footprints.

    Parameters
    ----------
    registered
        The night.
    version
        Version, season and destination of all requests of the night.
    settings
        Rules of the choice.
    """
    listed = registered.listed()
    night = registered.record.night
    search = sorted((x for x in listed if x.exposure.night == night), key=lambda x: x.exposure.mjd)
    others = [listed_candidate(item) for item in listed if item.exposure.night != night]
    requests = {item.exposure.expnum: listed_request(item, version) for item in listed}
    templates = {}
    for item in search:
        target = TemplateTarget(item.exposure, nominal_footprints(item.exposure))
        rows = choose_templates(target, others, settings).to_pylist()
        chosen = sorted({row["template_expnum"] for row in rows if row["rank"] is not None})
        templates[item.exposure.expnum] = tuple(requests[expnum] for expnum in chosen)
    return NightPlan(tuple(requests[item.exposure.expnum] for item in search), templates)


def exposures_at_hand(registered: RegisteredNight, site: Site) -> list[int]:
    """Return the exposures of a registered night that a run which begins now can process."""
    listed = [item.exposure for item in registered.listed()]
    ids = [ExposureId(exposure.expnum, exposure.band, exposure.night) for exposure in listed]
    return [who.expnum for who in ids if is_at_hand(site, who)]


def searched_ccds(requests: Iterable[ExposureRequest], plan: NightPlan, site: Site) -> list[SearchedCcd]:
    """Find the differences of a night's search exposures, and the best template under each.

    Parameters
    ----------
    requests
        Search exposures whose difference stage has run.
    plan
        The night's plan.
    site
        Where the products lie.
    """
    found = []
    for request in requests:
        who = request.exposure_id()
        job = StepJob(exposure=who, season=request.season, site=site)
        templates = chosen_templates(job)
        known = summaries_of([t.exposure_id() for t in plan.templates[request.expnum]], site)
        for ccd in sorted(templates):
            item = _searched(job.model_copy(update={"ccd": ccd}), request, templates[ccd], known)
            if item is not None:
                found.append(item)
    return found


def _searched(
    job: StepJob, request: ExposureRequest, chosen: Sequence[TemplateCcd], known: Mapping
) -> SearchedCcd | None:
    """Find the difference of a CCD; ``chosen`` are its templates, the best first."""
    quality_path = job.product_path("difference.json")
    if not quality_path.exists():
        return None
    quality = read_quality(quality_path)
    best = chosen[0]
    template, summary = known[best[0]]
    host = StepJob(exposure=template, ccd=best[1], site=job.site)
    stamps = job.product_path("stamps.fits")
    corners: list[list[float]] = quality["corners"]  # type: ignore[assignment]
    return SearchedCcd(
        expnum=request.expnum,
        ccd=job.ccd or 0,
        band=request.band,
        mjd=float(quality["mjd"] or 0.0),
        corners=tuple((ra, dec) for ra, dec in corners),
        m50_mag=quality["m50_mag"],  # type: ignore[arg-type]
        detections=fingerprint(job.site, job.product_path("detections.parquet")),
        stamps=fingerprint(job.site, stamps) if stamps.exists() else None,
        host_catalogue=fingerprint(job.site, host.product_path("fullcat.parquet")),
        host_image=fingerprint(job.site, host.product_path("immask.fits")),
        host_zeropoint_mag=float(summary.ccds[best[1]]["zeropoint_mag"]),
        templates=tuple(sorted({expnum for expnum, _ in chosen})),
    )
