"""Compress image products that lie on disk, without changing a pixel.

Float planes whose pixels are multiples of a step (:mod:`imaging.quantise`) become integers with that scale, in tiles
compressed with RICE; masks are compressed with gzip in tiles of 64 rows, lists of pixel numbers with gzip, all else
losslessly or not at all. The new file is read and compared with the old one.
"""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

from imaging.errors import StorageError
from imaging.io.checked import fits_file
from imaging.io.images import STEP, ImageHdu, Pixels, native, product, read_planes, write_images
from imaging.io.keywords import PLANE_KEYWORDS

MASK_ROWS = 64
"""Rows of a tile of a compressed mask: half the bytes of tiles of one row."""

LARGEST = 2**31 - 1
"""Largest multiple of a step."""

LONG = 1000
"""Elements from which a list is compressed."""

STANDARD = ("FITS (Flexible", "and Astrophysics'")
"""Comments that the library writes into every primary HDU."""

LOSSLESS = {"compress": "GZIP_2", "qlevel": 0}


def write_packed(path: Path, packed: Path, drop: Collection[str] = ()) -> None:
    """Write the compressed copy of an image product.

    Parameters
    ----------
    path
        The product.
    packed
        Name of the copy.
    drop
        Planes that the copy does not have; the cards of the first one that only it has go to the first plane left.

    Raises
    ------
    StorageError
        If the product is missing or damaged, the disk is full, or the copy has other pixels.
    """
    hdus: list[ImageHdu] = []
    pixels: dict[str, Pixels] = {}
    with product(path), fitsio.FITS(fits_file(path)) as file:
        orphaned = None
        for hdu in file:
            name = str(hdu.get_extname())
            if not hdu.has_data():
                continue
            if name in drop:
                orphaned = _packed(name, hdu.read(), hdu.read_header()) if not hdus else orphaned
                continue
            pixels[name] = native(hdu.read())
            hdus.append(_packed(name, pixels[name], hdu.read_header()))
            if orphaned is not None:
                hdus[-1] = _adopted(hdus[-1], orphaned)
                orphaned = None
    write_images(packed, hdus, compress=True)
    found, _ = read_planes(packed, pixels)
    for name, plane in pixels.items():
        same = np.array_equal(found[name], plane, equal_nan=plane.dtype.kind == "f")
        if found[name].dtype != plane.dtype or not same:
            raise StorageError("a compressed plane has other pixels", value=f"{path.name}, {name}")


def _adopted(first: ImageHdu, dropped: ImageHdu) -> ImageHdu:
    """Return a plane with the cards and texts that only a dropped first plane had."""
    cards = {key: value for key, value in dropped.header.items() if key not in PLANE_KEYWORDS.get(dropped.name, {})}
    return replace(
        first,
        header=cards | dict(first.header),
        comments=(*first.comments, *dropped.comments),
        history=(*first.history, *dropped.history),
    )


def _packed(name: str, pixels: Pixels, header: Any) -> ImageHdu:  # noqa: ANN401 (fitsio has no types)
    """Return an HDU with the same cards and its compression."""
    cards: dict[str, Any] = {}
    texts: dict[str, list[str]] = {"COMMENT": [], "HISTORY": []}
    for record in header.records():
        if record["name"] in texts and not str(record["value"]).strip().startswith(STANDARD):
            texts[record["name"]].append(str(record["value"]))
        elif record["name"] and record["name"] not in texts:
            cards[record["name"]] = (record["value"], record["comment"])
    step = cards.get(STEP, (None, ""))[0]
    packing: dict[str, Any] = {}
    scale = None
    if pixels.dtype.kind == "f" and pixels.ndim == 2 and pixels.dtype.itemsize == 4:
        multiples = None if step is None else _multiples(pixels, float(step))
        packing = LOSSLESS if multiples is None else {"compress": "RICE"}
        if multiples is not None:
            pixels, scale = multiples, float(step)
    elif pixels.dtype.kind == "i" and pixels.ndim == 2:
        packing = {"compress": "GZIP", "tile_dims": (min(MASK_ROWS, pixels.shape[0]), pixels.shape[1])}
    elif pixels.dtype.kind == "i" and pixels.size > LONG:
        packing = {"compress": "GZIP_2", "tile_dims": (pixels.size,)}
    return ImageHdu(name, pixels, cards, None, texts["COMMENT"], texts["HISTORY"], packing, scale)


def _multiples(pixels: Pixels, step: float) -> Pixels | None:
    """Return which multiples of a step the pixels are; None if one is none."""
    multiples = np.rint(pixels / np.float32(step))
    fits = np.isfinite(multiples).all() and np.abs(multiples).max(initial=0.0) < LARGEST
    if not fits or not np.array_equal(multiples * np.float32(step), pixels):
        return None
    return multiples.astype(np.int32)
