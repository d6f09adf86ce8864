"""Measure the style of the code: sizes, docstrings, annotations, tests.

``python -m tools.style`` prints a table; with ``--check`` it fails if a limit is exceeded.
"""

import argparse
import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.report import Row, at_least, at_most, print_report

ROOT = Path(__file__).resolve().parent.parent
CODE = ("imaging", "blocks", "tasks", "flows", "deployments", "bench", "tools")

MAX_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60
MIN_TEST_RATIO = 0.5
"""Minimum lines of tests per line of code, in total."""

MIN_FOLDER_RATIO = 0.5
"""The same for each folder of :data:`CORE`."""

CORE = ("simulation", "catalogue", "difference", "io", "masks")
"""The folders of imaging with a limit of their own."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class FunctionStyle:
    """Style of one function."""

    place: str
    lines: int
    is_public: bool
    is_documented: bool
    is_annotated: bool


@dataclass(frozen=True, slots=True)
class ModuleStyle:
    """Style of one module."""

    place: str
    lines: int
    functions: tuple[FunctionStyle, ...]


def measure_module(path: Path) -> ModuleStyle:
    """Measure one Python file."""
    text = path.read_text(encoding="utf-8")
    place = path.relative_to(ROOT).as_posix()
    functions = tuple(_measure_function(node, place, public) for node, public in _functions(ast.parse(text)))
    return ModuleStyle(place, text.count("\n"), functions)


def _functions(tree: ast.Module) -> Iterator[tuple[Function, bool]]:
    """Yield (function, is public) of module-level functions and methods; nested functions belong to their owner."""
    for node in tree.body:
        if isinstance(node, Function):
            yield node, not node.name.startswith("_")
        elif isinstance(node, ast.ClassDef):
            for item in node.body:
                if isinstance(item, Function):
                    yield item, not node.name.startswith("_") and not item.name.startswith("_")


def _measure_function(node: Function, place: str, public: bool) -> FunctionStyle:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += [a for a in (node.args.vararg, node.args.kwarg) if a]
    named = [a for a in arguments if a.arg not in ("self", "cls")]
    annotated = node.returns is not None and all(a.annotation for a in named)
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    overload = any(isinstance(d, ast.Name) and d.id == "overload" for d in node.decorator_list)
    documented = overload or ast.get_docstring(node) is not None
    return FunctionStyle(f"{place}:{node.lineno} {node.name}", lines, public, documented, annotated)


def code_lines(path: Path) -> int:
    """Return the number of lines of a Python file without blank lines, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    texts = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Expr))
    strings = [node for node in texts if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)]
    told = {line for node in strings for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)}
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    used = {line for t in tokens if t.type not in layout for line in range(t.start[0], t.end[0] + 1)}
    return len(used - told)


def test_ratios() -> list[Row]:
    """Return the lines of tests per line of code of each folder: those of imaging, then the others."""
    folders = [path for path in sorted((ROOT / "imaging").iterdir()) if (path / "__init__.py").is_file()]
    folders += [ROOT / name for name in CODE if name != "imaging"]
    rows = []
    for folder in folders:
        code = sum(map(code_lines, folder.rglob("*.py")))
        tests = sum(map(code_lines, (ROOT / "tests" / folder.name).rglob("*.py")))
        limit = MIN_FOLDER_RATIO if folder.name in CORE else None
        name = f"test lines per line of {folder.relative_to(ROOT).as_posix()} ({code})"
        rows.append(Row(name, tests / code, "") if limit is None else at_least(name, tests / code, "", limit))
    return rows


def measure_style() -> tuple[list[Row], list[str]]:
    """Measure the whole tree.

    Returns
    -------
    rows
        The style table.
    offences
        One line per exceeded limit.
    """
    modules = [measure_module(p) for folder in CODE for p in sorted((ROOT / folder).rglob("*.py"))]
    functions = [f for m in modules for f in m.functions]
    public = [f for f in functions if f.is_public]
    lines = sum(m.lines for m in modules)
    test_lines = sum(p.read_text(encoding="utf-8").count("\n") for p in (ROOT / "tests").rglob("*.py"))
    rows = [
        Row("modules", len(modules), ""),
        Row("lines of code", lines, ""),
        Row("median module", statistics.median(m.lines for m in modules), "lines"),
        at_most("largest module", max(m.lines for m in modules), "lines", MAX_MODULE_LINES),
        Row("median function", statistics.median(f.lines for f in functions), "lines"),
        at_most("longest function", max(f.lines for f in functions), "lines", MAX_FUNCTION_LINES),
        at_least("public functions documented", 100 * _share([f.is_documented for f in public]), "%", 100),
        at_least("public functions annotated", 100 * _share([f.is_annotated for f in public]), "%", 100),
        at_least("test lines per code line", test_lines / lines, "", MIN_TEST_RATIO),
        *test_ratios(),
    ]
    offences = [f"{m.place}: {m.lines} lines" for m in modules if m.lines > MAX_MODULE_LINES]
    offences += [f"{f.place}: {f.lines} lines" for f in functions if f.lines > MAX_FUNCTION_LINES]
    offences += [f"{f.place}: not documented" for f in public if not f.is_documented]
    offences += [f"{f.place}: not annotated" for f in public if not f.is_annotated]
    return rows, offences


def _share(flags: list[bool]) -> float:
    return sum(flags) / len(flags) if flags else 1.0


def main() -> None:
    """Print the style table; with ``--check`` exit with 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description="Style of the code")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a limit is exceeded")
    options = parser.parse_args()
    rows, offences = measure_style()
    print_report(rows, as_json=options.json, title="Style of the code")
    for offence in offences:
        print(offence, file=sys.stderr)
    if options.check and (offences or any(row.ok is False for row in rows)):
        sys.exit(1)


if __name__ == "__main__":
    main()
