"""Copy what a sky map needs of catalogues on slow storage when the map arrives, so that it is there before the night.

A site remembers which of its catalogues are parts of larger ones elsewhere (``reference/sources.json``, written by
``gw-workflow reference-catalog prefetch --remember``). Every night that is registered and every alert with a sky map
then copies the partitions of the map's region.
"""

from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from blocks.site import Site
from imaging.errors import InputError, StorageError
from imaging.io.atomic import write_text
from imaging.io.prefetch import Prefetched, prefetch_catalogue
from imaging.skymap.model import SkyMap

SOURCES = "sources.json"
"""File in the site's folder ``reference``."""


class RememberedSource(BaseModel):
    """Where the whole of a catalogue lies, and how much of a sky map is copied from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    folder: Path
    """Folder of the whole catalogue."""
    level: float = Field(default=0.99, gt=0.0, le=1.0)
    """Probability of the region that is copied."""


_SOURCES = TypeAdapter(dict[str, RememberedSource])


def remembered_sources(site: Site) -> dict[str, RememberedSource]:
    """Return the catalogues of a site that are parts of others: name to source; empty if it remembers none.

    Raises
    ------
    InputError
        If the file cannot be understood.
    """
    path = site.reference / SOURCES
    try:
        return _SOURCES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise InputError(
            "sources of the reference catalogues not understood", value=path, remedy="remove it and prefetch again"
        ) from error


def remember_source(site: Site, name: str, source: RememberedSource) -> None:
    """Remember where the whole of a catalogue lies.

    Raises
    ------
    InputError
        If the file that holds the others cannot be understood.
    StorageError
        If it cannot be written.
    """
    sources = remembered_sources(site) | {name: source.model_copy(update={"folder": source.folder.absolute()})}
    write_text(site.reference / SOURCES, _SOURCES.dump_json(sources, indent=1).decode() + "\n")


def prefetch_remembered(site: Site, skymap: SkyMap, say: Callable[[str], None]) -> dict[str, Prefetched]:
    """Copy what a sky map needs of every catalogue whose source the site remembers.

    What cannot be copied is said and costs nothing else: the night is registered whether the archive answers or not.

    Parameters
    ----------
    site
        The site.
    skymap
        The sky map.
    say
        Takes a line about each catalogue.

    Returns
    -------
    copied
        Name of each catalogue that was brought up to date to what was copied.
    """
    copied: dict[str, Prefetched] = {}
    try:
        sources = remembered_sources(site)
    except InputError as error:
        say(error.sentence())
        return copied
    for name, source in sources.items():
        try:
            copied[name] = prefetch_catalogue(source.folder, site.reference / name, skymap, source.level)
        except (InputError, StorageError) as error:
            say(f"catalogue {name} not prefetched: {error.sentence()}")
            continue
        found = copied[name]
        say(f"catalogue {name}: {found.n_partitions} partitions of the region, {found.n_copied} copied")
    return copied
