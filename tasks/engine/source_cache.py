"""A cache of parsed source files, shared between processes.

Parsing all modules of the steps dominates the run time of a command that finds everything cached. Entries are keyed by
the content of a source file, never by name or time, and by the version of this code. The cache lies in the user's cache
folder; if it is damaged or not writable, sources are parsed again.
"""

import ast
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import xxhash

from imaging.errors import StorageError
from imaging.io.atomic import write_bytes
from imaging.kernel_cache import remove_unused, user_caches

FILE = "sources.json"

MOST = 5000
"""Maximum number of entries, ten times the number of source files; the oldest are dropped."""

ENGINE = "tasks.engine"
"""Package whose decorators are left out of a definition's hash: they affect how a step runs, not its result."""

PARSE_ATTEMPTS = 20
PARSE_PAUSE_S = 0.02
"""Delay before parsing is retried, seconds: a thread of Prefect that parses at the same time may trigger the CPython
bug described in :mod:`tasks.engine.code_version`."""


class Reading(NamedTuple):
    """Hashes, imports and definitions of one source file.

    Attributes
    ----------
    digest
        Hash of the whole syntax tree, and of the data tables beside the module.
    imported
        Dotted names of all imports; of ``from a import b`` both ``a`` and ``a.b``.
    names
        Name bound by a top-level import to ``module:attribute``, or ``module:`` for a module.
    definitions
        Name of each function, class and constant to its hash and the names that it uses; other top-level statements
        are under the empty name.
    constants
        Names of the constants among the definitions.
    """

    digest: str
    imported: tuple[str, ...]
    names: Mapping[str, str]
    definitions: Mapping[str, tuple[str, tuple[str, ...]]]
    constants: tuple[str, ...]


@dataclass(slots=True)
class SourceCache:
    """Parsed sources by the hash of their content.

    Attributes
    ----------
    folder
        Folder of the cache files; None if there is none.
    known
        Entries of earlier processes.
    fresh
        Entries of this process that are not written yet.
    """

    folder: Path | None
    known: Mapping[str, Reading]
    fresh: dict[str, Reading] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path | None = None) -> Self:
        """Open the cache of this version of the code and of Python.

        Parameters
        ----------
        root
            Folder of all versions; None for ``gw-workflow/sources`` in the user's cache folder.
        """
        digest = xxhash.xxh3_64(sys.version.encode())
        try:
            digest.update(Path(__file__).read_bytes())
            folder = (root or user_caches() / "sources") / digest.hexdigest()
        except OSError:  # source files in an archive
            return cls(None, {})
        return cls(folder, readings_in(folder / FILE))

    def get(self, content: str) -> Reading | None:
        """Return the entry of a content hash; None if there is none."""
        return self.known.get(content) or self.fresh.get(content)

    def add(self, content: str, reading: Reading) -> None:
        """Add an entry, in memory only."""
        self.fresh[content] = reading

    def keep(self) -> None:
        """Write new entries, merged with those that other processes have written in the meantime."""
        if self.folder is None or not self.fresh:
            return
        self.known = {**readings_in(self.folder / FILE), **self.known, **self.fresh}
        self.fresh = {}
        content = json.dumps(dict(list(self.known.items())[-MOST:]), separators=(",", ":")).encode()
        with suppress(OSError, StorageError):
            write_bytes(self.folder / FILE, _check(content) + b"\n" + content, flush=False)
            remove_unused(self.folder.parent)


def readings_in(path: Path) -> dict[str, Reading]:
    """Return the entries of a cache file; none if it is missing or damaged."""
    try:
        check, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if check != _check(content):
        return {}
    return {key: Reading(*values) for key, values in json.loads(content).items()}


def _check(content: bytes) -> bytes:
    return xxhash.xxh3_128_hexdigest(content).encode()


def read_source(source: bytes, tables: Mapping[str, bytes], known: SourceCache) -> Reading:
    """Return the hashes, imports and definitions of a source file, from the cache if possible.

    Parameters
    ----------
    source
        Content of the file.
    tables
        Name to content of the data tables beside the module, which are hashed byte by byte.
    known
        The cache.
    """
    content = xxhash.xxh3_128(f"{len(source)} ".encode() + source)
    for name, held in tables.items():
        content.update(f"{name} {len(held)} ".encode() + held)
    reading = known.get(content.hexdigest())
    if reading is None:
        reading = _read(_parsed(source), tables)
        known.add(content.hexdigest(), reading)
    return reading


def _parsed(source: bytes) -> ast.Module:
    for _ in range(PARSE_ATTEMPTS - 1):
        try:
            return ast.parse(source)
        except SystemError:
            time.sleep(PARSE_PAUSE_S)
    return ast.parse(source)


def _read(tree: ast.Module, tables: Mapping[str, bytes]) -> Reading:
    digest = xxhash.xxh3_128(described(tree).encode())
    for table, held in tables.items():
        digest.update(f"{table}=".encode() + held + b";")
    names = dict(pair for node in tree.body for pair in _given_names(node))
    parts: dict[str, list[ast.stmt]] = {}
    for node in tree.body:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            for name in _defined_names(node) or [""]:
                parts.setdefault(name, []).append(node)
    definitions = {name: _definition(nodes, names) for name, nodes in parts.items()}
    constants = tuple(
        name for name, nodes in parts.items() if name and isinstance(nodes[0], ast.Assign | ast.AnnAssign)
    )
    return Reading(digest.hexdigest(), tuple(sorted(set(_imported(tree)))), names, definitions, constants)


def _definition(nodes: list[ast.stmt], names: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """Return hash and used names of the statements of one definition."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = [d for d in node.decorator_list if not _is_of_engine(d, names)]
    used = sorted({word for node in nodes for word in _used_words(node)})
    return xxhash.xxh3_128_hexdigest(described(nodes).encode()), tuple(used)


def _is_of_engine(decorator: ast.expr, names: Mapping[str, str]) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    return isinstance(target, ast.Name) and names.get(target.id, "").startswith(ENGINE)


def _defined_names(node: ast.stmt) -> list[str]:
    """Return the names that a top-level statement defines; none for an expression statement."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
    return [node.target.id] if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else []


def _given_names(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield (name, ``module:attribute``) for each name that a top-level import binds."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield (alias.asname, f"{alias.name}:") if alias.asname else (alias.name.partition(".")[0], f"{alias.name}:")
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            yield alias.asname or alias.name, f"{node.module}:{alias.name}"


def _used_words(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement uses, ``name.attribute`` of each name, and ``module:name`` of inner imports."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            yield f"{inner.value.id}.{inner.attr}"
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            yield from (target for _, target in _given_names(inner))
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str) and inner.value.isidentifier():
            yield inner.value  # possibly a quoted annotation


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def described(node: object) -> str:
    """Return a syntax tree as text, without positions, docstrings and fields that some Python versions leave empty."""
    if isinstance(node, ast.AST):
        fields = ((name, getattr(node, name, None)) for name in node._fields)
        parts = [f"{name}={described(value)}" for name, value in fields if value is not None and value != []]
        return f"{type(node).__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(described(item) for item in node if not _is_bare_text(item))}]"
    return repr(node)


def _is_bare_text(node: object) -> bool:
    """Whether a statement is a bare string: the docstring of a module, class, function or attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
