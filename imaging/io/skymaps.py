"""Read and write sky maps; write the searched part of a map.

Maps are FITS tables, compressed or not: multi-order (``UNIQ`` and ``PROBDENSITY``) or flat (``PROB``, ``PROBABILITY``
or ``PROBDENSITY``), in NESTED or RING order, complete or with a column of pixel numbers, with or without distance.
"""

import io
import math
import mmap
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray

from imaging.errors import InputError
from imaging.exposure import MJD_EPOCH
from imaging.io.atomic import write_bytes
from imaging.io.damage import reading
from imaging.io.skymap_columns import density_per_sr, number_column, pixel_numbers, require_mpc
from imaging.io.source_tables import gzip_reader
from imaging.skymap.build import REMEDY, skymap_from_flat, skymap_from_multiorder, skymap_from_parts
from imaging.skymap.cells import merged_cells
from imaging.skymap.model import SkyMap
from imaging.tables import column

LARGE_PIXELS, BLOCK_BYTES = 12 * 256**2, 1 << 20
"""Pixels of a flat map that is read in parts, and bytes decompressed at once."""

GZIP_MAGIC = b"\x1f\x8b"

SYSTEM_CARDS = ("COORDSYS", "COORD", "COORDTYP", "COORTYPE", "SKYCOORD", "FRAME", "RADESYS", "RADECSYS")
"""Cards that name the coordinate system; each that is present must name the equatorial one."""

EQUATORIAL = ("C", "CEL", "CELESTIAL", "EQU", "EQUATORIAL", "ICRS", "J2000", "J2000.0", "FK5", "Q", "RADEC")
"""Names of equatorial coordinates; J2000 differs from ICRS by 0.02 arcsec."""

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
    name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    damaged = reading(name, "the sky map cannot be read", REMEDY)
    with damaged, warnings.catch_warnings(), _plain_file(source) as plain:
        warnings.filterwarnings("error", message="(?s).*(truncated|corrupted)", category=AstropyUserWarning)
        with fits.open(plain, memmap=False, lazy_load_hdus=True) as file:
            return _build(_find_table(file), file[0].header, plain)


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
    cards = {
        "MOCORDER": int(skymap.order.max()),
        "INDXSCHM": "EXPLICIT",
        "OBJECT": skymap.name,
        "MJD-OBS": skymap.mjd,
        "DISTMEAN": skymap.distance_mean_mpc,
        "DISTSTD": skymap.distance_sigma_mpc,
    }
    _write_cells(path, columns, cards)


def _write_cells(path: Path, columns: list[fits.Column], cards: Mapping[str, Any]) -> None:
    """Write a table of cells in the NUNIQ scheme, equatorial coordinates."""
    table = fits.BinTableHDU.from_columns(columns)
    for key, value in ({"PIXTYPE": "HEALPIX", "ORDERING": "NUNIQ", "COORDSYS": "C"} | dict(cards)).items():
        if not (isinstance(value, float) and math.isnan(value)):
            table.header[key] = value
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(buffer)
    write_bytes(path, buffer.getvalue())


def write_moc(path: Path, searched: pa.Table, order: int) -> None:
    """Write the searched area as a multi-order coverage (MOC, standard of the IVOA, version 2.0).

    Parameters
    ----------
    path
        File to write.
    searched
        Rows of :data:`imaging.schemas.searched.SEARCHED_PIXELS`.
    order
        Order of their pixels.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    uniq, _ = merged_cells(column(searched, "healpix"), order)
    cards = {"MOCVERS": "2.0", "MOCDIM": "SPACE", "MOCORD_S": order, "MOCORDER": order, "MOCTOOL": "gw-workflow"}
    _write_cells(path, [fits.Column("UNIQ", "K", array=uniq)], cards)


def write_searched_map(path: Path, searched: pa.Table, order: int, skymap: SkyMap) -> None:
    """Write the searched part of a sky map as a multi-order table: its probability and the depth in each band.

    Parameters
    ----------
    path
        File to write.
    searched
        Rows of :data:`imaging.schemas.searched.SEARCHED_PIXELS`.
    order
        Order of their pixels.
    skymap
        The map, for its name and time.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    density = column(searched, "probability") * (12.0 * 4.0**order) / (4 * np.pi)
    depths = [name for name in searched.schema.names if name.startswith("m50_")]
    values = np.stack([density, *(column(searched, name) for name in ("n_images", *depths))], axis=1).astype(float)
    uniq, index = merged_cells(column(searched, "healpix"), order, values)
    columns = [
        fits.Column("UNIQ", "K", array=uniq),
        fits.Column("PROBDENSITY", "D", unit="sr-1", array=density[index]),
        fits.Column("N_IMAGES", "I", array=column(searched, "n_images")[index]),
        *(fits.Column(name.upper(), "E", unit="mag", array=column(searched, name)[index]) for name in depths),
    ]
    cards = {"MOCORDER": order, "INDXSCHM": "EXPLICIT", "OBJECT": skymap.name, "MJD-OBS": skymap.mjd}
    _write_cells(path, columns, cards)


