"""The blocks that say where a site keeps its files, with forms in Prefect's pages, and how a flow finds its site."""

import os
from pathlib import Path
from typing import Annotated

from prefect.blocks.core import Block
from pydantic import BeforeValidator, Field

from blocks.saved import saved_block
from blocks.site import DEFAULT_ROOT, Site
from imaging.errors import InputError
from imaging.io.calibrations import CalibrationLibrary

ROOT_VARIABLE = "GW_WORKFLOW_ROOT"
"""Environment variable with the folder of the site that is called ``default``."""


class CalibrationLibraryBlock(Block):
    """A folder of calibration files with its manifest."""

    _block_type_name = "Calibration Library"
    _block_type_slug = "gw-calibration-library"
    _description = "A folder of calibration files with its manifest."

    folder: Path = Field(description="Folder that holds manifest.json.")

    def open(self) -> CalibrationLibrary:
        """Read the library's manifest.

        Raises
        ------
        InputError
            If there is none or it cannot be understood.
        """
        return CalibrationLibrary(self.folder)


class ReferenceCatalogueBlock(Block):
    """A folder of reference catalogues, partitioned on the sky."""

    _block_type_name = "Reference Catalogue"
    _block_type_slug = "gw-reference-catalogue"
    _description = "A folder of reference catalogues: gaia and galaxies."

    folder: Path = Field(description="Folder that holds the catalogues gaia and galaxies.")


def plain_text(value: object) -> object:
    """Return what a form shows of a folder: its path, and nothing where none is given."""
    return "" if value is None else str(value) if isinstance(value, Path) else value


Folder = Annotated[str, BeforeValidator(plain_text)]
"""A folder that may be left empty; as text, which the form shows as a line to fill in."""


class StorageRoots(Block):
    """Where a site keeps raw exposures, products and state."""

    _block_type_name = "Storage Roots"
    _block_type_slug = "gw-storage-roots"
    _description = "Where a site keeps raw exposures, calibrations, products and state."

    root: Path = Field(description="Folder of the site; the others lie below it unless they are given.")
    raw: Folder = Field(default="", description="Raw exposures; empty for raw below the root.")
    products: Folder = Field(
        default="", title="Persistent", description="Products that are kept; empty for products below the root."
    )
    scratch: Folder = Field(default="", description="Products that are not kept; empty for scratch below the root.")
    state: Folder = Field(
        default="", description="Step records and registered nights, on a local disk; empty for state below the root."
    )
    calibrations: CalibrationLibraryBlock | None = Field(
        default=None, description="Empty for the folder calibrations below the root."
    )
    reference: ReferenceCatalogueBlock | None = Field(
        default=None, description="Empty for the folder reference below the root."
    )

    def _given(self) -> dict[str, str]:
        """Return the folders that lie elsewhere."""
        folders = {"raw": self.raw, "products": self.products, "scratch": self.scratch, "state": self.state}
        return {name: folder for name, folder in folders.items() if folder}

    def site(self) -> Site:
        """Return the folders as a plain record."""
        return Site.at(
            self.root,
            **{name: Path(folder) for name, folder in self._given().items()},
            calibrations=self.calibrations.folder if self.calibrations else None,
            reference=self.reference.folder if self.reference else None,
        )


def load_site(name_or_path: str | Path = "default") -> Site:
    """Find a site.

    Parameters
    ----------
    name_or_path
        Name of a saved block ``StorageRoots``, or a folder: anything that holds a path separator or exists. The site
        called ``default`` is, in this order, the saved block of that name, the folder that ``GW_WORKFLOW_ROOT`` names,
        and ``gw-data`` below the current folder.

    Raises
    ------
    InputError
        If it is neither.
    """
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
    """Make the block types known to the server, and save this site's under the name ``default`` if none is.

    What somebody has saved there, by hand or before, stays.
    """
    from blocks.cluster import ComputeCluster
    from blocks.gcn import GcnCredentials
    from blocks.notification import NotificationTarget
    from blocks.receivers import BrokerCredentials, SkyPortalCredentials, TnsCredentials

    credentials = (GcnCredentials, SkyPortalCredentials, TnsCredentials, BrokerCredentials)
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
