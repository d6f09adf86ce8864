"""Recognise calibrations that others have made, by what they say, and read them; what is not certain is refused.

Sources of the forms: the Dark Energy Survey's supercal (Morganson et al. 2018, PASP 130, 074501), the masters of the
Community Pipeline, the observatory's calibration page, and the files of ``lsst/obs_decam_data``.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from imaging.bands import BANDS
from imaging.bits import BpmBit
from imaging.detector.ccds import CCDS
from imaging.errors import InputError
from imaging.exposure import MJD_EPOCH, night_of
from imaging.io.calibrations import (
    calibration,
    read_bad_pixels,
    read_brighter_fatter,
    read_calibration_image,
    read_crosstalk,
    read_linearity,
    read_sky_modes,
    read_sky_templates,
)
from imaging.io.checked import fits_layouts
from imaging.io.damage import DamagedError
from imaging.io.lsst_calibrations import read_defects, read_linearizer
from imaging.io.manifest import BAND_DEPENDENT, KINDS, Kind, date_of_night
from imaging.io.master_files import POSITIONS, Part, file_parts, read_master
from imaging.io.original_sky import TABLE

FIRST_NIGHT = 20120912
"""First night of the camera: the night of calibrations of the electronics that state none."""

AGELESS: frozenset[Kind] = frozenset(("linearity", "crosstalk", "brighter_fatter"))

NAMES: tuple[tuple[str, str, Kind], ...] = (
    (r"_biascor", "DES", "bias"),
    (r"norm[-_]dflatcor", "DES", "flat"),
    (r"_bpm\b", "DES", "bad_pixels"),
    (r"_starflat", "DES", "star_flat"),
    (r"skypca[-_]tmpl", "DES", "sky_templates"),
    (r"skypca[-_]binned", "DES", "sky_modes"),
    (r"^lin_tbl|_?lincor", "DES", "linearity"),
    (r"^bfmodel", "DES", "brighter_fatter"),
    (r"^c4d_\d{6}_\d{6}_zci", "Community Pipeline", "bias"),
    (r"^c4d_\d{6}_\d{6}_fci", "Community Pipeline", "flat"),
    (r"^linearity_table", "observatory", "linearity"),
    (r"^DECam_Master_.*_cd_\d+", "observatory", "bad_pixels"),
    (r"^\w+\.out\.\d+_trim_med", "observatory", "flat"),
)
"""Pattern of a file name, who makes such files, kind of calibration."""

REFUSED: tuple[tuple[str, str, Kind | None], ...] = (
    (r"-\w+G_ci_", "a fringe image: fringes are removed with sky modes and templates; use build-sky-modes", None),
    (r"-\w+I_ci_", "an illumination image of which it is not stated whether images are divided by it", "star_flat"),
)
"""Names of files whose meaning is not certain here, why, and the kind that the user may say."""

STATED: dict[str, Kind] = {
    "zero": "bias", "bias": "bias", "cal_biascor": "bias", "dome flat": "flat", "flat": "flat", "cal_dflatcor": "flat",
    "norm_dflatcor": "flat", "cal_bpm": "bad_pixels", "bpm": "bad_pixels", "cal_starflat": "star_flat",
    "starflat": "star_flat",
}  # fmt: skip
"""Values of FILETYPE and OBSTYPE in lower case, and the kind that they mean."""


@dataclass(frozen=True, eq=False)
class ForeignCalibration:
    """A calibration file that has been recognised.

    Attributes
    ----------
    path
        The file.
    kind, form
        Kind of calibration, who makes such files.
    ccds
        CCDs in it.
    band
        Band; empty if the kind has none.
    night
        Night of the data, YYYYMMDD.
    remarks
        What else was recognised: trimmed, units.
    read
        Function of the CCD number that reads it: an image, curves, kernel, modes of all CCDs or a matrix.
    """

    path: Path
    kind: Kind
    form: str
    ccds: tuple[int, ...]
    band: str
    night: int
    read: Callable[[int], Any]
    remarks: tuple[str, ...] = field(default=())

    def classified(self) -> str:
        """Return in words as what the file was recognised."""
        ccds = f"{len(self.ccds)} CCDs" if len(self.ccds) != 1 else f"CCD {self.ccds[0]}"
        return ", ".join(
            filter(None, (f"{self.form} {self.kind}", self.band, ccds, f"night {self.night}", *self.remarks))
        )


def recognise(path: Path, *, kind: Kind | None = None, night: int | None = None) -> ForeignCalibration:
    """Recognise a calibration file by its content, its header and its name, which must agree.

    Parameters
    ----------
    path
        The file.
    kind, night
        What the user says of it, where the file does not say it; must not contradict the file.

    Raises
    ------
    InputError
        If the file is damaged, its meaning is not certain, or it contradicts itself.
    """
    path = Path(path)
    for pattern, why, sayable in REFUSED:
        if re.search(pattern, path.name) and (kind is None or kind != sayable):
            raise _unknown(path, why)
    with calibration(path):
        with path.open("rb") as stream:
            start = stream.read(4096)
        if start.startswith((b"SIMPLE  =", b"\x1f\x8b")):
            return _recognise_fits(path, kind, night)
        if start.startswith(b"# %ECSV"):
            return _of_text(path, "LSST defects", "bad_pixels", night, read_defects(path))
        if path.suffix.lower() in (".yaml", ".yml"):
            return _of_text(path, "LSST linearizer", "linearity", night, read_linearizer(path))
        if re.search(rb"^\s*ccd\d+[AB]\s+ccd\d+[AB]\s", start, re.MULTILINE):
            matrix = read_crosstalk(path)
            ccds = tuple(sorted({term.victim[0] for term in matrix.terms}))
            return ForeignCalibration(path, "crosstalk", "observatory", ccds, "", night or FIRST_NIGHT, lambda _: path)
    raise _unknown(path, "neither FITS, nor defects, a linearizer or crosstalk in the forms that are read")


def _unknown(path: Path, why: str) -> InputError:
    remedy = f"leave the file out, or say what it is with --kind ({', '.join(KINDS)})"
    return InputError("calibration file of unknown meaning", value=f"{path}: {why}", remedy=remedy)


def _of_text(path: Path, form: str, kind: Kind, night: int | None, found: tuple[int, int, Any]) -> ForeignCalibration:
    """Return a calibration of one CCD from a text file; a date before the camera means from its first night on."""
    ccd, stated, value = found
    return ForeignCalibration(path, kind, form, (ccd,), "", night or max(stated, FIRST_NIGHT), lambda _: value)


def _recognise_fits(path: Path, kind: Kind | None, night: int | None) -> ForeignCalibration:
    parts = file_parts(path)
    form, named = next(((form, k) for pattern, form, k in NAMES if re.search(pattern, path.name)), ("", None))
    said = (("content", _by_content(parts)), ("header", _by_header(path, parts)), ("name", named), ("--kind", kind))
    claims = {who: claim for who, claim in said if claim is not None}
    if len(set(claims.values())) > 1:
        texts = ", ".join(f"{who} says {claim}" for who, claim in claims.items())
        raise DamagedError(f"the file contradicts itself about its kind: {texts}")
    if not claims:
        raise _unknown(path, "neither its content, FILETYPE and OBSTYPE of its header, nor its name says what it is")
    found = next(iter(claims.values()))
    ccds = _ccds_of(path, parts, found)
    band = _band_of(path, parts) if found in BAND_DEPENDENT else ""
    remarks: list[str] = []
    read = _reader(path, found, form, band, has_name=any(part.ccd is None for part in parts))
    if found in ("bias", "flat", "star_flat", "bad_pixels"):
        axes = {(part.cards.text("ZNAXIS1") or part.cards.text("NAXIS1")) for part in parts}
        remarks.append("with overscan, trimmed" if axes == {"2160"} else "trimmed already")
    when = night or _night_of(path, parts) or (FIRST_NIGHT if found in AGELESS else None)
    if when is None:
        remedy = "give the night of its data with --night"
        raise InputError("the calibration file does not say its night", value=path, remedy=remedy)
    return ForeignCalibration(path, found, form or "unnamed", ccds, band, when, read, tuple(remarks))


def _by_content(parts: list[Part]) -> Kind | None:
    """Return the kind that the structure of a file means; None for images of a CCD."""
    names = [part.name.upper() for part in parts]
    tables = [part for part in parts if part.is_table]
    columns = {part.cards.text(f"TTYPE{n}") for part in tables for n in range(1, 4)}
    if tables and {"ADU", "ADU_LINEAR_A", "ADU_LINEAR_B"} <= columns:
        return "linearity"
    if names and all(name[:-1] in POSITIONS and name[-1] in "RT" for name in names):
        return "brighter_fatter"
    return "sky_modes" if TABLE in names else "sky_templates" if "TEMPLATES" in names else None


def _by_header(path: Path, parts: list[Part]) -> Kind | None:
    """Return the kind that FILETYPE or OBSTYPE states; None if they state none that is known."""
    cards = _cards(path, parts)
    kinds = {STATED[text] for key in ("FILETYPE", "OBSTYPE") if (text := cards(key).lower()) in STATED}
    if len(kinds) > 1:
        raise DamagedError(f"FILETYPE = {cards('FILETYPE')} contradicts OBSTYPE = {cards('OBSTYPE')}")
    return kinds.pop() if kinds else None


def _cards(path: Path, parts: list[Part]) -> Callable[[str], str]:
    """Return a function that gives the text of a keyword in the primary header, or in that of the first extension."""
    headers = [fits_layouts(path)[0], *(part.cards for part in parts[:1])]
    return lambda key: next((text for header in headers if (text := header.text(key))), "")


def _ccds_of(path: Path, parts: list[Part], kind: Kind) -> tuple[int, ...]:
    """Return the science CCDs in a file, by its headers; by its name if the headers state none."""
    if kind == "sky_modes":
        return tuple(sorted(read_sky_modes(path).values))
    if kind == "brighter_fatter":
        found = {POSITIONS[part.name.upper()[:-1]] for part in parts}
    elif kind == "linearity" and all(part.ccd is None for part in parts):
        found = set(range(1, len(parts) + 1))
    else:
        found = {part.ccd for part in parts if part.ccd is not None}
    match = re.search(r"(?:_c|_cd_|_ci_\w+_|\.out\.)(\d{2})(?=[_.])", path.name)
    if match and len(found) == 1 and found != {int(match[1])}:
        raise DamagedError(f"the name says CCD {int(match[1])}, the header CCD {found.pop()}")
    if match and not found and int(match[1]) in CCDS:
        found = {int(match[1])}
    science = tuple(sorted(ccd for ccd in found if not CCDS[ccd].is_focus))
    if not science:
        raise InputError(
            "the calibration file does not say of which CCD it is",
            value=path,
            remedy="write CCDNUM and DETPOS into its headers",
        )
    return science


def _band_of(path: Path, parts: list[Part]) -> str:
    """Return the band of a file by its header; by its name if the header states none.

    Raises
    ------
    InputError
        If there is none, or several.
    """
    stated = {part.band for part in parts if part.band}
    words = re.split(r"[._-]", path.name)
    named = {word for word in words if word in BANDS}
    bands = stated or named
    if len(bands) != 1 or (named and stated and not named & stated) or not bands <= set(BANDS):
        problem = "the calibration file does not say one band"
        value = f"{path}: header {', '.join(sorted(stated)) or 'none'}, name {', '.join(sorted(named)) or 'none'}"
        raise InputError(problem, value=value, remedy="write BAND into its header")
    return next(iter(bands))


def _night_of(path: Path, parts: list[Part]) -> int | None:
    """Return the night of the data, by NITE, MJD-OBS, DATE-OBS or the file's name; None if none states it."""
    cards = _cards(path, parts)
    dated = re.match(r"c4d_(\d{6}_\d{6})", path.name)
    named = re.search(r"(?:_n|_)(20\d{6})(?=t|_|v)", path.name)
    try:
        if cards("NITE"):
            return _checked(int(cards("NITE")))
        if cards("MJD-OBS"):
            return night_of(float(cards("MJD-OBS")))
        if cards("DATE-OBS"):
            return night_of(_mjd(datetime.fromisoformat(cards("DATE-OBS")[:19])))
        if dated:
            return night_of(_mjd(datetime.strptime(dated[1], "%y%m%d_%H%M%S")))
        return _checked(int(named[1])) if named else None
    except ValueError as error:
        raise DamagedError(f"no date: {error}") from error


