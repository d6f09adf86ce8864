"""Copy the region of a new sky map from reference catalogues on slow storage, ahead of the night.

``reference/sources.json``, written by ``gw-workflow reference-catalog prefetch --remember``, lists the catalogues of a
site that are parts of larger ones. Registering a night, or an alert with a sky map, copies the partitions of the map's
region.
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
    """Folder of a complete catalogue, and the part of a sky map to copy from it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    folder: Path
    """Folder of the complete catalogue."""
    level: float = Field(default=0.99, gt=0.0, le=1.0)
    """Probability of the region to copy."""


_SOURCES = TypeAdapter(dict[str, RememberedSource])


def remembered_sources(site: Site) -> dict[str, RememberedSource]:
    """Return the catalogues of a site that have a remembered source: name to source.

    Raises
    ------
    InputError
        If the file is invalid.
    """
    path = site.reference / SOURCES
    try:
        return _SOURCES.validate_json(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as error:
        raise InputError(
            "invalid list of sources of the reference catalogues", value=path, remedy="remove it and prefetch again"
        ) from error


def remember_source(site: Site, name: str, source: RememberedSource) -> None:
    """Remember the source of a catalogue.

    Raises
    ------
    InputError
        If the list of sources is invalid.
    StorageError
        If it cannot be written.
    """
    sources = remembered_sources(site) | {name: source.model_copy(update={"folder": source.folder.absolute()})}
    write_text(site.reference / SOURCES, _SOURCES.dump_json(sources, indent=1).decode() + "\n")


def prefetch_remembered(site: Site, skymap: SkyMap, say: Callable[[str], None]) -> dict[str, Prefetched]:
    """Copy the region of a sky map from every remembered source.

    A failed copy is reported only: the night is registered in any case.

    Parameters
    ----------
    site
        The site.
    skymap
        The sky map.
    say
        Writes a line about each catalogue.

    Returns
    -------
    copied
        Result by name of each updated catalogue.
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
