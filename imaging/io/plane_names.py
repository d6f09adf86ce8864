"""Names of the planes of a FITS file: EXTNAME, or EXTTYPE of calexps of before 2018, which have no other."""

import fitsio

PACKED_NAME = "COMPRESSED_IMAGE"
"""Name that programs give to the only image of a compressed file; it says nothing."""


def plane_name(hdu: fitsio.hdu.base.HDUBase) -> str:
    """Return the name of an HDU, empty if it has none."""
    name = str(hdu.get_extname()).strip()
    return str(hdu.read_header().get("EXTTYPE") or name).strip() if name in ("", PACKED_NAME) else name


def extension_names(file: fitsio.FITS) -> dict[str, int]:
    """Return the number of every extension of a file by its upper-case name."""
    return {plane_name(hdu).upper(): number for number, hdu in enumerate(file)}
