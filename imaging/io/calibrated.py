"""Read calibrated images of this and other pipelines: pixels, mask, weight and WCS.

Supported are this project's products (planes SCI, MSK, WGT), the Community Pipeline's triples of files (ooi, ood, oow),
and plain FITS images with celestial coordinates, whose mask and weight are extensions of the same file, separate files,
or absent.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import fitsio
import numpy as np
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.errors import InputError
from imaging.image import LoadedImage, MaskImage
from imaging.wcs.foreign import wcs_of_header

COMMUNITY_PIPELINE_CODES = {
    1: MaskBit.BPM,
    2: MaskBit.BPM,  # no value
    3: MaskBit.SATURATE,
    4: MaskBit.TRAIL,
    5: MaskBit.CRAY,
    6: MaskBit.BPM,  # low weight
    7: MaskBit.SUSPECT,  # differs from a stack of the same field
    8: MaskBit.STREAK,
}
"""Mask bits of the codes of the Community Pipeline's data-quality map (one code per pixel, not bits)."""

OWN_PLANES = frozenset({"SCI", "MSK", "WGT"})
"""Extension names of the products of this project and of the Dark Energy Survey."""

MASK_NAMES = ("MSK", "MASK", "DQ", "FLAGS", "BPM")
WEIGHT_NAMES = ("WGT", "WEIGHT", "WHT", "IVAR", "INVVAR", "WT")
VARIANCE_NAMES = ("VAR", "VARIANCE")
ERROR_NAMES = ("ERR", "ERROR", "RMS", "UNCERT")


@dataclass(frozen=True, slots=True)
class Plane:
    """Location of an image plane: a file, and the name or number of its extension if it is not the first image.

    Attributes
    ----------
    path
        FITS file.
    extension
        Name or number; None for the first two-dimensional image.
    """

    path: Path
    extension: str | None = None

    @classmethod
    def named(cls, text: str, beside: "Plane | None" = None) -> Self:
        """Parse a plane written ``file.fits``, ``file.fits[EXT]`` or, in the file of another plane, ``[EXT]``.

        Raises
        ------
        InputError
            If an extension is given without a file and without another plane.
        """
        match = re.fullmatch(r"(.*?)(?:\[([^\[\]]+)\])?", text)
        name, extension = (match[1], match[2]) if match else (text, None)
        if not name and beside is None:
            raise InputError("image not understood", value=repr(text), limit="FILE or FILE[EXTENSION]")
        return cls(Path(name) if name or beside is None else beside.path, extension)


def read_image(
    path: Path, *, extension: str | None = None, mask: Plane | None = None, weight: Plane | None = None
) -> LoadedImage:
    """Read a calibrated image with its mask and weight.

    Parameters
    ----------
    path
        FITS file. For a Community Pipeline image the ``ood`` and ``oow`` files in the same folder are found by name.
    extension
        Name or number of the extension; None takes the first two-dimensional one.
    mask, weight
        Planes of mask (non-zero is bad; the codes of an ``ood`` file are translated) and inverse variance, if not in
        extensions of the same file with one of the usual names.

    Raises
    ------
    InputError
        If a file is missing or not FITS, has no image, or lacks usable coordinates.
    """
    path = Path(path)
    science, header, name = _read_plane(path, extension)
    own = name == "SCI" and set(_extension_names(path)) >= OWN_PLANES
    siblings = _community_pipeline_siblings(path, extension or name or None)
    if siblings is not None:
        mask, weight = mask or siblings[0], weight or siblings[1]
    flags, inverse = _find_mask(path, mask, own), _find_weight(path, weight)
    shape = science.shape
    for plane, what in ((flags, "mask"), (inverse, "weight")):
        if plane is not None and plane.shape != shape:
            raise InputError(f"{what} and image differ in shape", value=f"{plane.shape} and {shape} of {path}")
    bits = np.zeros(shape, dtype=np.int16) if flags is None else flags.astype(np.int16)
    bits[~np.isfinite(science)] |= np.int16(MaskBit.BPM)
    return LoadedImage(
        science=science.astype(np.float32),
        mask=bits,
        weight=None if inverse is None else inverse.astype(np.float32),
        wcs=wcs_of_header(header, (shape[0], shape[1])),
        header=header,
        gain=_gain(header, own=own),
        zeropoint_mag=_zeropoint(header),
        saturation=_number(header, "SATURATE") or math.inf,
        is_own_product=own,
        label=f"{path.name}[{name}]" if name and not own else path.name,
    )


