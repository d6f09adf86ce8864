"""Which exposures of a site were imported: a document beside the products of each says where its images come from."""

import re
from collections.abc import Iterator
from pathlib import Path

from blocks.site import Site
from imaging.identity import ExposureId

SUFFIX = "import.json"
"""Suffix of the document among the products of an exposure."""

_NAME = re.compile(rf"D(\d+)_([A-Za-z0-9]+)_r(\d+)p(\d+)_{re.escape(SUFFIX)}")


def import_path(site: Site, exposure: ExposureId) -> Path:
    """Return the path of the document of a version of an exposure."""
    return site.store / exposure.folder / f"{exposure.stem}_{SUFFIX}"


def is_imported(site: Site, exposure: ExposureId) -> bool:
    """Whether this version of an exposure was imported."""
    return import_path(site, exposure).is_file()


def has_import(site: Site, exposure: ExposureId) -> bool:
    """Whether any version of an exposure was imported."""
    folder = f"*/exp/{exposure.night}/{exposure.expnum}"
    return any(True for _ in site.store.glob(f"{folder}/D*_{SUFFIX}"))


def imported_ids(site: Site) -> Iterator[ExposureId]:
    """Yield all imported versions of exposures, in order of their paths."""
    for path in sorted(site.store.glob(f"*/exp/*/*/D*_{SUFFIX}")):
        name, night, schema = _NAME.fullmatch(path.name), path.parts[-3], path.parts[-5]
        if name is not None and night.isdigit():
            yield ExposureId(int(name[1]), name[2], int(night), int(name[3]), int(name[4]), schema)
