"""The calibration library: manifest of files with their validity, and readers of the files.

The manifest is ``manifest.json`` at the library's root. Each entry names an epoch, a kind of calibration, the nights
and exposure numbers for which it is valid, and a pattern of file names relative to the root in which ``{ccd:02d}``
stands for the CCD and ``{band}`` for the band. The epochs of the original (``y4e1`` and the like) are epochs here.
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.bits import BpmBit
from imaging.detector.ccds import AMPLIFIERS, CCDS, science_ccd
from imaging.detector.crosstalk import CrosstalkMatrix, parse_crosstalk
from imaging.detector.linearity import LinearityTable
from imaging.detrend.brighter_fatter import BrighterFatterKernel
from imaging.detrend.defaults import DEFAULTS
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.access import require_access
from imaging.io.atomic import write_text
from imaging.io.checked import fits_file
from imaging.io.damage import DamagedError, reading
from imaging.io.keywords import COLOUR_SLOPE
from imaging.io.manifest import AGE_LIMITS, BAND_DEPENDENT, KINDS, AgeLimit, CalibrationEntry, CalibrationManifest, Kind
from imaging.io.master_files import POSITIONS, file_parts, linearity_part, read_master, require_band
from imaging.io.original_sky import MINI_SKY_SHAPE, TABLE, binned_templates, modes_by_ccd
from imaging.io.possible import require_linear, require_possible
from imaging.sky.modes import SkyModes, SkyTemplates

MANIFEST = "manifest.json"

ALL_BPM_BITS = sum(BpmBit)
"""Largest value of a bad-pixel map."""

ADU_UNITS = ("", "adu", "count", "counts", "dn")
"""Units of a bias, in lower case; without a unit it is in ADU, as the observatory's and the survey's are."""


class CalibrationLibrary:
    """A folder of calibration files with its manifest.

    Parameters
    ----------
    root
        Folder with ``manifest.json``.

    Raises
    ------
    InputError
        If there is no manifest, or it is invalid or may not be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        path, remedy = self.root / MANIFEST, "correct it or copy the calibration library again"
        require_access(path, "the calibration manifest")
        if not path.exists():
            raise InputError(
                "there is no calibration library",
                value=path,
                remedy="set the calibration folder, or make one with build-calibrations",
            )
        with reading(path, "the calibration manifest is not valid", remedy):
            self.manifest = CalibrationManifest.model_validate_json(path.read_bytes())

    def find(self, kind: Kind, exposure: Exposure, ccd: int, *, epoch: str | None = None) -> Path:
        """Find the file of a calibration for an exposure and CCD.

        Of several valid ones, those that hold for a stated period come first, then that nearest in time.

        Parameters
        ----------
        epoch
            Name of an epoch to use regardless of validity and age; None uses both.

        Raises
        ------
        InputError
            If none is valid, it is too old, or the file does not exist or may not be read.
        """
        entry = self._entry(kind, exposure, epoch, ccd)
        if epoch is None:
            self._require_young(entry, exposure)
        path = self.root / entry.name(ccd, exposure.band)
        require_access(path, "the calibration file")
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

    def lacking(self, exposure: Exposure, ccd: int | None = None, *, epoch: str | None = None) -> tuple[str, ...]:
        """Return the kinds with a default of which the library has none for an exposure and a CCD (None: any)."""
        found = (kind for kind in KINDS if kind in DEFAULTS)
        return tuple(kind for kind in found if not self.holds(kind, exposure, ccd, epoch=epoch))

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
            return max(valid, key=lambda e: (e.band is not None, e.is_of_a_period, -e.age_days(exposure), e.made_night))
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