@contextmanager
def _plain_file(source: Path | bytes) -> Iterator[IO[bytes]]:
    """Open a map without compression: a file on disk is decompressed into a temporary one, not into memory."""
    if isinstance(source, bytes):
        yield io.BytesIO(gzip_reader.decompress(source) if source.startswith(GZIP_MAGIC) else source)
        return
    try:
        stream = Path(source).open("rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(
            f"the file cannot be read: {error.strerror or error}", value=source, remedy="check the path"
        ) from error
    with stream:
        compressed = stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        stream.seek(0)
        if not compressed:
            yield stream
            return
        with tempfile.NamedTemporaryFile() as copy, gzip_reader.open(stream, "rb") as unpacked:
            shutil.copyfileobj(unpacked, copy, BLOCK_BYTES)
            copy.flush()
            with Path(copy.name).open("rb") as plain:
                yield plain


def _find_table(file: fits.HDUList) -> fits.BinTableHDU:
    tables = [hdu for hdu in file if isinstance(hdu, fits.BinTableHDU)]
    maps = [hdu for hdu in tables if any(n.upper() in PROBABILITY_NAMES for n in hdu.columns.names)]
    if not maps:
        raise InputError("the file has no table of probabilities", limit=", ".join(PROBABILITY_NAMES), remedy=REMEDY)
    if len(maps) > 1:
        names = ", ".join(hdu.name or str(file.index_of(hdu)) for hdu in maps)
        raise InputError("the file has several sky maps", value=names, limit="one", remedy="keep the one that holds")
    return maps[0]


