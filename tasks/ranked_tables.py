"""The tables of a ranked night, and the records needed to rank it again."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from blocks.gw_events import is_retracted
from blocks.site import Site
from imaging.candidates.lightcurve import LightcurveLikelihood, lightcurve_likelihood
from imaging.candidates.settings import CandidateSettings
from imaging.errors import InputError
from imaging.io.atomic import content_hash
from imaging.io.candidates import write_candidates, write_candidates_csv
from imaging.io.damage import reading
from imaging.io.lightcurve_likelihood import read_lightcurve_likelihood, write_lightcurve_likelihood
from imaging.io.regions import write_ccd_regions
from imaging.io.sealed import read_sealed, write_sealed
from imaging.io.tables import write_table
from imaging.skymap.footprints import Footprints
from tasks.context import known_catalogues
from tasks.engine.cache import fingerprint
from tasks.engine.code_version import code_version
from tasks.jobs import StepJob
from tasks.steps import RANK

RANKING = RANK.products["ranking"]
"""Name of the file with the parameters to rank a night again."""

LIGHTCURVES = "forced_00000"
"""Name of the night's light curves among the inputs of a later ranking."""

LIKELIHOOD = "likelihood"
"""Name of the light-curve likelihoods among products and inputs."""

REGIONS_BEST = 20_000
"""Maximum number of candidates in region files; DS9 is slow with more."""

KEPT = ("event", "searched", "templates", "code_version", "calibration_set", "upstream")


def write_ranked_tables(job: StepJob, ranked: pa.Table, forced: pa.Table, footprints: Footprints) -> dict[str, Path]:
    """Write the ranked list as Parquet and CSV, the light curves, and region files per CCD; return paths by name."""
    paths = {name: job.product_path(RANK.products[name]) for name in ("candidates", "csv", "forced")}
    write_candidates(paths["candidates"], ranked)
    write_candidates_csv(paths["csv"], ranked)
    if all(job.input_path(name) != paths["forced"] for name in job.inputs):
        write_table(paths["forced"], forced)
    best = ranked.slice(0, REGIONS_BEST)
    for path in write_ccd_regions(job.product_path("regions"), best, footprints):
        paths[path.stem] = path
    return paths


def known_or_new_likelihood(
    job: StepJob, candidates: pa.Table, forced: pa.Table, mjd_event: float
) -> LightcurveLikelihood:
    """Return the light-curve likelihoods, from the last ranking if its inputs are unchanged, otherwise computed.

    Parameters
    ----------
    job
        The job.
    candidates, forced
        The candidates in the order of their file, and their forced photometry.
    mjd_event
        Time of the merger, MJD UTC.
    """
    kept = job.inputs.get(LIKELIHOOD)
    if kept is not None:
        key = _likelihood_key(job, job.inputs[LIGHTCURVES].content_hash, mjd_event)
        known = read_lightcurve_likelihood(job.site.path(kept.path), key)
        if known is not None:
            return known
    settings = job.settings_as(CandidateSettings).lightcurve
    return lightcurve_likelihood(forced, candidates.column("candidate_id"), _to_a_second(mjd_event), settings)


def keep_likelihood(job: StepJob, likelihood: LightcurveLikelihood, lightcurves: Path, mjd_event: float) -> Path:
    """Write the light-curve likelihoods for later rankings; return the path."""
    path, key = job.product_path(RANK.products[LIKELIHOOD]), _likelihood_key(job, content_hash(lightcurves), mjd_event)
    if LIKELIHOOD not in job.inputs or read_lightcurve_likelihood(path, key) is None:
        write_lightcurve_likelihood(path, likelihood, key)
    return path


def _to_a_second(mjd_event: float) -> float:
    """Return the time of the merger rounded to a second: maps of one event differ by less, without effect here."""
    return round(mjd_event, 5)


def _likelihood_key(job: StepJob, lightcurves_hash: str, mjd_event: float) -> str:
    """Return a hash of the inputs of likelihoods: candidates, light curves, merger time and models."""
    about = [
        job.inputs["candidates"].content_hash,
        lightcurves_hash,
        repr(_to_a_second(mjd_event)),
        job.settings_as(CandidateSettings).lightcurve.digest(),
        code_version("imaging.candidates.lightcurve"),
    ]
    return xxhash.xxh3_128_hexdigest(" ".join(about).encode())


