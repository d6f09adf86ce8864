"""Change signs, bounds and factors of the core functions, one at a time, and see whether the tests find it.

``python -m tools.mutants [FOLDER ...] [--function MODULE:NAME] [--most N] [--list] [--json]`` runs ``tests/FOLDER``
against each mutant in a copy of the tree; the status is 1 if any survives. No library does this: mutmut (3.8, tried)
leaves functions with decorators alone, thus all compiled kernels, and Numba cannot compile how it chooses a mutant.
"""

import argparse
import ast
import io
import json
import multiprocessing
import os
import re
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
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

CORE = {
    "simulation": "render:add_gaussian psf:true_psf detector:_convert optics:true_wcs crosstalk:_leak",
    "catalogue": "apertures:circle_fluxes shapes:_isophotes shapes:_windowed psf_source:fit_one detect:_filter",
    "difference": "kernel:_Problem.solve alard_lupton:_subtract noise:tile_noise filter:_significance "
    "forced:_forced_all",
    "io": "raw:_data_length psf:_model skymaps:_build skymaps:_whole_sky reference:_may_touch",
    "masks": "cosmic_rays:_is_steep cosmic_rays:_find_steep bleeds:_trail_length streak_search:_radon "
    "streak_trace:_add_polynomial",
}
"""Functions that decide the numbers which astronomers rely on, by their folder, which is that of the tests as well."""

_RADON = "imaging.masks.streak_search:_radon"
_COURSE = "imaging.masks.streak_trace:_add_polynomial"
_LEAK = "imaging.simulation.crosstalk:_leak"
_SKYMAP = "imaging.io.skymaps:_build"
_FORCED = "imaging.difference.forced:_forced_all"
EQUIVALENT = {
    (_RADON, "half = int(np.ceil(0.5 * np.hypot(ny, nx))) - 1"): "only cells beyond the farthest bin go",
    (_COURSE, "new = use & (np.abs(residual) <= limit)"): "no residual of a fit equals the limit to the last digit",
    (_SKYMAP, "has_distance = set(DISTANCE_COLUMNS.values()) < set(names)"): "the table has probabilities besides",
    (_LEAK, "if signal < onset:"): "at the onset the polynomial of the excess is 0",
    (_FORCED, "for j in range(2 * half + 2):"): "a row beyond the window is farther away than the FWHM",
}
"""Mutants that are left out, ``(MODULE:NAME, line after the change)``, and why they change no result."""

_PAIRS = ("+ -", "* /", "< <=", "> >=", "== !=", "and or", "& |", "+= -=", "*= /=", "&= |=")
SWAPS = {a: b for pair in _PAIRS for a, b in (pair.split(), pair.split()[::-1])}
SWAPS |= {"in": "not in", "is": "is not", "not": ""}
REMOVED = {ast.USub: "-", ast.Not: "not", ast.Invert: "~"}
OPERATIONS = (ast.BinOp, ast.AugAssign, ast.Compare, ast.BoolOp)
UNTOUCHED = (ast.Raise, ast.Assert, ast.JoinedStr, ast.arguments)
UNTOUCHED_KEYWORDS = {"axis", "axes", "level", "stacklevel"}
UNTOUCHED_FIELDS = {"annotation", "returns", "decorator_list"}
MEMORY_BYTES = 8 * 2**30  # a mutant that wants more fails its tests

PRELOADED = [
    "pytest", "numpy", "numba", "pyarrow.parquet", "pydantic", "xxhash", "sep", "fitsio", "galsim", "erfa",
    "PIL.Image", "matplotlib.figure", "zarr", "scipy.ndimage", "scipy.optimize", "scipy.signal", "scipy.spatial",
    "scipy.special", "scipy.stats", "scipy.interpolate", "scipy.fft", "astropy.io.fits", "astropy.wcs",
    "astropy.coordinates", "astropy.table", "astropy.time", "astropy.units", "astropy.cosmology",
    "astropy_healpix", "photutils.aperture", "photutils.psf", "reproject",
]  # fmt: skip
"""Libraries that are imported once, in the process from which those that run tests are forked."""
N_FINDERS = 4
"""Tests that found the last mutants and are run first."""
PASSED_OR_GONE = (0, 4, 5)
"""Status of pytest if these tests pass, or cannot be found."""
PADDING = 64
"""Bytes that are added to each Python file: a changed one can then be as long as before."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


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
    """What became of a function's mutants."""

    function: str
    place: str
    found: int = 0
    survived: list[Change] = field(default_factory=list)


