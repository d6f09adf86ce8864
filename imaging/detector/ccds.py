"""The 62 science and 8 focus CCDs of DECam and their amplifiers.

The side of an amplifier differs between the halves of the camera: A is the left half of CCDs whose position begins with
N and the right half of CCDs whose position begins with S (focus CCDs differ). Left and right always refer to the
trimmed image.
"""

from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

from imaging.errors import InputError
from imaging.package_data import read_table

NX, NY = 2048, 4096
"""Trimmed size of a science CCD in pixels."""

AMPLIFIER_WIDTH = 1024
"""Data columns of one amplifier."""

PIXEL_SCALE_ARCSEC = 0.263
"""Nominal pixel scale."""

FIELD_RADIUS_DEG = 1.1
"""Distance of the camera's farthest corners from its centre, degrees."""

AmplifierName = Literal["A", "B"]
AMPLIFIERS: tuple[AmplifierName, AmplifierName] = ("A", "B")


@dataclass(frozen=True, slots=True)
class Amplifier:
    """One readout channel with its nominal gain, noise and saturation.

    Attributes
    ----------
    name
        ``A`` or ``B``.
    is_left
        Whether it reads the left half of the trimmed CCD.
    gain
        Electrons per ADU.
    read_noise_electrons
        From the headers; the overscan noise of CCDs 28 to 31 and 35 to 38 is lower.
    saturation_adu
        Above the bias level.
    """

    name: AmplifierName
    is_left: bool
    gain: float
    read_noise_electrons: float
    saturation_adu: float

    @property
    def columns(self) -> slice:
        """Columns of the trimmed CCD that this amplifier reads."""
        return slice(0, AMPLIFIER_WIDTH) if self.is_left else slice(AMPLIFIER_WIDTH, NX)


@dataclass(frozen=True, slots=True)
class Ccd:
    """One CCD and its position in the camera.

    Attributes
    ----------
    ccdnum
        Number, 1 to 62 for science, 63 to 74 for focus.
    detpos
        Position, such as ``N4``, ``S30`` or ``FN1``; also the raw extension's name.
    detector
        Serial number of the device.
    backplane
        Readout backplane; CCDs of one backplane share electronic noise.
    is_focus
        Whether it is one of the half-size focus and alignment CCDs.
    a_is_left
        Whether amplifier A reads the left half; such CCDs have their post-scan rows above the data, the others below.
    crpix
        Tangent point of the whole camera in pixels of this trimmed CCD, 1-based as in FITS.
    detsec
        (x, y) of the first pixel on the abutted focal plane, 1-based as in FITS.
    amplifiers
        The two readout channels, A first.
    overscan_adu
        Typical overscan level.
    """

    ccdnum: int
    detpos: str
    detector: str
    backplane: str
    is_focus: bool
    a_is_left: bool
    crpix: tuple[float, float]
    detsec: tuple[int, int]
    amplifiers: tuple[Amplifier, Amplifier]
    overscan_adu: float

    @property
    def ny(self) -> int:
        """Trimmed rows."""
        return NY // 2 if self.is_focus else NY

    def amplifier(self, name: AmplifierName) -> Amplifier:
        """Return the amplifier with this name."""
        return self.amplifiers[AMPLIFIERS.index(name)]

    @property
    def focal_plane_centre(self) -> tuple[float, float]:
        """Centre on the abutted focal plane in pixels from the camera's centre, (x, y)."""
        return (self.detsec[0] - 1 + NX / 2 - 14336.0, self.detsec[1] - 1 + self.ny / 2 - 14336.0)


def _read_ccd(row: dict[str, str]) -> Ccd:
    a_is_left = row["a_is_left"] == "1"
    amplifier_a = Amplifier(
        "A", a_is_left, float(row["gain_a"]), float(row["read_noise_a"]), float(row["saturation_a"])
    )
    amplifier_b = Amplifier(
        "B", not a_is_left, float(row["gain_b"]), float(row["read_noise_b"]), float(row["saturation_b"])
    )
    return Ccd(
        ccdnum=int(row["ccdnum"]),
        detpos=row["detpos"],
        detector=row["detector"],
        backplane=row["backplane"],
        is_focus=row["is_focus"] == "1",
        a_is_left=a_is_left,
        crpix=(float(row["crpix1"]), float(row["crpix2"])),
        detsec=(int(row["detsec_x"]), int(row["detsec_y"])),
        amplifiers=(amplifier_a, amplifier_b),
        overscan_adu=float(row["overscan"] or 2000.0),
    )


CCDS = MappingProxyType({c.ccdnum: c for c in map(_read_ccd, read_table("imaging.detector", "ccds.csv"))})
"""CCDs by number, in the order of the raw file's extensions."""

SCIENCE_CCDS: tuple[int, ...] = tuple(sorted(number for number, c in CCDS.items() if not c.is_focus))
"""The numbers of the 62 science CCDs."""


@lru_cache
def science_ccd(ccdnum: int) -> Ccd:
    """Return the science CCD with this number.

    Raises
    ------
    InputError
        If the number is not one of the 62.
    """
    if ccdnum not in SCIENCE_CCDS:
        raise InputError("CCD number out of range", value=ccdnum, limit="1 to 62", remedy="give science CCDs only")
    return CCDS[ccdnum]


def parse_ccd_list(text: str) -> tuple[int, ...]:
    """Parse a list such as ``1,3-5,25`` into sorted, unique science CCD numbers.

    Raises
    ------
    InputError
        If the text is not such a list or a number is out of range.
    """
    numbers: set[int] = set()
    for part in text.replace(" ", "").split(","):
        first, dash, last = part.partition("-")
        try:
            low = int(first)
            high = int(last) if dash else low
        except ValueError:
            raise InputError(
                "CCD list not understood", value=repr(text), limit="numbers and ranges such as 1,3-5,25"
            ) from None
        if high < low:
            raise InputError("CCD range runs backwards", value=part, limit="FIRST-LAST")
        if low < 1 or high > SCIENCE_CCDS[-1]:
            raise InputError("CCD number out of range", value=part, limit="1 to 62", remedy="give science CCDs only")
        numbers.update(range(low, high + 1))
    return tuple(sorted(numbers))


def format_ccd_list(ccds: tuple[int, ...] | list[int]) -> str:
    """Format CCD numbers as :func:`parse_ccd_list` reads them: ``1,3-5,25``."""
    runs: list[list[int]] = []
    for number in sorted(set(ccds)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
