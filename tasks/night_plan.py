"""The plan of a night: search exposures, their templates and priorities, and its final state."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State
from prefect.logging import get_logger
from prefect.states import Completed

from blocks.nights import RegisteredNight
from blocks.site import Site
from imaging.errors import InputError, StorageError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.skymaps import read_skymap
from imaging.templates.select import TemplateTarget, select_templates
from imaging.templates.settings import TemplateSettings
from imaging.wcs.sphere import separation_deg
from tasks.associate import SearchedCcd
from tasks.choose_templates import TemplateCcd, chosen_templates, summaries_of
from tasks.engine.cache import fingerprint
from tasks.engine.final_state import WITH_FAILURES, failed_state, summary_of
from tasks.engine.jobs import Failure
from tasks.engine.progress import SEVERAL
from tasks.exposure_requests import candidate_of_listed, nominal_footprints, request_of_listed
from tasks.imported import imported_list
from tasks.jobs import StepJob
from tasks.products import read_quality
from tasks.raw_files import arrived_exposures
from tasks.requests import ExposureRequest, Version
from tasks.steps import NIGHT, exposure_cpu_s, stage_work, steps_of


@dataclass(frozen=True, slots=True)
class NightPlan:
    """The exposures of a night.

    Attributes
    ----------
    search
        Its search exposures, in order of time.
    templates
        Number of a search exposure to its candidate templates.
    urgency
        Numbers of the search exposures in the order in which to search them; if empty, in order of time.
    touched
        Number of a search exposure to CCD number to the numbers of the templates that overlap the CCD.
    """

    search: tuple[ExposureRequest, ...]
    templates: Mapping[int, tuple[ExposureRequest, ...]]
    urgency: tuple[int, ...] = ()
    touched: Mapping[int, Mapping[int, frozenset[int]]] = field(default_factory=dict)

    @property
    def all(self) -> tuple[ExposureRequest, ...]:
        """Every exposure once, in order of urgency, each search exposure preceded by its templates."""
        by_number = {request.expnum: request for request in self.search}
        ordered: dict[int, ExposureRequest] = {}
        for expnum in self.urgency or by_number:
            for request in (*self.templates[expnum], by_number[expnum]):
                ordered.setdefault(request.expnum, request)
        return tuple(ordered.values())

    @property
    def priorities(self) -> dict[int, int]:
        """Exposure number to the priority of its tasks, highest for the first exposure."""
        return {request.expnum: -place for place, request in enumerate(self.all)}

    def ready(self, expnum: int, running: Collection[int]) -> tuple[int, ...]:
        """Return the CCDs of a search exposure that overlap templates, all of which have been processed.

        Parameters
        ----------
        expnum
            The search exposure.
        running
            Numbers of the exposures that are still being processed.
        """
        touched = self.touched.get(expnum, {})
        return tuple(sorted(ccd for ccd, those in touched.items() if those.isdisjoint(running)))


def plan_night(
    registered: RegisteredNight, version: Version, settings: TemplateSettings, site: Site | None = None
) -> NightPlan:
    """Order the exposures of a registered night, and choose the templates to process by their nominal footprints.

    Imported exposures are templates whether listed or not, with the CCDs that they have.

    Parameters
    ----------
    registered
        The night.
    version
        Version, season and destination of all requests of the night.
    settings
        Rules for the choice of templates.
    site
        Site with the imported exposures; None for none.
    """
    listed = registered.listed()
    night = registered.record.night
    search = sorted((x for x in listed if x.exposure.night == night), key=lambda x: x.exposure.mjd)
    imported = [] if site is None else imported_list(site, version)
    known = {item.exposure.expnum: item for item in (*listed, *imported)}
    others = [candidate_of_listed(item) for item in known.values() if item.exposure.night != night]
    requests = {expnum: request_of_listed(item, version) for expnum, item in known.items()}
    templates, touched = {}, {}
    for item in search:
        target = TemplateTarget(item.exposure, nominal_footprints(item.exposure))
        rows = select_templates(target, others, settings).to_pylist()
        chosen = sorted({row["template_expnum"] for row in rows if row["rank"] is not None})
        templates[item.exposure.expnum] = tuple(requests[expnum] for expnum in chosen)
        touched[item.exposure.expnum] = _touched(rows, chosen)
    return NightPlan(tuple(requests[item.exposure.expnum] for item in search), templates, touched=touched)


def _touched(rows: Iterable[Mapping[str, Any]], chosen: Collection[int]) -> dict[int, frozenset[int]]:
    """Return CCD number to all chosen exposures that overlap it, because they are ranked again once processed."""
    overlapping: dict[int, set[int]] = {}
    for row in rows:
        if row["overlap_fraction"] > 0.0 and row["template_expnum"] in chosen:
            overlapping.setdefault(row["ccd"], set()).add(row["template_expnum"])
    return {ccd: frozenset(expnums) for ccd, expnums in overlapping.items()}


def urgency_of(registered: RegisteredNight, at_hand: Collection[int]) -> tuple[int, ...]:
    """Order the search exposures of a night: first those that have arrived, in order of distance from the map's peak.

    Parameters
    ----------
    registered
        The night.
    at_hand
        Numbers of the exposures whose raw files have arrived.

    Returns
    -------
    expnums
        Numbers of all search exposures; in order of time at equal distance, or if the sky map cannot be read.
    """
    night = registered.record.night
    search = [item.exposure for item in registered.listed() if item.exposure.night == night]
    try:
        peak = read_skymap(registered.skymap).peak()
    except (InputError, StorageError) as error:
        get_logger(__name__).warning("exposures are processed in order of time: %s", error.sentence())
        peak = None

    def urgency(exposure: Exposure) -> tuple[bool, float, float]:
        distance = 0.0 if peak is None else float(separation_deg(exposure.ra_deg, exposure.dec_deg, *peak))
        return exposure.expnum not in at_hand, distance, exposure.mjd

    return tuple(exposure.expnum for exposure in sorted(search, key=urgency))


def exposures_at_hand(registered: RegisteredNight, site: Site) -> tuple[list[int], list[int]]:
    """Return the exposures of a registered night whose raw files have arrived, and those of them that are not whole."""
    listed = [item.exposure for item in registered.listed()]
    ids = [ExposureId(exposure.expnum, exposure.band, exposure.night) for exposure in listed]
    arrived = arrived_exposures(site, ids)
    whole = arrived_exposures(site, [who for who in ids if who.expnum in arrived], whole=True)
    at_hand = [who.expnum for who in ids if who.expnum in arrived]
    return at_hand, [expnum for expnum in at_hand if expnum not in whole]


def searched_ccds(requests: Iterable[ExposureRequest], plan: NightPlan, site: Site) -> list[SearchedCcd]:
    """Return the searched CCDs of a night, each with the best template that overlaps it.

    Parameters
    ----------
    requests
        Search exposures whose difference stage has run.
    plan
        The plan of the night.
    site
        Site with the products.
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
    """Return a searched CCD; ``chosen`` are its templates, the best first. None if it has no difference image."""
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
        width_mag=quality.get("efficiency_width_mag"),  # type: ignore[arg-type]
        efficiency_max=quality.get("efficiency_max"),  # type: ignore[arg-type]
        noise_peaks=quality.get("noise_peaks"),  # type: ignore[arg-type]
        detections=fingerprint(job.site, job.product_path("detections.parquet")),
        stamps=fingerprint(job.site, stamps) if stamps.exists() else None,
        fakes=fingerprint(job.site, job.product_path("fakes.parquet")),
        host_catalogue=fingerprint(job.site, host.product_path("fullcat.parquet")),
        host_image=fingerprint(job.site, host.product_path("immask.fits")),
        host_zeropoint_mag=float(summary.ccds[best[1]]["zeropoint_mag"]),
        templates=tuple(sorted({expnum for expnum, _ in chosen})),
    )


