"""Find the mask and the weight of a stack on the sky by the names that its survey gives to them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import fitsio

from imaging.errors import InputError
from imaging.foreign.mask_planes import MASK_NAMES
from imaging.foreign.stacks import COMMUNITY, LEGACY, PAN_STARRS, SKYMAPPER, survey_of
from imaging.foreign.weights import WEIGHT_POWERS
from imaging.io.calibrated import Plane, community_pipeline_siblings
from imaging.io.checked import HduLayout
from imaging.io.damage import reading

BESIDE = re.compile(
    r"_o[ops][dw]_|-(?:invvar|maskbits|nexp|depth|galdepth|psfsize|model|chi2|blobmodel|wise\w*)[-.]"
    r"|\.(?:mask|wt|weight|num|exp|expwt)\.fits"
)
"""Names of masks, weights and other planes, which are read with their images or not at all."""

_ENDS = ("", ".fz", ".gz")

_NAMED = {
    LEGACY: (re.compile(r"-image-(\w+)\.fits(?:\.\w+)?$"), r"-maskbits.fits", r"-invvar-\1.fits", 1),
    PAN_STARRS: (re.compile(r"\.unconv\.fits(?:\.\w+)?$"), r".unconv.mask.fits", r".unconv.wt.fits", -1),
    SKYMAPPER: (re.compile(r"\.fits(?:\.\w+)?$"), r".mask.fits", r".weight.fits", 1),
    COMMUNITY: (re.compile(r"_osi_(.*?\.fits).*$"), r"_osd_\1", r"_osw_\1", 1),
}
"""Ends of the names of an image, its mask and its weight, and the power that makes an inverse variance of the weight:
those of Pan-STARRS are variances; SkyMapper's are named as SWarp names them."""


def stack_images(path: Path, layouts: Sequence[HduLayout]) -> Iterator[tuple[Plane, Plane | None, Plane | None]]:
    """Yield the images of a stack with their masks and weights; None where these are extensions of the same file.

    Parameters
    ----------
    path
        FITS file.
    layouts
        Its HDUs.

    Raises
    ------
    InputError
        If it is a HEALPix map, or the stack of a survey without mask or weight.
    """
    if any(layout.text("PIXTYPE").upper() == "HEALPIX" for layout in layouts):
        remedy = "fetch the stack from the archive of its survey"
        raise InputError("a HEALPix map, not a stack on a tangent plane", value=path, remedy=remedy)
    names = {layout.text("EXTNAME").upper() for layout in layouts}
    inside = bool(names & set(MASK_NAMES)) and bool(names & set(WEIGHT_POWERS))
    for number, layout in enumerate(layouts):
        if not is_image(layout) or layout.text("EXTNAME").upper() in {*MASK_NAMES, *WEIGHT_POWERS}:
            continue
        extension = layout.text("EXTNAME") or str(number)
        survey = survey_of({key: hdu.text(key) for hdu in (layouts[0], layout) for key in hdu.cards})
        if survey is None:
            continue
        mask, weight = community_pipeline_siblings(path, extension)
        if mask is None and not inside:
            mask, weight = _siblings(path, survey)
        yield Plane(path, extension), mask, weight


def is_image(layout: HduLayout) -> bool:
    """Whether an HDU is an image of two dimensions, compressed or not."""
    return layout.integer("ZNAXIS", layout.integer("NAXIS", 0)) == 2 and (
        layout.text("XTENSION") in ("", "IMAGE") or layout.text("ZIMAGE") == "T"
    )


def _siblings(path: Path, survey: str) -> tuple[Plane, Plane]:
    """Return the mask and the weight beside an image.

    Raises
    ------
    InputError
        If one is missing.
    """
    pattern, *ends, power = _NAMED[survey]
    planes: list[Plane] = []
    for end in ends:
        wanted = pattern.sub(end, path.name)
        found = next((p for e in _ENDS if (p := path.with_name(wanted + e)).is_file()), None)
        if wanted == path.name or found is None:
            raise InputError(
                f"the {'weight' if planes else 'mask'} of a stack is missing",
                value=path,
                limit=wanted if wanted != path.name else f"names as {survey} gives them",
                remedy="put mask and weight beside the image, under the names of the survey's archive",
            )
        planes.append(_first_image(found))
    return planes[0], Plane(planes[1].path, planes[1].extension, power)


def _first_image(path: Path) -> Plane:
    """Return the first two-dimensional image of a file, by its number."""
    with reading(path, "image missing or not FITS", "fetch the file again"), fitsio.FITS(str(path)) as file:
        for number, hdu in enumerate(file):
            if len(hdu.get_info().get("dims", ())) == 2 and hdu.get_exttype() != "BINARY_TBL":
                return Plane(path, str(number))
    raise InputError("file has no two-dimensional image", value=path)
