"""The imported exposures of a site: a document beside their products says which files their CCDs come from."""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from typing import Literal

from pydantic import TypeAdapter

from blocks.imports import import_path, imported_ids
from blocks.site import Site
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.damage import reading
from imaging.io.exposure_list import ListedExposure
from imaging.io.sealed import read_sealed, write_sealed
from tasks.engine.jobs import Record
from tasks.requests import Version

Role = Literal["template", "search"]
"""Whether an exposure serves as a template only, or is also searched in its night."""


class ImportedImage(Record):
    """The files of one CCD's image and what the user stated about it."""

    ccd: int
    """CCD number."""
    form: str
    """Pipeline and version."""
    image: str
    """File of the pixels."""
    extension: str
    """Extension of the pixels; also of mask and weight in other files, unless these are stated."""
    mask: str | None = None
    """File of the mask; None for an extension of the image's file."""
    weight: str | None = None
    """File of the weight; None for an extension of the image's file."""
    mask_extension: str | None = None
    """Extension of the mask; None for that of the pixels."""
    weight_extension: str | None = None
    """Extension of the weight; None for that of the pixels."""
    weight_power: int = 1
    """Power that makes an inverse variance of the weight: -1 for a variance."""
    psf: str | None = None
    """PSFEx file; None to fit the PSF."""
    zeropoint_mag: float | None = None
    """AB magnitude of one unit of the file; None to solve it."""
    gain: float | None = None
    """Electrons per unit of the file; None for what header or noise say."""
    mask_bits: int | None = None
    """Sum of the defect bits of the mask; None to recognise them."""
    mjd: tuple[float, float] | None = None
    """Times of the first and the last exposure of a stack, given by the user; None for those of the header."""
    first_mjd: float | None = None
    """Time of the first exposure of a stack; None for an image of one exposure."""
    corners: tuple[tuple[float, float], ...] | None = None
    """RA and Dec of the corners of a stack, degrees; None for an image of a CCD."""


class ImportRecord(Record):
    """An imported exposure."""

    role: Role
    """What it is used for."""
    exposure: Exposure
    """The exposure of the headers."""
    images: tuple[ImportedImage, ...]
    """Its CCDs, in order of number."""

    @property
    def ccds(self) -> tuple[int, ...]:
        """Its CCD numbers."""
        return tuple(image.ccd for image in self.images)

    @property
    def first_mjd(self) -> float | None:
        """Time of the first exposure of a stack; None for one exposure."""
        return min((image.first_mjd for image in self.images if image.first_mjd is not None), default=None)


def read_import(site: Site, exposure: ExposureId) -> ImportRecord:
    """Return the document of an imported exposure.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    path = import_path(site, exposure)
    with reading(path, "record of an imported exposure missing or damaged", "import its images again"):
        document = json.loads(read_sealed(path))
        known = document["exposure"].items()
        document["exposure"] = {name: math.nan if value is None else value for name, value in known}
        return TypeAdapter(ImportRecord).validate_python(document)


def write_import(site: Site, exposure: ExposureId, record: ImportRecord) -> ImportRecord:
    """Write the document of an exposure; CCDs that were imported before and are not imported now are kept.

    Raises
    ------
    InputError
        If this project has processed the exposure under the same version, or the earlier images are of another one.
    StorageError
        If it cannot be written.
    """
    path = import_path(site, exposure)
    if path.is_file():
        former = read_import(site, exposure)
        if abs(former.exposure.mjd - record.exposure.mjd) * 86400.0 > 3.0 or former.exposure.band != exposure.band:
            value = f"MJD {former.exposure.mjd:.6f} {former.exposure.band} and {record.exposure.mjd:.6f}"
            raise InputError("images of two exposures have one number", expnum=exposure.expnum, value=value)
        images = {image.ccd: image for image in (*former.images, *record.images)}
        record = record.model_copy(update={"images": tuple(images[ccd] for ccd in sorted(images))})
    elif any(path.parent.glob(f"D*_{exposure.rpnum}_measure.json")):
        raise InputError(
            "the exposure has been processed from its raw file under this version",
            expnum=exposure.expnum,
            value=exposure.rpnum,
            remedy="give another version with --pnum, and process the other exposures under it too",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    document = record.model_dump(mode="json", exclude={"exposure"}) | {"exposure": _plain(record.exposure)}
    write_sealed(path, json.dumps(document, indent=1) + "\n")
    return record


def _plain(exposure: Exposure) -> dict[str, object]:
    """Return an exposure for JSON, which has no NaN: what the header lacks is null."""
    return {name: None if value != value else value for name, value in asdict(exposure).items()}


def imported_exposures(site: Site, role: Role | None = None) -> Iterator[tuple[ExposureId, ImportRecord]]:
    """Yield the imported versions of exposures, in order of their paths.

    Parameters
    ----------
    site
        Site with its destination.
    role
        Those of one role only; None for all.
    """
    for who in imported_ids(site):
        record = read_import(site, who)
        if role in (None, record.role):
            yield who, record


def imported_list(site: Site, version: Version | None = None, role: Role | None = None) -> list[ListedExposure]:
    """Return the imported exposures as those of a list, each with the CCDs that it has.

    Parameters
    ----------
    site
        The site.
    version
        Version of the products, and their destination; None for every version at the site's destination.
    role
        Those of one role only; None for all.
    """
    place = site if version is None else site.storing_in(version.destination)
    tag = None if version is None else (version.rnum, version.pnum, version.schema_name)
    found = imported_exposures(place, role)
    return [
        ListedExposure(
            record.exposure,
            ccds=record.ccds,
            corners={image.ccd: image.corners for image in record.images if image.corners} or None,
            first_mjd=record.first_mjd,
        )
        for who, record in found
        if tag in (None, (who.rnum, who.pnum, who.schema))
    ]
