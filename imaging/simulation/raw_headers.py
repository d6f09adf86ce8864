"""Headers of simulated raw files, with all keywords of the observatory in its order and types."""

from datetime import timedelta
from typing import Any

import numpy as np

from imaging.bands import BANDS
from imaging.detector.ccds import AMPLIFIERS, Ccd
from imaging.detector.distortion import CD_MATRIX, seed_wcs
from imaging.detector.sections import POSTSCAN, raw_sections
from imaging.exposure import MJD_EPOCH
from imaging.package_data import read_table
from imaging.simulation.exposures import PROPID, SimulatedExposure
from imaging.simulation.streams import random_stream

Card = tuple[str, Any, str]
"""Key, value and comment; a value of None is filled in by the writer."""

FOCUS_CD = ((0.0, -7.4999999999999e-05), (7.49999999999999e-05, 0.0))
FOCUS_PV = {"PV1_1": 1.0, "PV2_1": 1.0, "PV1_7": 0.002, "PV1_9": 0.002, "PV2_7": 0.002, "PV2_9": 0.002}


def primary_cards(exposure: SimulatedExposure, n_extensions: int) -> list[Card]:
    """Return the cards of the primary header.

    Parameters
    ----------
    exposure
        The exposure.
    n_extensions
        CCDs in the file.
    """
    values = _exposure_values(exposure) | {"NEXTEND": n_extensions}
    random = random_stream(exposure.seed, "weather", exposure.expnum)
    cards: list[Card] = []
    for row in read_table("imaging.simulation", "raw_primary_keys.csv"):
        key, kind, rms = row["key"], row["type"], float(row["rms"])
        if kind == "C":
            cards.append((key, exposure.object_name if key == "COMMENT" else "Simulated", ""))
            continue
        value = values[key] if key in values else _typed(row["value"], kind)
        if rms:
            decimals = len(row["value"].partition(".")[2])
            value = round(float(row["value"]) + rms * float(random.normal()), decimals)
        cards.append((f"HIERARCH {key}" if len(key) > 8 else key, value, row["comment"]))
    return cards


def extension_cards(exposure: SimulatedExposure, ccd: Ccd) -> list[Card]:
    """Return the cards of one CCD's extension; those of the compressed image are None."""
    values = _ccd_values(exposure, ccd)
    cards: list[Card] = []
    for row in read_table("imaging.simulation", "raw_extension_keys.csv"):
        if not _has(ccd, row["only"]):
            continue
        key = row["key"]
        value = values[key] if key in values else _typed(row["value"] or None, row["type"])
        cards.append((key, value, row["comment"]))
    return cards


def _has(ccd: Ccd, only: str) -> bool:
    """Whether a CCD's header has a key that only some CCDs have."""
    wide = ccd.backplane in ("BKP1", "BKP3", "BKP5")
    if only.startswith("not "):
        return ccd.detpos != only.removeprefix("not ")
    return {"": True, "science": not ccd.is_focus, "wide": wide}.get(only, ccd.detpos == only)


def _typed(text: str | None, kind: str) -> bool | int | float | str | None:
    if kind == "S" or not text:
        return text
    return text == "T" if kind == "L" else int(text) if kind == "I" else float(text)


