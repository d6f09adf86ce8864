"""Bring calibrations that others have made into a site's library: recognised, converted, recorded with their source."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blocks.site import Site
from imaging.detector.ccds import CCDS, NX, SCIENCE_CCDS, format_ccd_list
from imaging.errors import InputError
from imaging.io.atomic import content_hash, write_text
from imaging.io.calibration_write import (
    write_brighter_fatter,
    write_calibration_image,
    write_image_extensions,
    write_linearity,
)
from imaging.io.foreign_calibrations import ForeignCalibration, recognise
from imaging.io.manifest import FIRST_OF_ALL, LAST_OF_ALL, Kind
from imaging.masters.foreign_flats import FlatFigures, flat_figures, flat_unit, require_common_scale
from tasks.calibration_files import master_path, record_files

Group = tuple[str, Kind, str]
"""Epoch, kind and band of an entry of the manifest."""

SHORT = {"DES": "des", "Community Pipeline": "cp", "observatory": "ctio", "unnamed": "imported"}
"""Form of a file to the beginning of its epoch's name."""

MEAN_GAIN = float(np.mean([amplifier.gain for ccd in SCIENCE_CCDS for amplifier in CCDS[ccd].amplifiers]))
"""Mean nominal gain of the camera, electrons per ADU, which keeps the scale of a flat near one."""


def import_calibrations(
    site: Site,
    paths: Iterable[Path],
    *,
    kind: Kind | None = None,
    night: int | None = None,
    epoch: str | None = None,
    validity: tuple[int, int] | None = None,
) -> list[dict[str, Any]]:
    """Add files to the calibration library of a site. Nothing is written if one is refused.

    Parameters
    ----------
    site, paths
        Site and files.
    kind, night
        Of files that do not say it; None to go by the files alone.
    epoch
        Name of the epoch; None for one of its maker and night per file, such as ``cp20230915``.
    validity
        First and last night for which the calibrations hold, YYYYMMDD; None for all, within the limits of age.

    Returns
    -------
    files
        Per file its name, classification, epoch, and checksum.

    Raises
    ------
    InputError
        If a file is not certain, two hold the same, or flats do not have one scale.
    """
    if epoch is not None and not re.fullmatch(r"\w[\w.-]*", epoch):
        raise InputError("epoch not usable as the name of a folder", value=repr(epoch), limit="letters, digits, . _ -")
    found = [recognise(path, kind=kind, night=night) for path in paths]
    if not found:
        raise InputError("no calibration files given", value=0, limit="at least 1")
    groups: dict[Group, list[ForeignCalibration]] = {}
    for each in found:
        name = epoch or f"{SHORT.get(each.form, 'lsst')}{each.night}"
        groups.setdefault((name, each.kind, each.band), []).append(each)
    remarks = {group: _examine(group, files) for group, files in groups.items()}
    return [row for group, files in groups.items() for row in _add(site, group, files, remarks[group], validity)]


def _add(
    site: Site,
    group: Group,
    files: Sequence[ForeignCalibration],
    remarks: Sequence[str],
    validity: tuple[int, int] | None,
) -> list[dict[str, Any]]:
    """Write the files of an entry and record them; return a row per file."""
    epoch, kind, band = group
    written = [path for each in files for path in _write(site, group, each, remarks)]
    sources = {each.path.name: content_hash(each.path) for each in files}
    forms = {each.path.name: ", ".join((each.classified(), *remarks)) for each in files}
    first, last = validity or (FIRST_OF_ALL, LAST_OF_ALL)
    if first == FIRST_OF_ALL and files[0].form.startswith("LSST"):
        first = files[0].night  # lists of defects hold from their date on
    built = {(kind, band or None): written}
    record_files(site, files[0].night, epoch, built, validity=(first, last), sources=sources, forms=forms)
    about = {"kind": kind, "band": band, "epoch": epoch}
    return [
        {"file": each.path.name, "classified": forms[each.path.name], "ccds": format_ccd_list(each.ccds)}
        | {"night": each.night, "checksum": sources[each.path.name]}
        | about
        for each in files
    ]


