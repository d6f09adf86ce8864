"""Compress image products of earlier versions that lie on disk, without changing a pixel.

Today's steps write them packed (:func:`imaging.io.images.write_planes`). The new file is read and compared with the old
one.
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
from imaging.quantise import rounded

STANDARD = ("FITS (Flexible", "and Astrophysics'")
"""Comments that the library writes into every primary HDU."""


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
    write_images(packed, hdus, pack=True)
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


def is_packed(path: Path) -> bool:
    """Whether a product was written packed: its first HDU has no pixels.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    with product(path), fitsio.FITS(str(path)) as file:
        return not file[0].has_data()


def _packed(name: str, pixels: Pixels, header: Any) -> ImageHdu:  # noqa: ANN401 (fitsio has no types)
    """Return an HDU with the same cards, without the step if the pixels are no multiples of it."""
    cards: dict[str, Any] = {}
    texts: dict[str, list[str]] = {"COMMENT": [], "HISTORY": []}
    for record in header.records():
        if record["name"] in texts and not str(record["value"]).strip().startswith(STANDARD):
            texts[record["name"]].append(str(record["value"]))
        elif record["name"] and record["name"] not in texts:
            cards[record["name"]] = (record["value"], record["comment"])
    hdu = ImageHdu(name, pixels, cards, None, texts["COMMENT"], texts["HISTORY"])
    if STEP in cards and not np.array_equal(
        rounded(pixels, cards[STEP][0], keep_positive=name == "WGT"), pixels, equal_nan=True
    ):
        del cards[STEP]
    return hdu