def _rows_on_disk(
    table: fits.BinTableHDU, file: IO[bytes], names: Sequence[str]
) -> Callable[..., list[np.ndarray]] | None:
    """Return a reader of some pixels of a large table on disk, which keeps none of it in memory; else None."""
    scaled = any(key.startswith(("TSCAL", "TZERO", "TNULL")) for key in table.header)
    if isinstance(file, io.BytesIO) or scaled or table.columns.dtype.itemsize * len(table.columns) == 0:
        return None
    kind = table.columns.dtype.newbyteorder(">")
    if len({kind[name].shape for name in names}) > 1 or any(kind[name].base.kind != "f" for name in names):
        return None
    place, n_rows = table.fileinfo()["datLoc"], int(table.header["NAXIS2"])
    mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    rows = np.frombuffer(mapped, kind, count=n_rows, offset=place)
    width = max(rows[names[0]].size // n_rows, 1)
    # Rows of doubles alone are gathered twice as fast as an array with an axis of columns.
    plain = kind.itemsize == 8 * len(kind) and all(kind[name] == ">f8" for name in kind.names or ())
    table_of_doubles = rows.view(">f8").reshape(n_rows, -1) if plain else None
    places = [list(kind.names or ()).index(name) for name in names]

    def read(chosen: slice | np.ndarray, n_columns: int | None = None) -> list[np.ndarray]:
        if isinstance(chosen, slice):
            first, last = chosen.start // width, -(-chosen.stop // width)
            inside = slice(chosen.start - first * width, chosen.stop - first * width)
            columns = [rows[name][first:last].ravel()[inside].astype(np.float64) for name in names[:n_columns]]
        elif table_of_doubles is not None:
            part = table_of_doubles.take(chosen, axis=0)
            columns = [part[:, place].astype(np.float64) for place in places]
        elif width == 1:
            part = rows[chosen]
            columns = [part[name].ravel().astype(np.float64) for name in names]
        else:
            columns = [rows[name][chosen // width, chosen % width].astype(np.float64) for name in names]
        mapped.madvise(mmap.MADV_DONTNEED)
        return columns

    return read


def _whole_sky(
    table: fits.BinTableHDU, file: IO[bytes], columns: Sequence[str], per_sr: float | None, about: dict[str, Any]
) -> SkyMap | None:
    """Read a large map of the whole sky without holding it in memory; None if the table is small or of another form."""
    per_row = table.columns.dtype[columns[0]]
    n_pixels = int(table.header["NAXIS2"]) * (per_row.itemsize // per_row.base.itemsize)
    nside = 1 << max((n_pixels // 12).bit_length() // 2, 0)
    if n_pixels < LARGE_PIXELS or n_pixels != 12 * nside**2:
        return None
    nested = _is_nested(table.header)
    read = _rows_on_disk(table, file, columns)
    if read is None:
        return None
    factor = 1.0 if per_sr is None else per_sr * 4 * np.pi / n_pixels

    def of_pixels(chosen: slice | NDArray[np.int64], n_columns: int | None = None) -> list[NDArray[np.float64]]:
        values, *rest = read(chosen, n_columns)
        return [values * factor, *rest]

    return skymap_from_parts(of_pixels, nside, nested=nested, **about)


def _is_nested(header: Mapping[str, Any]) -> bool:
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering in ("NESTED", "NEST", "RING"):
        return ordering != "RING"
    raise InputError(
        "the sky map's pixel ordering is unknown", value=repr(ordering), limit="NESTED, RING or NUNIQ", remedy=REMEDY
    )


def _build(table: fits.BinTableHDU, primary: fits.Header, file: IO[bytes]) -> SkyMap:
    header = dict(primary) | dict(table.header)
    names = {name.upper(): name for name in table.columns.names}
    for key in SYSTEM_CARDS:
        system = str(header.get(key) or "").strip().upper()
        if (system or (key in ("COORDSYS", "COORD") and key in header)) and system not in EQUATORIAL:
            limit = ", ".join(EQUATORIAL)
            raise InputError(
                "the sky map is not in equatorial coordinates", value=f"{key} {system}", limit=limit, remedy=REMEDY
            )

    def column(name: str) -> np.ndarray:
        return np.asarray(table.data[names[name]], dtype=np.float64).ravel()

    about: dict[str, Any] = {
        "name": str(header.get("OBJECT", "")).strip(),
        "mjd": _event_mjd(header),
        "distance_mean_mpc": _optional(header, "DISTMEAN"),
        "distance_sigma_mpc": _optional(header, "DISTSTD"),
    }
    has_distance = set(DISTANCE_COLUMNS.values()) <= set(names)
    for name in DISTANCE_COLUMNS.values() if has_distance else ():
        require_mpc(name, str(table.columns[names[name]].unit or ""))
    order = ("PROBDENSITY", *PROBABILITY_NAMES) if "UNIQ" in names else PROBABILITY_NAMES
    chosen = names[next(name for name in order if name in names)]
    per_sr = density_per_sr(table, chosen)
    numbers = number_column(table, header, chosen)
    if numbers is None:
        columns = [chosen, *(names[name] for name in DISTANCE_COLUMNS.values() if has_distance)]
        whole = _whole_sky(table, file, columns, per_sr, about)
        if whole is not None:
            return whole
    distance = {k: column(n) for k, n in DISTANCE_COLUMNS.items()} if has_distance else None
    values = column(chosen.upper()) * (per_sr or 1.0)
    if "UNIQ" in names:
        uniq = pixel_numbers(table, names["UNIQ"])
        return skymap_from_multiorder(uniq, values, per_pixel=per_sr is None, distance=distance, **about)
    nested = _is_nested(header)
    index = None if numbers is None else pixel_numbers(table, numbers).ravel()
    nside = int(header["NSIDE"]) if "NSIDE" in header else None
    if index is None and nside and values.size == _optional(header, "LASTPIX") - _optional(header, "FIRSTPIX") + 1:
        index = np.arange(int(header["FIRSTPIX"]), int(header["LASTPIX"]) + 1)
    if per_sr is not None:
        values = values * (4 * np.pi / (12 * (nside or math.sqrt(values.size / 12)) ** 2))
    return skymap_from_flat(values, nested=nested, index=index, nside=nside, distance=distance, **about)


def _optional(header: Mapping[str, Any], key: str) -> float:
    """Return a number that a map need not state; NaN if it does not, or states none."""
    try:
        return float(header.get(key, math.nan))
    except (TypeError, ValueError):
        return math.nan


def _event_mjd(header: Mapping[str, Any]) -> float:
    """Return the time of the event, MJD UTC, from MJD-OBS or DATE-OBS; NaN if unknown."""
    mjd = _optional(header, "MJD-OBS") or math.nan  # zero is no time
    if math.isfinite(mjd) or not isinstance(header.get("DATE-OBS"), str):
        return mjd
    try:
        date = datetime.fromisoformat(header["DATE-OBS"].strip())
    except ValueError:
        return math.nan
    date = date.astimezone(UTC) if date.tzinfo else date
    return (date.replace(tzinfo=None) - MJD_EPOCH) / timedelta(days=1)