def _examine(group: Group, files: Sequence[ForeignCalibration]) -> tuple[str, ...]:
    """Check the files of an entry together; return what was recognised of them."""
    nights = sorted({each.night for each in files})
    if len(nights) > 1:
        value = f"{group[0]}, {group[1]}: nights {', '.join(map(str, nights))}"
        raise InputError("calibrations of several nights in one epoch", value=value, remedy="import them one by one")
    owners: dict[int, str] = {}
    for each in files:
        for ccd in each.ccds:
            if ccd in owners:
                value = f"{owners[ccd]} and {each.path.name}"
                raise InputError("two files hold the same calibration", ccd=ccd, value=value, remedy="give one of them")
            owners[ccd] = each.path.name
    if group[1] in ("bias", "bad_pixels", "star_flat"):
        for each in files:
            for ccd in each.ccds:
                _require_size(each, ccd, each.read(ccd))
    if group[1] != "flat":
        return ()
    figures: dict[int, FlatFigures] = {}
    for each in files:
        for ccd in each.ccds:
            flat = each.read(ccd)
            _require_size(each, ccd, flat)
            figures[ccd] = flat_figures(flat)
    scale, unit = require_common_scale(figures), flat_unit(figures)
    told = {"adu": "frames in ADU, multiplied by the gains", "electron": "frames in electrons"}
    return (scale, told.get(unit, "unit of the frames without effect"))


def _require_size(each: ForeignCalibration, ccd: int, image: NDArray[Any]) -> None:
    if image.shape != (CCDS[ccd].ny, NX):
        raise InputError(
            f"calibration has the wrong size: {each.kind}",
            ccd=ccd,
            value=f"{each.path}: {image.shape[1]} x {image.shape[0]} pixels",
            limit="2048 x 4096, or 2160 x 4146 with overscan",
            remedy="leave the file out",
        )


def _write(site: Site, group: Group, each: ForeignCalibration, remarks: Sequence[str]) -> list[Path]:
    """Write a recognised file in the library's own form; return the paths."""
    epoch, kind, band = group
    if kind == "crosstalk":
        path = master_path(site, epoch, kind, 0)
        write_text(path, each.path.read_text(encoding="utf-8"))
        return [path]
    if kind == "sky_modes":
        path, modes = master_path(site, epoch, kind, 0, band), each.read(0)
        images = {f"CCD{ccd:02d}": values for ccd, values in modes.values.items()}
        write_image_extensions(path, images, {"BAND": band})
        return [path]
    paths = []
    for ccd in each.ccds:
        value, path = each.read(ccd), master_path(site, epoch, kind, ccd, band)
        header = {"CCDNUM": ccd, "DETPOS": CCDS[ccd].detpos, "NITE": each.night, "SRCFILE": each.path.name[:68]}
        _write_ccd(
            path, kind, value, header | ({"BAND": band} if band else {}), in_adu=any("ADU" in r for r in remarks)
        )
        paths.append(path)
    return paths


def _write_ccd(path: Path, kind: Kind, value: Any, header: Mapping[str, Any], *, in_adu: bool) -> None:  # noqa: ANN401
    """Write the calibration of one CCD."""
    ccd = CCDS[header["CCDNUM"]]
    if kind == "linearity":
        write_linearity(path, ccd, value, header)
    elif kind == "brighter_fatter":
        write_brighter_fatter(path, ccd, value, header)
    else:
        if kind == "flat" and in_adu:
            value = value.copy()
            for amplifier in ccd.amplifiers:
                value[:, amplifier.columns] *= np.float32(amplifier.gain / MEAN_GAIN)
        write_calibration_image(path, value, dict(header) | ({"BUNIT": "adu"} if kind == "bias" else {}))
