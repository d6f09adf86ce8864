"""Read calibrated images of this and other pipelines: pixels, mask, weight and WCS.

Supported are this project's products (planes SCI, MSK, WGT), the Community Pipeline's triples of files (ooi, ood, oow),
and plain FITS images with celestial coordinates, whose mask and weight are extensions of the same file, separate files,
or absent.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import fitsio
import numpy as np
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.errors import InputError
from imaging.foreign.cards import positive, require_possible_place, require_single
from imaging.foreign.identity import ImageHead
from imaging.foreign.mask_planes import LIKE_A_MASK, MASK_NAMES, OTHER_NAMES, HeaderCard, mask_of_plane
from imaging.foreign.no_data import (
    blank_pixels,
    code_pixels,
    constant_pixels,
    dithered_pixels,
    linear_pixels,
    require_possible_values,
)
from imaging.foreign.units import pixel_unit
from imaging.foreign.weights import LIKE_A_WEIGHT, WEIGHT_POWERS, inverse_variance
from imaging.image import LoadedImage, MaskImage
from imaging.io.checked import fits_layouts, require_whole
from imaging.io.damage import reading
from imaging.io.distortion_tables import with_polynomials
from imaging.io.dithered import dither_steps
from imaging.io.plane_names import PACKED_NAME, extension_names, plane_name, plane_of
from imaging.wcs.foreign import ImageWcs, image_header, wcs_of_header

OWN_PLANES = frozenset({"SCI", "MSK", "WGT"})
"""Extension names of the products of this project and of the Dark Energy Survey."""


@dataclass(frozen=True, slots=True)
class Plane:
    """Location of an image plane: a file, and the name or number of its extension if it is not the first image.

    Attributes
    ----------
    path
        FITS file.
    extension
        Name or number; None for the first two-dimensional image.
    power
        Power that makes an inverse variance of a weight: -1 for a variance.
    """

    path: Path
    extension: str | None = None
    power: int = 1

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


@dataclass(frozen=True, slots=True)
class Stated:
    """What the user states about an image; it overrides the header.

    Attributes
    ----------
    gain
        Photo-electrons per unit of the pixels.
    zeropoint_mag
        AB magnitude of one unit.
    mask_bits
        Sum of the mask's bits that are defects; zero if any value but zero is bad.
    """

    gain: float | None = None
    zeropoint_mag: float | None = None
    mask_bits: int | None = None


NOTHING_STATED, UNREADABLE = Stated(), "the image cannot be read"


def read_image(
    path: Path,
    *,
    extension: str | None = None,
    mask: Plane | None = None,
    weight: Plane | None = None,
    stated: Stated = NOTHING_STATED,
) -> LoadedImage:
    """Read a calibrated image with its mask and weight.

    Pixels on an asinh scale are made linear. Pixels equal to BLANK, and exactly constant parts, hold no data.

    Parameters
    ----------
    path
        FITS file. For a Community Pipeline image the ``ood`` and ``oow`` files in the same folder are found by name.
    extension
        Name or number of the extension; None takes the first two-dimensional one.
    mask, weight
        Planes of mask (see :mod:`imaging.foreign.mask_planes`) and inverse variance, if not in extensions of the same
        file with one of the usual names.
    stated
        What the user states about the image.

    Raises
    ------
    InputError
        If a file is missing or not FITS, has no image, or lacks usable coordinates; if a unit, a zero point or a mask
        bit is not understood.
    """
    path = Path(path)
    with reading(path, UNREADABLE, "correct its header, or export it again"):
        return _read_image(path, extension, mask, weight, stated)


def read_head(path: Path, extension: str | None = None) -> ImageHead:
    """Read what the header of an image says.

    Parameters
    ----------
    path, extension
        File, and name or number of the extension; None takes the first two-dimensional image.

    Raises
    ------
    InputError
        If the file is missing or not FITS, has no image, or lacks usable coordinates.
    """
    with reading(path, UNREADABLE, "correct its header, or export it again"):
        with fitsio.FITS(str(path)) as file:
            number = _image_number(file, extension, path)
            header, own = _keywords(file[0].read_header()), _keywords(file[number].read_header())
            size, name = _plane_shape(file[number]) or (0, 0), plane_name(file[number])
        header = with_polynomials(image_header(header, own), path, number, size)
        is_own = _is_own(path, name)
        wcs = wcs_of_header(header, size)
        require_possible_place(header, _pixel_area(wcs, size), path)
    return ImageHead(header, size, wcs, is_own, _label(path, name, is_own=is_own))


def _pixel_area(wcs: ImageWcs, shape: tuple[int, ...]) -> float:
    return float(wcs.pixel_area_arcsec2(shape[1] / 2, shape[0] / 2))


def _is_own(path: Path, name: str) -> bool:
    return name == "SCI" and set(_extension_names(path)) >= OWN_PLANES


def _label(path: Path, name: str, *, is_own: bool) -> str:
    return f"{path.name}[{name}]" if name not in ("", PACKED_NAME) and not is_own else path.name


def _read_image(
    path: Path, extension: str | None, mask: Plane | None, weight: Plane | None, stated: Stated
) -> LoadedImage:
    plane = _read_plane(path, extension)
    header, name, shape = plane.header, plane.name, plane.pixels.shape
    own = _is_own(path, name)
    siblings = community_pipeline_siblings(path, extension or name or None)
    mask, weight = mask or siblings[0], weight or siblings[1]
    science, absent, clipped, notes = _linear(plane, path, own=own)
    flags, inverse = _find_mask(path, mask, plane, stated, own=own), _find_weight(path, weight, plane)
    _require_fitting(flags, inverse, shape, path)
    bits = np.zeros(shape, dtype=np.int16) if flags is None else flags.astype(np.int16)
    for found, bit in ((absent, MaskBit.BPM), (clipped, MaskBit.SATURATE)):
        bits[found] |= np.int16(bit)
    science[absent] = np.nan
    require_possible_values(science, "pixels", path)
    wcs = wcs_of_header(header, (shape[0], shape[1]))
    area = _pixel_area(wcs, shape)
    require_possible_place(header, area, path)
    unit = pixel_unit(header, area, own=own, gain=stated.gain, zeropoint_mag=stated.zeropoint_mag)
    if unit.factor != 1.0:
        science, notes = (science.astype(float) * unit.factor).astype(np.float32), (*notes, "converted to nJy")
    if inverse is not None:
        if unit.factor != 1.0:
            inverse = inverse.astype(float) / unit.factor**2
        inverse = inverse.astype(np.float32, copy=False)
        require_possible_values(inverse, "weights", path)
        if not inverse.any():
            raise InputError("the weights are nowhere above zero", value=path, remedy="give the plane of this image")
    return LoadedImage(
        science=science,
        mask=bits,
        weight=inverse,
        wcs=wcs,
        header=header,
        gain=unit.gain,
        zeropoint_mag=unit.zeropoint_mag,
        saturation=(positive(header, "SATURATE") or math.inf) * unit.factor,
        is_own_product=own,
        label=_label(path, name, is_own=own),
        notes=notes,
        is_gain_given=stated.gain is not None,
    )


def _require_fitting(
    flags: NDArray[Any] | None, inverse: NDArray[Any] | None, shape: tuple[int, ...], path: Path
) -> None:
    """Raise if mask or weight are not of the image."""
    for other, what in ((flags, "mask"), (inverse, "weight")):
        if other is not None and other.shape != shape:
            value = f"{other.shape} and {shape} of {path}"
            raise InputError(f"{what} and image differ in shape", value=value, remedy="give the plane of this image")


def _linear(
    plane: "_Hdu", path: Path, *, own: bool
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], tuple[str, ...]]:
    """Return linear pixels, which of them hold no data, which are clipped, and notes."""
    blank = blank_pixels(plane.pixels, plane.own)
    linear = linear_pixels(plane.pixels, plane.header)
    science = np.array(linear, dtype=np.float32)
    absent = ~np.isfinite(science)
    if own:
        return science, absent, np.zeros_like(absent), ()
    notes = ["asinh scale made linear"] if linear is not plane.pixels else []
    if blank is not None:
        absent |= blank
    absent |= code_pixels(science)
    science[absent] = np.nan
    steps = dither_steps(path, plane.number)
    dithered = np.zeros_like(absent) if steps is None else dithered_pixels(science, steps)
    science[dithered] = np.nan
    constant, clipped = constant_pixels(science)
    constant |= dithered
    if constant.any():
        notes.append(f"{constant.sum()} pixels hold no data: they are constant, or far below the sky")
    return science, absent | constant, clipped, tuple(notes)


@dataclass(frozen=True, slots=True)
class _Hdu:
    """Pixels, keywords with and without those of the primary HDU, cards, name and number of an image plane."""

    pixels: NDArray[Any]
    header: dict[str, Any]
    own: dict[str, Any]
    cards: tuple[HeaderCard, ...]
    name: str
    number: int


def _read_plane(path: Path, extension: str | None) -> _Hdu:
    """Read one image plane."""
    require_whole(path)
    remedy = "check the name; compressed files end in .fz or .gz"
    with reading(path, "image missing or not FITS", remedy):
        chosen = None if extension is None or extension.isdigit() else {extension}
        layouts = fits_layouts(path, headers=False, names=chosen)
        with fitsio.FITS(str(path)) as file:
            number = _image_number(file, extension, path)
            headers = [file[0].read_header(), *([file[number].read_header()] if number > 0 else [])]
            pixels = file[number].read().reshape(_plane_shape(file[number]))
            name = plane_name(file[number])
    require_single(layouts[0].ambiguous | layouts[number].ambiguous, path)
    own = _keywords(headers[-1])
    header = with_polynomials(image_header(_keywords(headers[0]), own), path, number, pixels.shape)
    cards = tuple(card for h in headers for card in _cards(h))
    native = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
    return _Hdu(native, header, own, cards, name, number)


def _cards(header: fitsio.FITSHDR) -> Iterator[HeaderCard]:
    for record in header.records():
        yield HeaderCard(str(record["name"]), record["value"], str(record.get("comment") or ""))


def _image_number(file: fitsio.FITS, extension: str | None, path: Path) -> int:
    """Return the number of an extension; without a name that of the first image that is no mask or weight."""
    numbers = {number: plane_name(hdu) for number, hdu in enumerate(file)}
    if extension is not None:
        numbers = {number: name for number, name in numbers.items() if extension in (str(number), name)}
        if not numbers:
            raise InputError("no such extension", value=f"{extension} in {path}")
    images = [number for number in numbers if _plane_shape(file[number]) is not None]
    if not images:
        raise InputError(
            "file has no two-dimensional image", value=path if extension is None else f"{extension} in {path}"
        )
    if extension is not None or len(images) == 1:
        return images[0]
    others = {*MASK_NAMES, *WEIGHT_POWERS}  # thumbnails have no coordinates
    return min(images, key=lambda n: (numbers[n].upper() in others, "CTYPE1" not in file[n].read_header(), n))


def _plane_shape(hdu: Any) -> tuple[int, int] | None:  # noqa: ANN401 (fitsio has no types)
    """Return (ny, nx) of an image whose further axes have one element; None for all else."""
    if not (hdu.get_exttype().startswith("IMAGE") or hdu.get_exttype() == "COMPRESSED_IMAGE"):
        return None
    *others, ny, nx = [1, 1, *(int(n) for n in hdu.get_info().get("dims", []))]
    return (ny, nx) if min(ny, nx) > 1 and max(others) == 1 else None


def _keywords(header: Mapping[str, Any]) -> dict[str, Any]:
    skip = {"COMMENT", "HISTORY", "", "CONTINUE"}
    return {key: header[key] for key in header.keys() if key and key not in skip}  # noqa: SIM118


def community_pipeline_siblings(path: Path, extension: str | None) -> tuple[Plane | None, Plane | None]:
    """Return mask and weight beside an image of the Community Pipeline by the archive's names; None if one is absent.

    Parameters
    ----------
    path
        The image: ``ooi`` (or ``opi`` resampled, ``osi`` stacked) in its name.
    extension
        Extension of the image, whose name the planes have too.
    """
    found = re.search(r"_(o[ops])i_", path.name)
    if found is None:
        return None, None
    stems = (re.sub(r"\.(?:fz|gz)$", "", path.name.replace(found[0], f"_{found[1]}{kind}_")) for kind in "dw")
    mask, weight = (
        next((p for end in (".fz", "", ".gz") if (p := path.with_name(stem + end)).exists()), None) for stem in stems
    )
    return (None, None) if mask is None or weight is None else (Plane(mask, extension), Plane(weight, extension))


def _find_mask(path: Path, mask: Plane | None, image: "_Hdu", stated: Stated, *, own: bool) -> MaskImage | None:
    place = mask or _named_plane(path, image, MASK_NAMES)
    if place is None:
        _require_no_other_plane(path, image, "mask", LIKE_A_MASK)
        return None
    plane = _read_plane(place.path, place.extension)
    if own and mask is None:
        return plane.pixels.astype(np.int16)
    name = f"{place.path.name}[{plane.name}]" if plane.name else place.path.name
    return mask_of_plane(plane.pixels, plane.cards, image.header, name=name, defects=stated.mask_bits)


def _require_no_other_plane(path: Path, image: "_Hdu", kind: str, like: re.Pattern[str]) -> None:
    """Raise if a plane of the shape of real pixels stands beside them that may be their mask or weight.

    Integers may be a mask under any name, real numbers are what a part of their name says.
    """
    if image.pixels.dtype.kind != "f":
        return
    known = WEIGHT_POWERS if kind == "mask" else MASK_NAMES
    with fitsio.FITS(str(path)) as file:
        for number, hdu in enumerate(file):
            name = plane_name(hdu)
            title = name.upper()
            if number == image.number or title in known or OTHER_NAMES.match(title):
                continue
            if _plane_shape(hdu) == image.pixels.shape and (
                like.search(title) or (kind == "mask" and hdu.get_info()["img_equiv_type"] > 0)
            ):
                where = f"[{name or number}]"
                remedy = f"give it with --{kind} {where} or --template-{kind} {where}, or the image alone"
                limit = ", ".join(MASK_NAMES if kind == "mask" else WEIGHT_POWERS)
                raise InputError(f"an extension may be a {kind}", value=f"{path}{where}", limit=limit, remedy=remedy)


def _find_weight(path: Path, place: Plane | None, image: "_Hdu") -> NDArray[Any] | None:
    place = place or _named_plane(path, image, WEIGHT_POWERS)
    if place is None:
        _require_no_other_plane(path, image, "weight", LIKE_A_WEIGHT)
        return None
    plane = _read_plane(place.path, place.extension)
    power = WEIGHT_POWERS.get(plane.name.upper(), place.power) if place.power == 1 else place.power
    values = linear_pixels(plane.pixels, plane.header)
    return inverse_variance(values, power)


def _extension_names(path: Path) -> dict[str, int]:
    """Return the number of every extension by its upper-case name."""
    with fitsio.FITS(str(path)) as file:
        return extension_names(file)


def _named_plane(path: Path, image: "_Hdu", names: Iterable[str]) -> Plane | None:
    """Return the plane of an image with the first of several names."""
    with fitsio.FITS(str(path)) as file:
        number = plane_of(file, image.number, names)
    return None if number is None else Plane(path, str(number))
