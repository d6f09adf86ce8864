"""Rank the candidates of a night against the sky map, and put together what a person looks at."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from blocks.nights import RegisteredNight
from blocks.site import Site
from imaging.candidates.page import NightPage, build_page
from imaging.candidates.rank import rank_candidates
from imaging.candidates.settings import CandidateSettings
from imaging.io.atomic import write_bytes, write_text
from imaging.io.candidates import read_candidates, write_candidates, write_candidates_csv, write_ccd_regions
from imaging.io.images import read_planes
from imaging.io.skymaps import read_skymap
from imaging.io.tables import read_tables, write_table
from imaging.pictures.night import night_picture
from imaging.pictures.stamps import stamp_strip
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.skymap.coverage import search_coverage
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import SkyMap
from tasks.associate import SearchedCcd, footprints_in, searched_parameters
from tasks.fingerprints import fingerprint
from tasks.pages import LISTED, candidates_page
from tasks.records import FileRecord, StepJob, StepResult
from tasks.seam import step

FORCED, STAMPS = "forced_", "stamps_"

STAMPS_SHOWN = 300
"""Candidates whose stamps are put on the page."""


def rank_job(
    registered: RegisteredNight,
    associated: StepResult,
    forced: Sequence[StepResult],
    searched: Sequence[SearchedCcd],
    site: Site,
    settings: CandidateSettings,
) -> StepJob:
    """Plan the ranking of a night.

    Parameters
    ----------
    registered
        The night: its event and sky map.
    associated, forced
        Results of the association, and of the forced photometry on every difference.
    searched
        Every subtracted CCD of the night.
    site, settings
        Where and how.
    """
    inputs: dict[str, FileRecord] = {
        "candidates": associated.products["candidates"],
        "skymap": fingerprint(site, registered.skymap),
    }
    inputs |= {f"{FORCED}{number:05d}": result.products["forced"] for number, result in enumerate(forced)}
    inputs |= {f"{STAMPS}{item.name}": item.stamps for item in searched if item.stamps is not None}
    parameters = {"event": registered.record.event, "searched": searched_parameters(searched)}
    return StepJob(night=registered.record.night, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step("rank")
def rank(job: StepJob) -> StepResult:
    """Rank the candidates, and write the list, its exports, the page and the picture of the night."""
    settings = job.settings_as(CandidateSettings)
    skymap = read_skymap(job.input_path("skymap"))
    footprints = footprints_in(job)
    names = sorted(name for name in job.inputs if name.startswith(FORCED))
    forced = read_tables([job.input_path(name) for name in names], FORCED_PHOTOMETRY)
    candidates = read_candidates(job.input_path("candidates"))
    ranked = rank_candidates(candidates, forced, skymap, skymap.mjd, settings.rank, settings.lightcurve)
    coverage = search_coverage(skymap, footprints, settings.coverage)
    facts = {
        "n_candidates": ranked.num_rows,
        "probability_searched": coverage.probability_searched,
        "area_searched_deg2": coverage.area_searched_deg2,
        "m50_mag": float(np.nanmedian(footprints.m50_mag)) if np.isfinite(footprints.m50_mag).any() else None,
    }
    products = _write_tables(job, ranked, forced, footprints)
    title = f"{job.parameters['event']}, night {job.night}"
    picture = night_picture(skymap, footprints, ranked, title=title)
    products["picture"] = job.product_path("night.png")
    write_bytes(products["picture"], picture)
    page = _page(job, ranked, forced, skymap, footprints, facts)
    products["page"] = job.product_path("candidates.html")
    write_text(products["page"], build_page(page))
    products["brief"] = job.product_path("candidates.md")
    best = ranked.slice(0, LISTED).to_pylist()
    write_text(products["brief"], candidates_page(best, page.stamps, picture, title, skymap.mjd))
    products["summary"] = job.product_path("summary.json")
    write_text(products["summary"], json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return job.result(products, quality=facts)


def _write_tables(job: StepJob, ranked: pa.Table, forced: pa.Table, footprints: Footprints) -> dict[str, Path]:
    suffixes = {"candidates": "candidates.parquet", "csv": "candidates.csv", "forced": "lightcurves.parquet"}
    paths = {name: job.product_path(suffix) for name, suffix in suffixes.items()}
    write_candidates(paths["candidates"], ranked)
    write_candidates_csv(paths["csv"], ranked)
    write_table(paths["forced"], forced)
    for path in write_ccd_regions(job.product_path("regions"), ranked, footprints):
        paths[path.stem] = path
    return paths


def _page(
    job: StepJob,
    ranked: pa.Table,
    forced: pa.Table,
    skymap: SkyMap,
    footprints: Footprints,
    facts: Mapping[str, Any],
) -> NightPage:
    depth = "unknown" if facts["m50_mag"] is None else f"{facts['m50_mag']:.2f} mag"
    return NightPage(
        event=job.parameters["event"],
        night=job.night or 0,
        mjd_event=skymap.mjd,
        candidates=ranked,
        forced=forced,
        skymap=skymap,
        footprints=footprints,
        stamps=candidate_stamps(job, ranked),
        facts={
            "probability searched": f"{facts['probability_searched']:.1%}",
            "area searched": f"{facts['area_searched_deg2']:.1f} deg²",
            "median depth (m50)": depth,
        },
        provenance={"settings": job.settings.digest() if job.settings else "", "code": rank.code_version},
    )


def candidate_stamps(job: StepJob, ranked: pa.Table) -> dict[str, list[tuple[str, bytes]]]:
    """Draw the stamps of the best candidates' detections: candidate to (exposure and CCD, PNG bytes)."""
    wanted = {
        detection: row["candidate_id"]
        for row in ranked.slice(0, STAMPS_SHOWN).select(["candidate_id", "detection_ids"]).to_pylist()
        for detection in row["detection_ids"]
    }
    drawn: dict[str, list[tuple[str, bytes]]] = {}
    for name in sorted(name for name in job.inputs if name.startswith(STAMPS)):
        planes, header = read_planes(job.input_path(name), ("SEARCH", "TEMPLATE", "DIFFERENCE", "ID"))
        label = f"exposure {header['EXPNUM']} CCD {header['CCDNUM']}"
        for number, detection in enumerate(planes["ID"].tolist()):
            candidate = wanted.get(detection)
            if candidate is not None:
                strip = stamp_strip(*(planes[plane][number] for plane in ("SEARCH", "TEMPLATE", "DIFFERENCE")))
                drawn.setdefault(candidate, []).append((label, strip))
    return drawn