def write_ranking(job: StepJob, mjd_event: float, likelihood: Path) -> Path:
    """Write the parameters of a ranking, so that the night can be ranked again; return the path."""
    skymap = job.inputs["skymap"]
    stamps = {name: record.path for name, record in job.inputs.items() if name.startswith("stamps_")}
    content = {
        "parameters": {name: job.parameters[name] for name in (*KEPT, "retracted") if name in job.parameters}
        | {"mjd_event": mjd_event},
        "settings": job.settings_as(CandidateSettings).model_dump(mode="json"),
        "skymap": {"path": skymap.path, "content_hash": skymap.content_hash},
        "stamps": stamps,
        LIKELIHOOD: content_hash(likelihood),
    }
    path = job.product_path(RANKING)
    write_sealed(path, json.dumps(content, sort_keys=True) + "\n")
    return path


class _Ranking(BaseModel):
    """What is read of the parameters of a ranking; the likelihoods' hash is optional."""

    model_config = ConfigDict(extra="allow")

    parameters: dict[str, Any]
    settings: dict[str, Any]
    skymap: dict[str, str] = {}
    stamps: dict[str, str] = {}

    @model_validator(mode="after")
    def _states_the_event(self) -> "_Ranking":
        if not isinstance(self.parameters.get("event"), str):
            raise ValueError("the parameters state no event")
        return self


def read_ranking(path: Path) -> dict[str, Any]:
    """Read what :func:`write_ranking` wrote.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    missing = "the night cannot be ranked again: a file is missing"
    with reading(path, "ranking damaged", "process the night first with gw-workflow night", missing=missing):
        return _Ranking.model_validate_json(read_sealed(path)).model_dump()


def rerank_job(night: int, skymap: Path, site: Site, settings: CandidateSettings | None = None) -> StepJob:
    """Plan to rank a night's candidates again from its tables, with another sky map or other weights.

    Parameters
    ----------
    night
        The night, YYYYMMDD.
    skymap
        The sky map.
    site
        Site with the night's products.
    settings
        Settings; None for those of the last ranking.

    Raises
    ------
    InputError
        If the night has not been ranked before.
    """
    job = StepJob(night=night, site=site)
    try:
        known = read_ranking(job.product_path(RANKING))
        tables = {"candidates": "associated.parquet", LIGHTCURVES: "lightcurves.parquet"}
        inputs = {name: fingerprint(site, job.product_path(suffix)) for name, suffix in tables.items()}
        inputs["skymap"] = fingerprint(site, skymap)
    except FileNotFoundError as error:
        raise InputError(
            "the night cannot be ranked again: a file is missing",
            value=error.filename,
            remedy="process the night first with gw-workflow night",
        ) from error
    kept = job.product_path(RANK.products[LIKELIHOOD])
    if kept.exists() and fingerprint(site, kept).content_hash == known.get(LIKELIHOOD):
        inputs[LIKELIHOOD] = fingerprint(site, kept)
    stamps = {name: site.path(path) for name, path in known["stamps"].items()}
    parameters = {name: value for name, value in known["parameters"].items() if name != "retracted"}
    if is_retracted(site, parameters["event"]):
        parameters["retracted"] = True
    parameters["known_catalogues"] = known_catalogues(site)
    return job.model_copy(
        update={
            "inputs": inputs | {name: fingerprint(site, path) for name, path in stamps.items() if path.exists()},
            "settings": settings or _settings_of(known["settings"]),
            "parameters": parameters,
        }
    )


def last_settings(night: int, site: Site) -> CandidateSettings:
    """Return the settings of a night's last ranking; the defaults if it has not been ranked.

    Raises
    ------
    InputError
        If they were written by a version with other settings.
    """
    path = StepJob(night=night, site=site).product_path(RANKING)
    if not path.exists():
        return CandidateSettings()
    return _settings_of(read_ranking(path)["settings"])


def _settings_of(content: Mapping[str, Any]) -> CandidateSettings:
    try:
        return CandidateSettings.model_validate(content)
    except ValidationError as error:
        raise InputError(
            "the settings of the last ranking were written by another version",
            value=f"{RANKING}: {error.errors()[0]['loc']}",
            remedy="process the night again with gw-workflow night",
        ) from error