def mask_of_codes(codes: NDArray[np.integer]) -> MaskImage:
    """Translate the Community Pipeline's data-quality codes into mask bits; unknown codes count as bad."""
    mask = np.zeros(codes.shape, dtype=np.int16)
    for code in np.unique(codes):
        if code != 0:
            mask[codes == code] = np.int16(COMMUNITY_PIPELINE_CODES.get(int(code), MaskBit.BPM))
    return mask


def _read_plane(path: Path, extension: str | None) -> tuple[NDArray[Any], dict[str, Any], str]:
    """Return pixels, keywords and extension name of one image."""
    try:
        with fitsio.FITS(str(path)) as file:
            number = _image_number(file, extension, path)
            header = _keywords(file[0].read_header())
            if number > 0:
                header |= _keywords(file[number].read_header())
            pixels = file[number].read()
            name = str(file[number].get_extname()).strip()
    except OSError as error:
        raise InputError(
            "image missing or not FITS", value=path, remedy="check the name; compressed files end in .fz or .gz"
        ) from error
    return np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False)), header, name


def _image_number(file: fitsio.FITS, extension: str | None, path: Path) -> int:
    if extension is not None:
        for number, hdu in enumerate(file):
            if extension in (str(number), str(hdu.get_extname()).strip()):
                return number
        raise InputError("no such extension", value=f"{extension} in {path}")
    for number, hdu in enumerate(file):
        if hdu.get_exttype().startswith("IMAGE") or hdu.get_exttype() == "COMPRESSED_IMAGE":
            dims = hdu.get_info().get("dims", [])
            if len(dims) == 2 and min(dims) > 1:
                return number
    raise InputError("file has no two-dimensional image", value=path)


def _keywords(header: Mapping[str, Any]) -> dict[str, Any]:
    skip = {"COMMENT", "HISTORY", "", "CONTINUE"}
    return {key: header[key] for key in header.keys() if key and key not in skip}  # noqa: SIM118


def _community_pipeline_siblings(path: Path, extension: str | None) -> tuple[Plane, Plane] | None:
    if "_ooi_" not in path.name:
        return None
    mask, weight = (path.with_name(path.name.replace("_ooi_", f"_{kind}_")) for kind in ("ood", "oow"))
    return (Plane(mask, extension), Plane(weight, extension)) if mask.exists() and weight.exists() else None


def _find_mask(path: Path, mask: Plane | None, own: bool) -> NDArray[Any] | None:
    plane = _read_plane(mask.path, mask.extension)[0] if mask else _named_plane(path, MASK_NAMES)
    if plane is None or (own and mask is None):
        return plane
    if mask is not None and "_ood_" in mask.path.name:
        return mask_of_codes(plane)
    return np.where(plane != 0, int(MaskBit.BPM), 0)


def _find_weight(path: Path, place: Plane | None) -> NDArray[Any] | None:
    if place is not None:
        return _read_plane(place.path, place.extension)[0]
    weight = _named_plane(path, WEIGHT_NAMES)
    if weight is not None:
        return weight
    variance = _named_plane(path, VARIANCE_NAMES)
    if variance is None:
        error = _named_plane(path, ERROR_NAMES)
        variance = None if error is None else error.astype(float) ** 2
    if variance is None:
        return None
    return np.divide(1.0, variance, out=np.zeros(variance.shape), where=variance > 0)


def _extension_names(path: Path) -> dict[str, int]:
    """Return the number of every extension by its upper-case name."""
    with fitsio.FITS(str(path)) as file:
        return {str(hdu.get_extname()).strip().upper(): number for number, hdu in enumerate(file)}


def _named_plane(path: Path, names: tuple[str, ...]) -> NDArray[Any] | None:
    present = _extension_names(path)
    for name in names:
        if name in present:
            return _read_plane(path, str(present[name]))[0]
    return None


def _number(header: Mapping[str, Any], key: str) -> float | None:
    try:
        value = float(header[key])
    except (KeyError, TypeError, ValueError):
        return None
    return value if math.isfinite(value) and value > 0 else None


def _gain(header: Mapping[str, Any], *, own: bool) -> float:
    if own or str(header.get("BUNIT", "")).lower().startswith("electron"):
        return _number(header, "GAIN") or 1.0
    amplifiers = [g for g in (_number(header, "GAINA"), _number(header, "GAINB")) if g is not None]
    if amplifiers:
        return sum(amplifiers) / len(amplifiers)
    return _number(header, "GAIN") or _number(header, "ARAWGAIN") or 1.0


def _zeropoint(header: Mapping[str, Any]) -> float | None:
    for key in ("MAGZERO", "MAG_ZERO", "MAGZPT0", "ZEROPNT", "ZP"):
        value = _number(header, key)
        if value is not None:
            return value
    return None
