"""Write calibration files and other small FITS files, reproducible byte by byte."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.detector.ccds import AMPLIFIERS, Ccd
from imaging.detector.linearity import LinearityTable
from imaging.detrend.brighter_fatter import BrighterFatterKernel
from imaging.io.atomic import write_bytes
from imaging.io.checksums import bytes_with_checksums

Header = Mapping[str, Any]


def write_calibration_image(path: Path, image: NDArray[Any], header: Header, *, step: float | None = None) -> None:
    """Write a calibration image as the primary HDU.

    Parameters
    ----------
    path
        File to write.
    image
        (ny, nx) array.
    header
        Keywords.
    step
        Quantisation of a float image stored as 16-bit integers (BSCALE), which halves the file; readers get floats.
        None writes the array unchanged.
    """
    if step is None:
        hdu = fits.PrimaryHDU(image)
    else:
        zero = float(np.round(np.median(image[::16, ::16]) / step) * step)
        counts = np.clip(np.round((image - np.float32(zero)) / np.float32(step)), -32768, 32767).astype(np.int16)
        hdu = fits.PrimaryHDU(counts)
        hdu.header["BSCALE"] = step
        hdu.header["BZERO"] = zero
    hdu.header.update(dict(header))
    write_bytes(path, bytes_with_checksums(fits.HDUList([hdu])))


def write_image_extensions(path: Path, images: Mapping[str, NDArray[Any]], header: Header) -> None:
    """Write named image extensions after an empty primary HDU with the keywords."""
    hdus: list[Any] = [fits.PrimaryHDU()]
    hdus[0].header.update(dict(header) | {"NEXTEND": len(images)})
    hdus += [fits.ImageHDU(image, name=name) for name, image in images.items()]
    write_bytes(path, bytes_with_checksums(fits.HDUList(hdus)))


def write_table_extensions(
    path: Path,
    tables: Mapping[str, Mapping[str, NDArray[Any]]],
    units: Mapping[str, str] | None = None,
    header: Header | None = None,
) -> None:
    """Write named binary tables after an empty primary HDU.

    Parameters
    ----------
    path
        File to write.
    tables
        Extension name (may be empty) to columns.
    units
        Column name to unit.
    header
        Keywords of every table; values may be (value, comment).
    """
    hdus: list[Any] = [fits.PrimaryHDU()]
    for name, columns in tables.items():
        table = fits.BinTableHDU.from_columns(
            [
                fits.Column(key, "K" if values.dtype.kind == "i" else "D", unit=(units or {}).get(key), array=values)
                for key, values in columns.items()
            ],
            name=name or None,
        )
        table.header.update(dict(header or {}))
        hdus.append(table)
    write_bytes(path, bytes_with_checksums(fits.HDUList(hdus)))


def write_linearity(path: Path, ccd: Ccd, table: LinearityTable, header: Header) -> None:
    """Write the response curves of one CCD: a table with columns ADU, ADU_LINEAR_A, ADU_LINEAR_B."""
    columns = {"ADU": table.adu} | {f"ADU_LINEAR_{name}": table.linear[name] for name in AMPLIFIERS}
    write_table_extensions(path, {f"CCD{ccd.ccdnum:02d}": columns}, header=header)


def write_brighter_fatter(path: Path, ccd: Ccd, kernel: BrighterFatterKernel, header: Header) -> None:
    """Write the kernels of one CCD: image extensions named by its position and ``R`` (right) or ``T`` (top)."""
    write_image_extensions(path, {f"{ccd.detpos}R": kernel.right, f"{ccd.detpos}T": kernel.top}, header)
