"""Rank the candidates of a night with the sky map, and write lists, pages and pictures."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from blocks.gw_events import is_retracted
from blocks.nights import RegisteredNight
from blocks.site import Site
from imaging.candidates.chance import without_chance
from imaging.candidates.history import relative_to_before, template_history
from imaging.candidates.provenance import MadeWith, add_provenance
from imaging.candidates.rank import rank_candidates
from imaging.candidates.searched import search_report, searched_pixels
from imaging.candidates.settings import CandidateSettings
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.errors import InputError
from imaging.io.atomic import write_bytes, write_text
from imaging.io.candidates import read_candidates
from imaging.io.skymaps import read_skymap, write_moc, write_searched_map
from imaging.io.stamps import read_stamps
from imaging.io.tables import read_tables, write_table
from imaging.pictures.candidate_list import LISTED, candidates_page
from imaging.pictures.markdown import embedded
from imaging.schemas.difference import DIRECT_PHOTOMETRY, FORCED_PHOTOMETRY
from imaging.settings import Settings
from imaging.skymap.coverage import search_coverage
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import SkyMap
from tasks.associate import SearchedCcd, cones_of, footprints_in, searched_parameters
from tasks.context import known_catalogues, match_context
from tasks.engine.cache import fingerprint
from tasks.engine.code_version import code_version
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.ranked_tables import LIKELIHOOD, keep_likelihood, known_or_new_likelihood, write_ranked_tables, write_ranking
from tasks.steps import NIGHT_STAGES, RANK, steps_of

if TYPE_CHECKING:
    from imaging.pictures.candidate_page import NightPage

FORCED, STAMPS, DIRECT = "forced_", "stamps_", "direct_"

STAMPS_SHOWN = 300
"""Number of candidates with stamps on the page."""

SHOWN_PICTURES = {
    "picture": "sky map, exposures, candidates",
    "depth_picture": "depth of the search in every pixel of the map",
    "search_picture": "detection probability against magnitude, by band",
}
"""Pictures of the night on its page, with captions."""

LINKED = {"difference": "diff.fits", "template": "template.fits", "detections": "detections.parquet"}
"""Link text to file suffix of the products that the page links to."""

CHAIN = tuple((f"tasks.{step.name}", step.name) for step in steps_of(*NIGHT_STAGES))
"""(module, function) of all steps from the raw pixels to the ranked list."""


def rank_job(
    registered: RegisteredNight,
    associated: StepResult,
    forced: Sequence[StepResult],
    searched: Sequence[SearchedCcd],
    site: Site,
    settings: CandidateSettings,
    upstream: Mapping[str, Settings] | None = None,
) -> StepJob:
    """Plan the ranking of a night.

    Parameters
    ----------
    registered
        The night, with its event and sky map.
    associated, forced
        Results of the association, and of the forced photometry on every difference image.
    searched
        All searched CCDs of the night.
    site, settings
        Site and settings.
    upstream
        Settings of the earlier stages by name, for the provenance.
    """
    inputs: dict[str, FileRecord] = {
        "candidates": associated.products["candidates"],
        "skymap": fingerprint(site, registered.skymap),
    }
    inputs |= {f"{FORCED}{number:05d}": result.products["forced"] for number, result in enumerate(forced)}
    inputs |= {f"{DIRECT}{number:05d}": result.products["direct"] for number, result in enumerate(forced)}
    inputs |= {f"{STAMPS}{item.name}": item.stamps for item in searched if item.stamps is not None}
    manifest = site.calibrations / "manifest.json"
    retracted = is_retracted(site, registered.record.event)
    parameters = {
        "event": registered.record.event,
        **({"retracted": True} if retracted else {}),
        "searched": searched_parameters(searched),
        "templates": [[item.expnum, item.ccd, list(item.templates)] for item in searched],
        "code_version": code_version(*CHAIN),
        "calibration_set": fingerprint(site, manifest).content_hash if manifest.exists() else "",
        "known_catalogues": known_catalogues(site),
        "upstream": {name: chosen.model_dump(mode="json") for name, chosen in (upstream or {}).items()},
    }
    return StepJob(night=registered.record.night, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(RANK)
def rank(job: StepJob) -> StepResult:
    """Rank the candidates, and write the list, its exports, the searched area, the page and the pictures."""
    from imaging.pictures.candidate_page import build_page  # with Matplotlib, which a cached step needs not
    from imaging.pictures.depth import depth_picture
    from imaging.pictures.night import night_picture
    from imaging.pictures.search import search_picture

    settings = job.settings_as(CandidateSettings)
    skymap = read_skymap(job.input_path("skymap"))
    mjd = event_time(job, skymap)
    footprints = footprints_in(job)
    forced = night_lightcurves(job, settings, mjd)
    candidates = read_candidates(job.input_path("candidates"))
    likelihood = known_or_new_likelihood(job, candidates, forced, mjd)
    candidates, context = match_context(candidates, footprints, cones_of(footprints), job.site, settings.crossmatch)
    ranked = rank_candidates(candidates, forced, skymap, mjd, settings.rank, settings.lightcurve, likelihood)
    ranked = without_chance(ranked, forced, footprints, settings.associate)
    templates = {(row[0], row[1]): row[2] for row in job.parameters["templates"]}
    earlier = {expnum for chosen in templates.values() for expnum in chosen} - set(footprints.expnum.tolist())
    of_templates = pc.is_in(forced.column("expnum"), value_set=pa.array(sorted(earlier), type=pa.int64()))
    ranked = add_provenance(ranked, forced.filter(pc.invert(of_templates)), templates, made_with(job))
    coverage = search_coverage(skymap, footprints, settings.coverage)
    report = search_report(coverage, mjd, settings.lightcurve)
    facts = {
        "n_candidates": ranked.num_rows,
        "n_left_out_as_noise": candidates.num_rows - ranked.num_rows,
        "m50_mag": float(np.nanmedian(footprints.m50_mag)) if np.isfinite(footprints.m50_mag).any() else None,
        **{name: value for name, value in report.items() if isinstance(value, float)},
    }
    products = job.product_paths(RANK) | write_ranked_tables(job, ranked, forced, footprints)
    products[LIKELIHOOD] = keep_likelihood(job, likelihood, products["forced"], mjd)
    pixels, order = searched_pixels(coverage), settings.coverage.order
    write_table(products["searched"], pixels)
    write_moc(products["moc"], pixels, order)
    write_searched_map(products["searched_map"], pixels, order, skymap)
    title = f"{event_name(job)}, night {job.night}"
    pictures = {
        "picture": night_picture(skymap, footprints, ranked, title=title),
        "depth_picture": depth_picture(skymap, coverage, title=f"How deep the map was searched: {title}"),
        "search_picture": search_picture(report, title=f"What the search would have found: {title}"),
    }
    for name, png in pictures.items():
        write_bytes(products[name], png)
    page = _page(job, ranked, forced, skymap, footprints, facts, pictures)
    write_text(products["page"], build_page(page))
    brief = candidates_page(ranked.slice(0, LISTED).to_pylist(), page.stamps, pictures["picture"], title, mjd)
    others = "\n\n".join(embedded(png, about) for about, png in page.pictures[1:])
    write_text(products["brief"], f"{brief}\n{others}\n")
    summary = facts | report | {"known_sources": context, "made_with": dict(page.provenance)}
    if job.parameters.get("retracted"):
        summary |= {"retracted": True}
    write_text(products["summary"], json.dumps(summary, indent=1, sort_keys=True) + "\n")
    write_ranking(job, mjd, products[LIKELIHOOD])
    return job.result(products, quality=facts)


def event_name(job: StepJob) -> str:
    """Return the name of the event for titles, with the word RETRACTED if it is."""
    return f"{job.parameters['event']}{' (RETRACTED)' if job.parameters.get('retracted') else ''}"


def night_lightcurves(job: StepJob, settings: CandidateSettings, mjd_event: float) -> pa.Table:
    """Return the forced photometry of all candidates, on the difference images and on the templates themselves."""
    tables = {
        kind: [job.input_path(name) for name in sorted(job.inputs) if name.startswith(kind)]
        for kind in (FORCED, DIRECT)
    }
    forced = read_tables(tables[FORCED], FORCED_PHOTOMETRY)
    if not tables[DIRECT]:
        return forced
    direct = read_tables(tables[DIRECT], DIRECT_PHOTOMETRY)
    everything = pa.concat_tables([forced, template_history(direct, settings.lightcurve)])
    return relative_to_before(everything, direct, mjd_event)


def event_time(job: StepJob, skymap: SkyMap) -> float:
    """Return the time of the merger, MJD UTC, from the sky map or, if it has none, from the night's previous map.

    Raises
    ------
    InputError
        If neither map states it.
    """
    mjd = skymap.mjd if np.isfinite(skymap.mjd) else job.parameters.get("mjd_event")
    if mjd is None:
        raise InputError(
            "the sky map lacks the time of the event",
            value=job.input_path("skymap"),
            limit="a header keyword MJD-OBS",
            remedy="give a sky map with this keyword",
        )
    return float(mjd)


def made_with(job: StepJob) -> MadeWith:
    """Return the provenance of a ranked list: code, settings and calibrations.

    The code version combines that of the run that made the night's tables with the current one of the ranking.
    """
    settings = {**job.parameters["upstream"], "candidates": job.settings_as(CandidateSettings).model_dump(mode="json")}
    digest = xxhash.xxh3_128_hexdigest(json.dumps(settings, sort_keys=True).encode())
    code = xxhash.xxh3_128_hexdigest(f"{job.parameters['code_version']} {rank.code_version}".encode())
    return MadeWith(code, digest, job.parameters["calibration_set"])


def _page(
    job: StepJob,
    ranked: pa.Table,
    forced: pa.Table,
    skymap: SkyMap,
    footprints: Footprints,
    facts: Mapping[str, Any],
    pictures: Mapping[str, bytes],
) -> "NightPage":
    from imaging.pictures.candidate_page import NightPage

    depth = "unknown" if facts["m50_mag"] is None else f"{facts['m50_mag']:.2f} mag"
    made, found = made_with(job), facts.get("found_kilonova")
    return NightPage(
        event=event_name(job),
        night=job.night or 0,
        mjd_event=event_time(job, skymap),
        candidates=ranked,
        forced=forced,
        skymap=skymap,
        footprints=footprints,
        stamps=candidate_stamps(job, ranked),
        links=candidate_links(job, ranked),
        pictures=[(about, pictures[name]) for name, about in SHOWN_PICTURES.items()],
        facts={
            "probability searched": f"{facts['probability_searched']:.1%}",
            "probability to detect a typical kilonova": "unknown distance" if found is None else f"{found:.1%}",
            "area searched": f"{facts['area_searched_deg2']:.1f} deg²",
            "median depth (m50)": depth,
        },
        provenance={
            "code": made.code_version,
            "settings": made.settings_hash,
            "calibrations": made.calibration_set,
            "sky map": job.inputs["skymap"].content_hash,
        },
    )


def candidate_links(job: StepJob, ranked: pa.Table) -> dict[str, list[tuple[str, str]]]:
    """Return candidate to links to its products, (text, path relative to the page), for the best candidates."""
    page = job.product_path("candidates.html").parent
    links: dict[str, list[tuple[str, str]]] = {}
    for row in ranked.slice(0, STAMPS_SHOWN).select(["candidate_id", "detection_ids"]).to_pylist():
        for image in dict.fromkeys(map(detection_image, row["detection_ids"])):
            record = job.inputs.get(f"{STAMPS}{image}")
            if record is None:
                continue
            stem = str(job.site.path(record.path)).removesuffix("stamps.fits")
            for text, suffix in LINKED.items():
                address = Path(os.path.relpath(f"{stem}{suffix}", page)).as_posix()
                links.setdefault(row["candidate_id"], []).append((f"{text} {image.replace('_', ' CCD ')}", address))
    return links


def candidate_stamps(job: StepJob, ranked: pa.Table) -> dict[str, list[tuple[str, bytes]]]:
    """Return candidate to stamps of its detections, (caption, PNG bytes), for the best candidates."""
    from imaging.pictures.compass import Compass
    from imaging.pictures.stamps import stamp_strip

    wanted = {
        detection: row["candidate_id"]
        for row in ranked.slice(0, STAMPS_SHOWN).select(["candidate_id", "detection_ids"]).to_pylist()
        for detection in row["detection_ids"]
    }
    images = {f"{STAMPS}{detection_image(detection)}" for detection in wanted}
    drawn: dict[str, list[tuple[str, bytes]]] = {}
    for name in sorted(images & job.inputs.keys()):
        stamps, header = read_stamps(job.input_path(name))
        about = f"{header.get('BAND', '')} exposure {header['EXPNUM']} CCD {header['CCDNUM']}".strip()
        for stamp in stamps:
            candidate, triplet = wanted.get(stamp.detection_id), stamp.triplet
            if candidate is not None:
                label = f"{about}, {triplet.search.shape[-1] * PIXEL_SCALE_ARCSEC:.0f}″ wide"
                compass = Compass.of(stamp.coordinates)
                strip = stamp_strip(triplet.search, triplet.template, triplet.difference, compass)
                drawn.setdefault(candidate, []).append((label, strip))
    return drawn


def detection_image(detection_id: int) -> str:
    """Return exposure and CCD of a detection in the format of :attr:`tasks.associate.SearchedCcd.name`."""
    return f"{detection_id // 10_000_000}_{detection_id // 100_000 % 100:02d}"
