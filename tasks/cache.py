"""Which work is known to be done: the key of a step's record, and the check of its products.

A step is done if there is a record under its key and every product in that record is intact. The key is a hash of all
that decides about the outcome: step, identity, content of the inputs, settings, parameters and version of the code. It
does not hold paths or times, so it is the same wherever the site lies. The records are the JSON files in which Prefect
keeps a task's result, below the site's state folder, named so that a person can find them.
"""

import json
from pathlib import Path

import xxhash
from prefect.results import ResultRecord

from blocks.site import Site
from tasks.record_names import record_name
from tasks.records import StepJob, StepResult

FORMAT = 1
"""Version of the records; another one recomputes everything."""


def record_key(step: str, code: str, job: StepJob) -> str:
    """Return the key of a job's record: folder of its subject, step and CCD, hash.

    Parameters
    ----------
    step
        Name of the step.
    code
        Version of its code, from :func:`tasks.code_version.code_version`.
    job
        The job.
    """
    exposure = job.exposure
    content = {
        "format": FORMAT,
        "step": step,
        "code": code,
        "night": job.night,
        "exposure": None
        if exposure is None
        else [exposure.expnum, exposure.band, exposure.night, exposure.rnum, exposure.pnum, exposure.schema],
        "ccd": job.ccd,
        "season": job.season,
        "destination": job.site.destination,
        "inputs": {name: file.content_hash for name, file in job.inputs.items()},
        "settings": None if job.settings is None else [type(job.settings).__name__, job.settings.digest()],
        "parameters": job.parameters,
    }
    digest = xxhash.xxh3_128_hexdigest(json.dumps(content, sort_keys=True, allow_nan=False).encode())
    return f"{job.subject}/{record_name(step, job.ccd, digest)}"


def record_path(site: Site, key: str) -> Path:
    """Return the file of a record."""
    return site.records / key


def read_record(path: Path) -> StepResult | None:
    """Read a record; None if there is none or it is damaged."""
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
    """Return the recorded result of a step if all its products are intact; otherwise drop the record.

    Returns
    -------
    result
        None if the step has to be done.
    """
    path = record_path(site, key)
    result = read_record(path)
    if result is None or not all(product.is_intact(site) for product in result.products.values()):
        path.unlink(missing_ok=True)
        return None
    return result
