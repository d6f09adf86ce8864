"""How a re-run knows what is done: the key of a step's record, and the check of its products.

A step is done if there is a record under its key and every product in that record is intact. The key is a hash of all
that decides about the outcome: step, identity, content of the inputs, settings, parameters, product suffixes and
version of the code. It does not hold paths or times, so it is the same wherever the site lies. The records are the JSON
files in which Prefect keeps a task's result, below the site's state folder, named so that a person can find them.

The content of an input file is hashed once (:func:`fingerprint`): the hash is kept below the site's state folder and
holds as long as the file's size and time do, so that a second run does not read gigabytes to learn that nothing
changed.
"""

import json
import re
import time
from pathlib import Path

import xxhash
from pydantic import ValidationError

from blocks.site import Site
from imaging.io.atomic import write_text
from tasks.engine.jobs import FileRecord, Job, StepInfo, StepResult

FORMAT = 2
"""Version of the records; another one recomputes everything."""


def record_key(step: StepInfo, code: str, job: Job) -> str:
    """Return the key of a job's record: folder of its subject, step and unit, hash.

    Parameters
    ----------
    step
        The step.
    code
        Version of its code, from :func:`tasks.engine.code_version.code_version`.
    job
        The job.
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
    """Name the record of a step.

    Parameters
    ----------
    step
        Name of the step.
    unit
        What of the subject it was done for, such as ``ccd07``; empty for all of it.
    digest
        32 hexadecimal digits.
    """
    return "-".join(part for part in (step, unit, digest) if part) + ".json"


def parse_record_name(name: str) -> tuple[str, str] | None:
    """Return step and unit of a record, the unit empty where there is none; None if this is no record's name."""
    match = RECORD_NAME.fullmatch(name)
    return (match["step"], match["unit"] or "") if match else None


def record_path(site: Site, key: str) -> Path:
    """Return the file of a record."""
    return site.records / key


def read_record(path: Path) -> StepResult | None:
    """Read a record; None if there is none or it is damaged."""
    from prefect.results import ResultRecord  # slow to import, and a look at a site needs no record

    try:
        content = path.read_bytes()
    except OSError:
        return None
    try:
        result: object = ResultRecord.deserialize(content).result
    except (ValueError, TypeError):
        return None
    return result if isinstance(result, StepResult) else None


def recorded_result(site: Site, key: str) -> StepResult | None:
    """Return the recorded result of a step if all its products are intact; otherwise drop the record."""
    path = record_path(site, key)
    result = read_record(path)
    if result is None or not all(product.is_intact(site) for product in result.products.values()):
        path.unlink(missing_ok=True)
        return None
    return result


SETTLED_NS = 2_000_000_000
"""A file that changed less than this long ago may change again within the resolution of its time stamp, ns."""


def fingerprint(site: Site, path: Path) -> FileRecord:
    """Describe an input file, its content hashed once.

    Parameters
    ----------
    site
        Site whose state folder remembers the hash.
    path
        The file.

    Raises
    ------
    OSError
        If the file does not exist.
    StorageError
        If the hash cannot be remembered.
    """
    name = site.name_of(path)
    memory = site.state / "fingerprints" / f"{xxhash.xxh3_128_hexdigest(name.encode())}.json"
    status = Path(path).stat()
    known = _read(memory)
    if known is not None and (known.path, known.size, known.mtime_ns) == (name, status.st_size, status.st_mtime_ns):
        return known
    found = FileRecord.of(site, path)
    if time.time_ns() - found.mtime_ns > SETTLED_NS:
        write_text(memory, found.model_dump_json())
    return found


def _read(memory: Path) -> FileRecord | None:
    try:
        return FileRecord.model_validate_json(memory.read_bytes())
    except (OSError, ValidationError):
        return None
