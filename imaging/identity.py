"""Identity of an exposure (number, band, night, version tag) and the names of its products."""

import re
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

from imaging.bands import band_named
from imaging.errors import InputError


@dataclass(frozen=True, slots=True)
class ExposureId:
    """One processing of one exposure.

    Names follow the original pipeline: ``D{expnum:08}_{band}_{ccd:02}_r{rnum}p{pnum}_{suffix}`` per CCD, the same
    without the CCD per exposure. Exposure numbers of more than eight digits also work.

    Attributes
    ----------
    expnum
        Exposure number.
    band
        Band name.
    night
        Night of the observation, YYYYMMDD.
    rnum, pnum
        Request and processing number: the version tag of the single-epoch run.
    schema
        Name of the output tree, ``gw`` or ``wsdiff``.
    """

    expnum: int
    band: str
    night: int
    rnum: int = 1
    pnum: int = 1
    schema: str = "gw"

    def __post_init__(self) -> None:
        band_named(self.band)
        if self.expnum <= 0:
            raise InputError("exposure number out of range", value=self.expnum, limit="1 or more")
        check_night(self.night)

    @property
    def rpnum(self) -> str:
        """The version tag, such as ``r4p5``."""
        return f"r{self.rnum}p{self.pnum}"

    @property
    def stem(self) -> str:
        """Name of the exposure's products, before the suffix."""
        return f"D{self.expnum:08d}_{self.band}_{self.rpnum}"

    def ccd_stem(self, ccd: int) -> str:
        """Name of a CCD's products, before the suffix."""
        return f"D{self.expnum:08d}_{self.band}_{ccd:02d}_{self.rpnum}"

    @property
    def folder(self) -> PurePosixPath:
        """Folder of the products, relative to the root of the store."""
        return PurePosixPath(self.schema) / "exp" / str(self.night) / str(self.expnum)

    def season_folder(self, season: int, ccd: int | None = None) -> PurePosixPath:
        """Folder of the difference products of a season, for one CCD or for the whole exposure."""
        folder = self.folder / f"dp{season}"
        return folder if ccd is None else folder / f"{self.band}_{ccd:02d}"


FIRST_STACK = 1_000_000_000
"""Smallest number of an imported stack on the sky; exposures of the camera have fewer digits."""


def is_stack(expnum: int) -> bool:
    """Whether a number is not that of an exposure, but stands for a stack on the sky."""
    return expnum >= FIRST_STACK


def raw_name(expnum: int) -> str:
    """Name of the raw file of an exposure."""
    return f"DECam_{expnum:08d}.fits.fz"


def check_night(night: int) -> None:
    """Raise unless ``night`` is a date written YYYYMMDD.

    Raises
    ------
    InputError
        If it is not.
    """
    text = str(night)
    try:
        if not re.fullmatch(r"20\d{6}", text):
            raise ValueError(text)
        date(night // 10000, night // 100 % 100, night % 100)
    except ValueError as error:
        raise InputError(
            "night is not a date", value=text, limit="YYYYMMDD", remedy="give the local date at the start of the night"
        ) from error


EVENT = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What events are called: S190814bv, MS181101ab, GW170817, GRB170817A, IceCube-170922A, ZTF21aaabbbc, AT2017gfo."""


def check_event(event: str) -> str:
    """Return the name of an event.

    Raises
    ------
    InputError
        If no event is called so; the name stands in pages, file names and messages.
    """
    if EVENT.fullmatch(event):
        return event
    limit = "1 to 64 letters, digits, dots, dashes and underscores, such as GW170817 or S190814bv"
    raise InputError("no event is called so", value=repr(event[:80]), limit=limit)


def parse_version_tag(tag: str) -> tuple[int, int]:
    """Read a version tag such as ``r4p5`` into its request and processing numbers.

    Raises
    ------
    InputError
        If it is not of that form.
    """
    match = re.fullmatch(r"r(\d+)p(\d+)", tag)
    if match is None:
        raise InputError("version tag not understood", value=repr(tag), limit="rNpM, such as r4p5")
    return int(match[1]), int(match[2])


def parse_season(season: str | int) -> int:
    """Read a season written ``60`` or ``dp60``.

    Raises
    ------
    InputError
        If it is neither.
    """
    match = re.fullmatch(r"(?:dp)?(\d+)", str(season))
    if match is None:
        raise InputError("season not understood", value=repr(season), limit="a number or dpN, such as dp60")
    return int(match[1])
