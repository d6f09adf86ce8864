"""The calibration library: manifest of files with their validity, and readers of the files.

The manifest is ``manifest.json`` at the library's root. Each entry names an epoch, a kind of calibration, the nights
and exposure numbers for which it is valid, and a pattern of file names relative to the root in which ``{ccd:02d}``
stands for the CCD and ``{band}`` for the band. The epochs of the original (``y4e1`` and the like) are epochs here.
"""

import zlib
from collections.abc import Iterable, Mapping
from datetime import date
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
from imaging.io.original_sky import TABLE, binned_templates, modes_by_ccd
from imaging.sky.modes import SkyModes, SkyTemplates

MANIFEST = "manifest.json"

DAMAGED = (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, zlib.error)
"""What readers of damaged FITS files raise."""

Kind = Literal[
    "bias", "flat", "bad_pixels", "linearity", "star_flat", "sky_modes", "sky_templates", "crosstalk", "brighter_fatter"
]
BAND_DEPENDENT: frozenset[Kind] = frozenset(("flat", "star_flat", "sky_modes", "sky_templates"))


class AgeLimit(BaseModel):
    """Limits on the age of a calibration: the time between it and the exposure, in either direction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warn_days: float = Field(gt=0)
    """Age in days above which a warning is given."""
    refuse_days: float = Field(gt=0)
    """Age in days above which the calibration is refused, unless its epoch is forced."""


AGE_LIMITS: dict[Kind, AgeLimit] = {
    "bias": AgeLimit(warn_days=180, refuse_days=1095),
    "flat": AgeLimit(warn_days=180, refuse_days=1095),
    "bad_pixels": AgeLimit(warn_days=180, refuse_days=730),
    "star_flat": AgeLimit(warn_days=730, refuse_days=1825),
    "sky_modes": AgeLimit(warn_days=730, refuse_days=1825),
    "sky_templates": AgeLimit(warn_days=730, refuse_days=1825),
}
"""Default limits. DES renewed its master calibrations every half year; bad pixels age fastest. Crosstalk, linearity and
brighter-fatter kernels are properties of the electronics and have no age limit."""


class CalibrationEntry(BaseModel):
    """One kind of calibration of one epoch."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epoch: str
    kind: Kind
    files: str
    """Pattern of the file names, relative to the library; ``{ccd:02d}`` is the CCD, ``{band}`` the band."""
    band: str | None = None
    """Band of the entry, None for any; entries for one band take precedence. A band-dependent kind needs this or
    ``{band}`` in its pattern."""
    ccds: tuple[int, ...] | None = None
    """CCDs of the entry, None for all; other CCDs use an earlier entry, if there is one."""
    made_night: int
    """Night on which the calibration data were taken, YYYYMMDD; the reference of its age."""
    first_night: int = 20120101
    last_night: int = 99991231
    first_expnum: int = 0
    last_expnum: int = 10**12
    checksums: dict[str, str] = Field(default_factory=dict)
    """File name to the hash of its content."""

    def name(self, ccd: int, band: str) -> str:
        """Return the name of a CCD's file."""
        return self.files.format(ccd=ccd, band=band)

    def serves(self, kind: Kind, band: str, ccd: int | None = None) -> bool:
        """Whether the entry is of a kind, for a band and, if given, for a CCD."""
        any_band = kind not in BAND_DEPENDENT or "{band}" in self.files
        of_ccd = ccd is None or self.ccds is None or ccd in self.ccds
        return self.kind == kind and of_ccd and (self.band == band or (self.band is None and any_band))

    def age_days(self, exposure: Exposure) -> float:
        """Return the absolute time between an exposure and the calibration data, days."""
        return abs((_date(exposure.night) - _date(self.made_night)).days)

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
    age_limits: dict[Kind, AgeLimit] = AGE_LIMITS
    """Age limits by kind; other kinds have none."""


