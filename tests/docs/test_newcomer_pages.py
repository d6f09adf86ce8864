"""The pages that say how to add a step and how to change a setting: their examples are run."""

import functools
import importlib
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from pages import ROOT, Overlay, added, block, blocks, page, patched, table
from prefect.flows import load_flow_from_entrypoint

from blocks.cluster import ComputeCluster
from blocks.site import Site
from deployments.cli import nights
from deployments.cli.images import SubtractionOptions, search_settings
from deployments.cli.options import DEFAULTS, read_settings
from deployments.server.definitions import DEFINITIONS
from flows.settings import DifferenceStageSettings, NightSettings
from imaging.difference.settings import SearchSettings
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.io.tables import write_table
from imaging.masks.cosmic_rays import CosmicRays
from imaging.masks.tables import cosmic_ray_table
from tasks.engine import code_version as versions
from tasks.engine.jobs import StepResult
from tasks.engine.task_runner import with_options
from tasks.jobs import StepJob
from tasks.steps import NIGHT_STAGES, steps_of

EXPOSURE = ExposureId(1300001, "i", 20170818, rnum=4, pnum=5)

PAGES = (
    "how_to_add_a_step",
    "how_to_change_a_setting",
    "where_is_x_computed",
    "another_camera",
    "how_a_rerun_knows",
)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_one_page(name):
    lines = page(name).splitlines()
    assert len(lines) < 120
    assert max(len(line) for line in lines if not line.startswith("|")) <= 130


# How do I add a step?

ADD = "how_to_add_a_step"
STEP, SCIENCE = "tasks/count_cosmic_rays.py", "imaging/masks/cosmic_ray_counts.py"

SMALL_FLOW = """
from flows.single_epoch import *
from tasks.engine import cache
from tasks.engine import code_version as versions
from tasks.engine.jobs import StepResult

@flow(task_runner=ComputeTaskRunner())
def counting(measured: dict[int, StepResult], place: object, settings: object) -> dict[str, object]:
    who = ExposureRequest(expnum=1300001, band="i", night=20170818, rnum=4, pnum=5).exposure_id()
    stage = Stage("single-epoch", StepJob(exposure=who, site=place), overwrite=False)
{lines}
    return {{"counted": counted, **stage.summary(counted)}}
"""
"""The lines that the page adds to the flow, with what stands before them."""


class AddedStep:
    """The page's step in a copy of the layers, on a site with measured CCDs."""

    def __init__(self, overlay: Overlay, site: Site) -> None:
        self.overlay, self.site, self.settings = overlay, site, {}
        for file in (SCIENCE, STEP):
            overlay.write(file, block(ADD, file).text)
        for found in blocks(ADD):
            if found.language == "diff":
                original = (ROOT / found.file).read_text(encoding="utf-8")
                overlay.write(found.file, patched(original, found.text))
        lines = added(block(ADD, "flows/single_epoch.py").text)
        overlay.write("flows/counting.py", SMALL_FLOW.format(lines=lines))

    def run(self) -> dict:
        files = (SCIENCE, "tasks/steps.py", STEP, "flows/settings.py", "flows/single_epoch.py", "flows/counting.py")
        modules = {file: self.overlay.load(file) for file in files}
        settings = modules["flows/settings.py"].SingleEpochSettings(cosmic_ray_counts=self.settings)
        flow = with_options(modules["flows/counting.py"].counting, cluster=ComputeCluster(n_workers=1, processes=False))
        return flow(measured_ccds(self.site), self.site, settings)

    def rewrite(self, file: str, old: str, new: str) -> None:
        text = (self.overlay.root / file).read_text()
        assert old in text
        self.overlay.write(file, text.replace(old, new))


