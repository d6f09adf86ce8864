"""Write and read image products: SCI, MSK and WGT planes in one FITS file.

SCI is float32 in electrons, MSK int16 with the bits of :mod:`imaging.bits`, WGT float32 inverse variance. Every plane
has coordinates, unit and, if it is a mask, the names of its bits, so that it can be used without the others. The images
of CCDs are packed: their pixels are multiples of a step that is fine against the noise (:mod:`imaging.quantise`), which
compress without loss (:mod:`imaging.io.tiles`). No time stamps are written: the same inputs give the same bytes.
"""

import re
import textwrap
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from imaging.errors import StorageError
from imaging.io.atomic import atomic_path, storage_error
from imaging.io.checked import HduLayout, examined, fits_file
from imaging.io.checksums import UNSET, set_checksums
from imaging.io.damage import reading
from imaging.io.keywords import IDENTITY, MEANINGS, PLANE_KEYWORDS, is_coordinate
from imaging.io.tiles import Tiles, mask_tiles, pixel_tiles, read_tiles, with_tiles
from imaging.numerics.rice import multiples
from imaging.quantise import rounded

Header = dict[str, Any]
Pixels = NDArray[Any]

DES_EXTENSION_TYPE = {"SCI": "IMAGE", "MSK": "MASK", "WGT": "WEIGHT"}

FLOAT_QUANTISATION = 16.0
"""Quantisation steps per sigma of compressed float planes (the DES value)."""

TEXT_WIDTH = 70
"""Characters per line of comments and history; a card has 72."""

LONG = 1000
"""Elements from which a list is compressed."""

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
            places = _write_packed(temporary, hdus) if pack else _write(temporary, hdus, compress=compress)
            set_checksums(temporary, [(p["header_start"], p["data_start"], p["data_end"]) for p in places])
        except OSError as error:
            raise storage_error(error, path) from error


def _write(path: Path, hdus: Iterable[ImageHdu], *, compress: bool) -> list[dict[str, int]]:
    """Write images without checksums; return the places of the HDUs."""
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        if compress:
            file.write(None, header=[])
        for hdu in hdus:
            options = _compression(hdu.pixels) if compress else {}
            file.write(hdu.pixels, header=_records(hdu), extname=hdu.name, extver=hdu.version, **options)
        return _places(file)


def _write_packed(path: Path, hdus: Iterable[ImageHdu]) -> list[dict[str, int]]:
    """Write packed images without checksums: in memory without tiles, to the file with them; return the places."""
    tiles: dict[int, Tiles] = {}
    with fitsio.FITS("mem://", "rw") as file:
        file.write(None, header=[])
        for number, hdu in enumerate(hdus, 1):
            packed, step = _tiles_of(hdu)
            if packed is None:
                plane, options = _rounded(hdu), _lossless(hdu.pixels)
                file.write(plane, header=_records(hdu), extname=hdu.name, extver=hdu.version, **options)
                continue
            tiles[number] = packed
            file.create_image_hdu(dims=packed.shape, extname=hdu.name, extver=hdu.version, **packed.options)
            file[-1].write_keys(_records(hdu))
            if step is not None:
                file[-1].write_key("BSCALE", step, "pixels are multiples of it")
        places = _places(file)
        content = file.read_raw()
    with path.open("wb") as stream:
        found = []
        for header, *data in with_tiles(content, places, tiles):
            start = stream.tell()
            stream.write(header)
            data_start = stream.tell()
            stream.writelines(data)
            found.append({"header_start": start, "data_start": data_start, "data_end": stream.tell()})
    return found


def _places(file: fitsio.FITS) -> list[dict[str, int]]:
    """Reserve the cards of the checksums; return where header and data of each HDU begin, and the data end."""
    for hdu in file:
        for key, (value, comment) in UNSET.items():
            hdu.write_key(key, value, comment)
    return [hdu.get_offsets() for hdu in file]


def _step_of(hdu: ImageHdu) -> float | None:
    """Return the step that the header of an image states; None if it states none."""
    entry = hdu.header.get(STEP)
    return entry[0] if isinstance(entry, tuple) else entry


def _rounded(hdu: ImageHdu) -> Pixels | None:
    """Return the pixels of an image, rounded to the step that its header states."""
    return None if hdu.pixels is None else rounded(hdu.pixels, _step_of(hdu), keep_positive=hdu.name == "WGT")


def _tiles_of(hdu: ImageHdu) -> tuple[Tiles | None, float | None]:
    """Return the tiles of an image that is a mask, or has multiples of a step as its pixels, and the step."""
    pixels, step = hdu.pixels, _step_of(hdu)
    if pixels is None or pixels.ndim != 2 or not pixels.size:
        return None, None
    if pixels.dtype == np.int16:
        return mask_tiles(pixels), None
    if pixels.dtype == np.float32 and step is not None:
        whole, is_whole = multiples(np.ascontiguousarray(pixels), step, hdu.name == "WGT")
        return (pixel_tiles(whole), step) if is_whole else (None, None)
    return None, None


def _lossless(pixels: Pixels | None) -> dict[str, Any]:
    """Return how fitsio compresses other pixels without loss: images and long lists."""
    if pixels is None or not (pixels.size > LONG and pixels.dtype.itemsize <= 4 and pixels.ndim <= 2):
        return {}
    if pixels.ndim == 2:
        return {"compress": "GZIP_2", "qlevel": 0}
    return {"compress": "GZIP_2", "tile_dims": (pixels.size,)} if pixels.dtype.kind == "i" else {}


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
    with product(path), _opened(path, {*wanted, *optional}) as (file, layouts):
        held = {hdu.get_extname() for hdu in file} if present_only or optional else set()
        if present_only:
            wanted = [name for name in wanted if name in held] or wanted
        wanted += [name for name in optional if name in held]
        planes = {name: _plane(path, file[name], layouts.get(name)) for name in wanted}
        header = _keywords(file[wanted[0]])
    return planes, header


def read_header(path: Path, name: str = "SCI") -> Header:
    """Read the keywords of one plane."""
    with product(path), fitsio.FITS(fits_file(path, names=())) as file:
        return _keywords(file[name])


def read_cutout(path: Path, name: str, y: slice, x: slice) -> Pixels:
    """Read a rectangle of one plane without reading the rest."""
    with product(path), _opened(path, ()) as (file, layouts):
        return _plane(path, file[name], layouts.get(name), (y, x))


@contextmanager
def _opened(path: Path, names: Container[str]) -> Iterator[tuple[fitsio.FITS, dict[str, HduLayout]]]:
    """Check a file, open it, and yield it with the places of its extensions, none of a gzipped file."""
    layouts, source = examined(path, names=names)
    places: dict[str, HduLayout] = {}
    for layout in layouts if isinstance(source, str) else ():
        places.setdefault(layout.text("EXTNAME"), layout)
    with fitsio.FITS(source) as file:
        yield file, places


def _plane(path: Path, hdu: Any, layout: HduLayout | None, part: tuple[slice, slice] | None = None) -> Pixels:  # noqa: ANN401 (fitsio has no types)
    """Return the pixels of an HDU, or a rectangle of them, as they were before they were packed."""
    y, x = part or (slice(None), slice(None))
    found = None if layout is None else read_tiles(path, layout, y)
    if found is not None:
        return native(found[:, x])
    pixels = hdu.read() if part is None else hdu[y, x]
    # CFITSIO returns integers with BSCALE as float64
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
