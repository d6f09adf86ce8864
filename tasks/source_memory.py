"""What the syntax trees of sources were found to say, kept from one process to the next.

Parsing every module behind the steps takes longer than all else that a command with nothing to do does. What is kept
belongs to the bytes of a file, never to its name or its time, and to the code that read them. It lies in the user's
folder of caches; if it is damaged, or cannot be written, everything is parsed again.
"""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import xxhash

from imaging.errors import StorageError
from imaging.io.atomic import write_bytes
from imaging.io.kernel_cache import remove_unused

FILE = "sources.json"

MOST = 5000
"""Entries that are kept, ten times what the project has files; the oldest go first."""

Reading = tuple[str, tuple[str, ...]]
"""Hash of a source's syntax tree, in hexadecimal digits, and the dotted names that it imports."""


@dataclass(slots=True)
class SourceMemory:
    """Readings of sources by the hash of their bytes.

    Attributes
    ----------
    folder
        Where they are kept; None if nowhere.
    known
        Those of earlier processes.
    fresh
        Those of this process that are not kept yet.
    """

    folder: Path | None
    known: Mapping[str, Reading]
    fresh: dict[str, Reading] = field(default_factory=dict)

    @classmethod
    def open(cls, readers: tuple[Path, ...], root: Path | None = None) -> Self:
        """Return what is known to certain code.

        Parameters
        ----------
        readers
            Files of the code that reads sources. Readings are kept apart for every version of them and of Python.
        root
            Folder of all versions; None for ``gw-workflow/sources`` in the user's folder of caches.
        """
        digest = xxhash.xxh3_64(sys.version.encode())
        try:
            for path in (*readers, Path(__file__)):
                digest.update(path.read_bytes())
            folder = (root or caches() / "sources") / digest.hexdigest()
        except (OSError, RuntimeError):  # sources within an archive; a user without a home
            return cls(None, {})
        return cls(folder, readings_in(folder / FILE))

    def get(self, content: str) -> Reading | None:
        """Return the reading of a source by the hash of its bytes; None if it is not known."""
        return self.known.get(content) or self.fresh.get(content)

    def add(self, content: str, reading: Reading) -> None:
        """Remember a reading in this process."""
        self.fresh[content] = reading

    def keep(self) -> None:
        """Keep what is new for later processes, beside what others have kept meanwhile."""
        if self.folder is None or not self.fresh:
            return
        self.known = {**readings_in(self.folder / FILE), **self.known, **self.fresh}
        self.fresh = {}
        content = json.dumps(dict(list(self.known.items())[-MOST:]), separators=(",", ":")).encode()
        with suppress(OSError, StorageError):
            write_bytes(self.folder / FILE, _check(content) + b"\n" + content, flush=False)
            remove_unused(self.folder.parent)


def caches() -> Path:
    """Return the project's folder in the user's folder of caches.

    Raises
    ------
    RuntimeError
        If the user has no home.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gw-workflow"


def readings_in(path: Path) -> dict[str, Reading]:
    """Return the readings in a file; none if it is absent, or not as it was written."""
    try:
        check, _, content = path.read_bytes().partition(b"\n")
    except OSError:
        return {}
    if check != _check(content):
        return {}
    return {key: (described, tuple(imported)) for key, (described, imported) in json.loads(content).items()}


def _check(content: bytes) -> bytes:
    return xxhash.xxh3_128_hexdigest(content).encode()
