"""Write and read the stamps of detections: one FITS image per stamp, each with its own coordinates.

The images SEARCH, TEMPLATE and DIFFERENCE of the detection number ``n`` in the file have the extension version ``n``,
from 1, and the detection's number in the keyword DETID.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fitsio

from imaging.difference.triplet import StampTriplet
from imaging.io.checked import fits_file
from imaging.io.damage import DamagedError
from imaging.io.images import Header, ImageHdu, Pixels, native, product, read_planes, write_images
from imaging.io.keywords import ELECTRONS, is_coordinate

PLANES = ("SEARCH", "TEMPLATE", "DIFFERENCE")

OF_CUBES = "SEARCH"
"""Name of the first extension in files of the last version."""


@dataclass(frozen=True, eq=False)
class StoredStamps:
    """The stamps of one detection.

    Attributes
    ----------
    detection_id
        Number of the detection.
    triplet
        The stamps, (side, side) float32 each, electrons.
    coordinates
        Keywords of the tangent plane of :func:`imaging.wcs.header.stamp_keywords`, common to the three; empty for files
        of versions that did not store them.
    """

    detection_id: int
    triplet: StampTriplet
    coordinates: Mapping[str, Any]

    @property
    def planes(self) -> dict[str, Pixels]:
        """The pixels by the names of the extensions."""
        return dict(zip(PLANES, (self.triplet.search, self.triplet.template, self.triplet.difference), strict=True))


def write_stamps(path: Path, stamps: Sequence[StoredStamps], header: Mapping[str, Any]) -> None:
    """Write the stamps of detections.

    Parameters
    ----------
    path
        File to write.
    stamps
        The stamps.
    header
        Keywords of all stamps: exposure, CCD, band, time.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    hdus = [ImageHdu("STAMPS", None, {**header, "NSTAMPS": (len(stamps), "detections with stamps")})]
    for number, stamp in enumerate(stamps, start=1):
        own = {"DETID": (stamp.detection_id, "number of the detection"), "BUNIT": ELECTRONS}
        keywords = {**header, **own, **stamp.coordinates}
        hdus += [ImageHdu(name, pixels, keywords, number) for name, pixels in stamp.planes.items()]
    write_images(path, hdus)


def read_stamps(path: Path) -> tuple[list[StoredStamps], Header]:
    """Read the stamps of detections, of this version or, without coordinates, of the last.

    Returns
    -------
    stamps
        The stamps, in the order of the file.
    header
        Keywords of all stamps.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    """
    with product(path), fitsio.FITS(fits_file(path)) as file:
        header = dict(file[0].read_header())
        if file[0].get_extname() == OF_CUBES:
            return _cubes(path), header
        read = [(dict(hdu.read_header()), hdu.read()) for hdu in file if hdu.has_data()]
        triplets = zip(*(read[number :: len(PLANES)] for number in range(len(PLANES))), strict=True)
        stamps = [_stored(triplet) for triplet in triplets]
        if len(stamps) != int(header.get("NSTAMPS", len(stamps))):
            raise DamagedError(f"{len(stamps)} stamps where the header states {header['NSTAMPS']}")
        return stamps, header


def _stored(images: tuple[tuple[Header, Pixels], ...]) -> StoredStamps:
    keywords = images[0][0]
    coordinates = {key: value for key, value in keywords.items() if is_coordinate(key)}
    return StoredStamps(int(keywords["DETID"]), StampTriplet(*(native(pixels) for _, pixels in images)), coordinates)


def _cubes(path: Path) -> list[StoredStamps]:
    """Read a file of the last version: three cubes and the detections' numbers."""
    planes, header = read_planes(path, (*PLANES, "ID"))
    cubes = zip(planes["ID"].tolist(), *(planes[name] for name in PLANES), strict=True)
    stamps = [StoredStamps(detection, StampTriplet(*stamp), {}) for detection, *stamp in cubes]
    return stamps[: int(header.get("NSTAMPS", len(stamps)))]