def _exposure_values(e: SimulatedExposure) -> dict[str, Any]:
    start = MJD_EPOCH + timedelta(days=e.mjd)
    end = start + timedelta(seconds=e.exptime_s + 25.0)
    date, band = start.isoformat(timespec="microseconds"), BANDS[e.band]
    night = str(e.night)
    file_name = f"DECam_{e.expnum:08d}.fits"
    ra, dec = sexagesimal(e.ra_deg / 15.0), sexagesimal(e.dec_deg)
    return {
        "FILENAME": file_name,
        "EXPREQ": e.exptime_s,
        "EXPTIME": e.exptime_s,
        "DARKTIME": round(e.exptime_s + 1.1, 5),
        "OBSID": f"ct4m{start:%Y%m%dt%H%M%S}",
        "DATE-OBS": date,
        "TIME-OBS": date[11:],
        "MJD-OBS": round(e.mjd, 8),
        "OPENSHUT": date,
        "EXPNUM": e.expnum,
        "OBJECT": e.object_name,
        "OBSTYPE": e.obstype,
        "CAMSHUT": "Closed" if e.role == "zero" else "Open",
        "PROGRAM": "Simulated night",
        "OBSERVER": "Simulation",
        "PROPOSER": "Simulation",
        "DTPI": "Simulation",
        "PROPID": PROPID,
        "FILTER": band.filter_id,
        "FILTPOS": band.cassette,
        "INSTANCE": f"DECam_{night}",
        "RA": ra,
        "DEC": dec,
        "TELRA": ra,
        "TELDEC": dec,
        "HA": sexagesimal(e.hour_angle_deg / 15.0),
        "ZD": round(e.zenith_distance_deg, 2),
        "AZ": round(e.azimuth_deg, 4),
        "DOMEAZ": round(e.azimuth_deg + 0.6, 2),
        "AIRMASS": round(e.airmass, 2),
        "DIMM2SEE": round(0.9 * e.psf.fwhm_arcsec, 3),
        "time_recorded": end.isoformat(timespec="microseconds"),
        "SKYUPDAT": start.isoformat(timespec="seconds"),
        "G-SEEING": round(1.9 * e.psf.fwhm_arcsec, 3),
        "G-TRANSP": round(10.0 ** (-0.4 * e.clouds.mean_mag), 3),
        "ODATEOBS": date,
        "DTPROPID": PROPID,
        "DTNSANAM": f"c4d_{start:%y%m%d_%H%M%S}_ori.fits.fz",
        "DTCALDAT": f"{night[:4]}-{night[4:6]}-{night[6:]}",
        "DTACQNAM": f"/data_local/images/DTS/{PROPID}/{file_name}.fz",
        "CHECKSUM": None,
        "DATASUM": None,
    }


def _ccd_values(e: SimulatedExposure, ccd: Ccd) -> dict[str, Any]:
    values: dict[str, Any] = {key: str(section) for key, section in raw_sections(ccd).items()}
    modules = next(r for r in read_table("imaging.simulation", "backplanes.csv") if r["backplane"] == ccd.backplane)
    values |= {f"SLOT{k:02d}": modules[f"slot{k:02d}"] for k in range(6)}
    for name in AMPLIFIERS:
        amplifier = ccd.amplifier(name)
        values[f"GAIN{name}"] = amplifier.gain
        values[f"RDNOISE{name}"] = amplifier.read_noise_electrons
        values[f"SATURAT{name}"] = amplifier.saturation_adu
    cd = FOCUS_CD if ccd.is_focus else CD_MATRIX
    values |= {f"CD{i + 1}_{j + 1}": cd[i][j] for i in range(2) for j in range(2)}
    if ccd.is_focus:
        values |= {f"PV{axis}_{term}": FOCUS_PV.get(f"PV{axis}_{term}", 0.0) for axis in (1, 2) for term in range(11)}
    else:
        pv = seed_wcs(ccd.ccdnum).pv
        values |= {f"PV{axis + 1}_{term}": float(pv[axis, term]) for axis in range(2) for term in range(11)}
    return values | {
        "DETECTOR": ccd.detector,
        "CCDNUM": ccd.ccdnum,
        "DETPOS": ccd.detpos,
        "EXTNAME": ccd.detpos,
        "CRPIX1": ccd.crpix[0],
        "CRPIX2": ccd.crpix[1],
        "FPA": f"DECAM_{ccd.backplane}",
        "LTV2": 0.0 if ccd.a_is_left or ccd.is_focus else float(POSTSCAN),
        "CRVAL1": e.ra_deg,
        "CRVAL2": e.dec_deg,
    }


def sexagesimal(value: float) -> str:
    """Format hours or degrees as ``-21:12:15.998``, as the telescope does."""
    sign = "-" if value < 0 else ""
    milli = round(abs(value) * 3_600_000)
    hours, rest = divmod(milli, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{sign}{hours:02d}:{minutes:02d}:{rest / 1000:06.3f}"


def header_angle_deg(value_deg: float, *, hours: bool = False) -> float:
    """Round an angle to the precision of the header, degrees."""
    unit = 15.0 if hours else 1.0
    return float(np.round(value_deg / unit * 3_600_000) / 3_600_000 * unit)
