"""Write and read image products: SCI, MSK and WGT planes in one FITS file.

SCI is float32 in electrons, MSK int16 with the bits of :mod:`imaging.bits`, WGT float32 inverse variance. Every plane
has coordinates, unit and, if it is a mask, the names of its bits, so that it can be used without the others. The images
of CCDs are packed: their pixels are multiples of a step that is fine against the noise (:mod:`imaging.quantise`), which
compress without loss. No time stamps are written: the same inputs give the same bytes.
"""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import fitsio
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.errors import StorageError
from imaging.io.atomic import atomic_path, storage_error
from imaging.io.checked import fits_file
from imaging.io.checksums import UNSET, set_checksums
from imaging.io.damage import reading
from imaging.io.keywords import IDENTITY, MEANINGS, PLANE_KEYWORDS, is_coordinate
from imaging.quantise import multiples, rounded

Header = dict[str, Any]
Pixels = NDArray[Any]

DES_EXTENSION_TYPE = {"SCI": "IMAGE", "MSK": "MASK", "WGT": "WEIGHT"}

FLOAT_QUANTISATION = 16.0
"""Quantisation steps per sigma of compressed float planes (the DES value)."""

TEXT_WIDTH = 70
"""Characters per line of comments and history; a card has 72."""

TILE_ROWS = 16
"""Rows of a tile of a packed image: a stamp is read without the rest of the image."""

LONG = 1000
"""Elements from which an image or a list is compressed."""

STEP = "QUANTUM"
"""Keyword of the step of which the pixels of a plane are multiples."""

_TILES = re.compile(
    r"Z(IMAGE|TENSION|BITPIX|NAXIS\d*|TILE\d|CMPTYPE|QUANTIZ|DITHER0|NAME\d|VAL\d|BLANK)|BSCALE|BZERO"
    r"|T(FIELDS|TYPE\d|FORM\d)|[PG]COUNT|XTENSION|BITPIX|NAXIS\d*"
)
_IMAGE_SIZE = re.compile(r"Z(BITPIX|NAXIS\d*)")

_STRUCTURAL = frozenset(
    {"SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "EXTEND", "PCOUNT", "GCOUNT", "XTENSION", "BSCALE", "BZERO"}
    | {"EXTNAME", "EXTVER", "CHECKSUM", "DATASUM", "COMMENT", "HISTORY", "INHERIT", "DES_EXT"}
)


@dataclass(frozen=True, eq=False)
class ImageHdu:
    """One image of a file.

    Attributes
    ----------
    name
        Extension name.
    pixels
        The pixels; None for a primary HDU without data.
    header
        Keywords; values may be (value, comment), None and NaN are omitted.
    version
        Extension version; None writes none.
    comments, history
        Paragraphs of COMMENT and HISTORY.
    """

    name: str
    pixels: Pixels | None
    header: Mapping[str, Any] = field(default_factory=dict)
    version: int | None = None
    comments: Sequence[str] = ()
    history: Sequence[str] = ()


def write_planes(
    path: Path,
    planes: Mapping[str, Pixels],
    header: Mapping[str, Any],
    *,
    compress: bool = False,
    pack: bool = False,
    steps: Mapping[str, float | None] = MappingProxyType({}),
    comments: Sequence[str] = (),
    history: Sequence[str] = (),
) -> None:
    """Write image planes atomically, one extension each.

    The keywords go into the first plane. The others get its coordinates and identity if they have its shape, and those
    of :data:`imaging.io.keywords.PLANE_KEYWORDS`.

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
    pack
        Compress without loss what compresses well: multiples of a step, masks, long lists.
    steps
        Extension name to the step of which its pixels become multiples (:mod:`imaging.quantise`); it is stated in the
        header.
    comments, history
        Paragraphs of COMMENT and HISTORY in the first plane.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    shared = {key: value for key, value in header.items() if key in IDENTITY or is_coordinate(key)}
    hdus: list[ImageHdu] = []
    first = next(iter(planes.values())).shape
    for name, given in planes.items():
        plane = given if pack else rounded(given, steps.get(name), keep_positive=name == "WGT")
        own = PLANE_KEYWORDS.get(name, {}) | {STEP: steps.get(name)}
        if not hdus:
            hdus.append(ImageHdu(name, plane, own | dict(header) | {STEP: steps.get(name)}, None, comments, history))
        else:
            hdus.append(ImageHdu(name, plane, (shared if plane.shape == first else {}) | own))
    write_images(path, hdus, compress=compress, pack=pack)


def write_images(path: Path, hdus: Iterable[ImageHdu], *, compress: bool = False, pack: bool = False) -> None:
    """Write images atomically, one HDU each, with checksums; ``compress`` and ``pack`` as in :func:`write_planes`.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    with atomic_path(path) as temporary:
        try:
            places = _write(temporary, hdus, compress=compress, pack=pack)
            set_checksums(temporary, [(p["header_start"], p["data_start"], p["data_end"]) for p in places])
        except OSError as error:
            raise storage_error(error, path) from error


def _write(path: Path, hdus: Iterable[ImageHdu], *, compress: bool, pack: bool) -> list[dict[str, int]]:
    """Write images without checksums; return where header and data of each HDU begin, and the data end."""
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        if compress or pack:
            file.write(None, header=[])
        for hdu in hdus:
            pixels, step, options = _packed(hdu) if pack else (hdu.pixels, None, {})
            if compress:
                options = _compression(pixels)
            file.write(pixels, header=_records(hdu), extname=hdu.name, extver=hdu.version, **options)
            if step is not None:
                file[-1].write_key("BSCALE", step, "pixels are multiples of it")
        for hdu in file:
            for key, (value, comment) in UNSET.items():
                hdu.write_key(key, value, comment)
        return [hdu.get_offsets() for hdu in file]


def _packed(hdu: ImageHdu) -> tuple[Pixels | None, float | None, dict[str, Any]]:
    """Return the pixels to be stored, what they are multiples of, and how fitsio compresses them without loss.

    Pixels become multiples of the step that the header states. Small images and columns of floats are not compressed.
    """
    pixels, entry = hdu.pixels, hdu.header.get(STEP)
    if pixels is None or pixels.ndim > 2 or pixels.dtype.itemsize > 4 or pixels.size <= LONG:
        return pixels, None, {}
    if pixels.ndim == 1:
        return pixels, None, {"compress": "GZIP_2", "tile_dims": pixels.shape} if pixels.dtype.kind == "i" else {}
    shape = (min(TILE_ROWS, pixels.shape[0]), pixels.shape[1])
    if pixels.dtype.kind == "i":
        return pixels, None, {"compress": "PLIO" if pixels.min() >= 0 else "RICE", "tile_dims": shape}
    step = entry[0] if isinstance(entry, tuple) else entry
    whole = None if step is None else multiples(pixels, step, keep_positive=hdu.name == "WGT")
    if whole is not None:
        return whole, step, {"compress": "RICE", "tile_dims": shape}
    return pixels, None, {"compress": "GZIP_2", "qlevel": 0}


def _compression(pixels: Pixels | None) -> dict[str, Any]:
    options: dict[str, Any] = {"compress": "RICE"}
    if pixels is not None and pixels.dtype.kind == "f":
        options |= {"qlevel": FLOAT_QUANTISATION, "qmethod": "SUBTRACTIVE_DITHER_2", "dither_seed": 1}
    return options


def _records(hdu: ImageHdu) -> list[dict[str, Any]]:
    """Return the keywords of an HDU as fitsio wants them, with the meaning of those that have no comment."""
    records = []
    for key, entry in {**hdu.header, "DES_EXT": DES_EXTENSION_TYPE.get(hdu.name, hdu.name)}.items():
        value, comment = entry if isinstance(entry, tuple) else (entry, MEANINGS.get(key, ""))
        if value is None or (key in _STRUCTURAL and key != "DES_EXT"):
            continue
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not np.isfinite(value):
            continue  # FITS headers cannot contain NaN; the key is omitted instead
        records.append({"name": key, "value": value, "comment": comment})
    for key, paragraphs in (("COMMENT", hdu.comments), ("HISTORY", hdu.history)):
        lines = [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, TEXT_WIDTH)]
        records += [{"name": key, "value": line, "comment": ""} for line in lines]
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
    wanted, optional = list(names), list(optional)
    with product(path), fitsio.FITS(fits_file(path, names={*wanted, *optional})) as file:
        held = {hdu.get_extname() for hdu in file} if present_only or optional else set()
        if present_only:
            wanted = [name for name in wanted if name in held] or wanted
        wanted += [name for name in optional if name in held]
        planes = _planes(path, file, wanted)
        header = _keywords(file[wanted[0]])
    return planes, header


