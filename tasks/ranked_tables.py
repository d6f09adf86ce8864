"""The tables of a ranked night, and what a later ranking needs to know of it."""

import json
from pathlib import Path

import pyarrow as pa

from blocks.site import Site
from imaging.candidates.settings import CandidateSettings
from imaging.errors import InputError
from imaging.io.atomic import write_text
from imaging.io.candidates import write_candidates, write_candidates_csv, write_ccd_regions
from imaging.io.tables import write_table
from imaging.skymap.footprints import Footprints
from tasks.fingerprints import fingerprint
from tasks.records import StepJob

RANKING = "ranking.json"
"""Name of the file from which a night can be ranked again."""

REGIONS_BEST = 20_000
"""The best candidates that are drawn in region files: DS9 is slow with more."""

KEPT = ("event", "searched", "templates", "code_version", "calibration_set", "upstream")


def write_ranked_tables(job: StepJob, ranked: pa.Table, forced: pa.Table, footprints: Footprints) -> dict[str, Path]:
    """Write the list as Parquet and CSV, the light curves, and region files per CCD image; return their paths."""
    suffixes = {"candidates": "candidates.parquet", "csv": "candidates.csv", "forced": "lightcurves.parquet"}
    paths = {name: job.product_path(suffix) for name, suffix in suffixes.items()}
    write_candidates(paths["candidates"], ranked)
    write_candidates_csv(paths["csv"], ranked)
    if all(job.input_path(name) != paths["forced"] for name in job.inputs):
        write_table(paths["forced"], forced)
    best = ranked.slice(0, REGIONS_BEST)
    for path in write_ccd_regions(job.product_path("regions"), best, footprints):
        paths[path.stem] = path
    return paths


def write_ranking(job: StepJob, mjd_event: float) -> Path:
    """Note what a ranked list was made from, so that it can be ranked again; return the path."""
    skymap = job.inputs["skymap"]
    stamps = {name: record.path for name, record in job.inputs.items() if name.startswith("stamps_")}
    content = {
        "parameters": {name: job.parameters[name] for name in KEPT} | {"mjd_event": mjd_event},
        "settings": job.settings_as(CandidateSettings).model_dump(mode="json"),
        "skymap": {"path": skymap.path, "content_hash": skymap.content_hash},
        "stamps": stamps,
    }
    path = job.product_path(RANKING)
    write_text(path, json.dumps(content, sort_keys=True) + "\n")
    return path


def rerank_job(night: int, skymap: Path, site: Site, settings: CandidateSettings | None = None) -> StepJob:
    """Plan to rank a night's candidates again, on another sky map or with other weights, from its tables alone.

    Parameters
    ----------
    night
        The night, YYYYMMDD.
    skymap
        The sky map.
    site
        Where the night's products are.
    settings
        How; None for the settings of its last ranking.

    Raises
    ------
    InputError
        If the night has not been ranked before.
    """
    job = StepJob(night=night, site=site)
    try:
        known = json.loads(job.product_path(RANKING).read_text(encoding="utf-8"))
        tables = {"candidates": "associated.parquet", "forced_00000": "lightcurves.parquet"}
        inputs = {name: fingerprint(site, job.product_path(suffix)) for name, suffix in tables.items()}
        inputs["skymap"] = fingerprint(site, skymap)
    except FileNotFoundError as error:
        raise InputError(
            "the night cannot be ranked again: a file is missing",
            value=error.filename,
            remedy="process the night first with gw-workflow night",
        ) from error
    stamps = {name: site.path(path) for name, path in known["stamps"].items()}
    return job.model_copy(
        update={
            "inputs": inputs | {name: fingerprint(site, path) for name, path in stamps.items() if path.exists()},
            "settings": settings or CandidateSettings.model_validate(known["settings"]),
            "parameters": known["parameters"],
        }
    )


def last_settings(night: int, site: Site) -> CandidateSettings:
    """Return the settings with which a night was ranked last; the usual ones if it was not."""
    path = StepJob(night=night, site=site).product_path(RANKING)
    if not path.exists():
        return CandidateSettings()
    return CandidateSettings.model_validate(json.loads(path.read_text(encoding="utf-8"))["settings"])