class CalibrationLibrary:
    """A folder of calibration files with its manifest.

    Parameters
    ----------
    root
        Folder with ``manifest.json``.

    Raises
    ------
    InputError
        If there is no manifest or it is invalid.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        try:
            self.manifest = CalibrationManifest.model_validate_json((self.root / MANIFEST).read_bytes())
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
        """Find the file of a calibration for an exposure and CCD; the most recent of several valid ones.

        Parameters
        ----------
        epoch
            Name of an epoch to use regardless of validity and age; None uses both.

        Raises
        ------
        InputError
            If none is valid, it is too old or the file does not exist.
        """
        entry = self._entry(kind, exposure, epoch, ccd)
        if epoch is None:
            self._require_young(entry, exposure)
        path = self.root / entry.name(ccd, exposure.band)
        if not path.is_file():
            raise InputError(
                f"calibration file missing: {kind}",
                expnum=exposure.expnum,
                ccd=ccd,
                value=path,
                remedy="copy the file into the calibration library or build it",
            )
        return path

    def holds(self, kind: Kind, exposure: Exposure, ccd: int | None = None, *, epoch: str | None = None) -> bool:
        """Whether the library has a calibration of a kind for an exposure and a CCD (None: for any of them).

        For a forced epoch, regardless of its validity.
        """
        try:
            self._entry(kind, exposure, epoch, ccd)
        except InputError:
            return False
        return True

    def age_warnings(self, exposure: Exposure, *, epoch: str | None = None) -> tuple[str, ...]:
        """Return warnings about old calibrations of an exposure; missing ones are ignored."""
        warnings = []
        for kind, limit in self.manifest.age_limits.items():
            if not self.holds(kind, exposure, epoch=epoch):
                continue
            entry = self._entry(kind, exposure, epoch)
            if entry.age_days(exposure) >= limit.warn_days:
                warnings.append(
                    f"calibration is old: {kind} of {entry.made_night}, {entry.age_days(exposure):.0f} days from the "
                    f"exposure (warning limit {limit.warn_days:.0f})"
                )
        return tuple(warnings)

    def _require_young(self, entry: CalibrationEntry, exposure: Exposure) -> None:
        limit = self.manifest.age_limits.get(entry.kind)
        if limit is not None and entry.age_days(exposure) >= limit.refuse_days:
            raise InputError(
                f"calibration too old: {entry.kind}, epoch {entry.epoch}",
                expnum=exposure.expnum,
                value=f"{entry.age_days(exposure):.0f} days from the exposure",
                limit=f"less than {limit.refuse_days:.0f}",
                remedy="build new ones with gw-workflow build-calibrations, or force the epoch by name",
            )

    def recorded_checksum(self, path: Path) -> str | None:
        """Return the content hash of a file in the manifest; None if there is none."""
        name = path.relative_to(self.root).as_posix()
        return next((e.checksums[name] for e in self.manifest.entries if name in e.checksums), None)

    def _entry(self, kind: Kind, exposure: Exposure, epoch: str | None, ccd: int | None = None) -> CalibrationEntry:
        of_kind = [entry for entry in self.manifest.entries if entry.serves(kind, exposure.band, ccd)]
        valid = [e for e in of_kind if (e.epoch == epoch if epoch else e.valid_for(exposure))]
        if valid:
            return max(valid, key=lambda entry: (entry.band is not None, entry.made_night))
        what = f"{kind}, band {exposure.band}" if kind in BAND_DEPENDENT else kind
        if of_kind:
            problem = f"calibration outside its validity: {what}"
            limit = "; ".join(f"{e.epoch} {_validity(e)}" for e in of_kind)
        else:
            problem, limit = f"calibration missing: {what}", "an entry in the manifest"
        raise InputError(
            problem,
            expnum=exposure.expnum,
            ccd=ccd,
            value=f"night {exposure.night}" + (f", epoch {epoch}" if epoch else ""),
            limit=limit,
            remedy="add a calibration of that time to the library, or force an epoch by name",
        )


def write_manifest(
    root: Path, entries: Iterable[CalibrationEntry], age_limits: Mapping[Kind, AgeLimit] = AGE_LIMITS
) -> None:
    """Write a library's manifest."""
    manifest = CalibrationManifest(entries=tuple(entries), age_limits=dict(age_limits))
    write_text(Path(root) / MANIFEST, manifest.model_dump_json(indent=1))


