"""Read the calibrations of DECam in the forms of the Rubin Observatory: defects (ECSV), linearizers (YAML)."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from astropy.table import Table
from numpy.typing import NDArray

from imaging.bits import BpmBit
from imaging.detector.ccds import AMPLIFIERS, NX, NY, science_ccd
from imaging.detector.linearity import LinearityTable
from imaging.io.damage import DamagedError, reading
from imaging.io.possible import require_linear

REMEDY = "copy the file again"


def read_defects(path: Path) -> tuple[int, int, NDArray[np.int16]]:
    """Read a list of defects: boxes of bad pixels on the trimmed CCD, 0-based.

    The Rubin Observatory numbers the detectors of DECam by CCDNUM (``lsst/obs_decam_data``).

    Returns
    -------
    ccd, night
        CCD number; date from which the list holds, YYYYMMDD.
    bad_pixels
        (4096, 2048) int16, bits of :class:`imaging.bits.BpmBit`.

    Raises
    ------
    InputError
        If it is not such a list of DECam, or a box lies outside of the CCD.
    """
    with reading(path, "list of defects not understood", REMEDY):
        table = Table.read(path, format="ascii.ecsv")
        if str(table.meta.get("OBSTYPE", "")).lower() != "defects":
            raise DamagedError(f"OBSTYPE = {table.meta.get('OBSTYPE')}; allowed: defects")
        ccd, night = _identity(table.meta)
        stated = [word.partition("=")[2] for word in str(table.meta.get("CALIB_ID", "")).split()
                  if word.startswith("ccdnum=")]  # fmt: skip
        if stated and stated != [str(ccd)]:
            raise DamagedError(f"DETECTOR = {ccd} contradicts CALIB_ID, ccdnum = {stated[0]}")
        boxes = np.column_stack([np.asarray(table[name], dtype=np.int64) for name in ("x0", "y0", "width", "height")])
        bad = np.zeros((NY, NX), dtype=np.int16)
        for x, y, width, height in boxes:
            if x < 0 or y < 0 or width < 1 or height < 1 or x + width > NX or y + height > NY:
                raise DamagedError(f"box {x} {y} {width} {height}; allowed: inside {NX} x {NY} pixels")
            bad[y : y + height, x : x + width] = np.int16(BpmBit.BIAS_MASK)
    return ccd, night, bad


def read_linearizer(path: Path) -> tuple[int, int, LinearityTable]:
    """Read a linearizer with a table of corrections: to a signal s, ``table[row, int(s) + offset]`` is added.

    Returns
    -------
    ccd, night
        CCD number; date from which it holds, YYYYMMDD.
    table
        Response curves.

    Raises
    ------
    InputError
        If it is not such a linearizer of DECam: other types than ``LookupTable`` are not understood.
    """
    with reading(path, "linearizer not understood", REMEDY):
        try:
            document = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_PlainLoader)  # noqa: S506 (safe)
        except yaml.YAMLError as error:
            raise DamagedError(f"no YAML: {str(error).splitlines()[0]}") from error
        if not isinstance(document, dict) or "amplifiers" not in document:
            raise DamagedError("no amplifiers: not a linearizer")
        metadata = document.get("metadata") or {}
        ccd, night = _identity(metadata if isinstance(metadata, dict) else {row[0]: row[2] for row in metadata})
        known = document.get("detectorId")
        if known is not None and int(known) != ccd:
            raise DamagedError(f"DETECTOR = {ccd} contradicts detectorId = {known}")
        rows = np.array(document.get("tableData") or [], dtype=float)
        if rows.ndim != 2 or set(document["amplifiers"]) != set(AMPLIFIERS):
            raise DamagedError("no table of corrections for amplifiers A and B")
        adu = np.arange(rows.shape[1], dtype=float)
        linear = {}
        for name in AMPLIFIERS:
            amplifier = document["amplifiers"][name]
            if amplifier["linearityType"] != "LookupTable":
                raise DamagedError(f"linearityType = {amplifier['linearityType']}; allowed: LookupTable")
            row, offset = (int(value) for value in amplifier["linearityCoeffs"][:2])
            if offset != 0 or not 0 <= row < rows.shape[0]:
                raise DamagedError(f"linearityCoeffs = {amplifier['linearityCoeffs']}; allowed: a row, and offset 0")
            linear[name] = adu + rows[row]
            require_linear(adu, linear[name])
    return ccd, night, LinearityTable(adu, linear)


def _identity(metadata: Mapping[str, Any]) -> tuple[int, int]:
    """Return CCD and night of a calibration's metadata; raise ``DamagedError`` if it is of another camera."""
    if str(metadata.get("INSTRUME", "")).lower() != "decam":
        raise DamagedError(f"INSTRUME = {metadata.get('INSTRUME')}; allowed: DECam")
    date = datetime.fromisoformat(str(metadata["CALIBDATE"]))
    return science_ccd(int(metadata["DETECTOR"])).ccdnum, date.year * 10000 + date.month * 100 + date.day


class _PlainLoader(yaml.SafeLoader):
    """A safe loader that reads objects of the Rubin Observatory's classes as the lists and mappings they are."""


def _plain(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> Any:  # noqa: ANN401
    del suffix
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


_PlainLoader.add_multi_constructor("", _plain)
