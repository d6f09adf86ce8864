"""The version of a step's code: a hash of the source code that the step uses.

It covers everything in this repository that the step's function depends on, except the engine. In the packages of
:data:`BY_DEFINITION` dependencies are followed per function and class, plus all constants of their modules; code that
only plans jobs is left out, because it acts through inputs and parameters, which are in the cache key. In the packages
of :data:`BY_MODULE`, the science, every module that is imported, directly or indirectly, is hashed in full, with the
data tables beside it. Versions of the numerical libraries are included, because the same inputs and code must give the
same bytes; the lock file pins them.

Comments, docstrings and formatting are ignored. Names that are resolved at run time (``getattr``) are not followed. The
hash is the same on all machines and supported Python versions. All source files are read; parsed sources are cached
between processes (:mod:`tasks.engine.source_cache`).
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
"""Packages whose modules are hashed as a whole."""

BY_DEFINITION = ("tasks", "blocks")
"""Packages of which only the definitions in use are hashed."""

NOT_FOLLOWED = ("tasks.engine", "tasks.steps")
"""Modules left out: the engine, and the list of steps, whose product suffixes enter the cache key by themselves."""

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
"""Libraries that affect results: import name to distribution name."""

Start = str | tuple[str, str]
"""A module, or a (module, definition) pair."""

_reading = threading.Lock()
"""Serialises parsing: in some CPython versions concurrent ``ast.parse`` calls share one recursion counter and fail with
"AST constructor recursion depth mismatch" (python/cpython issue 106905)."""


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
    """Dependencies of some code.

    Attributes
    ----------
    parts
        ``module`` or ``module:definition`` to the hash of its syntax tree.
    libraries
        Top-level names of imported packages outside this repository.
    """

    parts: dict[str, str] = field(default_factory=dict)
    libraries: set[str] = field(default_factory=set)


def reached(*starts: Start) -> Reach:
    """Return the dependencies of functions or modules, themselves included.

    Imports are read from the source, including those inside functions; nothing is executed.

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
    """Add a definition of a module (the whole module if ``name`` is empty) to ``reach``; yield its dependencies."""
    if _is_in(module, NOT_FOLLOWED):
        return
    if not _is_in(module, (*BY_MODULE, *BY_DEFINITION)):
        reach.libraries.add(module.partition(".")[0])
        return
    source = _source_of(module)
    if source is None:  # not a module but an object of one; the module itself is visited separately
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
    if name in source.names:  # re-exported from another module
        yield from _meant(module, source, name)


def _meant(module: str, source: Reading, word: str) -> Iterator[tuple[str, str]]:
    """Resolve a name, ``name.attribute`` or ``from`` import used in a definition to modules and their definitions."""
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
    """Yield both readings of ``from module import name``: a definition of the module, or a submodule."""
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
    """Return the parsed source of a module; None if there is no such module."""
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
    """Return the file of a module without importing it; only its top-level package is found by the import system."""
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
