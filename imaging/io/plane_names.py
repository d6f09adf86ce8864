"""Names of the planes of a FITS file: EXTNAME, or EXTTYPE of calexps of before 2018, which have no other."""

from collections.abc import Iterable

import fitsio

from imaging.errors import InputError

PACKED_NAME = "COMPRESSED_IMAGE"
"""Name that programs give to the only image of a compressed file; it says nothing."""


def plane_name(hdu: fitsio.hdu.base.HDUBase) -> str:
    """Return the name of an HDU, empty if it has none."""
    name = str(hdu.get_extname()).strip()
    return str(hdu.read_header().get("EXTTYPE") or name).strip() if name in ("", PACKED_NAME) else name


def extension_names(file: fitsio.FITS) -> dict[str, int]:
    """Return the number of every extension of a file by its upper-case name."""
    return {plane_name(hdu).upper(): number for number, hdu in enumerate(file)}


def plane_of(file: fitsio.FITS, image: int, names: Iterable[str]) -> int | None:
    """Return the number of the plane of an image that has the first of several names, None if there is none.

    Files of several chips, as of Hubble, have several planes of a name. That with the image's EXTVER is the image's
    (FITS standard 4.0, section 4.4.2.6).

    Parameters
    ----------
    file, image
        The file, and the number of the image in it.
    names
        Names in capitals, the preferred first.

    Raises
    ------
    InputError
        If several planes of a name have the same EXTVER.
    """
    planes: dict[str, list[int]] = {}
    for number, hdu in enumerate(file):
        planes.setdefault(plane_name(hdu).upper(), []).append(number)
    found = next((planes[name] for name in names if name in planes), [])
    if len(found) > 1:
        versions = {number: file[number].read_header().get("EXTVER", 1) for number in (image, *found)}
        found = [number for number in found if versions[number] == versions[image]]
        if len(found) != 1:
            raise InputError(
                "several planes may be that of the image",
                value=f"{len(found)} of EXTVER {versions[image]}",
                limit="one",
                remedy="name mask and weight by number, such as --mask [3] --weight [2]",
            )
    return found[0] if found else None
