"""Write and read image products: SCI, MSK and WGT planes in one FITS file.

SCI is float32 in electrons, MSK int16 with the bits of :mod:`imaging.bits`, WGT float32 inverse variance. Products are
written uncompressed, because compressing a plane takes longer than most processing steps; archives are compressed.
No time stamps are written, so that the same inputs give the same bytes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from imaging.errors import StorageError
from imaging.io.atomic import atomic_path, storage_error

Header = dict[str, Any]
Pixels = NDArray[Any]

DES_EXTENSION_TYPE = {"SCI": "IMAGE", "MSK": "MASK", "WGT": "WEIGHT"}

FLOAT_QUANTISATION = 16.0
"""Quantisation steps per sigma of compressed float planes (the DES value)."""

_STRUCTURAL = frozenset(
    {"SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "PCOUNT", "GCOUNT", "XTENSION", "BSCALE", "BZERO"}
    | {"EXTNAME", "CHECKSUM", "DATASUM", "COMMENT", "HISTORY", "INHERIT", "DES_EXT"}
)


def write_planes(
    path: Path, planes: Mapping[str, Pixels], header: Mapping[str, Any], *, compress: bool = False
) -> None:
    """Write image planes atomically, one extension each; the keywords go into the first one.

    Parameters
    ----------
    path
        File to write.
    planes
        Extension name to (ny, nx) array. The first plane becomes the primary HDU of an uncompressed file, as the DES
        tools expect; a compressed file has an empty primary.
    header
        Keywords of the first plane; None values are omitted. Values may be (value, comment).
    compress
        Tile-compress with RICE: integers losslessly, floats with 16 steps per sigma and subtractive dither.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        try:
            with fitsio.FITS(str(temporary), "rw", clobber=True) as file:
                if compress:
                    file.write(None)
                for number, (name, plane) in enumerate(planes.items()):
                    records = _records(header if number == 0 else {}, name)
                    options: dict[str, Any] = {}
                    if compress:
                        options["compress"] = "RICE"
                        if plane.dtype.kind == "f":
                            options |= {
                                "qlevel": FLOAT_QUANTISATION,
                                "qmethod": "SUBTRACTIVE_DITHER_2",
                                "dither_seed": 1,
                            }
                    file.write(plane, header=records, extname=name, **options)
        except OSError as error:
            raise storage_error(error, path) from error


def _records(header: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    records = []
    for key, entry in {**header, "DES_EXT": DES_EXTENSION_TYPE.get(name, name)}.items():
        value, comment = entry if isinstance(entry, tuple) else (entry, "")
        if value is None or (key in _STRUCTURAL and key != "DES_EXT"):
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not np.isfinite(value):
            continue  # FITS headers cannot contain NaN; the key is omitted instead
        records.append({"name": key, "value": value, "comment": comment})
    return records


def read_planes(
    path: Path,
    names: Iterable[str] = ("SCI", "MSK", "WGT"),
    *,
    present_only: bool = False,
    optional: Iterable[str] = (),
) -> tuple[dict[str, Pixels], Header]:
    """Read image planes and the keywords of the first one.

    Parameters
    ----------
    path
        The file.
    names
        Extension names of the planes.
    present_only
        Whether to skip missing planes, unless all are missing.
    optional
        Further extensions, skipped if missing.

    Returns
    -------
    planes
        Extension name to (ny, nx) array in native byte order.
    header
        Keywords of the first requested plane.

    Raises
    ------
    StorageError
        If the file is missing, damaged or lacks a plane.
    """
    wanted = list(names)
    try:
        with fitsio.FITS(str(path)) as file:
            held = {hdu.get_extname() for hdu in file} if present_only or optional else set()
            if present_only:
                wanted = [name for name in wanted if name in held] or wanted
            wanted += [name for name in optional if name in held]
            planes = {name: _native(file[name].read()) for name in wanted}
            header = dict(file[wanted[0]].read_header())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return planes, header


def read_header(path: Path, name: str = "SCI") -> Header:
    """Read the keywords of one plane."""
    try:
        with fitsio.FITS(str(path)) as file:
            return dict(file[name].read_header())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def read_cutout(path: Path, name: str, y: slice, x: slice) -> Pixels:
    """Read a rectangle of one plane without reading the rest."""
    try:
        with fitsio.FITS(str(path)) as file:
            return _native(file[name][y, x])
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _native(array: Pixels) -> Pixels:
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def _unreadable(path: Path, error: Exception) -> StorageError:
    return StorageError(
        f"image product missing or damaged: {str(error).splitlines()[0]}",
        value=path,
        remedy="rerun the step that writes it",
    )
