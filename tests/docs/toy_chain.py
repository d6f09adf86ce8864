"""Three steps, as sources that a test edits: scale (CCDs) -> level (exposure) -> report (CCDs)."""

SOURCES = {
    "imaging/toy_science.py": '''"""Science."""

import numpy as np


def scaled(value, factor):
    """Scale."""
    return float(np.float64(value) * factor)  # as it is
''',
    "imaging/toy_unused.py": "X = 1\n",
    "tasks/toy_scale.py": '''"""Scale."""

from imaging.errors import CcdError
from imaging.settings import Settings
from imaging.toy_science import scaled
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.steps import SCALE

OFFSET = 0.0


class ScaleSettings(Settings):
    factor: float = 2.0


def scale_job(exposure, ccd, site, settings):
    """Plan."""
    path = site.raw / f"{ccd}.txt"
    inputs = {"value": fingerprint(site, path)}
    return StepJob(exposure=exposure, ccd=ccd, site=site, inputs=inputs, settings=settings)


@step(SCALE)
def scale(job: StepJob) -> StepResult:
    """Scale a number."""
    with (job.site.root / "calls").open("a") as stream:
        stream.write(f"scale {job.ccd}\\n")
    if (job.site.root / f"fails{job.ccd}").exists():
        raise CcdError("too few stars", reason="too_few_stars")
    value = float(job.input_path("value").read_text())
    paths = job.product_paths(SCALE)
    paths["value"].parent.mkdir(parents=True, exist_ok=True)
    paths["value"].write_text(f"{scaled(value, job.settings_as(ScaleSettings).factor) + OFFSET}")
    return job.result(paths)
''',
    "tasks/toy_level.py": '''"""Level."""

import json

from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.exposure_solution import Basis, absentees
from tasks.jobs import StepJob
from tasks.steps import LEVEL


def level_job(scaled, failures, exposure, site):
    inputs = {f"value_{ccd}": result.products["value"] for ccd, result in scaled.items()}
    return StepJob(exposure=exposure, site=site, inputs=inputs, parameters={"without": absentees(failures)})


@step(LEVEL)
def level(job: StepJob) -> StepResult:
    """Average, or keep an earlier average that the CCDs join."""
    with (job.site.root / "calls").open("a") as stream:
        stream.write("level\\n")
    paths = job.product_paths(LEVEL)
    basis = Basis.of(job, level.code_version, "value_")
    path = paths["level"]
    if path.exists() and basis.joins(Basis.model_validate(json.loads(path.read_text())["basis"])):
        return job.result(paths)
    values = [float(job.input_path(name).read_text()) for name in job.inputs]
    path.write_text(json.dumps({"basis": basis.model_dump(), "level": sum(values) / len(values)}))
    return job.result(paths)
''',
    "tasks/toy_report.py": '''"""Report."""

import json

from imaging.settings import Settings
from tasks.engine.jobs import StepResult
from tasks.engine.step import step
from tasks.jobs import StepJob
from tasks.steps import REPORT


class ReportSettings(Settings):
    digits: int = 3


def report_job(scaled, level, exposure, ccd, site, settings, parameters):
    inputs = {"value": scaled[ccd].products["value"], "level": level.products["level"]}
    return StepJob(exposure=exposure, ccd=ccd, site=site, inputs=inputs, settings=settings, parameters=parameters)


@step(REPORT)
def report(job: StepJob) -> StepResult:
    """Report."""
    with (job.site.root / "calls").open("a") as stream:
        stream.write(f"report {job.ccd}\\n")
    level = json.loads(job.input_path("level").read_text())["level"]
    paths = job.product_paths(REPORT)
    value = round(float(job.input_path("value").read_text()) - level, job.settings_as(ReportSettings).digits)
    paths["report"].write_text(f"{value} {job.parameters}")
    return job.result(paths)
''',
    "flows/toy_chain_flow.py": '''"""Flow."""

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.engine.stage import Stage
from tasks.jobs import StepJob
from tasks.steps import REPORT, SCALE
from tasks.toy_level import level, level_job
from tasks.toy_report import ReportSettings, report, report_job
from tasks.toy_scale import ScaleSettings, scale, scale_job


@flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
def toy_chain(exposure: object, site: object, chosen: dict[str, object], overwrite: bool) -> None:
    stage = Stage("toys", StepJob(exposure=exposure, site=site), overwrite=overwrite)
    rules = ScaleSettings(factor=chosen.get("factor", 2.0))
    scaled = stage.map(scale, stage.plan(SCALE, (1, 2), lambda ccd: scale_job(exposure, ccd, site, rules)))
    job = level_job(scaled, stage.failures, exposure, site)
    if overwrite:
        job.product_path("level.json").unlink()
    found = stage.run(level, job, scaled)
    rules = ReportSettings(digits=chosen.get("digits", 3))
    mode = {"mode": chosen.get("mode", "")}
    plan = lambda ccd: report_job(scaled, found, exposure, ccd, site, rules, mode)
    stage.map(report, stage.plan(REPORT, scaled, plan))
''',
}

TOY_INFOS = """
SCALE = StepInfo("scale", "toys", CCD, 0.01, {"value": "scaled.txt"}, intermediate=("value",))
LEVEL = StepInfo("level", "toys", EXPOSURE, 0.01, {"level": "level.json"})
REPORT = StepInfo("report", "toys", CCD, 0.01, {"report": "report.txt"})
"""
"""What is added to tasks/steps.py."""
