"""The version of a step's code: a hash of what it does, not of the repository.

It covers the module of the step, every module of ``imaging`` that it imports, directly or through others, the small
tables that ship beside those modules, and the versions of the numerical libraries that they use. Comments, docstrings
and layout do not count, so that a better explanation recomputes nothing. Library versions count in full, because a
product is promised to be the same bytes for the same inputs and code; the lock file keeps them from changing by
accident. The hash is the same on every machine and for every supported Python.

Every file is read; what its bytes were found to say is remembered (:mod:`tasks.source_memory`).
"""

import ast
import importlib.metadata
import importlib.util
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import xxhash

from tasks.source_memory import Reading, SourceMemory

SCIENCE = "imaging"
"""The package whose imports are followed."""

NUMERICAL_LIBRARIES = {
    "astropy": "astropy",
    "astropy_healpix": "astropy-healpix",
    "erfa": "pyerfa",
    "fitsio": "fitsio",
    "numba": "numba",
    "numpy": "numpy",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "sep": "sep",
    "skimage": "scikit-image",
}
"""Libraries that decide about pixels and numbers: import name to distribution."""

_parsing = threading.Lock()
"""Flows that run side by side ask at once, and some versions of CPython count the recursion of all their parsing
threads together, so that one of them fails with "AST constructor recursion depth mismatch" (python/cpython issue
106905)."""

PARSE_ATTEMPTS = 20
PARSE_PAUSE_S = 0.02
"""Prefect parses too, in threads of its own; it is done in a moment."""


@dataclass(frozen=True, slots=True)
class Source:
    """What counts of a module's source.

    Attributes
    ----------
    path
        Its file.
    described
        Hash of its syntax tree and of the tables beside it.
    imported
        Dotted names that it imports.
    """

    path: Path
    described: bytes
    imported: frozenset[str]


def code_version(*modules: str) -> str:
    """Return the version of the code behind some modules.

    Parameters
    ----------
    modules
        Dotted names; modules of ``imaging`` that they import are included.

    Returns
    -------
    version
        32 hexadecimal digits.

    Raises
    ------
    ModuleNotFoundError
        If a module does not exist.
    """
    with _parsing:
        return _version_of(modules)


@cache
def _version_of(modules: tuple[str, ...]) -> str:
    digest = xxhash.xxh3_128()
    closure = import_closure(modules)
    _memory().keep()
    for name in sorted(closure):
        digest.update(f"{name}=".encode() + closure[name].described)
    libraries = {found.partition(".")[0] for source in closure.values() for found in source.imported}
    for library in sorted(libraries & set(NUMERICAL_LIBRARIES)):
        digest.update(f"{library}={_library_version(NUMERICAL_LIBRARIES[library])};".encode())
    return digest.hexdigest()


@cache
def _library_version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


def import_closure(modules: Iterable[str]) -> dict[str, Source]:
    """Return the given modules and every module of ``imaging`` that they import, directly or through others.

    Imports are read from the source, so those inside functions count and nothing is executed.

    Raises
    ------
    ModuleNotFoundError
        If a given module does not exist.
    """
    closure: dict[str, Source] = {}
    waiting = list(modules)
    for name in waiting:
        if _source_of(name) is None:
            raise ModuleNotFoundError(f"there is no module {name}", name=name)
    while waiting:
        name = waiting.pop()
        source = None if name in closure else _source_of(name)
        if source is None:
            continue  # known already, or an object of its module
        closure[name] = source
        waiting.extend(found for found in source.imported if _is_science(found))
        if _is_science(name) and "." in name:
            waiting.append(name.rpartition(".")[0])
    return closure


def _is_science(name: str) -> bool:
    return name == SCIENCE or name.startswith(SCIENCE + ".")


@cache
def _source_of(name: str) -> Source | None:
    """Read a module's source once; None if there is no such module."""
    path = _file_of(name)
    if path is None:
        return None
    source = path.read_bytes()
    tables = {table.name: table.read_bytes() for table in _tables_beside(path)}
    content = xxhash.xxh3_128(f"{len(source)} ".encode() + source)
    for table, held in tables.items():
        content.update(f"{table} {len(held)} ".encode() + held)
    memory = _memory()
    reading = memory.get(content.hexdigest())
    if reading is None:
        reading = _read(source, tables)
        memory.add(content.hexdigest(), reading)
    return Source(path, bytes.fromhex(reading[0]), frozenset(reading[1]))


@cache
def _memory() -> SourceMemory:
    return SourceMemory.open((Path(__file__),))


def _read(source: bytes, tables: Mapping[str, bytes]) -> Reading:
    """Parse a source; the tables beside it count as they are."""
    tree = _parsed(source)
    digest = xxhash.xxh3_128(_described(tree).encode())
    for table, held in tables.items():
        digest.update(f"{table}=".encode() + held + b";")
    return digest.hexdigest(), tuple(sorted(set(_imported(tree))))


def _parsed(source: bytes) -> ast.Module:
    for _ in range(PARSE_ATTEMPTS - 1):
        try:
            return ast.parse(source)
        except SystemError:
            time.sleep(PARSE_PAUSE_S)
    return ast.parse(source)


def _file_of(name: str) -> Path | None:
    """Find the file of a module without importing it; only its top package is located by the import system."""
    top, *rest = name.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin else None
    for folder in map(Path, spec.submodule_search_locations or ()):
        stem = folder.joinpath(*rest)
        for candidate in (stem.with_suffix(".py"), stem / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None


def _imported(tree: ast.AST) -> Iterator[str]:
    """Yield the dotted names that a module imports; of ``from a import b`` both ``a`` and ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _tables_beside(module: Path) -> list[Path]:
    """Return the files of the ``data`` folder beside a package's ``__init__``."""
    folder = module.parent / "data"
    if module.name != "__init__.py" or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file())


def _described(node: object) -> str:
    """Write a syntax tree as text: without positions, docstrings and whatever is empty in some versions of Python."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        parts = [f"{name}={_described(value)}" for name, value in fields if value is not None and value != []]
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(_described(item) for item in node if not _is_bare_text(item))}]"
    return repr(node)


def _is_bare_text(node: object) -> bool:
    """Whether a statement is a string that nothing uses: a docstring, of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
