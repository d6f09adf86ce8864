"""The calibration library: a manifest that says which file is valid when, and the readers of the files.

The manifest is ``manifest.json`` at the library's root. Each entry names an epoch, a kind of calibration, the nights
and exposure numbers for which it is valid, and a pattern of file names relative to the root in which ``{ccd:02d}``
stands for the CCD. The epochs of the original (``y4e1`` and the like) are epochs here.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imaging.detector.crosstalk import CrosstalkMatrix, parse_crosstalk
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.atomic import content_hash, write_text

MANIFEST = "manifest.json"

Kind = Literal[
    "bias", "flat", "bad_pixels", "linearity", "star_flat", "sky_modes", "sky_templates", "crosstalk", "brighter_fatter"
]
BAND_DEPENDENT: frozenset[Kind] = frozenset(("flat", "star_flat", "sky_modes", "sky_templates"))


class CalibrationEntry(BaseModel):
    """One kind of calibration of one epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: str
    kind: Kind
    files: str
    """Pattern of the file names, relative to the library; ``{ccd:02d}`` is the CCD."""
    band: str | None = None
    """Band, for the kinds that depend on it."""
    made_night: int
    """Night on which the calibration data were taken, YYYYMMDD: what its age is counted from."""
    first_night: int = 20120101
    last_night: int = 99991231
    first_expnum: int = 0
    last_expnum: int = 10**12
    checksums: dict[str, str] = Field(default_factory=dict)
    """File name to the hash of its content."""

    def valid_for(self, exposure: Exposure) -> bool:
        """Whether the entry is valid for an exposure's night and number."""
        return (
            self.first_night <= exposure.night <= self.last_night
            and self.first_expnum <= exposure.expnum <= self.last_expnum
        )


class CalibrationManifest(BaseModel):
    """All entries of a library."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    entries: tuple[CalibrationEntry, ...]


class CalibrationLibrary:
    """A folder of calibration files with its manifest.

    Parameters
    ----------
    root
        Folder that holds ``manifest.json``.

    Raises
    ------
    InputError
        If there is no manifest or it cannot be understood.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            text = (self.root / MANIFEST).read_text(encoding="utf-8")
            self.manifest = CalibrationManifest.model_validate_json(text)
        except OSError as error:
            raise InputError(
                "there is no calibration library", value=self.root / MANIFEST, remedy="set the calibration folder"
            ) from error
        except ValidationError as error:
            raise InputError(
                "the calibration manifest is not valid", value=f"{self.root / MANIFEST}: {error.errors()[0]}"
            ) from error

    def find(self, kind: Kind, exposure: Exposure, ccd: int, *, epoch: str | None = None) -> Path:
        """Find the file of a calibration for an exposure and CCD; of several valid ones the most recently made.

        Parameters
        ----------
        epoch
            Name of an epoch to use whatever its validity says; None to follow the validity.

        Raises
        ------
        InputError
            If none is valid or the file does not exist.
        """
        entry = self._entry(kind, exposure, epoch)
        path = self.root / entry.files.format(ccd=ccd)
        if not path.is_file():
            raise InputError(
                f"calibration file missing: {kind}",
                expnum=exposure.expnum,
                ccd=ccd,
                value=path,
                remedy="copy the file into the calibration library or build it",
            )
        return path

    def checksum(self, path: Path) -> str:
        """Return the content hash that the manifest records for a file, or that of its bytes."""
        name = path.relative_to(self.root).as_posix()
        for entry in self.manifest.entries:
            if name in entry.checksums:
                return entry.checksums[name]
        return content_hash(path)

    def _entry(self, kind: Kind, exposure: Exposure, epoch: str | None) -> CalibrationEntry:
        of_kind = [
            entry
            for entry in self.manifest.entries
            if entry.kind == kind and (kind not in BAND_DEPENDENT or entry.band == exposure.band)
        ]
        valid = [e for e in of_kind if (e.epoch == epoch if epoch else e.valid_for(exposure))]
        if valid:
            return max(valid, key=lambda entry: entry.made_night)
        what = f"{kind}, band {exposure.band}" if kind in BAND_DEPENDENT else kind
        if of_kind:
            problem = f"calibration outside its validity: {what}"
            limit = "; ".join(f"{e.epoch} nights {e.first_night} to {e.last_night}" for e in of_kind)
        else:
            problem, limit = f"calibration missing: {what}", "an entry in the manifest"
        raise InputError(
            problem,
            expnum=exposure.expnum,
            value=f"night {exposure.night}" + (f", epoch {epoch}" if epoch else ""),
            limit=limit,
            remedy="add a calibration of that time to the library, or force an epoch by name",
        )


def write_manifest(root: Path, entries: tuple[CalibrationEntry, ...]) -> None:
    """Write a library's manifest."""
    write_text(Path(root) / MANIFEST, CalibrationManifest(entries=entries).model_dump_json(indent=1))


def read_calibration_image(path: Path, extension: str | int = 0) -> NDArray[np.float32]:
    """Read a bias, flat or star flat: (ny, nx) float32.

    Raises
    ------
    InputError
        If the file cannot be read or is not an image.
    """
    return _read_image(path, extension).astype(np.float32, copy=False)


def read_bad_pixels(path: Path) -> NDArray[np.int16]:
    """Read a bad-pixel map: (ny, nx) int16 with the bits of :class:`imaging.bits.BpmBit`."""
    return _read_image(path, 0).astype(np.int16, copy=False)


def _read_image(path: Path, extension: str | int) -> NDArray[np.generic]:
    try:
        with fits.open(path, memmap=False) as hdus:
            data = hdus[extension].data
            if data is None:
                data = hdus[1].data
            return np.ascontiguousarray(data.astype(data.dtype.newbyteorder("="), copy=False))
    except (OSError, AttributeError, KeyError, IndexError) as error:
        raise InputError("calibration file damaged", value=f"{path}: {error}", remedy="copy it again") from error


def read_crosstalk(path: Path) -> CrosstalkMatrix:
    """Read a crosstalk matrix in the observatory's text format."""
    try:
        return parse_crosstalk(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InputError("crosstalk file missing", value=path) from error
