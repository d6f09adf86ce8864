"""Mutation tests: change signs, bounds and factors of the core functions, one at a time, and run the tests.

``python -m tools.mutants [FOLDER ...] [--function MODULE:NAME] [--most N] [--list] [--json]`` runs ``tests/FOLDER``
against each mutant in a copy of the tree; the exit code is 1 if any survives. No library can do this: mutmut 3.8 skips
decorated functions, that is, all compiled kernels, and Numba cannot compile the code with which it selects a mutant.
"""

import argparse
import ast
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tokenize
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CORE = {
    "simulation": "render:add_gaussian psf:true_psf detector:_convert optics:true_wcs crosstalk:_leak",
    "catalogue": "apertures:circle_fluxes shapes:_isophotes shapes:_windowed psf_source:fit_one detect:_filter",
    "difference": "kernel:_Problem.solve alard_lupton:_subtract noise:tile_noise filter:_significance "
    "forced:_forced_all",
    "io": "calibrated:_gain raw:_data_length psf:_model skymaps:_build reference:_may_touch",
    "masks": "cosmic_rays:_is_steep cosmic_rays:_find_steep bleeds:_trail_length streak_search:_radon "
    "streak_trace:_add_polynomial",
}
"""Core functions to mutate, by folder of :mod:`imaging` and of the tests."""

_STEEP = "imaging.masks.cosmic_rays:_find_steep"
EQUIVALENT = {
    (_STEEP, "beside = beside or (mask[y - dy, x + dx] & avoid) != 0"): "the box is symmetric",
    (_STEEP, "beside = beside or (mask[y + dy, x - dx] & avoid) != 0"): "the box is symmetric",
}
"""Equivalent mutants, which are left out: ``(MODULE:NAME, line after the change)`` to the reason."""

_PAIRS = ("+ -", "* /", "< <=", "> >=", "== !=", "and or", "& |", "+= -=", "*= /=", "&= |=")
SWAPS = {a: b for pair in _PAIRS for a, b in (pair.split(), pair.split()[::-1])}
SWAPS |= {"in": "not in", "is": "is not", "not": ""}
REMOVED = {ast.USub: "-", ast.Not: "not", ast.Invert: "~"}
OPERATIONS = (ast.BinOp, ast.AugAssign, ast.Compare, ast.BoolOp)
UNTOUCHED = (ast.Raise, ast.Assert, ast.JoinedStr, ast.arguments)
UNTOUCHED_KEYWORDS = {"axis", "axes", "level", "stacklevel"}
UNTOUCHED_FIELDS = {"annotation", "returns", "decorator_list"}
MEMORY_BYTES = 8 * 2**30  # a mutant that needs more memory fails its tests


@dataclass(frozen=True, order=True)
class Change:
    """One change of a module; ``text`` is the line after it, without indentation."""

    line: int
    column: int
    old: str
    new: str
    text: str


@dataclass
class Outcome:
    """Results of a function's mutants."""

    function: str
    place: str
    found: int = 0
    survived: list[Change] = field(default_factory=list)