def read_calibration_image(
    path: Path,
    ccd: int | None = None,
    *,
    band: str | None = None,
    kind: Literal["bias", "flat", "star_flat"] | None = None,
) -> NDArray[np.float32]:
    """Read the bias, flat or star flat of a CCD, trimmed: (ny, nx) float32.

    Parameters
    ----------
    path
        A file with one image, or with one extension per CCD.
    ccd
        CCD number; None for a file with a single image, whatever it states.
    band
        The band that the file must state; None for a kind that has none.
    kind
        What it must be possible as; None for any.

    Raises
    ------
    InputError
        If the file cannot be read, is of another CCD or band or does not say so, or holds what is no possible
        calibration of its kind.
    """
    with calibration(path), np.errstate(over="ignore"):
        image, cards = read_master(path, ccd, band)
        if kind == "bias" and cards.text("BUNIT").lower() not in ADU_UNITS:
            raise DamagedError(f"BUNIT = {cards.text('BUNIT')}; allowed for a bias: adu")
        pixels = image.astype(np.float32, copy=False)
        if kind is not None:
            require_possible(pixels, kind)
    return pixels


def read_colour_slope(path: Path, ccd: int) -> float:
    """Return the change of a CCD's zero point with BP - RP that its star flat states; zero if it states none.

    Raises
    ------
    InputError
        If the file cannot be read, or states what is no possible slope.
    """
    with calibration(path):
        texts = [part.cards.text(COLOUR_SLOPE) for part in file_parts(path) if part.ccd in (None, ccd)]
        slope = float(next(filter(None, texts), 0.0))
        require_possible(np.array([slope]), "colour_slope")
    return slope


def read_bad_pixels(path: Path, ccd: int | None = None) -> NDArray[np.int16]:
    """Read the bad-pixel map of a CCD: (ny, nx) int16 with the bits of :class:`imaging.bits.BpmBit`.

    Raises
    ------
    InputError
        If the file cannot be read, is of another CCD, or holds values that are no such bits.
    """
    with calibration(path):
        bits, _ = read_master(path, ccd, bits=True)
        whole = np.asarray(bits, dtype=np.int64) if bits.dtype.kind in "iub" else np.rint(bits)
        if not ((whole == bits).all() and (whole >= 0).all() and (whole <= ALL_BPM_BITS).all()):
            raise DamagedError("values that are no bits of bad pixels")
    return whole.astype(np.int16)


def calibration(path: Path) -> AbstractContextManager[None]:
    """Return the context in which a calibration is read: whatever goes wrong is an ``InputError`` of this file."""
    return reading(path, "calibration file damaged", "copy it again")


def read_crosstalk(path: Path) -> CrosstalkMatrix:
    """Read a crosstalk matrix in the observatory's text format.

    Raises
    ------
    InputError
        If the file is missing, is not text, holds no line that is not a comment, or an impossible coefficient.
    """
    with reading(path, "calibration file damaged", "copy it again", missing="crosstalk file missing"):
        text = Path(path).read_text(encoding="utf-8")
        if not any(line.split("#")[0].strip() for line in text.splitlines()):
            raise DamagedError("no line of coefficients")
        matrix = parse_crosstalk(text, str(path))
        for term in matrix.terms:
            require_possible(np.array([term.coefficient]), "crosstalk")
            require_possible(np.array([term.onset_adu]), "onset")
            if not ({term.victim[0], term.source[0]} <= set(CCDS) and np.isfinite(term.polynomial).all()):
                raise DamagedError(f"impossible term from {term.source} into {term.victim}")
        if len({(term.victim, term.source) for term in matrix.terms}) != len(matrix.terms):
            raise DamagedError("two lines for one pair of amplifiers")
        return matrix


def read_linearity(path: Path, ccd: int) -> LinearityTable:
    """Read the response curves of a CCD: a table with columns ADU, ADU_LINEAR_A, ADU_LINEAR_B.

    Raises
    ------
    InputError
        If the file cannot be read, does not contain the CCD, or the curves are impossible.
    """
    with calibration(path):
        part = linearity_part(file_parts(path), ccd)
        with fits.open(fits_file(path, names={part.name}), memmap=False) as hdus:
            rows = hdus[part.index].data
            table = LinearityTable(
                np.array(rows["ADU"], dtype=float),
                {name: np.array(rows[f"ADU_LINEAR_{name}"], dtype=float) for name in AMPLIFIERS},
            )
        for linear in table.linear.values():
            require_linear(table.adu, linear)
        return table


