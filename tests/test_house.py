"""The rules of the house: who may import whom, and who may open files."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

ALLOWED = {
    "imaging": {"imaging"},
    "blocks": {"blocks", "imaging"},
    "tasks": {"tasks", "blocks", "imaging"},
    "flows": {"flows", "tasks", "blocks", "imaging"},
    "deployments": {"deployments", "flows", "tasks", "blocks", "imaging"},
}
ORCHESTRATORS = {"prefect", "prefect_dask", "dask", "distributed"}
FILE_OPENERS = {"fitsio", "fastavro", "csv", "sqlite3", "shutil", "tempfile"}
FILE_METHODS = {
    "read_text",
    "write_text",
    "read_bytes",
    "write_bytes",
    "open",
    "savefig",
    "writeto",
    "tofile",
    "fromfile",
}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize("folder", ALLOWED)
def test_imports_run_one_way(folder):
    house = set(ALLOWED) | {"bench", "tools", "tests"}
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(folder)
        for name in imported(path)
        if name.split(".")[0] in house - ALLOWED[folder]
    ]
    assert not wrong
    assert modules(folder), f"{folder} is empty"


def test_imaging_knows_no_orchestrator():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("imaging")
        for name in imported(path)
        if name.split(".")[0] in ORCHESTRATORS
    ]
    assert not wrong


SHIPPED = {"imaging/package_data.py", "imaging/kernel_cache.py"}
"""They read what ships with the package, or say where machine code is kept; the whole science rests on them."""


def test_only_imaging_io_opens_files():
    wrong = []
    for path in modules("imaging"):
        if path.is_relative_to(ROOT / "imaging" / "io") or path.relative_to(ROOT).as_posix() in SHIPPED:
            continue
        place = path.relative_to(ROOT)
        wrong += [f"{place} imports {n}" for n in imported(path) if n.split(".")[0] in FILE_OPENERS]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Name) and node.func.id == "open":
                wrong.append(f"{place}:{node.lineno} opens a file")
            if isinstance(node.func, ast.Attribute) and node.func.attr in FILE_METHODS - {"savefig"}:
                wrong.append(f"{place}:{node.lineno} calls .{node.func.attr}()")
    assert not wrong


def test_the_science_does_not_know_where_its_files_are():
    """imaging.io stands above the science: it turns files into its records; only the simulator writes files itself."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("imaging")
        for name in imported(path)
        if name.startswith("imaging.io") and path.relative_to(ROOT).parts[1] not in ("io", "simulation")
    ]
    assert not wrong


ENGINE_MAY_USE = {"imaging.errors", "imaging.settings", "imaging.kernel_cache", "imaging.threads"} | {
    "imaging.io.access",
    "imaging.io.atomic",
    "imaging.io.sealed",
    "imaging.memory",
}
"""Errors and settings; how files are written whole and with their hash, and by whom; how a process is set up."""


def test_the_engine_knows_no_astronomy():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules("tasks/engine")
        for name in imported(path)
        if (name.startswith("imaging") and name not in ENGINE_MAY_USE)
        or (name.startswith("tasks") and not name.startswith("tasks.engine"))
    ]
    assert not wrong


def test_steps_are_science_and_files_alone():
    """A step's module draws no page: HTML and Markdown are made in imaging.pictures, artifacts by the engine."""
    words = ("<html", "<div", "<table", "\n| ", "## ")
    wrong = [
        f"{path.relative_to(ROOT)} contains {word!r}"
        for path in sorted((ROOT / "tasks").glob("*.py"))
        for word in words
        if word in path.read_text(encoding="utf-8")
    ]
    assert not wrong


def test_internals_of_prefect_are_named_in_the_engine_alone():
    """Each use there says which public way is missing."""
    wrong = []
    for folder in ("blocks", "tasks", "flows", "deployments"):
        for path in modules(folder):
            if path.is_relative_to(ROOT / "tasks" / "engine"):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "prefect":
                    parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
                    if any(part.startswith("_") for part in parts):
                        wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
                if (
                    isinstance(node, ast.Attribute)
                    and node.attr.startswith("_block")
                    and not node.attr.endswith("_name")
                ):
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.attr}")
    assert not wrong


def test_no_value_travels_in_a_context_variable():
    """What a called flow must know is an argument or an option of its task runner."""
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for folder in ALLOWED
        for path in modules(folder)
        for name in imported(path)
        if name == "contextvars" and "ContextVar" in path.read_text(encoding="utf-8")
    ]
    assert not wrong


def test_every_third_party_import_is_declared():
    with (ROOT / "pyproject.toml").open("rb") as stream:
        document = tomllib.load(stream)
    project, groups = document["project"], document["dependency-groups"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *groups.values()]
    declared = {re.split(r"[<>=\[; ]", item)[0].lower().replace("_", "-") for items in lists for item in items}
    names = {
        name.split(".")[0]
        for folder in (*ALLOWED, "bench", "tools")
        for path in modules(folder)
        for name in imported(path)
    }
    own = {*ALLOWED, "bench", "tools"}
    by_import = importlib.metadata.packages_distributions()
    missing = {
        name
        for name in names - own - set(sys.stdlib_module_names)
        if not {found.lower().replace("_", "-") for found in by_import.get(name, [name])} & declared
    }
    assert missing == set()


def test_no_public_class_name_means_two_things():
    places: dict[str, list[str]] = {}
    for folder in ALLOWED:
        for path in modules(folder):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_library_threads_are_pinned():
    import os

    import imaging  # noqa: F401
    from imaging.threads import LIBRARY_THREAD_VARIABLES

    assert all(os.environ.get(name) for name in LIBRARY_THREAD_VARIABLES)