def find_changes(source: str, name: str) -> list[Change]:
    """List the mutants of a function, or ``Class.method``, of a module's text in the order of the text."""
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
    """Yield what is worth changing: no error messages, annotations, defaults or axes."""
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
    """Choose at most so many mutants of ``MODULE:NAME``, evenly over its text; all of them if ``most`` is 0."""
    module, function = name.split(":")
    source = ROOT.joinpath(*module.split(".")).with_suffix(".py").read_text(encoding="utf-8")
    changes = [c for c in find_changes(source, function) if (name, c.text) not in EQUIVALENT]
    n = min(most or len(changes), len(changes))
    return [changes[(2 * i + 1) * len(changes) // (2 * n)] for i in range(n)]  # the middle of each of n parts


class Copy:
    """A copy of a working tree of git, without what git ignores, in which one module at a time is changed."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.kernels, self.report = (folder / name for name in ("tree", "kernels", "report"))
        listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=root, text=True)
        for name in listed.splitlines():
            if (root / name).is_file():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, self.root / name)
                if name.endswith(".py"):
                    self._replace(self.root / name, (root / name).read_bytes(), (root / name).stat().st_size + PADDING)
        self.slowest_s = 0.0
        self.slowest_s = 0.0
        self.slowest_s = 0.0
        self.imports = {path: self._imported(path) for path in self.root.rglob("*.py")}

    def _imported(self, path: Path) -> set[Path]:
        """Return the files that a file imports by name, and for a test the conftest.py beside it."""
        names = {"conftest"} if path.name.startswith("test_") else set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        places = [folder.joinpath(*name.split(".")) for name in names for folder in (self.root, path.parent)]
        return {p.with_suffix(".py") for p in places} | {p / "__init__.py" for p in places}

    def importers(self, module: Path) -> dict[Path, int]:
        """Return the files that import a module, directly or not, with the number of steps."""
        steps, queue = {module: 0}, deque([module])
        while queue:
            path = queue.popleft()
            nearest = [other for other, imported in self.imports.items() if path in imported and other not in steps]
            steps |= dict.fromkeys(nearest, steps[path] + 1)
            queue += nearest
        return steps

    @staticmethod
    def _replace(path: Path, content: bytes, size: int) -> None:
        """Replace a file's content, padded to a length; its date stays."""
        date_ns = path.stat().st_mtime_ns
        path.write_bytes(content + b"#".ljust(size - len(content) - 1) + b"\n")
        os.utime(path, ns=(date_ns, date_ns))

    def write(self, module: Path, text: str, function: str) -> None:
        """Replace a module's text and forget the compiled code of a function that differs and of all that may call it.

        Numba knows a file by its date and length. They stay, so that its other kernels need not be compiled again.
        """
        callers = _callers(text, function.split(".")[0])
        self._replace(module, text.encode(), module.stat().st_size)
        stale = [f"{path.stem}.*.nb?" for path in self.importers(module) if path != module]
        stale += [f"{module.stem}.{caller}-*.nb?" for caller in callers]
        compiled = [kernel for pattern in stale for kernel in self.kernels.rglob(pattern)]
        for path in [*compiled, *module.parent.glob(f"__pycache__/{module.stem}.*.pyc")]:
            path.unlink(missing_ok=True)

    def run_tests(self, tests: list[str], limit_s: float) -> int:
        """Run tests until the first failure and return pytest's status; one that exceeds the time limit is killed."""
        os.environ.update(dict.fromkeys(THREADS, "1"))
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(PRELOADED)
        environment = os.environ | {"PYTHONPATH": str(self.root), "NUMBA_CACHE_DIR": str(self.kernels)}
        process = processes.Process(target=run_pytest, args=(self.root, tests, self.report, environment))
        process.start()
        size, since = 0, time.monotonic()
        while process.is_alive() and time.monotonic() - since < limit_s:
            process.join(0.1)
            written = self.report.stat().st_size if self.report.exists() else 0
            if written != size:  # pytest reports each test
                self.slowest_s = max(self.slowest_s, time.monotonic() - since)
                size, since = written, time.monotonic()
        if process.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()
            process.join()
        return process.exitcode or 0

    def failures(self) -> list[str]:
        """Return the tests that failed in the last run."""
        return re.findall(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", self.report.read_text(errors="replace"), re.M)


def _callers(source: str, name: str) -> set[str]:
    """Return a function's name, and those of the functions of the same module that call it, directly or not."""
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    names = {f.name: {n.id for n in ast.walk(f) if isinstance(n, ast.Name)} for f in functions}
    found, size = {name}, 0
    while size < len(found):
        size = len(found)
        found |= {caller for caller, used in names.items() if used & found}
    return found


def run_pytest(root: Path, tests: list[str], report: Path, environment: dict[str, str]) -> None:
    """Run tests until the first failure, in this process, which is made for it, and end it."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    stream = os.open(report, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(stream, descriptor)
    os.environ.update(environment)
    os.chdir(root)
    sys.path.insert(0, str(root))
    sys.argv = ["pytest"]
    with suppress(ImportError):
        from numba import config

        config.CACHE_DIR = environment["NUMBA_CACHE_DIR"]
    import pytest

    imported = "ignore::pytest.PytestAssertRewriteWarning"  # of plugins that belong to preloaded libraries
    status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-W", imported, *tests])
    sys.stdout.flush()
    os._exit(int(status))


def try_function(copy: Copy, function: str, tests: list[Path], changes: list[Change], limit_s: float) -> Outcome:
    """Run the tests that import its module against each change of a function.

    Those that found the last mutants go first, then the file that is nearest to the module, then the others.
    """
    place, name = function.split(":")
    module = copy.root.joinpath(*place.split(".")).with_suffix(".py")
    steps = copy.importers(module)
    nearest = [str(path) for path in sorted(tests, key=lambda p: (steps.get(p, 0), p)) if path in steps]
    source = module.read_text(encoding="utf-8")
    lines, finders = source.splitlines(keepends=True)[:-1], list[str]()  # without the padding
    outcome = Outcome(function, module.relative_to(copy.root).as_posix())
    for change in changes:
        line = _replaced(lines[change.line - 1], change.column, change.old, change.new)
        copy.write(module, "".join([*lines[: change.line - 1], line, *lines[change.line :]]), name)
        found = bool(finders) and copy.run_tests(finders, limit_s) not in PASSED_OR_GONE
        found = found or any(copy.run_tests(part, limit_s) for part in (nearest[:1], nearest[1:]) if part)
        finders = list(dict.fromkeys([*copy.failures(), *finders]))[:N_FINDERS]
        outcome.survived += [change] * (not found)
        outcome.found += found
        print("found" if found else "SURVIVED", f"{outcome.place}:{change.line}: {change.text}", file=sys.stderr)
    copy.write(module, "".join(lines), name)
    return outcome


def try_folder(root: Path, folder: str, functions: dict[str, list[Change]], limit_s: float) -> list[Outcome]:
    """Run the tests of a folder against changes of functions; stop if they fail without any change."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as temporary:
        copy = Copy(root, Path(temporary))
        tests = sorted((copy.root / "tests" / folder).rglob("test_*.py"))
        if not tests or copy.run_tests([*map(str, tests)], 3600.0):
            sys.exit(f"the tests of {folder} fail without any change: {copy.report.read_text()[-2000:]}")
        limit_s = max(limit_s, 3.0 * copy.slowest_s)
        return [try_function(copy, name, tests, changes, limit_s) for name, changes in functions.items()]


def main() -> None:
    """Print what became of the mutants; the status is 1 if any survived."""
    parser = argparse.ArgumentParser(description="Mutants of the core functions")
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help=f"folders of tests: {', '.join(CORE)}")
    parser.add_argument("--function", action="append", metavar="MODULE:NAME", help="only this function")
    parser.add_argument("--most", type=int, default=8, metavar="N", help="mutants per function; 0 for all")
    parser.add_argument("--limit", type=float, default=60.0, metavar="S", help="least seconds that one test may take")
    parser.add_argument("--list", action="store_true", help="say what would be changed, and run nothing")
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