def night_work(night: int, exposures: Iterable[int], search: Iterable[int]) -> dict[tuple[str, str], float]:
    """Return (subject, step) to nominal CPU seconds of a night: all exposures, differences, candidates.

    Parameters
    ----------
    night
        The night, YYYYMMDD.
    exposures, search
        Numbers of all exposures, and of the search exposures.
    """
    searched = tuple(search)
    work = stage_work(exposures, ("single_epoch", "calibration", "verification"))
    work |= stage_work(searched, ("difference",))
    for step in steps_of("candidates"):
        if step.mapped_over == NIGHT:
            work[f"night-{night}", step.name] = step.cpu_s
        else:
            work[SEVERAL, step.name] = exposure_cpu_s(step) * len(searched)
    return work


def night_state(
    what: str,
    processed: Mapping[int, State[Any]],
    searched: Mapping[int, State[Any]],
    failures: Mapping[str, Failure],
    summary: Mapping[str, Any],
) -> State[dict[str, Any]]:
    """Return the final state of a night.

    Parameters
    ----------
    what
        The night, such as ``night 20170818``.
    processed, searched
        Exposure number to the final state of its stages, and of its difference.
    failures
        Failures of the night's own steps, by name.
    summary
        Quality numbers of the ranked list; empty if there is none.
    """
    ended = {**{f"{n} stages": s for n, s in processed.items()}, **{f"{n} difference": s for n, s in searched.items()}}
    lost = dict(failures)
    missing = 0
    for name, state in ended.items():
        if not state.is_completed():
            lost[name] = Failure(reason="exposure_failed", message=state.message or state.name or "", kind="defect")
        missing += len(summary_of(state).get("failures", {}))
    data = {
        "exposures": {str(n): _brief(state) for n, state in processed.items()},
        "differences": {str(n): _brief(state) for n, state in searched.items()},
        "failures": {name: failure.model_dump() for name, failure in lost.items()},
        "candidates": dict(summary),
    }
    message = f"{what}: {len(processed)} exposures, {len(searched)} searched, "
    message += f"{summary.get('n_candidates', 'no')} candidates"
    if missing:
        message += f"; {missing} CCDs missing"
    if lost:
        message += f"; failed: {', '.join(lost)}"
    if not summary:
        return failed_state(message, data)
    if missing or lost:
        return Completed(name=WITH_FAILURES, message=message, data=data)
    return Completed(message=message, data=data)


def _brief(state: State[Any]) -> dict[str, Any]:
    return {"state": state.name, "message": state.message} | summary_of(state)