def measured_ccds(site: Site) -> dict[int, StepResult]:
    """Return what measure would return for two CCDs: 3 and 5 cosmic rays of 500, 1000, 1500 ... electrons."""
    results = {}
    for ccd, n in ((1, 3), (2, 5)):
        job = StepJob(exposure=EXPOSURE, ccd=ccd, site=site)
        at = np.arange(n, dtype=np.float64)
        rays = CosmicRays(pixels=np.zeros((8, 8), bool), x=at, y=at, n_pixels=np.full(n, 4), flux=500.0 * (at + 1.0))
        path = job.product_path("crays.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            write_table(path, cosmic_ray_table(rays, EXPOSURE, ccd))
        results[ccd] = job.result({"cosmic_rays": path})
    return results


def test_the_page_adds_a_step_that_works(overlay, tmp_path, prefect_server):
    site = Site.at(tmp_path / "site")
    example = AddedStep(overlay, site)

    first = example.run()
    assert {ccd: result.quality["n_bright"] for ccd, result in first["counted"].items()} == {1: 2.0, 2: 4.0}
    assert (first["n_computed"], first["n_cached"], first["failures"]) == (2, 0, {})
    product = site.path(first["counted"][2].products["counts"].path)
    assert product.name == "D01300001_i_02_r4p5_craycounts.json"
    assert json.loads(product.read_text()) == {"n_bright": 4.0, "n_pixels": 16.0}

    again = example.run()
    assert (again["n_computed"], again["n_cached"]) == (0, 2)

    example.settings = {"min_electrons": 2000.0}
    other = example.run()
    assert (other["n_computed"], other["n_cached"]) == (2, 0)
    assert other["counted"][2].quality["n_bright"] == 2.0

    example.rewrite(SCIENCE, '"""Count the rows', '"""Say how many are the rows')
    assert example.run()["n_cached"] == 2, "a docstring is not code"
    example.rewrite(SCIENCE, ">= settings", "> settings")
    changed = example.run()
    assert (changed["n_computed"], changed["n_cached"]) == (2, 0)
    assert changed["counted"][2].quality["n_bright"] == 1.0
    example.rewrite(STEP, "quality=counts", 'quality=counts | {"ccd": job.ccd}')
    assert example.run()["n_computed"] == 2


def test_the_new_step_is_known_to_all_that_lists_steps(overlay, tmp_path):
    AddedStep(overlay, Site.at(tmp_path / "site"))
    steps = overlay.load("tasks/steps.py")
    assert "count_cosmic_rays" in [step.name for step in steps.steps_of("single_epoch")]
    assert steps.exposure_cpu_s(steps.STEPS["count_cosmic_rays"], 60) == pytest.approx(0.6)
    assert ("tasks.count_cosmic_rays", "count_cosmic_rays") in overlay.load("tasks/rank.py").CHAIN


# How do I change a setting?

SETTING = "how_to_change_a_setting"
THRESHOLD = "difference.search.detection.threshold_sigma"


@pytest.fixture
def strict(tmp_path):
    """Write the page's settings file."""
    (found,) = [found for found in blocks(SETTING) if found.language == "json"]
    path = tmp_path / "strict.json"
    path.write_text(found.text)
    return path


def at_path(settings, path: str):
    return functools.reduce(getattr, path.split("."), settings)


def test_the_value_arrives_by_the_command(strict, tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr("blocks.nights.read_night", lambda site, night: None)
    monkeypatch.setattr("blocks.night_runs.read_runs", lambda registered: ())
    monkeypatch.setattr(nights, "run_flow", lambda *args, **more: given.update(args[4]))
    nights.night(20170818, settings=strict, common=replace(DEFAULTS, site=str(tmp_path)))
    assert at_path(given["settings"], THRESHOLD) == 6.0
    assert given["settings"].exposure == NightSettings().exposure


def test_the_path_begins_where_the_model_begins(strict, tmp_path):
    models = {"NightSettings": NightSettings, "DifferenceStageSettings": DifferenceStageSettings}
    models["SearchSettings"] = SearchSettings
    source = {f.stem: f.read_text() for f in (ROOT / "deployments" / "cli").glob("*.py")}
    for row in table(SETTING, "command"):
        path = re.findall(r"`([\w.]+)`", row["path of the threshold"])[0]
        model = row["model"].strip("`")
        document = functools.reduce(lambda inner, name: {name: inner}, reversed(path.split(".")), 6.0)
        strict.write_text(json.dumps(document))
        assert at_path(read_settings(strict, models[model]), path) == 6.0
        for command in re.findall(r"`([\w-]+)`", row["command"]):
            (body,) = [
                text.partition(f"\ndef {command.replace('-', '_')}(")[2]
                for text in source.values()
                if f"\ndef {command.replace('-', '_')}(" in text
            ]
            assert re.search(rf"read_settings\([\w.]+, {model}\)", body), command
    assert search_settings(SubtractionOptions(threshold=6.0)).detection.threshold_sigma == 6.0


def test_a_wrong_path_is_refused_with_its_name(strict):
    strict.write_text(strict.read_text().replace("threshold_sigma", "threshold"))
    with pytest.raises(InputError) as refused:
        read_settings(strict, NightSettings)
    assert [text for text in re.findall(r"```\n(invalid .*)\n```", page(SETTING)) if text in str(refused.value)]


def test_the_value_arrives_by_the_form(strict):
    flow = load_flow_from_entrypoint("flows/night.py:process_night")
    parameters = flow.validate_parameters({"night": 20170818, "settings": json.loads(strict.read_text())})
    assert at_path(parameters["settings"], THRESHOLD) == 6.0
    fields = flow.parameters.definitions["DetectionSettings"]["properties"]
    assert fields["threshold_sigma"]["default"] == 5.0
    assert "sigma" in fields["threshold_sigma"]["description"]
    names = {definition.name for definition in DEFINITIONS}
    assert {*re.findall(r"deployments? (?:run [\w-]+/|`)([\w-]+)", page(SETTING))} <= names


PARTS = {
    row["part of `NightSettings`"].strip("`"): row["in the key of"] for row in table(SETTING, "part of `NightSettings`")
}


def steps_in(cell: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", cell))


def test_the_table_of_parts_is_that_of_the_steps():
    """Every step of a night takes its settings from one part, of the type that it asks for."""
    with_settings = set()
    for name in (step.name for step in steps_of(*NIGHT_STAGES)):
        asked = set(re.findall(r"settings_as\((\w+)\)", (ROOT / "tasks" / f"{name}.py").read_text()))
        parts = [part for part, cell in PARTS.items() if name in steps_in(cell)]
        assert [type(at_path(NightSettings(), part)).__name__ for part in parts] == sorted(asked), name
        with_settings |= {name} if asked else set()
    assert set().union(*map(steps_in, PARTS.values())) == with_settings


def test_only_the_steps_that_see_a_setting_have_another_key(strict):
    def keys(settings: NightSettings) -> dict[str, str]:
        site, found = Site.at("/data"), {}
        for part, cell in PARTS.items():
            for name in steps_in(cell):
                job = StepJob(exposure=EXPOSURE, ccd=1, site=site, settings=at_path(settings, part))
                found[name] = getattr(importlib.import_module(f"tasks.{name}"), name).key(job)
        return found

    before, after = keys(NightSettings()), keys(read_settings(strict, NightSettings))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"difference", "forced_photometry"}
    said = page(SETTING).partition("A changed threshold computes")[2].partition("again")[0]
    assert steps_in(said) == changed


def test_a_new_default_is_a_change_of_code():
    reach = {
        step.name
        for step in steps_of(*NIGHT_STAGES)
        if "imaging.difference.settings" in versions.reached((f"tasks.{step.name}", step.name)).parts
    }
    said = page(SETTING).partition("For `imaging/difference/settings.py` these are")[2].partition(";")[0]
    assert steps_in(said) == reach
