"""Where a site keeps its files, as a plain record that travels with every job."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from imaging.errors import InputError

Destination = Literal["persistent", "scratch"]

DEFAULT_ROOT = Path("gw-data")
"""Folder of the default site, below the current one, where nothing else says."""

FOLDERS = ("raw", "calibrations", "reference", "products", "scratch", "state")
"""The named folders of a site; also the first parts of the names that :meth:`Site.name_of` gives."""


class Site(BaseModel):
    """The folders of one site.

    Records of what was done name files relative to these folders (``products/gw/exp/...``), so that a site may be moved
    or mounted elsewhere without anything being computed again.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    root: Path
    """The folder that holds the others unless they are set apart."""
    raw: Path
    """Raw exposures, ``{night}/DECam_{expnum}.fits.fz``."""
    calibrations: Path
    """The calibration library with its manifest."""
    reference: Path
    """Reference catalogues: ``gaia`` and ``galaxies``."""
    products: Path
    """What the processing leaves, kept."""
    scratch: Path
    """What the processing leaves, when asked not to keep it."""
    state: Path
    """What the orchestration knows: step records, registered nights, the server's database."""
    destination: Destination = "persistent"
    """Where products are written: ``products`` or ``scratch``."""

    @classmethod
    def at(cls, root: Path | str, **folders: Path | None) -> "Site":
        """Return the site below a folder.

        Parameters
        ----------
        root
            Folder of the site; it need not exist.
        folders
            Named folders that lie elsewhere; None for their usual place.
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
        """Return the path of a file that :meth:`name_of` has named.

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
        """Name a file relative to the site's folders; the absolute path if it lies outside of them."""
        path = Path(path).absolute()
        for folder in FOLDERS:
            base: Path = getattr(self, folder)
            if path.is_relative_to(base):
                return f"{folder}/{path.relative_to(base).as_posix()}"
        return path.as_posix()
