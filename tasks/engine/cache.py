"""The cache of step results: keys, records, and the check of their products.

A result is reused if a record exists under its cache key and all products of that record are intact. The key is a hash
of step name, job identity, content of the inputs, settings, parameters, product suffixes and code version. It contains
no paths or times, so a site can be moved. Records are the JSON files in which Prefect persists task results, below the
site's state folder; their names state subject, step and unit. :func:`parse_record` alone reads them, as JSON of this
project's schema: Prefect would decode a record as the record itself asks, with pickle or a class of any name.

Content hashes of input files are cached below the site's state folder (:func:`fingerprint`) and reused while size and
modification time of the file are unchanged, so that a re-run does not read the raw files.
"""

import json
import re
import time
from pathlib import Path
from typing import Literal

import xxhash
from pydantic import BaseModel, ConfigDict, Field

from blocks.site import Site
from imaging.io.sealed import read_sealed, unseal, write_sealed
from tasks.engine.jobs import FileRecord, Job, StepInfo, StepResult
from tasks.engine.tidied import is_kept, original_of

FORMAT = 2
"""Version of the record format, part of every key: a new one invalidates all records."""


def record_key(step: StepInfo, code: str, job: Job) -> str:
    """Return the cache key of a job: ``{subject}/{step}[-{unit}]-{hash}.json``.

    Parameters
    ----------
    step
        The step.
    code
        Version of its code, from :func:`tasks.engine.code_version.code_version`.
    job
        The job, with all inputs hashed.

    Returns
    -------
    key
        Path of the record relative to the site's record folder.
    """
    content = job.identity | {
        "format": FORMAT,
        "step": step.name,
        "products": dict(step.products),
        "code": code,
        "inputs": {name: file.content_hash for name, file in job.inputs.items()},
        "settings": None if job.settings is None else [type(job.settings).__name__, job.settings.digest()],
        "parameters": job.parameters,
    }
    digest = xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True, allow_nan=False).encode())
    return f"{job.subject}/{record_name(step.name, job.unit_name, digest)}"


RECORD_NAME = re.compile(r"(?P<step>[^-]+)(?:-(?P<unit>.+))?-[0-9a-f]{32}\.json")


def record_name(step: str, unit: str, digest: str) -> str:
    """Return the file name of a step's record.

    Parameters
    ----------
    step
        Name of the step.
    unit
        Unit of the subject, such as ``ccd07``; empty for the whole subject.
    digest
        32 hexadecimal digits.
    """
    return "-".join(part for part in (step, unit, digest) if part) + ".json"


def parse_record_name(name: str) -> tuple[str, str] | None:
    """Return (step, unit) from a record's file name, unit "" for a whole subject; None if it is not a record's name."""
    match = RECORD_NAME.fullmatch(name)
    return (match["step"], match["unit"] or "") if match else None


def record_path(site: Site, key: str) -> Path:
    """Return the file of a record."""
    return site.records / key


class _Serializer(BaseModel):
    """How a record says that it is encoded; further fields of Prefect are ignored."""

    type: Literal["json"]
    jsonlib: Literal["json"] = "json"


class _Metadata(BaseModel):
    serializer: _Serializer


class _Record(BaseModel):
    metadata: _Metadata
    result: str


class _Encoded(BaseModel):
    """A result as the encoder of Prefect writes it: the name of its class, and its fields."""

    model_config = ConfigDict(extra="forbid")

    name: Literal["tasks.engine.jobs.StepResult"] = Field(alias="__class__")
    data: StepResult


MARKS = ("__class__", "__exc_type__")
"""Keys that the decoder of Prefect takes for the name of a class to import; no name within a result."""


def parse_record(content: bytes) -> StepResult | None:
    """Return the result in the bytes of a record; None if it is anything but JSON of a :class:`StepResult`."""
    try:
        result = _Encoded.model_validate_json(_Record.model_validate_json(unseal(content)).result).data
    except ValueError:
        return None
    return (
        None
        if any(mark in names for names in (result.products, result.quality, result.cpu_s) for mark in MARKS)
        else result
    )


def read_record(path: Path) -> StepResult | None:
    """Read a record; None if there is none or it is damaged."""
    try:
        return parse_record(path.read_bytes())
    except OSError:
        return None


def recorded_result(site: Site, key: str) -> StepResult | None:
    """Return the recorded result of a step if all its products are intact or tidied; otherwise delete the record.

    A record that another run writes meanwhile stays: that run has just done the step.
    """
    path = record_path(site, key)
    seen = _identity(path)
    result = read_record(path) if seen is not None else None
    if result is not None and all(is_kept(site, product) for product in result.products.values()):
        return result
    if seen is not None and _identity(path) == seen:
        path.unlink(missing_ok=True)
    return None


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written anew; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


SETTLED_NS = 2_000_000_000
"""Age in ns above which a file's modification time is trusted: a younger file may change within its resolution."""


def fingerprint(site: Site, path: Path) -> FileRecord:
    """Describe an input file, with a cached content hash; a tidied product as its step wrote it.

    Parameters
    ----------
    site
        Site whose state folder caches the hash.
    path
        The file.

    Raises
    ------
    OSError
        If the file does not exist and was not removed by tidying.
    StorageError
        If the hash cannot be written to the cache.
    """
    tidied = original_of(site, path)
    if tidied is not None:
        return tidied
    name = site.name_of(path)
    memory = site.state / "fingerprints" / f"{xxhash.xxh3_128_hexdigest(name.encode())}.json"
    status = Path(path).stat()
    known = _read(memory)
    if known is not None and (known.path, known.size, known.mtime_ns) == (name, status.st_size, status.st_mtime_ns):
        return known
    found = FileRecord.of(site, path)
    if time.time_ns() - found.mtime_ns > SETTLED_NS:
        write_sealed(memory, found.model_dump_json())
    return found


def _read(memory: Path) -> FileRecord | None:
    try:
        return FileRecord.model_validate_json(read_sealed(memory))
    except (OSError, ValueError):
        return None
