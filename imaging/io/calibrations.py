"""The calibration library: a manifest that says which file is valid when, and the readers of the files.

The manifest is ``manifest.json`` at the library's root. Each entry names an epoch, a kind of calibration, the nights
and exposure numbers for which it is valid, and a pattern of file names relative to the root in which ``{ccd:02d}``
stands for the CCD. The epochs of the original (``y4e1`` and the like) are epochs here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imaging.detector.ccds import AMPLIFIERS, science_ccd
from imaging.detector.crosstalk import CrosstalkMatrix, parse_crosstalk
from imaging.detector.linearity import LinearityTable
from imaging.detrend.brighter_fatter import BrighterFatterKernel
from imaging.detrend.calibrations import DetrendCalibrations
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.atomic import write_text
from imaging.sky.modes import SkyModes, SkyTemplates

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
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(
                "the calibration manifest is not valid",
                value=f"{self.root / MANIFEST}: {f'{where}: ' if where else ''}{first['msg']}",
                remedy="correct it or copy the calibration library again",
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

    def holds(self, kind: Kind, exposure: Exposure, *, epoch: str | None = None) -> bool:
        """Whether the library has a calibration of a kind for an exposure, or for an epoch that is forced."""
        try:
            self._entry(kind, exposure, epoch)
        except InputError:
            return False
        return True

    def recorded_checksum(self, path: Path) -> str | None:
        """Return the content hash that the manifest records for a file; None if it records none."""
        name = path.relative_to(self.root).as_posix()
        return next((e.checksums[name] for e in self.manifest.entries if name in e.checksums), None)

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
        raise _damaged(path, error) from error


def read_crosstalk(path: Path) -> CrosstalkMatrix:
    """Read a crosstalk matrix in the observatory's text format."""
    try:
        return parse_crosstalk(Path(path).read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InputError("crosstalk file missing", value=path) from error


def read_linearity(path: Path, ccd: int) -> LinearityTable:
    """Read the response curves of a CCD: the table extension ``CCDnn`` with columns ADU, ADU_LINEAR_A, ADU_LINEAR_B.

    Raises
    ------
    InputError
        If the file cannot be read or does not hold the CCD.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            rows = hdus[f"CCD{ccd:02d}"].data
            linear = {name: np.array(rows[f"ADU_LINEAR_{name}"], dtype=float) for name in AMPLIFIERS}
            return LinearityTable(np.array(rows["ADU"], dtype=float), linear)
    except (OSError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def read_brighter_fatter(path: Path, ccd: int) -> BrighterFatterKernel:
    """Read the kernels of a CCD: image extensions named by its position and ``R`` (right) or ``T`` (top)."""
    position = science_ccd(ccd).detpos
    right, top = (_read_image(path, f"{position}{border}").astype(float) for border in "RT")
    return BrighterFatterKernel(right, top)


def read_sky_modes(path: Path) -> SkyModes:
    """Read the sky modes of a band: one image extension ``CCDnn`` of shape (n_modes, 32, 16) per CCD.

    Raises
    ------
    InputError
        If the file cannot be read or holds no modes.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            values = {
                int(hdu.name[3:]): np.ascontiguousarray(hdu.data, dtype=np.float32)
                for hdu in hdus
                if hdu.name.startswith("CCD") and hdu.data is not None
            }
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from error
    return SkyModes(values)


def read_sky_templates(path: Path, ccd: int) -> SkyTemplates:
    """Read the sky templates of a CCD and band: an image of shape (n_modes, ny / b, nx / b)."""
    return SkyTemplates(ccd, _read_image(path, 0).astype(np.float32, copy=False))


def detrend_calibration_paths(
    library: CalibrationLibrary, exposure: Exposure, ccd: int, *, epoch: str | None = None
) -> dict[Kind, Path]:
    """Find everything that the detrending of a CCD needs; the brighter-fatter kernel only if the library has one.

    Raises
    ------
    InputError
        If a calibration is missing or outside its validity.
    """
    kinds: list[Kind] = ["bias", "flat", "bad_pixels", "linearity", "crosstalk"]
    if library.holds("brighter_fatter", exposure, epoch=epoch):
        kinds.append("brighter_fatter")
    return {kind: library.find(kind, exposure, ccd, epoch=epoch) for kind in kinds}


def read_detrend_calibrations(paths: Mapping[Kind, Path], ccd: int) -> DetrendCalibrations:
    """Read the calibrations that :func:`detrend_calibration_paths` has found.

    Raises
    ------
    InputError
        If one is damaged.
    """
    return DetrendCalibrations(
        bias=read_calibration_image(paths["bias"]),
        flat=read_calibration_image(paths["flat"]),
        bad_pixels=read_bad_pixels(paths["bad_pixels"]),
        linearity=read_linearity(paths["linearity"], ccd),
        crosstalk=read_crosstalk(paths["crosstalk"]),
        brighter_fatter=read_brighter_fatter(paths["brighter_fatter"], ccd) if "brighter_fatter" in paths else None,
        names={kind: path.name for kind, path in paths.items()},
    )


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError("calibration file damaged", value=f"{path}: {error}", remedy="copy it again")