def read_brighter_fatter(path: Path, ccd: int) -> BrighterFatterKernel:
    """Read the kernels of a CCD: image extensions named by its position and ``R`` (right) or ``T`` (top).

    Raises
    ------
    InputError
        If the file cannot be read, does not contain the CCD, or the kernels are impossible.
    """
    position = science_ccd(ccd).detpos
    with calibration(path), fits.open(fits_file(path), memmap=False) as hdus:
        names = [hdu.name for hdu in hdus]
        if not {f"{position}R", f"{position}T"} <= set(names):
            held = sorted({name[:-1] for name in names if name[:-1] in POSITIONS})
            raise InputError("no kernels of this CCD", ccd=ccd, value=f"kernels of {', '.join(held) or 'no CCD'}")
        for border in "RT":
            stated = hdus[f"{position}{border}"].header.get("CCDNUM", ccd)
            if stated != ccd:
                raise DamagedError(f"extension {position}{border} states CCDNUM = {stated}; {position} is CCD {ccd}")
        right, top = (np.array(hdus[f"{position}{border}"].data, dtype=float) for border in "RT")
        require_possible(np.concatenate([right.ravel(), top.ravel()]), "brighter_fatter")
        return BrighterFatterKernel(right, top)


def read_sky_modes(path: Path, band: str | None = None) -> SkyModes:
    """Read the sky modes of a band: an image extension ``CCDnn`` of shape (n_modes, 32, 16) per CCD, or a DES file.

    Parameters
    ----------
    path
        The file.
    band
        The band it must be of, if it states one; None for any.

    Raises
    ------
    InputError
        If the file cannot be read, is of another band, contains no modes, or impossible ones.
    """
    with calibration(path):
        parts = [part for part in file_parts(path) if not part.is_table]
        for part in parts:
            require_band(part, band, stated=False)
        with fits.open(fits_file(path), memmap=False) as hdus:
            if len(hdus) - 1 < hdus[0].header.get("NEXTEND", 0):
                raise DamagedError("the file ends before its last extension")
            if TABLE in hdus:
                values = modes_by_ccd(np.asarray(hdus[TABLE].data), hdus[TABLE].header)
            else:
                images = {part.ccd: hdus[part.index].data for part in parts if part.ccd is not None}
                if len(images) != len(parts):
                    raise DamagedError("two extensions of one CCD, or one that does not say of which CCD it is")
                values = {ccd: np.ascontiguousarray(image, dtype=np.float32) for ccd, image in images.items()}
        for modes in values.values():
            if modes.shape[1:] != MINI_SKY_SHAPE:
                raise DamagedError(f"modes of {modes.shape} superpixels; allowed: {MINI_SKY_SHAPE} each")
            require_possible(modes, "sky_modes")
            require_possible(modes[0], "first_sky_mode")
        return SkyModes(values)


def read_sky_templates(path: Path, ccd: int, band: str | None = None) -> SkyTemplates:
    """Read the sky templates of a CCD and band: an image of shape (n_modes, ny / b, nx / b).

    Parameters
    ----------
    path
        The file.
    ccd
        CCD number.
    band
        The band it must be of, if it states one; None for any.

    Raises
    ------
    InputError
        If the file cannot be read, is of another CCD or band, or holds impossible templates.
    """
    with calibration(path), np.errstate(over="ignore"):
        image, _ = read_master(path, ccd, band, says_band=False)
        if image.ndim != 3:
            raise DamagedError(f"an image of {image.ndim} dimensions; allowed: 3")
        values = binned_templates(image.astype(np.float32, copy=False))
        require_possible(values, "sky_modes")
        return SkyTemplates(ccd, values)