def read_header(path: Path, name: str = "SCI") -> Header:
    """Read the keywords of one plane."""
    with product(path), fitsio.FITS(fits_file(path, names=())) as file:
        return _keywords(file[name])


def read_cutout(path: Path, name: str, y: slice, x: slice) -> Pixels:
    """Read a rectangle of one plane without reading the rest."""
    with product(path), fitsio.FITS(fits_file(path, names=())) as file:
        return _pixels(file[name], file[name][y, x])


def _planes(path: Path, file: Any, names: Iterable[str]) -> dict[str, Pixels]:  # noqa: ANN401 (fitsio has no types)
    """Return planes as they were before they were packed; astropy needs half of the CPU time of CFITSIO for this."""
    packed = {name: file[name].get_extnum() for name in names if file[name].is_compressed()}
    planes = {name: native(file[name].read()) for name in names if name not in packed}
    if packed:
        with fits.open(path, do_not_scale_image_data=True, memmap=False) as hdus:
            for name, number in packed.items():
                pixels, step = native(hdus[number].data), hdus[number].header.get("BSCALE")
                planes[name] = pixels if step is None else np.multiply(pixels, np.float32(step), dtype=np.float32)
    return {name: planes[name] for name in names}


def _pixels(hdu: Any, pixels: Pixels) -> Pixels:  # noqa: ANN401 (fitsio has no types)
    """Return pixels as they were before they were packed: CFITSIO reads multiples of a step as float64."""
    whole = pixels.dtype.kind == "f" and pixels.dtype.itemsize > 4 and hdu.is_compressed()
    return native(pixels.astype(np.float32) if whole else pixels)


def _keywords(hdu: Any) -> Header:  # noqa: ANN401 (fitsio has no types)
    """Return the keywords of an image; for a compressed one, its own size instead of that of the table of tiles."""
    header = dict(hdu.read_header())
    if "ZIMAGE" not in header:
        return header
    own = {key: value for key, value in header.items() if not _TILES.fullmatch(key)}
    return own | {key[1:]: value for key, value in header.items() if _IMAGE_SIZE.fullmatch(key)}


def native(array: Pixels) -> Pixels:
    """Return an array as one block in native byte order."""
    return np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))


def product(path: Path, what: str = "image product") -> AbstractContextManager[None]:
    """Return the context in which a product is read: whatever goes wrong is a ``StorageError`` of this file."""
    return reading(path, f"{what} missing or damaged", "rerun the step that writes it", error=StorageError)
