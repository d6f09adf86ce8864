"""The version of a step's code: a hash of what it does, not of the repository.

It covers what the step's function reaches in this repository, the engine excepted. In the packages of
:data:`BY_DEFINITION` it follows functions and classes one by one, with all constants of their modules, so that planning
a job, which decides through inputs and parameters alone, does not count. In :data:`BY_MODULE`, the science, every
module that is imported, directly or through others, counts in full, with the small tables that ship beside it. So do
the versions of the numerical libraries: a product is promised to be the same bytes for the same inputs and code; the
lock file keeps them from changing by accident.

Comments, docstrings and layout do not count, so that a better explanation recomputes nothing. What is called by a name
that only exists at run time (``getattr``) is not seen. The hash is the same on every machine and for every supported
Python. Every file is read; what its bytes were found to say is kept between processes
(:mod:`tasks.engine.source_cache`).
"""

import importlib.metadata
import importlib.util
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import xxhash

from tasks.engine.source_cache import Reading, SourceCache, read_source

BY_MODULE = ("imaging",)
"""Packages whose modules count in full."""

BY_DEFINITION = ("tasks", "blocks")
"""Packages of which only those definitions count that are reached."""

NOT_FOLLOWED = ("tasks.engine", "tasks.steps")
"""The engine, and what steps state of themselves: their product suffixes are part of the key, their cost is not."""

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

Start = str | tuple[str, str]
"""A module, or a module and the name of one of its definitions."""

_reading = threading.Lock()
"""Flows that run side by side ask at once, and some versions of CPython count the recursion of all their parsing
threads together, so that one of them fails with "AST constructor recursion depth mismatch" (python/cpython issue
106905)."""


def code_version(*starts: Start) -> str:
    """Return the version of the code behind some functions or modules.

    Parameters
    ----------
    starts
        Modules by dotted name, or definitions as (module, name).

    Returns
    -------
    version
        32 hexadecimal digits.

    Raises
    ------
    ModuleNotFoundError
        If a module does not exist.
    """
    with _reading:
        return _version_of(starts)


@cache
def _version_of(starts: tuple[Start, ...]) -> str:
    reach = reached(*starts)
    _sources().keep()
    digest = xxhash.xxh3_128()
    for name in sorted(reach.parts):
        digest.update(f"{name}={reach.parts[name]};".encode())
    for library in sorted(reach.libraries & set(NUMERICAL_LIBRARIES)):
        digest.update(f"{library}={_library_version(NUMERICAL_LIBRARIES[library])};".encode())
    return digest.hexdigest()


@cache
def _library_version(distribution: str) -> str:
    return importlib.metadata.version(distribution)


@dataclass(slots=True)
class Reach:
    """What some code reaches.

    Attributes
    ----------
    parts
        ``module`` or ``module:definition`` to the hash of its syntax tree.
    libraries
        Top-level names of other packages that are imported.
    """

    parts: dict[str, str] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)


def reached(*starts: Start) -> Reach:
    """Return what functions or modules reach, themselves included.

    Imports are read from the source, so those inside functions count and nothing is executed.

    Raises
    ------
    ModuleNotFoundError
        If a given module does not exist.
    """
    reach = Reach()
    waiting: list[tuple[str, str]] = []
    for start in starts:
        module, name = (start, "") if isinstance(start, str) else start
        if _source_of(module) is None:
            raise ModuleNotFoundError(f"there is no module {module}", name=module)
        waiting.append((module, name))
    seen: set[tuple[str, str]] = set()
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting.extend(_visit(*at, reach))
    return reach


def _visit(module: str, name: str, reach: Reach) -> Iterator[tuple[str, str]]:
    """Add a module (of which ``name`` is wanted, all of it if empty) to what is reached; yield what it leads to."""
    if _is_in(module, NOT_FOLLOWED):
        return
    if not _is_in(module, (*BY_MODULE, *BY_DEFINITION)):
        reach.libraries.add(module.partition(".")[0])
        return
    source = _source_of(module)
    if source is None:  # an object of its module, whose own module is reached beside it
        return
    if _is_in(module, BY_MODULE):
        reach.parts[module] = source.digest
        yield from ((found, "") for found in source.imported)
        if "." in module:
            yield module.rpartition(".")[0], ""
        return
    wanted_names = {name, "", *source.constants} if name else set(source.definitions)
    for wanted in wanted_names & set(source.definitions):
        digest, used = source.definitions[wanted]
        reach.parts[f"{module}:{wanted}"] = digest
        for word in used:
            yield from _meant(module, source, word)
    if name in source.names:  # imported there only to be handed on
        yield from _meant(module, source, name)


def _meant(module: str, source: Reading, word: str) -> Iterator[tuple[str, str]]:
    """Yield what a name, or ``name.attribute``, or ``from`` import that stands in a definition means."""
    if ":" in word:
        target, _, attribute = word.partition(":")
        yield from _both(target, attribute)
        return
    head, _, attribute = word.partition(".")
    if head in source.names:
        target, _, imported = source.names[head].partition(":")
        yield from _both(target, imported or attribute)
    elif head in source.definitions and not attribute:
        yield module, head


def _both(module: str, name: str) -> Iterator[tuple[str, str]]:
    """Yield what ``from module import name`` may mean: something of the module, or a module itself."""
    if name:
        yield f"{module}.{name}", ""
    if not name or not _is_module(f"{module}.{name}"):
        yield module, name


@cache
def _is_module(name: str) -> bool:
    return _is_in(name, (*BY_MODULE, *BY_DEFINITION)) and _file_of(name) is not None


def _is_in(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


@cache
def _source_of(name: str) -> Reading | None:
    """Read a module's source once; None if there is no such module."""
    path = _file_of(name)
    if path is None:
        return None
    return read_source(
        path.read_bytes(), {table.name: table.read_bytes() for table in _tables_beside(path)}, _sources()
    )


@cache
def _sources() -> SourceCache:
    return SourceCache.open()


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


def _tables_beside(module: Path) -> list[Path]:
    """Return the files of the ``data`` folder beside a package's ``__init__``."""
    folder = module.parent / "data"
    if module.name != "__init__.py" or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_file())
