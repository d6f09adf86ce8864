"""The folders of a site, a plain record that is part of every job."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from imaging.errors import InputError
from imaging.identity import ExposureId, raw_name

Destination = Literal["persistent", "scratch"]

DEFAULT_ROOT = Path("gw-data")
"""Folder of the default site, relative to the current folder, if no other is configured."""

FOLDERS = ("raw", "calibrations", "reference", "products", "scratch", "state")
"""The named folders of a site; also the first component of file names from :meth:`Site.name_of`."""


class Site(BaseModel):
    """The folders of one site.

    Step records name files relative to these folders (``products/gw/exp/...``), so that the cache stays valid if a site
    is moved or mounted elsewhere.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    root: Path
    """Parent of the folders that are not set separately."""
    raw: Path
    """Raw exposures, of any name; ``{night}/DECam_{expnum}.fits.fz`` is the usual one."""
    calibrations: Path
    """The calibration library with its manifest."""
    reference: Path
    """Reference catalogues: ``gaia`` and ``galaxies``."""
    products: Path
    """Persistent products."""
    scratch: Path
    """Scratch products, which may be deleted."""
    state: Path
    """State of the orchestration: step records, registered nights, the server's database."""
    destination: Destination = "persistent"
    """Whether products are written to ``products`` or to ``scratch``."""

    @classmethod
    def at(cls, root: Path | str, **folders: Path | None) -> "Site":
        """Return the site below a folder.

        Parameters
        ----------
        root
            Folder of the site; it need not exist.
        folders
            Named folders outside of the root; None for the folder of that name below it.
        """
        root = Path(root).expanduser().absolute()
        placed = {name: Path(folders.get(name) or root / name).expanduser().absolute() for name in FOLDERS}
        return cls(root=root, **placed)

    @property
    def store(self) -> Path:
        """The folder into which products are written."""
        return self.scratch if self.destination == "scratch" else self.products

    @property
    def records(self) -> Path:
        """The folder of the step records."""
        return self.state / "records"

    @property
    def nights(self) -> Path:
        """The folder of the registered nights."""
        return self.state / "nights"

    def storing_in(self, destination: Destination) -> "Site":
        """Return the same site with another destination for products."""
        return self.model_copy(update={"destination": destination})

    def path(self, name: str) -> Path:
        """Return the path of a file named by :meth:`name_of`.

        Raises
        ------
        InputError
            If the name does not begin with one of the site's folders.
        """
        folder, _, rest = name.partition("/")
        if name.startswith("/"):
            return Path(name)
        if folder not in FOLDERS:
            raise InputError("file name without a folder of the site", value=name, limit=", ".join(FOLDERS))
        return getattr(self, folder) / rest

    def name_of(self, path: Path) -> str:
        """Return the name of a file relative to the site's folders; its absolute path if it is outside of them."""
        path = Path(path).absolute()
        for folder in FOLDERS:
            base: Path = getattr(self, folder)
            if path.is_relative_to(base):
                return f"{folder}/{path.relative_to(base).as_posix()}"
        return path.as_posix()


def raw_path(site: Site, exposure: ExposureId) -> Path:
    """Return the path of the raw file of an exposure."""
    return site.raw / str(exposure.night) / raw_name(exposure.expnum)
