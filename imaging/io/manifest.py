"""The manifest of a calibration library: which files are valid for which nights and exposures."""

from datetime import date
from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from imaging.exposure import Exposure

Kind = Literal[
    "bias",
    "flat",
    "bad_pixels",
    "linearity",
    "star_flat",
    "sky_modes",
    "sky_templates",
    "pixel_displacement",
    "ghosts",
    "crosstalk",
    "brighter_fatter",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
BAND_DEPENDENT: frozenset[Kind] = frozenset(
    ("flat", "star_flat", "sky_modes", "sky_templates", "pixel_displacement", "ghosts")
)


FIRST_OF_ALL, LAST_OF_ALL = 20120101, 99991231
"""Nights of an entry that holds for all, within the limits of its age."""


class AgeLimit(BaseModel):
    """Limits on the age of a calibration: the time between it and the exposure, in either direction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    warn_days: float = Field(gt=0, le=36525)
    """Age in days above which a warning is given."""
    refuse_days: float = Field(gt=0, le=36525)
    """Age in days above which the calibration is refused, unless its epoch is forced."""


AGE_LIMITS: dict[Kind, AgeLimit] = {
    "bias": AgeLimit(warn_days=180, refuse_days=1095),
    "flat": AgeLimit(warn_days=180, refuse_days=1095),
    "bad_pixels": AgeLimit(warn_days=180, refuse_days=730),
    "star_flat": AgeLimit(warn_days=730, refuse_days=1825),
    "sky_modes": AgeLimit(warn_days=730, refuse_days=1825),
    "sky_templates": AgeLimit(warn_days=730, refuse_days=1825),
    "pixel_displacement": AgeLimit(warn_days=730, refuse_days=1825),
    "ghosts": AgeLimit(warn_days=1825, refuse_days=7300),
}
"""Default limits. DES renewed its master calibrations every half year; bad pixels age fastest. Crosstalk, linearity and
brighter-fatter kernels are properties of the electronics and have no age limit."""


def _is_night(night: int) -> int:
    date_of_night(night)
    return night


def date_of_night(night: int) -> date:
    """Return the date of a night, YYYYMMDD.

    Raises
    ------
    ValueError
        If there is no such date.
    """
    return date(night // 10000, night // 100 % 100, night % 100)


Night = Annotated[int, AfterValidator(_is_night)]
"""A night, YYYYMMDD."""


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
    made_night: Night
    """Night on which the calibration data were taken, YYYYMMDD; the reference of its age."""
    first_night: Night = FIRST_OF_ALL
    last_night: Night = LAST_OF_ALL
    first_expnum: int = 0
    last_expnum: int = 10**12
    checksums: dict[str, str] = Field(default_factory=dict)
    """File name to the hash of its content."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Of imported calibrations: name of the file that was imported to the hash of its content."""
    forms: dict[str, str] = Field(default_factory=dict)
    """Name of the file that was imported to what it was recognised as."""

    @field_validator("files")
    @classmethod
    def _is_a_pattern(cls, files: str) -> str:
        try:
            name = PurePosixPath(files.format(ccd=1, band="g"))
        except (LookupError, AttributeError, ValueError) as error:
            raise ValueError(f"not a pattern of {{ccd:02d}} and {{band}}: {error}") from error
        if name.is_absolute() or ".." in name.parts or not name.parts:
            raise ValueError("not a name below the library")
        return files

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
        return abs((date_of_night(exposure.night) - date_of_night(self.made_night)).days)

    @property
    def is_of_a_period(self) -> bool:
        """Whether it is stated between which nights the entry holds, as for the stable periods of an era."""
        return self.first_night != FIRST_OF_ALL and self.last_night != LAST_OF_ALL

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