def find_changes(source: str, name: str) -> list[Change]:
    """Return the mutants of a function, or ``Class.method``, of a module's source, in order of lines."""
    lines, function, changes = source.splitlines(), ast.parse(source), set()
    for part in name.split("."):
        function = {getattr(node, "name", ""): node for node in function.body}[part]  # type: ignore[assignment]
    tokens = {t.start: t.string for t in tokenize.generate_tokens(io.StringIO(source).readline)}

    def place(line: int | None, offset: int | None) -> tuple[int, int]:
        return line or 1, len(lines[(line or 1) - 1].encode()[:offset].decode())

    def change(at: tuple[int, int], old: str, new: str) -> None:
        changes.add(Change(*at, old, new, _replaced(lines[at[0] - 1], at[1], old, new).strip()))

    for node in (n for statement in function.body for n in _walk(statement)):
        operands = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
        for left, right in pairwise(operands if isinstance(node, OPERATIONS) else []):
            start, end = place(left.end_lineno, left.end_col_offset), place(right.lineno, right.col_offset)
            between = {token: at for at, token in tokens.items() if start <= at < end and token in SWAPS}
            for old in ["not"] if "not" in between else between:
                change(between[old], old, SWAPS[old])
        if isinstance(node, ast.UnaryOp) and type(node.op) in REMOVED:
            change(place(node.lineno, node.col_offset), REMOVED[type(node.op)], "")
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            at = place(node.lineno, node.col_offset)
            value = ast.literal_eval(tokens[at])
            change(at, tokens[at], repr(value + 1 if isinstance(value, int) else 1.5 * value or 1.0))
    return sorted(changes)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes to mutate: no error messages, annotations, defaults or axes."""
    if isinstance(node, UNTOUCHED) or (isinstance(node, ast.keyword) and node.arg in UNTOUCHED_KEYWORDS):
        return
    yield node
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in UNTOUCHED_FIELDS:
                yield from _walk(child)


def _replaced(text: str, column: int, old: str, new: str) -> str:
    return text[:column] + new + text[column + len(old) :]


def choose_changes(name: str, most: int) -> list[Change]:
    """Choose at most ``most`` mutants of ``MODULE:NAME``, evenly over its lines; all of them if ``most`` is 0."""
    module, function = name.split(":")
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    changes = [c for c in find_changes(source, function) if (name, c.text) not in EQUIVALENT]
    n = min(most or len(changes), len(changes))
    return [changes[(2 * i + 1) * len(changes) // (2 * n)] for i in range(n)]  # the middle of each of n parts


class Copy:
    """A copy of a git working tree, without ignored files, in which one module at a time is changed."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.kernels, self.report = (folder / name for name in ("tree", "kernels", "report"))
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, text=True)
        for name in listed.splitlines():
            if (root / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, self.root / name)
        self.imports = {path: self._imported(path) for path in self.root.rglob("*.py")}

    def _imported(self, path: Path) -> set[Path]:
        """Return the files that a file imports, and for a test the conftest.py beside it."""
        names = {"conftest"} if path.name.startswith("test_") else set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        places = [folder.joinpath(*name.split(".")) for name in names for folder in (self.root, path.parent)]
        return {p.with_suffix(".py") for p in places} | {p / "__init__.py" for p in places}

    def importers(self, module: Path) -> dict[Path, int]:
        """Return the files that import a module, directly or indirectly, with the length of the import chain."""
        steps, queue = {module: 0}, deque([module])
        while queue:
            path = queue.popleft()
            nearest = [other for other, imported in self.imports.items() if path in imported and other not in steps]
            steps |= dict.fromkeys(nearest, steps[path] + 1)
            queue += nearest
        return steps

    def write(self, module: Path, text: str, stamp: int) -> None:
        """Replace a module's source, with a unique time stamp, and delete the compiled kernels of its importers."""
        module.write_text(text, encoding="utf-8")
        os.utime(module, (stamp, stamp))
        for kernel in [k for path in self.importers(module) for k in self.kernels.rglob(f"{path.stem}.*.nb?")]:
            kernel.unlink(missing_ok=True)

    def tests_pass(self, files: list[Path], limit_s: float) -> bool:
        """Run tests until the first failure; return False also if they exceed the time limit."""
        with self.report.open("w") as report:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *map(str, files)],
                cwd=self.root,
                env=os.environ | {"PYTHONPATH": str(self.root), "NUMBA_CACHE_DIR": str(self.kernels)},
                stdout=report,
                stderr=report,
                start_new_session=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES)),
            )
        try:
            return process.wait(limit_s) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def try_function(copy: Copy, function: str, tests: list[Path], changes: list[Change], limit_s: float) -> Outcome:
    """Run tests against each change of a function, in order of the import distance from its module."""
    module = copy.root.joinpath(*function.split(":")[0].split(".")).with_suffix(".py")
    steps = copy.importers(module)
    ordered = sorted(tests, key=lambda path: (steps.get(path, len(steps)), path))
    lines, stamp = module.read_text(encoding="utf-8").splitlines(keepends=True), int(time.time())
    outcome = Outcome(function, module.relative_to(copy.root).as_posix())
    for number, change in enumerate(changes):
        line = _replaced(lines[change.line - 1], change.column, change.old, change.new)
        copy.write(module, "".join([*lines[: change.line - 1], line, *lines[change.line :]]), stamp + number)
        survives = copy.tests_pass(ordered, limit_s)
        outcome.survived += [change] * survives
        outcome.found += not survives
        print("SURVIVED" if survives else "found", f"{outcome.place}:{change.line}: {change.text}", file=sys.stderr)
    copy.write(module, "".join(lines), stamp - 1)
    return outcome


def try_folder(root: Path, folder: str, functions: dict[str, list[Change]], limit_s: float) -> list[Outcome]:
    """Run the tests of a folder against changes of functions; exit if they fail without any change."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        copy, start = Copy(root, Path(temporary)), time.monotonic()
        tests = sorted((copy.root / "tests" / folder).rglob("test_*.py"))
        if not tests or not copy.tests_pass(tests, 3600.0):
            sys.exit(f"the tests of {folder} fail without any change: {copy.report.read_text()[-2000:]}")
        limit_s = max(limit_s, 3.0 * (time.monotonic() - start))
        return [try_function(copy, name, tests, changes, limit_s) for name, changes in functions.items()]


def main() -> None:
    """Print the results of the mutants; exit with 1 if any survived."""
    parser = argparse.ArgumentParser(description="Mutants of the core functions")
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help=f"folders of tests: {', '.join(CORE)}")
    parser.add_argument("--function", action="append", metavar="MODULE:NAME", help="only this function")
    parser.add_argument("--most", type=int, default=8, metavar="N", help="mutants per function; 0 for all")
    parser.add_argument("--limit", type=float, default=120.0, metavar="S", help="minimum time limit of tests, s")
    parser.add_argument("--list", action="store_true", help="list the mutants without running tests")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    names = options.function or [f"imaging.{f}.{name}" for f in options.folders or CORE for name in CORE[f].split()]
    chosen = {name: choose_changes(name, options.most) for name in names}
    if options.list:
        for name, changes in chosen.items():
            print(name, *(f"  {c.line}: {c.old} -> {c.new}: {c.text}" for c in changes), sep="\n")
        return
    outcomes: list[Outcome] = []
    for folder, group in groupby(chosen, lambda name: name.split(".")[1]):
        outcomes += try_folder(ROOT, folder, {name: chosen[name] for name in group}, options.limit)
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    for o in [] if options.json else outcomes:
        print(f"{o.function}: {o.found + len(o.survived)} mutants, {o.found} found, {len(o.survived)} survived")
        for c in o.survived:
            print(f"  {o.place}:{c.line} {c.old} -> {c.new}: {c.text}")
    sys.exit(any(outcome.survived for outcome in outcomes))


if __name__ == "__main__":
    main()
