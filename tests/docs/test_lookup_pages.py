"""The pages that say where things are computed and who knows the camera: their names and numbers are looked up."""

import ast
import functools
import re

from pages import ROOT, page, table

from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.difference import (
    DETECTIONS,
    DIRECT_PHOTOMETRY,
    EFFICIENCY,
    FAKES,
    FORCED_PHOTOMETRY,
    TEMPLATE_CHOICES,
)
from imaging.schemas.masks import COSMIC_RAYS, STREAKS
from imaging.schemas.matches import ASTROMETRY_MATCHES, ZEROPOINT_MATCHES
from imaging.schemas.searched import SEARCHED_PIXELS
from imaging.schemas.zeropoints import ZEROPOINTS
from tasks.engine import code_version as versions
from tasks.steps import NIGHT_STAGES, STEPS, steps_of

# Where is X computed?

WHERE = "where_is_x_computed"

TABLES = {
    "crays.parquet": COSMIC_RAYS,
    "streaks.parquet": STREAKS,
    "cat.parquet": CATALOGUE,
    "matches.parquet": ASTROMETRY_MATCHES,
    "zpmatches.parquet": ZEROPOINT_MATCHES,
    "zeropoints.parquet": ZEROPOINTS,
    "templates.parquet": TEMPLATE_CHOICES,
    "detections.parquet": DETECTIONS,
    "fakes.parquet": FAKES,
    "efficiency.parquet": EFFICIENCY,
    "candidates.parquet": CANDIDATES,
    "forced.parquet": FORCED_PHOTOMETRY,
    "direct.parquet": DIRECT_PHOTOMETRY,
    "lightcurves.parquet": FORCED_PHOTOMETRY,
    "searched.parquet": SEARCHED_PIXELS,
}

QUANTITIES = table(WHERE, "quantity")


def parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8"))


def defined(module: str, name: str) -> bool:
    """Whether a module defines a function, or a class a method, by its source."""
    body = parsed(module).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
        if not found:
            return False
        body = found[0].body
    return True


@functools.cache
def reach_of(step: str) -> frozenset[str]:
    return frozenset(part.partition(":")[0] for part in versions.reached((f"tasks.{step}", step)).parts)


@functools.cache
def texts_in(module: str) -> frozenset[str]:
    """Return the texts, argument names and fields of a module: what may become an entry of a JSON file or a header."""
    found = set()
    for node in ast.walk(parsed(module)):
        match node:
            case ast.Constant(value=str(text)) | ast.keyword(arg=str(text)) | ast.AnnAssign(target=ast.Name(id=text)):
                found.add(text)
    return frozenset(found)


def test_there_are_enough_quantities():
    assert len(QUANTITIES) >= 40
    assert len({row["quantity"] for row in QUANTITIES}) == len(QUANTITIES)
    assert {row["step"].strip("`") for row in QUANTITIES} == {step.name for step in steps_of(*NIGHT_STAGES)}


@functools.cache
def words_in(module: str) -> frozenset[str]:
    """Return the names that the code of a module mentions, what it imports and defines aside."""
    nodes = list(ast.walk(parsed(module)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    aliases = {a.asname: a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names if a.asname}
    return frozenset(names | {node.attr for node in nodes if isinstance(node, ast.Attribute)} | set(aliases.values()))


def test_every_function_exists_and_the_step_calls_it():
    wrong = []
    for row in QUANTITIES:
        module, _, name = row["function"].strip("`").partition(":")
        step = row["step"].strip("`")
        is_called = any(name.rpartition(".")[2] in words_in(found) for found in modules_of(step))
        if not (defined(module, name) and module in reach_of(step) and is_called):
            wrong.append(row)
    assert not wrong


def test_every_product_has_the_entry():
    products = {suffix for step in STEPS.values() for suffix in step.products.values()}
    wrong = []
    for row in QUANTITIES:
        step, (product, *entries) = row["step"].strip("`"), re.findall(r"`([^`]+)`", row["product and entry"]) or [""]
        if product in TABLES:
            is_there = product in products and {*entries} <= {*TABLES[product].names} and len(entries) == 1
        elif product:
            texts = set().union(*map(texts_in, modules_of(step)))
            is_there = product in STEPS[step].products.values() and texts.issuperset(entries)
        else:
            is_there = row["product and entry"] == "(not kept)"
        wrong += [] if is_there else [row]
    assert not wrong


def modules_of(step: str) -> list[str]:
    files = {module: ROOT / (module.replace(".", "/") + ".py") for module in reach_of(step)}
    return [module for module, file in files.items() if file.is_file()]


# What would another camera take?

CAMERA = "another_camera"
HOUSE = ("imaging", "blocks", "tasks", "flows", "deployments")


@functools.cache
def taken_from_the_detector() -> dict[str, set[str]]:
    """Return each module that imports from imaging.detector or imaging.bands, and the names that it imports."""
    found: dict[str, set[str]] = {}
    for path in (path for folder in HOUSE for path in sorted((ROOT / folder).rglob("*.py"))):
        module = path.relative_to(ROOT).with_suffix("").as_posix()
        if module.startswith("imaging/detector/") or module == "imaging/bands":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.startswith(("imaging.detector", "imaging.bands")) for name in names):
                assert isinstance(node, ast.ImportFrom), f"{module} imports the whole module"
                found.setdefault(module, set()).update(alias.name for alias in node.names)
    return found


def test_the_page_counts_the_modules_that_know_the_camera():
    modules = taken_from_the_detector()
    simulator = {module for module in modules if module.startswith("imaging/simulation/")}
    stated = [int(number) for number in re.findall(r"\*\*(\d+) modules\*\*", page(CAMERA))]
    carried = [m for m, taken in modules.items() if taken <= {"NX", "NY", "PIXEL_SCALE_ARCSEC"} and m not in simulator]
    assert stated == [len(modules) - len(simulator), len(simulator), len(carried)]


def test_the_page_lists_them_by_what_they_know():
    modules = {name: taken for name, taken in taken_from_the_detector().items() if "/simulation/" not in name}
    grouped = set()
    for row in table(CAMERA, "knowledge"):
        names = set(re.findall(r"`(\w+)`", row["names"]))
        which = re.findall(r"`([\w/]+)`", row["which"])
        assert which == sorted(module for module, taken in modules.items() if taken & names), row["knowledge"]
        assert int(row["modules"]) == len(which)
        assert not grouped & names, "a name is in two rows"
        grouped |= names
    assert set().union(*taken_from_the_detector().values()) <= grouped


def test_the_files_of_the_page_exist_and_hold_the_numbers():
    for row in (*table(CAMERA, "what"), *table(CAMERA, "where")):
        for name in re.findall(r"`([\w/]+(?:\.\w+)?)`", " ".join(row.values())):
            assert (ROOT / name).exists() or "/" not in name, name
    for row in table(CAMERA, "where"):
        text = (ROOT / row["where"].strip("`")).read_text()
        numbers = re.findall(r"[\d.]*\d\d[\d.]*\d|\d\d\d", row["assumption"])
        assert all(number in text for number in numbers), row
