"""Header keywords of a detrended image."""

from collections.abc import Mapping
from typing import Any

from imaging.bands import BANDS
from imaging.detector.ccds import AMPLIFIERS, Ccd
from imaging.detector.sections import raw_sections
from imaging.detrend.amplifiers import AmplifierFigures
from imaging.errors import InputError
from imaging.exposure import Exposure, date_of

TELESCOPE, INSTRUMENT = "CTIO 4.0-m telescope", "DECam"
"""Names in the raw headers."""


def initial_header(ccd: Ccd, raw_header: Mapping[str, Any], exposure: Exposure) -> dict[str, Any]:
    """Return the first keywords of a trimmed image: exposure, CCD and position in the camera.

    Parameters
    ----------
    ccd
        The CCD.
    raw_header
        Keywords of the raw extension.
    exposure
        Exposure from the primary header.

    Returns
    -------
    header
        Keywords. The angles are degrees.
    """
    sections = raw_sections(ccd)
    band = BANDS.get(exposure.band)
    header: dict[str, Any] = {
        "EXPNUM": exposure.expnum,
        "CCDNUM": ccd.ccdnum,
        "DETPOS": ccd.detpos,
        "BAND": exposure.band,
        "FILTER": band.filter_id if band else exposure.band,
        "NITE": exposure.night,
        "DATE-OBS": date_of(exposure.mjd),
        "TIMESYS": "UTC",
        "MJD-OBS": exposure.mjd,
        "EXPTIME": exposure.exptime_s,
        "TELESCOP": TELESCOPE,
        "INSTRUME": INSTRUMENT,
        "TELRA": exposure.ra_deg,
        "TELDEC": exposure.dec_deg,
        "AIRMASS": exposure.airmass,
        "OBSTYPE": exposure.obstype,
        "OBJECT": exposure.object_name,
        "PROPID": exposure.propid,
        "DETECTOR": raw_header.get("DETECTOR", ccd.detector),
        "DETSEC": str(sections["DETSEC"]),
        "DATASEC": str(sections["CCDSEC"]),
        "CCDSEC": str(sections["CCDSEC"]),
    }
    for name in AMPLIFIERS:
        header[f"DETSEC{name}"] = str(sections[f"DETSEC{name}"])
        header[f"DATASEC{name}"] = str(sections[f"CCDSEC{name}"])
        header[f"CCDSEC{name}"] = str(sections[f"CCDSEC{name}"])
        header[f"AMPSEC{name}"] = str(sections[f"AMPSEC{name}"])
    return header


def amplifier_keywords(amplifiers: tuple[AmplifierFigures, ...]) -> dict[str, Any]:
    """Return the amplifier keywords of pixels in electrons: unit gain, noise and saturation in electrons.

    ``GAINRAWA`` and ``GAINRAWB`` are the applied gains; ``CAMVALS`` names the cards of the raw header in whose
    place the camera's known values were used, if any.
    """
    header: dict[str, Any] = {"BUNIT": "electron", "GAIN": 1.0}
    replaced = [card for amplifier in amplifiers for card in amplifier.fallbacks]
    if replaced:
        header["CAMVALS"] = " ".join(replaced)[:68]
    for amplifier in amplifiers:
        header[f"GAIN{amplifier.name}"] = 1.0
        header[f"GAINRAW{amplifier.name}"] = amplifier.gain
        header[f"RDNOISE{amplifier.name}"] = amplifier.read_noise_electrons
        header[f"SATURAT{amplifier.name}"] = amplifier.saturation_electrons
    header["SATURATE"] = max(amplifier.saturation_electrons for amplifier in amplifiers)
    return header


def read_noise_electrons(header: Mapping[str, Any]) -> dict[str, float]:
    """Read the amplifiers' read noise from a detrended image's header.

    Returns
    -------
    noise
        Amplifier name to electrons.

    Raises
    ------
    InputError
        If the header is not that of a detrended image.
    """
    if "DESGAINC" not in header:
        raise InputError("the image is not detrended", value="no DESGAINC in its header", remedy="detrend it first")
    try:
        return {name: float(header[f"RDNOISE{name}"]) for name in AMPLIFIERS}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the header lacks the read noise", value=error) from error
