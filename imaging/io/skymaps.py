"""Read and write sky maps.

Maps are FITS tables, compressed or not: multi-order (``UNIQ`` and ``PROBDENSITY``) or flat (``PROB``, ``PROBABILITY``
or ``PROBDENSITY``), in NESTED or RING order, complete or with a column of pixel numbers, with or without distance.
"""

import gzip
import io
import math
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from imaging.errors import InputError
from imaging.io.atomic import write_bytes
from imaging.skymap.build import REMEDY, skymap_from_flat, skymap_from_multiorder
from imaging.skymap.model import SkyMap

GZIP_MAGIC = b"\x1f\x8b"

PROBABILITY_NAMES = ("PROB", "PROBABILITY", "PROBDENSITY")
DISTANCE_COLUMNS = {"mu_mpc": "DISTMU", "sigma_mpc": "DISTSIGMA", "norm": "DISTNORM"}


def read_skymap(source: Path | bytes) -> SkyMap:
    """Read a sky map from a file or from its bytes.

    Parameters
    ----------
    source
        Path or content of a FITS file, possibly gzipped.

    Raises
    ------
    InputError
        If it contains no readable sky map.
    """
    content, name = _content(source)
    try:
        if content.startswith(GZIP_MAGIC):
            content = gzip.decompress(content)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="(?s).*(truncated|corrupted)", category=AstropyUserWarning)
            with fits.open(io.BytesIO(content), memmap=False) as file:
                return _build(_find_table(file))
    except InputError:
        raise
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, zlib.error, AstropyUserWarning) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"the sky map cannot be read: {reason}", value=name, remedy=REMEDY) from error


def write_skymap(path: Path, skymap: SkyMap) -> None:
    """Write a sky map as a multi-order FITS table, the format of published maps.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    density = skymap.probability * (12.0 * 4.0**skymap.order) / (4 * np.pi)
    columns = [
        fits.Column("UNIQ", "K", array=skymap.pixel + (4 << (2 * skymap.order))),
        fits.Column("PROBDENSITY", "D", unit="sr-1", array=density),
    ]
    if skymap.distance is not None:
        distance = skymap.distance
        columns += [
            fits.Column("DISTMU", "D", unit="Mpc", array=distance.mu_mpc),
            fits.Column("DISTSIGMA", "D", unit="Mpc", array=distance.sigma_mpc),
            fits.Column("DISTNORM", "D", unit="Mpc-2", array=distance.norm),
        ]
    table = fits.BinTableHDU.from_columns(columns)
    cards = {
        "PIXTYPE": "HEALPIX",
        "ORDERING": "NUNIQ",
        "COORDSYS": "C",
        "MOCORDER": int(skymap.order.max()),
        "INDXSCHM": "EXPLICIT",
        "OBJECT": skymap.name,
        "MJD-OBS": skymap.mjd,
        "DISTMEAN": skymap.distance_mean_mpc,
        "DISTSTD": skymap.distance_sigma_mpc,
    }
    for key, value in cards.items():
        if not (isinstance(value, float) and math.isnan(value)):
            table.header[key] = value
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    write_bytes(path, buffer.getvalue())


def _content(source: Path | bytes) -> tuple[bytes, str]:
    if isinstance(source, bytes):
        return source, f"{len(source)} bytes"
    try:
        return Path(source).read_bytes(), str(source)
    except OSError as error:
        raise InputError(
            f"the file cannot be read: {error.strerror or error}", value=source, remedy="check the path"
        ) from error


def _find_table(file: fits.HDUList) -> fits.BinTableHDU:
    for hdu in file:
        if isinstance(hdu, fits.BinTableHDU) and any(n.upper() in PROBABILITY_NAMES for n in hdu.columns.names):
            return hdu
    raise InputError("the file has no table of probabilities", limit=", ".join(PROBABILITY_NAMES), remedy=REMEDY)


def _build(table: fits.BinTableHDU) -> SkyMap:
    header = table.header
    names = {name.upper(): name for name in table.columns.names}
    system = str(header.get("COORDSYS", "C")).strip().upper()
    if system[:1] not in ("C", "E") or system in ("E", "ECLIPTIC"):
        raise InputError("the sky map is not in equatorial coordinates", value=system, limit="C", remedy=REMEDY)

    def column(name: str) -> np.ndarray:
        return np.asarray(table.data[names[name]], dtype=np.float64).ravel()

    distance = (
        {k: column(n) for k, n in DISTANCE_COLUMNS.items()} if set(DISTANCE_COLUMNS.values()) <= set(names) else None
    )
    about: dict[str, Any] = {
        "name": str(header.get("OBJECT", "")).strip(),
        "mjd": float(header.get("MJD-OBS", math.nan)),
        "distance_mean_mpc": float(header.get("DISTMEAN", math.nan)),
        "distance_sigma_mpc": float(header.get("DISTSTD", math.nan)),
    }
    if "UNIQ" in names:
        uniq = np.asarray(table.data[names["UNIQ"]], dtype=np.int64)
        return skymap_from_multiorder(uniq, column("PROBDENSITY"), distance=distance, **about)
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering not in ("NESTED", "NEST", "RING"):
        raise InputError(
            "the sky map's pixel ordering is unknown",
            value=repr(ordering),
            limit="NESTED, RING or NUNIQ",
            remedy=REMEDY,
        )
    index = np.asarray(table.data[names["PIXEL"]], dtype=np.int64).ravel() if "PIXEL" in names else None
    nside = int(header["NSIDE"]) if "NSIDE" in header else None
    chosen = next(name for name in PROBABILITY_NAMES if name in names)
    return skymap_from_flat(
        column(chosen), nested=ordering != "RING", index=index, nside=nside, distance=distance, **about
    )
