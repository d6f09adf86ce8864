"""Content hashes of input files, remembered so that a second run does not read gigabytes to learn that nothing changed.

The memory is a small file per input below the site's state folder; it holds as long as the input's size and time do.
"""

import time
from pathlib import Path

import xxhash
from pydantic import ValidationError

from blocks.site import Site
from imaging.io.atomic import write_text
from tasks.records import FileRecord

SETTLED_NS = 2_000_000_000
"""A file that changed less than this long ago may change again within the resolution of its time stamp."""


def fingerprint(site: Site, path: Path) -> FileRecord:
    """Describe an input file, its content hashed once.

    Parameters
    ----------
    site
        Site whose state folder remembers the hash.
    path
        The file.

    Raises
    ------
    OSError
        If the file does not exist.
    StorageError
        If the hash cannot be remembered.
    """
    name = site.name_of(path)
    memory = site.state / "fingerprints" / f"{xxhash.xxh3_128_hexdigest(name.encode())}.json"
    status = Path(path).stat()
    known = _read(memory)
    if known is not None and (known.path, known.size, known.mtime_ns) == (name, status.st_size, status.st_mtime_ns):
        return known
    found = FileRecord.of(site, path)
    if time.time_ns() - found.mtime_ns > SETTLED_NS:
        write_text(memory, found.model_dump_json())
    return found


def _read(memory: Path) -> FileRecord | None:
    try:
        return FileRecord.model_validate_json(memory.read_bytes())
    except (OSError, ValidationError):
        return None
