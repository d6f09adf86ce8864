"""The tables of a ranked night, and what a later ranking needs to know of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from pydantic import ValidationError

from blocks.site import Site
from imaging.candidates.lightcurve import LightcurveEvidence, lightcurve_evidence
from imaging.candidates.settings import CandidateSettings
from imaging.errors import InputError
from imaging.io.atomic import content_hash, write_text
from imaging.io.candidates import write_candidates, write_candidates_csv, write_ccd_regions
from imaging.io.evidence import read_evidence, write_evidence
from imaging.io.tables import write_table
from imaging.skymap.footprints import Footprints
from tasks.code_version import code_version
from tasks.fingerprints import fingerprint
from tasks.records import StepJob

RANKING = "ranking.json"
"""Name of the file from which a night can be ranked again."""

LIGHTCURVES = "forced_00000"
"""Name of the night's light curves among the inputs of a later ranking."""

EVIDENCE, EVIDENCE_FILE = "evidence", "evidence.feather"
"""Name of the judged light curves among products and inputs, and their file."""

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


def judge_lightcurves(job: StepJob, candidates: pa.Table, forced: pa.Table, mjd_event: float) -> LightcurveEvidence:
    """Judge the light curves, or take over what the ranking before has thought of them where it still holds.

    Parameters
    ----------
    job
        The job.
    candidates, forced
        The candidates in the order of their file, and their forced photometry.
    mjd_event
        Instant of the merger, UTC.
    """
    kept = job.inputs.get(EVIDENCE)
    if kept is not None:
        key = _evidence_key(job, job.inputs[LIGHTCURVES].content_hash, mjd_event)
        known = read_evidence(job.site.path(kept.path), key)
        if known is not None:
            return known
    settings = job.settings_as(CandidateSettings).lightcurve
    return lightcurve_evidence(forced, candidates.column("candidate_id"), _settled(mjd_event), settings)


def keep_judgement(job: StepJob, evidence: LightcurveEvidence, lightcurves: Path, mjd_event: float) -> Path:
    """Keep what was thought of the light curves in a file for the next ranking; return its path."""
    path, key = job.product_path(EVIDENCE_FILE), _evidence_key(job, content_hash(lightcurves), mjd_event)
    if EVIDENCE not in job.inputs or read_evidence(path, key) is None:
        write_evidence(path, evidence, key)
    return path


def _settled(mjd_event: float) -> float:
    """Return the instant of the merger to a second: maps of one event differ by less, light curves do not notice."""
    return round(mjd_event, 5)


def _evidence_key(job: StepJob, lightcurves_hash: str, mjd_event: float) -> str:
    """Name candidates, light curves, merger and models that a judgement belongs to."""
    about = [
        job.inputs["candidates"].content_hash,
        lightcurves_hash,
        repr(_settled(mjd_event)),
        job.settings_as(CandidateSettings).lightcurve.digest(),
        code_version("imaging.candidates.lightcurve"),
    ]
    return xxhash.xxh3_128_hexdigest(" ".join(about).encode())


def write_ranking(job: StepJob, mjd_event: float, evidence: Path) -> Path:
    """Note what a ranked list was made from, so that it can be ranked again; return the path."""
    skymap = job.inputs["skymap"]
    stamps = {name: record.path for name, record in job.inputs.items() if name.startswith("stamps_")}
    content = {
        "parameters": {name: job.parameters[name] for name in KEPT} | {"mjd_event": mjd_event},
        "settings": job.settings_as(CandidateSettings).model_dump(mode="json"),
        "skymap": {"path": skymap.path, "content_hash": skymap.content_hash},
        "stamps": stamps,
        EVIDENCE: content_hash(evidence),
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
        tables = {"candidates": "associated.parquet", LIGHTCURVES: "lightcurves.parquet"}
        inputs = {name: fingerprint(site, job.product_path(suffix)) for name, suffix in tables.items()}
        inputs["skymap"] = fingerprint(site, skymap)
    except FileNotFoundError as error:
        raise InputError(
            "the night cannot be ranked again: a file is missing",
            value=error.filename,
            remedy="process the night first with gw-workflow night",
        ) from error
    judged = job.product_path(EVIDENCE_FILE)
    if judged.exists() and fingerprint(site, judged).content_hash == known.get(EVIDENCE):
        inputs[EVIDENCE] = fingerprint(site, judged)
    stamps = {name: site.path(path) for name, path in known["stamps"].items()}
    return job.model_copy(
        update={
            "inputs": inputs | {name: fingerprint(site, path) for name, path in stamps.items() if path.exists()},
            "settings": settings or _settings_of(known["settings"]),
            "parameters": known["parameters"],
        }
    )


def last_settings(night: int, site: Site) -> CandidateSettings:
    """Return the settings with which a night was ranked last; the usual ones if it was not.

    Raises
    ------
    InputError
        If they were written by a version that had other settings.
    """
    path = StepJob(night=night, site=site).product_path(RANKING)
    if not path.exists():
        return CandidateSettings()
    return _settings_of(json.loads(path.read_text(encoding="utf-8"))["settings"])


def _settings_of(content: Mapping[str, Any]) -> CandidateSettings:
    try:
        return CandidateSettings.model_validate(content)
    except ValidationError as error:
        raise InputError(
            "the settings of the last ranking are those of another version",
            value=f"{RANKING}: {error.errors()[0]['loc']}",
            remedy="process the night again with gw-workflow night",
        ) from error
