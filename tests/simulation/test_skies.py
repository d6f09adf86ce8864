"""The named skies: what they set, that the easy one is what it was, and that no model of the pipeline is used."""

import ast
from inspect import signature
from pathlib import Path

import numpy as np
import pytest

from deployments.cli.demo import demo, simulate, simulation_settings
from imaging.errors import InputError
from imaging.io.raw import index_raw, read_raw_ccd
from imaging.simulation.plan import plan_exposures
from imaging.simulation.settings import SimulationSettings, demo_settings
from imaging.simulation.skies import NO_EFFECTS, SKIES, SkyEffects

SIMULATION = Path(__file__).parents[2] / "imaging" / "simulation"

PIXELS_OF_THE_FIRST_VERSION = {
    ("template", 33): [5330917427, 5177994993, 5218522789, 5094911263],
    ("template", 34): [5312654475, 5427370233, 5281802169, 5435688590],
    ("zero", 33): [3275862884, 3515931197, 3278176016, 3517775170],
    ("zero", 34): [3599052577, 3820968157, 3602045823, 3823541750],
    ("dome flat", 33): [35300837290, 33948503874, 35487921724, 34137162987],
    ("dome flat", 34): [35216623139, 34246970901, 35265876858, 34298406559],
    ("search", 33): [5284329610, 5130041742, 4988517221, 5049466487],
    ("search", 34): [5276294341, 5402486250, 5242311397, 5414136846],
}
"""Sums of the raw pixels of the four quarters (half the rows, one amplifier) by the commit before the named skies, when
the SHA-256 sums of all raw pixels were the same too. One other random number changes a sum by 10,000 or more."""


def test_the_pixels_of_the_easy_sky_are_those_of_the_first_version(night):
    for exposure in night.exposures:
        index = index_raw(night.raw_path(exposure))
        for ccd in night.settings.ccds:
            pixels = read_raw_ccd(night.raw_path(exposure), index.extensions[ccd], exposure.expnum).pixels
            quarters = pixels[:4096].astype(np.int64).reshape(2, 2048, 2, 1080).sum(axis=(1, 3)).ravel()
            # pixels whose rounding another processor's sine decides may differ by one
            expected = np.array(PIXELS_OF_THE_FIRST_VERSION[exposure.role, ccd])
            assert np.abs(quarters - expected).max() < 200, (exposure.role, ccd)


def test_the_simulator_uses_none_of_the_models_that_it_judges():
    allowed = {("pairs.py", "imaging.psf.model")}  # only the container of its true PSF, checked below
    found = set()
    for path in SIMULATION.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            modules += [item.name for item in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                if module.startswith(("imaging.psf", "imaging.difference", "imaging.catalogue")):
                    found.add((path.name, module))
                    assert {item.name for item in node.names} == {"PsfModel"}
    assert found <= allowed


@pytest.mark.parametrize("sky", [name for name in SKIES if name != "easy"])
def test_a_named_sky_switches_effects_on_and_leaves_what_is_given(sky):
    settings = SimulationSettings(sky=sky, seed=3, streaks_per_exposure=0.5)
    assert settings.effects != NO_EFFECTS
    assert settings.brighter_fatter
    assert settings.streaks_per_exposure == 0.5
    assert SimulationSettings.model_validate_json(settings.model_dump_json()) == settings


def test_changing_the_sky_replaces_what_the_old_one_set_and_keeps_what_was_given():
    hard = demo_settings(sky="hard", seed=9, cloud_mag=0.02)
    easy = hard.with_values(sky="easy")
    assert easy == demo_settings(seed=9, cloud_mag=0.02)
    assert easy.effects == NO_EFFECTS
    assert hard.with_values(seed=10).effects == hard.effects


def test_the_command_line_names_the_sky_and_the_demonstration_has_the_typical_one():
    assert signature(demo).parameters["sky"].default == "typical"
    assert signature(simulate).parameters["sky"].default == "easy"
    assert simulation_settings("demo", sky="easy") == demo_settings()
    assert simulation_settings("full", sky="crowded").star_density == 44.0
    with pytest.raises(InputError, match="sky"):
        simulation_settings("demo", sky="impossible")


def test_an_exposure_of_the_easy_sky_has_no_condition_of_the_others():
    for exposure in plan_exposures(demo_settings(bands=("z",))):
        assert exposure.optics is None
        assert exposure.moon is None
        assert exposure.glints == ()
        assert exposure.second_fringes == 0.0


@pytest.mark.parametrize("switch", list(SkyEffects.model_fields))
def test_every_switch_changes_something_that_is_simulated(switch):
    """No switch is forgotten by the code: each one is read outside of the record that defines it."""
    sources = [path.read_text() for path in SIMULATION.glob("*.py") if path.name != "skies.py"]
    assert any(f"effects.{switch}" in text for text in sources)
