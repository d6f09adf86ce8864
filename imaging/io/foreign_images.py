"""Find the images of CCDs and the stacks on the sky in files of others, with their masks and weights."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imaging.errors import InputError
from imaging.image import LoadedImage
from imaging.io.calibrated import OWN_PLANES, Plane, Stated, community_pipeline_siblings, read_image
from imaging.io.checked import HduLayout, fits_layouts
from imaging.io.damage import reading
from imaging.io.stack_files import BESIDE, is_image, stack_images

LSST_PLANES = frozenset({"IMAGE", "MASK", "VARIANCE"})


_FITS = re.compile(r"[^.].*\.(?:fits?|fz)(?:\.(?:fz|gz))?", re.IGNORECASE)
"""Names of FITS files."""

_NOT_OURS = re.compile(r"^legacysurvey-\w+-image-W\d\.")
"""Names of images in a survey's folder that no camera in the visible took."""


@dataclass(frozen=True, slots=True)
class CcdPlanes:
    """Where the planes of the image of one CCD, or of a stack, are.

    Attributes
    ----------
    image
        File and extension of the pixels.
    mask, weight
        Those of another file; None if they are extensions of the same file.
    number
        Number of a stack's image in its file, from one.
    """

    image: Plane
    mask: Plane | None = None
    weight: Plane | None = None
    number: int = 1

    def read(self, stated: Stated) -> LoadedImage:
        """Read the image with mask and weight.

        Raises
        ------
        InputError
            If a plane is missing, damaged, or not understood.
        """
        loaded = read_image(
            self.image.path, extension=self.image.extension, mask=self.mask, weight=self.weight, stated=stated
        )
        if loaded.weight is None:
            remedy = "give its weight (oow, invvar, wt) beside it"
            raise InputError("the image has no weights", value=loaded.label, remedy=remedy)
        return loaded


def ccd_planes(paths: Sequence[Path]) -> list[CcdPlanes]:
    """Return the images in files; masks and weights that are named too are passed over.

    Parameters
    ----------
    paths
        Files, and folders with them.

    Raises
    ------
    InputError
        If a file is missing or no image of a known form, or mask or weight are missing.
    """
    given = [file for path in paths for file in _files(Path(path).expanduser().absolute())]
    files = list(dict.fromkeys(path for path in given if not BESIDE.search(path.name)))
    if not files:
        raise InputError("no images given", value=" ".join(map(str, paths)), limit="at least one image")
    return [planes for path in files for planes in _of_file(path)]


def _files(path: Path) -> list[Path]:
    """Return a file, or the images of a folder: no tables and checksums beside them, nor what is being written."""
    if not path.is_dir():
        return [path]
    files = (file for file in path.rglob("*") if _FITS.fullmatch(file.name) and not _NOT_OURS.match(file.name))
    return sorted(file for file in files if file.is_file() and (BESIDE.search(file.name) or not _is_table(file)))


def _is_table(path: Path) -> bool:
    """Whether a file holds tables and no image."""
    with reading(path, "image missing or not FITS", "check the name, or fetch it again"):
        layouts = fits_layouts(path)
    return len(layouts) > 1 and not any(is_image(layout) for layout in layouts)


def _of_file(path: Path) -> list[CcdPlanes]:
    with reading(path, "image missing or not FITS", "check the name"):
        layouts = fits_layouts(path)
    for known in (OWN_PLANES, LSST_PLANES):
        for key in ("EXTNAME", "EXTTYPE"):
            names = [layout.text(key).upper() for layout in layouts]
            if known <= set(names):
                name = "SCI" if "SCI" in known else "IMAGE"
                return [CcdPlanes(Plane(path, name if key == "EXTNAME" else str(names.index(name))))]
    images = [layout for layout in layouts if "CCDNUM" in layout.cards and layout.integer("NAXIS", 0) == 2]
    if not images:
        stacks = [CcdPlanes(*planes, n) for n, planes in enumerate(stack_images(path, layouts), start=1)]
        if not stacks:
            limit = (
                "a Community Pipeline image (CCDNUM), DES (SCI, MSK, WGT), LSST (IMAGE, MASK, VARIANCE), or a stack of "
            )
            limit += "the Legacy Surveys, Pan-STARRS, SkyMapper, the Community Pipeline"
            raise InputError("no image of a CCD in the file", value=path, limit=limit)
        return stacks
    found: list[CcdPlanes] = []
    read: dict[Path, Sequence[HduLayout]] = {}
    for number, layout in enumerate(layouts):
        if layout in images:
            extension = _extension(layouts, number)
            mask, weight = community_pipeline_siblings(path, extension)
            if mask is None or weight is None:
                remedy = "put mask (ood) and weight (oow) beside the image (ooi), under the names of the archive"
                raise InputError("mask or weight of the image missing", value=path, remedy=remedy)
            mask, weight = (_of_ccd(plane, layout, read) for plane in (mask, weight))
            found.append(CcdPlanes(Plane(path, extension), mask, weight))
    return found


def _extension(layouts: Sequence[HduLayout], number: int) -> str:
    """Return the name of an extension, or its number where it has none of its own."""
    names = [layout.text("EXTNAME") for layout in layouts]
    return names[number] if names[number] and names.count(names[number]) == 1 else str(number)


def _of_ccd(plane: Plane, image: HduLayout, read: dict[Path, Sequence[HduLayout]]) -> Plane:
    """Return the plane of the CCD of an image, in whatever order and under whatever name its file has it.

    Raises
    ------
    InputError
        If the file states CCDs, and not this one once.
    """
    if plane.path not in read:
        with reading(plane.path, "mask or weight of the image missing or not FITS", "fetch it again"):
            read[plane.path] = fits_layouts(plane.path)
    layouts = read[plane.path]
    ccds = {number: layout.integer("CCDNUM") for number, layout in enumerate(layouts) if "CCDNUM" in layout.cards}
    own = [number for number, ccd in ccds.items() if ccd == image.integer("CCDNUM")]
    if ccds and len(own) != 1:
        value = f"{len(own)} planes of CCD {image.integer('CCDNUM')} in {plane.path}"
        raise InputError(
            "mask and weight are not those of the image", value=value, limit="one", remedy="fetch them again"
        )
    return Plane(plane.path, _extension(layouts, own[0])) if own else plane
