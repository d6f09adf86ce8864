"""Write the results of ``difference-images``, and read a difference image."""

from pathlib import Path
from typing import Any

import numpy as np

from imaging.difference.engine import ImageDifference
from imaging.difference.headers import subtraction_history, template_header, template_keywords
from imaging.image import CalibratedImage, CcdImage, FloatImage
from imaging.io.atomic import write_bytes
from imaging.io.images import product, read_planes, write_planes
from imaging.io.keywords import ELECTRONS, is_coordinate
from imaging.io.psf import read_psf, write_psf
from imaging.io.stamps import StoredStamps, write_stamps
from imaging.io.tables import write_table
from imaging.pictures.compass import Compass
from imaging.pictures.stamps import triplet_picture
from imaging.tables import column
from imaging.wcs.foreign import wcs_of_header
from imaging.wcs.header import stamp_keywords


def write_image_difference(folder: Path, result: ImageDifference, *, all_pictures: bool = False) -> dict[str, Path]:
    """Write difference, template, PSF, tables, stamps and pictures into a folder, replacing those of an earlier run.

    Parameters
    ----------
    folder
        Output folder; created if necessary.
    result
        Result of :func:`imaging.difference.engine.difference_images`.
    all_pictures
        Whether detections with a flag have a picture too.

    Returns
    -------
    paths
        Written files: ``difference`` (planes SCI, MSK, WGT, SCORE), ``psf``, ``template`` (planes SCI, MSK, WGT of the
        stack and MATCHED, the subtracted matched template), ``detections``, ``stamps`` (images SEARCH, TEMPLATE
        and DIFFERENCE of each detection), ``pictures`` (the folder of one PNG per detection without a flag), and
        ``fakes`` if there were any.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    searched = result.searched
    difference, template = searched.difference, searched.template.image
    paths = {
        "difference": folder / "difference.fits",
        "psf": folder / "difference_psf.fits",
        "template": folder / "template.fits",
        "detections": folder / "detections.parquet",
        "stamps": folder / "stamps.fits",
        "pictures": folder / "stamps",
    }
    image = difference.as_image()
    history, named = subtraction_history(searched), template_keywords(searched.template.inputs)
    planes = _planes(image) | {"SCORE": difference.score}
    write_planes(paths["difference"], planes, _header(image) | named, history=history)
    write_psf(paths["psf"], image.psf)
    planes = _planes(template) | {"MATCHED": difference.model}
    write_planes(paths["template"], planes, _header(template) | template_header(searched), history=history)
    write_table(paths["detections"], searched.detections_table)
    fakes = folder / "fakes.parquet"
    if searched.fakes_table is not None:
        paths["fakes"] = fakes
        write_table(fakes, searched.fakes_table)
    else:
        fakes.unlink(missing_ok=True)
    stamps = _stamps(result)
    write_stamps(paths["stamps"], stamps, {})
    flags = column(searched.detections_table, "flags")
    drawn = [stamp for stamp, flag in zip(stamps, flags, strict=True) if all_pictures or flag == 0]
    for earlier in paths["pictures"].glob("*.png"):
        if earlier.stem.isdigit() and int(earlier.stem) not in {stamp.detection_id for stamp in drawn}:
            earlier.unlink()
    for stamp in drawn:
        picture = triplet_picture(stamp.triplet, Compass.of(stamp.coordinates))
        write_bytes(paths["pictures"] / f"{stamp.detection_id}.png", picture)
    return paths


def read_difference(path: Path, psf_path: Path) -> tuple[CalibratedImage, FloatImage]:
    """Read a difference image, ready for forced photometry.

    Parameters
    ----------
    path, psf_path
        The files ``difference`` and ``psf`` of :func:`write_image_difference`.

    Returns
    -------
    image
        Whitened difference with mask, weight, PSF, coordinates and zero point.
    score
        (ny, nx) float32, significance of a point source.

    Raises
    ------
    StorageError
        If a file is missing or damaged.
    """
    planes, header = read_planes(path, ("SCI", "MSK", "WGT", "SCORE"))
    with product(path, "difference image"):
        wcs = wcs_of_header(header, (planes["SCI"].shape[0], planes["SCI"].shape[1]))
    image = CalibratedImage(
        pixels=CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header),
        wcs=wcs,
        psf=read_psf(psf_path),
        zeropoint_mag=float(header["MAGZERO"]),
        sky_electrons=float(header.get("SKYBRITE", 0.0)),
        saturation_electrons=float(header.get("SATURATE", np.inf)),
        label=path.name,
    )
    return image, planes["SCORE"]


def _stamps(result: ImageDifference) -> list[StoredStamps]:
    table, wcs = result.searched.detections_table, result.searched.difference.search.wcs
    places = (column(table, name).tolist() for name in ("detection_id", "x", "y"))
    return [
        StoredStamps(number, triplet, stamp_keywords(wcs, x, y, triplet.search.shape[0]))
        for number, x, y, triplet in zip(*places, result.stamps, strict=True)
    ]


def _planes(image: CalibratedImage) -> dict[str, Any]:
    return {"SCI": image.pixels.science, "MSK": image.pixels.mask, "WGT": image.pixels.weight}


def _header(image: CalibratedImage) -> dict[str, Any]:
    """Return the keywords of an image's file: its own, WCS and calibration.

    The coordinate keywords of the file that was read are left out: a distortion in another convention beside TPV would
    be applied as well.
    """
    own = image.pixels.header.items()
    simple = {k: v for k, v in own if isinstance(v, (int, float, str)) and len(k) <= 8 and not is_coordinate(k)}
    return (
        simple
        | image.wcs.to_header()
        | {
            "MAGZERO": image.zeropoint_mag,
            "SKYBRITE": image.sky_electrons,
            "SATURATE": image.saturation_electrons,
            "BUNIT": ELECTRONS,
        }
    )
