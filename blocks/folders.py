"""Blocks with the folders of a site, and the lookup of a site by name."""

import os
from pathlib import Path
from typing import Annotated

from prefect.blocks.core import Block
from pydantic import BeforeValidator, Field

from blocks.saved import saved_block
from blocks.sharing import follow
from blocks.site import DEFAULT_ROOT, Site
from imaging.errors import InputError
from imaging.io.calibrations import CalibrationLibrary

ROOT_VARIABLE = "GW_WORKFLOW_ROOT"
"""Environment variable with the folder of the site ``default``."""


class CalibrationLibraryBlock(Block):
    """A folder of calibration files with its manifest."""

    _block_type_name = "Calibration Library"
    _block_type_slug = "gw-calibration-library"
    _description = "Folder of master calibrations, indexed by manifest.json."

    folder: Path = Field(description="Folder that holds manifest.json.")

    def open(self) -> CalibrationLibrary:
        """Read the library's manifest.

        Raises
        ------
        InputError
            If it is missing or malformed.
        """
        return CalibrationLibrary(self.folder)


class ReferenceCatalogueBlock(Block):
    """A folder of reference catalogues, partitioned by position."""

    _block_type_name = "Reference Catalogue"
    _block_type_slug = "gw-reference-catalogue"
    _description = "Folder of the reference catalogues: stars (gaia) and galaxies."

    folder: Path = Field(description="Folder with the catalogues gaia and galaxies.")


def plain_text(value: object) -> object:
    """Return a folder as text for the form: its path; empty for None."""
    return "" if value is None else str(value) if isinstance(value, Path) else value


Folder = Annotated[str, BeforeValidator(plain_text)]
"""An optional folder, stored as text so that the form shows a text field."""


class StorageRoots(Block):
    """The folders of a site: raw exposures, calibrations, products and state."""

    _block_type_name = "Storage Roots"
    _block_type_slug = "gw-storage-roots"
    _description = "Folders of a site: raw exposures, calibrations, products and state."

    root: Path = Field(description="Folder of the site; parent of all folders that are left empty.")
    raw: Folder = Field(default="", description="Raw exposures; empty: raw below the root.")
    products: Folder = Field(
        default="", title="Persistent", description="Persistent products; empty: products below the root."
    )
    scratch: Folder = Field(default="", description="Scratch products; empty: scratch below the root.")
    state: Folder = Field(
        default="", description="Step records and registered nights; must be a local disk. Empty: state below the root."
    )
    calibrations: CalibrationLibraryBlock | None = Field(
        default=None, description="Calibration Library block; empty: calibrations below the root."
    )
    reference: ReferenceCatalogueBlock | None = Field(
        default=None, description="Reference Catalogue block; empty: reference below the root."
    )

    def _given(self) -> dict[str, str]:
        """Return the folders that are not below the root."""
        folders = {"raw": self.raw, "products": self.products, "scratch": self.scratch, "state": self.state}
        return {name: folder for name, folder in folders.items() if folder}

    def site(self) -> Site:
        """Return the site that the block describes."""
        return Site.at(
            self.root,
            **{name: Path(folder) for name, folder in self._given().items()},
            calibrations=self.calibrations.folder if self.calibrations else None,
            reference=self.reference.folder if self.reference else None,
        )


def load_site(name_or_path: str | Path = "default") -> Site:
    """Find a site; what this process writes is its group's, if it has one.

    Parameters
    ----------
    name_or_path
        Name of a saved block ``StorageRoots``, or a folder: an existing one, or text with a path separator. The site
        ``default`` is the first of: the saved block of that name, the folder in ``GW_WORKFLOW_ROOT``, ``gw-data`` in
        the current folder.

    Raises
    ------
    InputError
        If there is no such block or folder.
    """
    site = _find_site(name_or_path)
    follow(site)
    return site


def _find_site(name_or_path: str | Path) -> Site:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or os.sep in text or Path(text).is_dir():
        return Site.at(text)
    block = saved_block(StorageRoots, text)
    if block is not None:
        return block.site()
    if text == "default":
        return Site.at(os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT)
    raise InputError(
        "there is no such site",
        value=text,
        limit="a folder or the name of a saved block Storage Roots",
        remedy=f"give a folder, or set {ROOT_VARIABLE}",
    )


def register_blocks(site: Site) -> None:
    """Register the block types with the server, and save this site's blocks as ``default``.

    Blocks that already exist under that name are kept.
    """
    from blocks.archive import ArchiveAccess
    from blocks.cluster import ComputeCluster
    from blocks.gcn import GcnCredentials
    from blocks.notification import NotificationTarget
    from blocks.receivers import BrokerCredentials, SkyPortalCredentials, TnsCredentials

    credentials = (ArchiveAccess, GcnCredentials, SkyPortalCredentials, TnsCredentials, BrokerCredentials)
    library = CalibrationLibraryBlock(folder=site.calibrations)
    catalogue = ReferenceCatalogueBlock(folder=site.reference)
    roots = StorageRoots(root=site.root, calibrations=library, reference=catalogue)
    defaults: tuple[Block, ...] = (library, catalogue, roots, ComputeCluster(), NotificationTarget())
    kinds: tuple[type[Block], ...] = (*map(type, defaults), *credentials)
    for kind in kinds:
        kind.register_type_and_schema()
    for block in defaults:
        if saved_block(type(block), "default") is None:
            block.save("default")
        elif block is library:
            roots.calibrations = saved_block(CalibrationLibraryBlock, "default")
        elif block is catalogue:
            roots.reference = saved_block(ReferenceCatalogueBlock, "default")
