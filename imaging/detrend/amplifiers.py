"""Gain, read noise, saturation and sections of amplifiers, from the raw header or nominal if implausible."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imaging.detector.ccds import Amplifier, AmplifierName, Ccd
from imaging.detector.sections import Section, parse_section, raw_sections
from imaging.detector.status import bad_amplifiers
from imaging.detrend.settings import DetrendSettings
from imaging.errors import CcdError, InputError


@dataclass(frozen=True, slots=True)
class AmplifierFigures:
    """One readout channel of one exposure.

    Attributes
    ----------
    name
        ``A`` or ``B``.
    columns
        Columns of the trimmed CCD that it reads.
    data, overscan
        Sections of its pixels and its overscan in the raw array.
    is_left
        Whether it reads the left half.
    gain
        Electrons per ADU.
    read_noise_electrons
        Read noise; replaced by the value measured in the overscan.
    saturation_adu
        Saturation level above the bias.
    usable
        Whether its pixels are usable.
    fallbacks
        Implausible header values that were replaced by nominal ones.
    """

    name: AmplifierName
    columns: slice
    data: Section
    overscan: Section
    is_left: bool
    gain: float
    read_noise_electrons: float
    saturation_adu: float
    usable: bool = True
    fallbacks: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        """Number of columns that it reads."""
        return self.columns.stop - self.columns.start

    @property
    def saturation_electrons(self) -> float:
        """Saturation level in electrons."""
        return self.saturation_adu * self.gain


def amplifier_figures(
    ccd: Ccd, header: Mapping[str, Any], shape: tuple[int, int], night: int, settings: DetrendSettings
) -> tuple[AmplifierFigures, AmplifierFigures]:
    """Read the properties of both amplifiers of a CCD from its header.

    Parameters
    ----------
    ccd
        The CCD.
    header
        Keywords of its raw extension.
    shape
        (rows, columns) of the raw array.
    night
        Night of the exposure, for the table of known faults.
    settings
        Plausible ranges of header values.

    Returns
    -------
    a, b
        Amplifiers A and B.

    Raises
    ------
    CcdError
        If the raw array is too small for the CCD (``unexpected_shape``).
    """
    faulty = bad_amplifiers(night, ccd.ccdnum)
    a, b = (_figures(ccd, amplifier, header, shape, settings, amplifier.name in faulty) for amplifier in ccd.amplifiers)
    return a, b


def _figures(
    ccd: Ccd,
    amplifier: Amplifier,
    header: Mapping[str, Any],
    shape: tuple[int, int],
    settings: DetrendSettings,
    faulty: bool,
) -> AmplifierFigures:
    fallbacks: list[str] = []

    def figure(key: str, limits: tuple[float, float], nominal: float) -> float:
        value = header.get(f"{key}{amplifier.name}")
        if isinstance(value, (int, float)) and limits[0] <= value <= limits[1]:
            return float(value)
        fallbacks.append(f"{key}{amplifier.name}")
        return nominal

    def section(key: str, columns: int | None) -> Section:
        nominal = raw_sections(ccd)[f"{key}{amplifier.name}"]
        try:
            found = parse_section(str(header[f"{key}{amplifier.name}"]))
        except (KeyError, InputError):
            found = None
        if found is None or not _fits(found, ccd.ny, columns, shape):
            fallbacks.append(f"{key}{amplifier.name}")
            found = nominal
        if not _fits(found, ccd.ny, columns, shape):
            raise CcdError(
                "the raw array is too small for this CCD",
                reason="unexpected_shape",
                ccd=ccd.ccdnum,
                step="detrend",
                value=f"{shape[1]} x {shape[0]} pixels",
                limit=f"{key}{amplifier.name} = {nominal}",
                remedy="fetch the raw file again",
            )
        return found

    return AmplifierFigures(
        name=amplifier.name,
        columns=amplifier.columns,
        data=section("DATASEC", amplifier.columns.stop - amplifier.columns.start),
        overscan=section("BIASSEC", None),
        is_left=amplifier.is_left,
        gain=figure("GAIN", settings.gain_range, amplifier.gain),
        read_noise_electrons=figure("RDNOISE", settings.read_noise_range_electrons, amplifier.read_noise_electrons),
        saturation_adu=figure("SATURAT", settings.saturation_range_adu, amplifier.saturation_adu),
        usable=not faulty and header.get(f"VALID{amplifier.name}", True) is not False,
        fallbacks=tuple(fallbacks),
    )


def _fits(section: Section, rows: int, columns: int | None, shape: tuple[int, int]) -> bool:
    """Whether a section has the right size and is inside the array; the overscan may have any width."""
    height, width = section.shape
    inside = section.y1 <= shape[0] and section.x1 <= shape[1]
    return inside and height == rows and (width == columns if columns is not None else width >= 10)
