"""The rules of the house: who may import whom, and who may open files."""

import ast
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


def test_only_imaging_io_opens_files():
    wrong = []
    for path in modules("imaging"):
        if path.is_relative_to(ROOT / "imaging" / "io"):
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


def test_library_threads_are_pinned():
    import os

    import imaging  # noqa: F401
    from imaging.threads import LIBRARY_THREAD_VARIABLES

    assert all(os.environ.get(name) for name in LIBRARY_THREAD_VARIABLES)