def _checked(night: int) -> int:
    date_of_night(night)
    return night


def _mjd(when: datetime) -> float:
    return (when - MJD_EPOCH).total_seconds() / 86400.0


def _reader(path: Path, kind: Kind, form: str, band: str, *, has_name: bool) -> Callable[[int], Any]:
    """Return the function that reads a CCD; ``has_name``: the CCD, and so the band, may be known by the name alone."""

    def own(ccd: int) -> int | None:
        return None if has_name else ccd

    if kind == "bad_pixels" and form != "DES":
        # Only the survey's codes are known; in others, whatever is not zero is bad.
        return lambda ccd: _nonzero(path, own(ccd))
    readers: Mapping[str, Callable[[int], Any]] = {
        "bias": lambda ccd: read_calibration_image(path, own(ccd), kind="bias"),
        "flat": lambda ccd: read_calibration_image(path, own(ccd), kind="flat"),
        "star_flat": lambda ccd: read_calibration_image(path, own(ccd), kind="star_flat"),
        "bad_pixels": lambda ccd: read_bad_pixels(path, own(ccd)),
        "linearity": lambda ccd: read_linearity(path, ccd),
        "brighter_fatter": lambda ccd: read_brighter_fatter(path, ccd),
        "sky_modes": lambda _: read_sky_modes(path, band),
        "sky_templates": lambda ccd: read_sky_templates(path, ccd, band).values,
    }
    if kind not in readers:
        raise _unknown(path, f"the kind {kind} is not read from FITS files")
    return readers[kind]


def _nonzero(path: Path, ccd: int | None) -> np.ndarray[Any, np.dtype[np.int16]]:
    with calibration(path):
        bits, _ = read_master(path, ccd, bits=True)
        if not np.isfinite(bits).all():
            raise DamagedError("values that are no numbers")
        return np.where(bits != 0, np.int16(BpmBit.BIAS_MASK), np.int16(0))