def _validity(entry: CalibrationEntry) -> str:
    """Describe the validity of an entry."""
    unbounded = CalibrationEntry.model_fields
    nights = f"nights {entry.first_night} to {entry.last_night}"
    if (entry.first_expnum, entry.last_expnum) == (
        unbounded["first_expnum"].default,
        unbounded["last_expnum"].default,
    ):
        return nights
    return f"{nights}, exposures {entry.first_expnum} to {entry.last_expnum}"


def _date(night: int) -> date:
    return date(night // 10000, night // 100 % 100, night % 100)


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
    except DAMAGED as error:
        raise _damaged(path, error) from error


def read_crosstalk(path: Path) -> CrosstalkMatrix:
    """Read a crosstalk matrix in the observatory's text format.

    Raises
    ------
    InputError
        If the file is missing, is not text, or holds no line that is not a comment.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        if not any(line.split("#")[0].strip() for line in text.splitlines()):
            raise ValueError("no line of coefficients")
    except (OSError, ValueError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise InputError("crosstalk file missing", value=path) if missing else _damaged(path, error) from error
    return parse_crosstalk(text, str(path))


def read_linearity(path: Path, ccd: int) -> LinearityTable:
    """Read the response curves of a CCD: the table extension ``CCDnn`` with columns ADU, ADU_LINEAR_A, ADU_LINEAR_B.

    Raises
    ------
    InputError
        If the file cannot be read or does not contain the CCD.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            rows = hdus[f"CCD{ccd:02d}"].data
            linear = {name: np.array(rows[f"ADU_LINEAR_{name}"], dtype=float) for name in AMPLIFIERS}
            return LinearityTable(np.array(rows["ADU"], dtype=float), linear)
    except DAMAGED as error:
        raise _damaged(path, error) from error


def read_brighter_fatter(path: Path, ccd: int) -> BrighterFatterKernel:
    """Read the kernels of a CCD: image extensions named by its position and ``R`` (right) or ``T`` (top)."""
    position = science_ccd(ccd).detpos
    right, top = (_read_image(path, f"{position}{border}").astype(float) for border in "RT")
    return BrighterFatterKernel(right, top)


def read_sky_modes(path: Path) -> SkyModes:
    """Read the sky modes of a band: an image extension ``CCDnn`` of shape (n_modes, 32, 16) per CCD, or a DES file.

    Raises
    ------
    InputError
        If the file cannot be read or contains no modes.
    """
    try:
        with fits.open(path, memmap=False) as hdus:
            if TABLE in hdus:
                return SkyModes(modes_by_ccd(np.asarray(hdus[TABLE].data), hdus[TABLE].header))
            values = {
                int(hdu.name[3:]): np.ascontiguousarray(hdu.data, dtype=np.float32)
                for hdu in hdus
                if hdu.name.startswith("CCD") and hdu.data is not None
            }
            last = hdus[-1].fileinfo()
            if Path(path).read_bytes()[last["datLoc"] + last["datSpan"] :].strip(b"\0 "):
                raise ValueError("the last extension is cut short")
    except DAMAGED as error:
        raise _damaged(path, error) from error
    return SkyModes(values)


def read_sky_templates(path: Path, ccd: int) -> SkyTemplates:
    """Read the sky templates of a CCD and band: an image of shape (n_modes, ny / b, nx / b)."""
    return SkyTemplates(ccd, binned_templates(_read_image(path, 0).astype(np.float32, copy=False)))


def detrend_calibration_paths(
    library: CalibrationLibrary, exposure: Exposure, ccd: int, *, epoch: str | None = None
) -> dict[Kind, Path]:
    """Find all calibration files for detrending a CCD; the brighter-fatter kernel is optional.

    Raises
    ------
    InputError
        If a calibration is missing or outside its validity.
    """
    kinds: list[Kind] = ["bias", "flat", "bad_pixels", "linearity", "crosstalk"]
    if library.holds("brighter_fatter", exposure, ccd, epoch=epoch):
        kinds.append("brighter_fatter")
    return {kind: library.find(kind, exposure, ccd, epoch=epoch) for kind in kinds}


def read_detrend_calibrations(paths: Mapping[Kind, Path], ccd: int) -> DetrendCalibrations:
    """Read the calibrations found by :func:`detrend_calibration_paths`.

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
