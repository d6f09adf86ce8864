"""Record images that others have calibrated as imported exposures of a site; the flow imports their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blocks.site import Site
from imaging.errors import InputError
from imaging.foreign.identity import ForeignCcd, ImageHead
from imaging.foreign.stacks import identify_any
from imaging.io.calibrated import read_head
from imaging.io.foreign_images import CcdPlanes, ccd_planes
from imaging.io.psf import read_given_psf
from imaging.wcs.sphere import footprint
from tasks.imported import ImportedImage, ImportRecord, Role, write_import
from tasks.requests import ExposureRequest, Version

SAME_EXPOSURE_S = 3.0
"""Largest difference of the starts that the CCDs of one exposure state, seconds."""


@dataclass(frozen=True, slots=True)
class StatedOfImages:
    """What the user states about the images, overriding their headers.

    Attributes
    ----------
    psfs
        PSFEx files, one per image in their order; empty to fit the PSFs.
    zeropoint_mag
        AB magnitude of one unit of the pixels; None to solve it against the reference stars.
    gain
        Electrons per unit of the pixels; None for what header or noise say.
    mask_bits
        Sum of the bits of the masks that are defects; None to recognise them.
    mjd
        Times of the first and the last exposure of stacks; None for those of their headers.
    """

    psfs: tuple[Path, ...] = ()
    zeropoint_mag: float | None = None
    gain: float | None = None
    mask_bits: int | None = None
    mjd: tuple[float, float] | None = None


Found = tuple[CcdPlanes, ForeignCcd, ImageHead, Path | None]
"""Planes of an image, what its header shows and says, and its PSF."""


def record_imports(
    site: Site, paths: Sequence[Path], role: Role, version: Version, stated: StatedOfImages
) -> dict[ExposureRequest, ImportRecord]:
    """Recognise the images in files, and record them by exposure. Nothing is recorded if one is refused.

    Parameters
    ----------
    site
        Site with the destination of the version.
    paths
        Files: whole exposures or single CCDs.
    role
        What they are used for.
    version
        Version of the products.
    stated
        What the user states.

    Returns
    -------
    requests
        The exposures as requests for their processing, with all their recorded images.

    Raises
    ------
    InputError
        If a file is not understood, two hold the same CCD of an exposure, or an exposure was processed from its raw
        file.
    """
    places = ccd_planes(paths)
    if stated.psfs and len(stated.psfs) != len(places):
        raise InputError("--psf is not given once per image", value=len(stated.psfs), limit=len(places))
    for psf in stated.psfs:
        read_given_psf(psf)
    groups: dict[ExposureRequest, list[Found]] = {}
    for number, place in enumerate(places):
        head = read_head(place.image.path, place.image.extension)
        shown = identify_any(head, place.number, stated.mjd)
        if shown.first_mjd is not None and role == "search":
            remedy = "import it as a template, and search the exposures"
            raise InputError("a stack on the sky cannot be searched", value=head.label, remedy=remedy)
        e = shown.exposure
        request = ExposureRequest(expnum=e.expnum, band=e.band, night=e.night, **version.model_dump())
        given = stated.psfs[number] if stated.psfs else None
        groups.setdefault(request, []).append((place, shown, head, given))
    records = {request: _record(images, role, stated) for request, images in groups.items()}
    return {request: write_import(site, request.exposure_id(), record) for request, record in records.items()}


def _record(images: Sequence[Found], role: Role, stated: StatedOfImages) -> ImportRecord:
    """Return the record of an exposure from its images."""
    found: dict[int, ImportedImage] = {}
    first = images[0][1].exposure
    for place, shown, head, psf in images:
        if abs(shown.exposure.mjd - first.mjd) * 86400.0 > SAME_EXPOSURE_S:
            value = f"MJD {first.mjd:.6f} and {shown.exposure.mjd:.6f} in {place.image.path}"
            raise InputError("images of two exposures have one number", expnum=first.expnum, value=value)
        if shown.ccd in found:
            value = f"{found[shown.ccd].image} and {place.image.path}"
            raise InputError(
                "two images of one CCD", expnum=first.expnum, ccd=shown.ccd, value=value, remedy="give one of them"
            )
        found[shown.ccd] = ImportedImage(
            ccd=shown.ccd,
            form=shown.form,
            image=str(place.image.path),
            extension=place.image.extension or "",
            mask=None if place.mask is None else str(place.mask.path),
            weight=None if place.weight is None else str(place.weight.path),
            psf=None if psf is None else str(psf.expanduser().absolute()),
            zeropoint_mag=stated.zeropoint_mag,
            gain=stated.gain,
            mask_bits=stated.mask_bits,
            **_extensions(place, shown.first_mjd),
            **({} if shown.first_mjd is None else _of_stack(place, shown.first_mjd, head, stated)),
        )
    return ImportRecord(role=role, exposure=first, images=tuple(found[ccd] for ccd in sorted(found)))


def _extensions(place: CcdPlanes, first_mjd: float | None) -> dict[str, str | None]:
    """Return the extensions of mask and weight: always of a stack, of a CCD where they are not called as its pixels."""
    planes = {"mask_extension": place.mask, "weight_extension": place.weight}
    return {
        name: plane.extension
        for name, plane in planes.items()
        if plane is not None and (first_mjd is not None or plane.extension != place.image.extension)
    }


def _of_stack(place: CcdPlanes, first_mjd: float, head: ImageHead, stated: StatedOfImages) -> dict[str, Any]:
    """Return what the record of a stack has beside that of a CCD."""
    ny, nx = head.shape
    return {
        "weight_power": place.weight.power if place.weight else 1,
        "mjd": stated.mjd,
        "first_mjd": first_mjd,
        "corners": tuple((float(ra), float(dec)) for ra, dec in footprint(head.wcs, nx, ny).round(7)),
    }
