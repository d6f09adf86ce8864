"""The version of a step's code follows every module that decides its bytes, and no other.

The packages are copied; a process that runs on the copy changes one thing after the other and says which steps have
another version.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("blocks", "imaging", "tasks")

SCRIPT = """
import json, sys
from pathlib import Path
from tasks.engine import code_version as versions
functions, changes = json.load(sys.stdin)

def found():
    for known in (versions._version_of, versions._source_of, versions._sources, versions._is_module):
        known.cache_clear()
    return {step: versions.code_version(tuple(place)) for step, place in functions.items()}

first, answers = found(), []
for path, old, new in changes:
    path = Path(path)
    text = path.read_text()
    assert text.count(old) == 1, (path, old, text.count(old))
    path.write_text(text.replace(old, new))
    now = found()
    path.write_text(text)
    answers.append(sorted(step for step in functions if now[step] != first[step]))
assert found() == first
print(json.dumps(answers))
"""


def step_functions() -> dict[str, tuple[str, str]]:
    """Return the function of every step: name of its function to module and function."""
    functions = {}
    for path in sorted((ROOT / "tasks").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and any("step" in ast.dump(d) for d in node.decorator_list):
                functions[node.name] = (f"tasks.{path.stem}", node.name)
    return functions


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """Return what says which steps have another version after each of some changes: (file, text, other text)."""
    copy = tmp_path_factory.mktemp("copy")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))

    def run(changes):
        environment = os.environ | {"PYTHONPATH": str(copy), "XDG_CACHE_HOME": str(copy / "caches")}
        asked = json.dumps([step_functions(), [(str(copy / path), old, new) for path, old, new in changes]])
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, input=asked, capture_output=True, text=True, env=environment, cwd=copy)
        assert done.returncode == 0, done.stderr[-2000:]
        return [set(steps) for steps in json.loads(done.stdout)]

    return run


DECIDES = [
    # What decides the bytes of a product, though it lies outside of the step's own module or of the science.
    ("tasks/ranked_tables.py", "REGIONS_BEST = 20_000", "REGIONS_BEST = 10_000", {"rank"}),
    ("imaging/pictures/candidate_list.py", "LISTED = 20", "LISTED = 30", {"rank"}),
    (
        "tasks/products.py",
        "indent=1, sort_keys=True",
        "indent=2, sort_keys=True",
        {"measure", "import_image", "check_products", "difference"},
    ),
    (
        "tasks/exposure_solution.py",
        'PERMANENT = ("ccd", "input")',
        'PERMANENT = ("ccd",)',
        {"fit_sky", "tie_astrometry", "solve_zeropoints"},
    ),
    ("tasks/measure.py", "HALF_DIAGONAL_DEG = 0.168", "HALF_DIAGONAL_DEG = 0.170", {"measure", "import_image"}),
    ("tasks/difference.py", "BRIGHT_MAG = 18.0", "BRIGHT_MAG = 17.0", {"difference"}),
    (
        "tasks/tie_astrometry.py",
        'MATCHES, STREAKS, COORDINATES, DISPLACEMENT = "matches_"',
        'MATCHES, STREAKS, COORDINATES, DISPLACEMENT = "match_"',
        {"tie_astrometry", "calibrate", "difference", "fit_displacements"},
    ),
    ("imaging/masters/rings.py", "EDGE = 64", "EDGE = 32", {"fit_displacements"}),
]

LEAVES = [
    # What plans a job decides through its inputs and parameters; words and cost decide nothing.
    ("tasks/detrend.py", "raw.record(site, present)", "raw.record(site, sorted(present))"),
    ("tasks/steps.py", "    0.7,", "    0.5,"),
    ("tasks/engine/step.py", "RETRIES = 3", "RETRIES = 4"),
    ("tasks/detrend.py", "@step(DETREND, limit=DISK)", "@step(DETREND)"),
    ("tasks/rank.py", '"""Rank the candidates, and write the list', '"""Order the candidates, and write the list'),
]


def test_code_that_affects_the_bytes_changes_the_version_of_exactly_its_steps(changed):
    answers = changed([change[:3] for change in DECIDES])
    assert {change[:2]: steps for change, steps in zip(DECIDES, answers, strict=True)} == {
        change[:2]: change[3] for change in DECIDES
    }


def test_planning_docstrings_and_cost_change_no_version(changed):
    answers = changed(LEAVES)
    assert {change[:2]: steps for change, steps in zip(LEAVES, answers, strict=True) if steps} == {}


@cache
def import_closure(module: str) -> frozenset[str]:
    """Return every module of the packages that a module imports, directly or through others; written by hand here."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        path = ROOT.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in found or not path.is_file() or name.split(".")[0] not in PACKAGES:
            continue
        found.add(name)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return frozenset(found)


def first_constant(path: Path) -> tuple[str, str] | None:
    """Return the text of the first numeric or textual constant of a module's top level, and one with another value."""
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            old = ast.get_source_segment(text, node)
            value = node.value.value
            if old and text.count(old) == 1 and isinstance(value, int | float | str) and not isinstance(value, bool):
                other = f"{value} " if isinstance(value, str) else value + 1
                return old, f"{ast.get_source_segment(text, node.targets[0])} = {other!r}"
    return None


def test_every_module_of_the_science_counts_for_the_steps_that_import_it(changed):
    """One constant of every second module that has one: the steps that change are those whose modules import it."""
    functions = step_functions()
    reached = sorted(
        {m for module, _ in functions.values() for m in import_closure(module) if m.startswith("imaging.")}
    )
    changes, modules = [], []
    for module in reached[::2]:
        path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
        constant = first_constant(path) if path.is_file() else None
        if constant:
            changes.append((path.relative_to(ROOT).as_posix(), *constant))
            modules.append(module)
    assert len(changes) > 30
    for module, steps in zip(modules, changed(changes), strict=True):
        importing = {name for name, (place, _) in functions.items() if module in import_closure(place)}
        assert steps <= importing, f"{module} is not imported by {steps - importing}"
        assert steps or not importing or module in PLANNED_WITH, f"no step's version depends on {module}"


PLANNED_WITH = {
    "imaging.detector.distortion",
    "imaging.io.calibration_write",
    "imaging.io.exposure_list",
    "imaging.io.list_rows",
    "imaging.io.raw_headers",
}
"""Modules that only the planning of jobs uses."""
