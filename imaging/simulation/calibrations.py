"""Write the calibration library of the simulated camera, with its exact properties."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.detector.ccds import CCDS, AmplifierName, science_ccd
from imaging.detector.crosstalk import format_crosstalk, observatory_crosstalk
from imaging.io.atomic import content_hash, write_text
from imaging.io.calibration_write import write_calibration_image, write_image_extensions, write_table_extensions
from imaging.io.calibrations import read_calibration_image, write_manifest
from imaging.io.colour_terms import COLOUR_TERMS, write_colour_terms
from imaging.io.manifest import CalibrationEntry, Kind
from imaging.simulation.background import SUPERPIXEL, sky_templates
from imaging.simulation.brighter_fatter import border_kernels
from imaging.simulation.camera import (
    LINEARITY_ADU,
    linearity_table,
    make_bad_pixels,
    make_bias,
    make_flat,
    make_star_flat,
)
from imaging.simulation.reference_catalogues import locus_colour_terms
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.stray_charge import low_light_loss

FOLDER = "calibrations"
BIAS_STEP_ADU, FLAT_STEP = 0.05, 1.0 / 16384.0
"""Quantisation of the files; the simulation uses the quantised values, so that the files are exact."""

PATTERNS: dict[Kind, str] = {
    "bias": "bias/bias_c{ccd:02d}.fits",
    "bad_pixels": "bad_pixels/bad_pixels_c{ccd:02d}.fits",
    "flat": "flat/flat_BAND_c{ccd:02d}.fits",
    "star_flat": "star_flat/star_flat_BAND_c{ccd:02d}.fits",
    "sky_templates": "sky/sky_templates_BAND_c{ccd:02d}.fits",
    "sky_modes": "sky/sky_modes_BAND.fits",
    "linearity": "linearity.fits",
    "crosstalk": "crosstalk.txt",
    "brighter_fatter": "brighter_fatter.fits",
}
"""File names; BAND is replaced by the band."""


def calibration_path(root: Path, kind: Kind, ccd: int = 0, band: str = "") -> Path:
    """Return the path of a calibration in the simulation's folder."""
    return Path(root) / FOLDER / PATTERNS[kind].replace("BAND", band).format(ccd=ccd)


def write_ccd_calibrations(root: Path, settings: SimulationSettings, ccdnum: int) -> None:
    """Write the calibrations of one CCD: bias, bad pixels, and per band flat, star flat and sky templates."""
    ccd, seed = science_ccd(ccdnum), settings.camera_seed
    header = {"CCDNUM": ccdnum, "DETPOS": ccd.detpos}
    bias_path = calibration_path(root, "bias", ccdnum)
    write_calibration_image(bias_path, make_bias(seed, ccd), header | {"BUNIT": "adu"}, step=BIAS_STEP_ADU)
    bias = read_calibration_image(bias_path)
    for number, band in enumerate(settings.bands):
        order = list(BANDS).index(band)
        keys = header | {"BAND": band, "FILTER": BANDS[band].filter_id}
        flat_path = calibration_path(root, "flat", ccdnum, band)
        write_calibration_image(flat_path, make_flat(seed, ccd, order), keys, step=FLAT_STEP)
        star_flat = make_star_flat(seed, ccd, order)
        write_calibration_image(calibration_path(root, "star_flat", ccdnum, band), star_flat, keys, step=FLAT_STEP)
        templates = sky_templates(seed, ccdnum, band)
        write_calibration_image(calibration_path(root, "sky_templates", ccdnum, band), templates, keys)
        if number == 0:
            bad = make_bad_pixels(seed, ccd, bias, read_calibration_image(flat_path))
            write_calibration_image(calibration_path(root, "bad_pixels", ccdnum), bad, header)


def write_camera_calibrations(root: Path, settings: SimulationSettings) -> None:
    """Write the calibrations of the whole camera: linearity, sky modes, crosstalk, brighter-fatter, colour terms."""
    seed = settings.camera_seed
    tables = {}
    for ccdnum in settings.ccds:
        linear = linearity_table(seed, CCDS[ccdnum])
        columns = {"ADU": LINEARITY_ADU, "ADU_LINEAR_A": linear["A"], "ADU_LINEAR_B": linear["B"]}
        tables[f"CCD{ccdnum:02d}"] = columns
    write_table_extensions(calibration_path(root, "linearity"), tables)
    for band in settings.bands:
        modes = {f"CCD{n:02d}": sky_templates(seed, n, band, SUPERPIXEL) for n in settings.ccds}
        write_image_extensions(calibration_path(root, "sky_modes", band=band), modes, {"BAND": band})
    write_text(calibration_path(root, "crosstalk"), format_crosstalk(observatory_crosstalk().terms))
    if settings.brighter_fatter:
        right, top = border_kernels()
        kernels: dict[str, NDArray[np.float64]] = {}
        for ccdnum in settings.ccds:
            kernels |= {f"{CCDS[ccdnum].detpos}R": right, f"{CCDS[ccdnum].detpos}T": top}
        write_image_extensions(calibration_path(root, "brighter_fatter"), kernels, {})
    write_colour_terms(Path(root) / FOLDER / COLOUR_TERMS, locus_colour_terms())


def write_library_manifest(root: Path, settings: SimulationSettings) -> None:
    """Write the manifest over all files of the library, with their checksums."""
    night = str(settings.night)
    made = date(int(night[:4]), int(night[4:6]), int(night[6:])) - timedelta(days=20)
    entries = []
    for kind, pattern in PATTERNS.items():
        if kind == "brighter_fatter" and not settings.brighter_fatter:
            continue
        for band in settings.bands if "BAND" in pattern else (None,):
            files = pattern.replace("BAND", band or "")
            names = {files.format(ccd=ccd) for ccd in settings.ccds}
            entries.append(
                CalibrationEntry(
                    epoch="simulation",
                    kind=kind,
                    files=files,
                    band=band,
                    made_night=int(made.strftime("%Y%m%d")),
                    checksums={name: content_hash(Path(root) / FOLDER / name) for name in sorted(names)},
                )
            )
    write_manifest(Path(root) / FOLDER, tuple(entries))


def true_linearity(
    settings: SimulationSettings, ccdnum: int
) -> tuple[NDArray[np.float64], dict[AmplifierName, NDArray[np.float64]]]:
    """Return measured ADU, and the corresponding linear ADU of each amplifier, losses at low light included."""
    lost = low_light_loss(LINEARITY_ADU, settings.effects.low_light_loss)
    table = linearity_table(settings.camera_seed, CCDS[ccdnum])
    return LINEARITY_ADU, {name: linear + lost for name, linear in table.items()}
