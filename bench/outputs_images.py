"""Images and stamps of a processed night as astropy, fitsio and fitsverify read them."""

import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import astropy.units as u
import fitsio
import numpy as np
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.nddata import CCDData, InverseVariance
from astropy.utils.exceptions import AstropyUserWarning
from astropy.wcs import WCS, FITSFixedWarning

from bench.outputs_night import ProcessedNight
from bench.report import Row, at_most, none_wrong
from imaging.bits import MaskBit

CALIBRATED = ("*_measured.fits", "*_immask.fits", "*_diff.fits", "*_template.fits")
"""Images with coordinates; a detrended image gets them in the next step."""

IMAGES = ("*_detrend.fits", "*_minisky.fits", "*_psf.fits", "*_diffpsf.fits", "*_stamps.fits", *CALIBRATED)

OF_EXPOSURE = ("DATE-OBS", "TIMESYS", "TELESCOP", "INSTRUME")
NOT_OF_TEMPLATES = ("EXPNUM", "CCDNUM", "MJD-OBS", "DATE-OBS", "EXPTIME", "AIRMASS", "TELRA", "NITE")
FITSVERIFY = shutil.which("fitsverify")


def image_rows(night: ProcessedNight) -> list[Row]:
    """Check headers and planes of the images."""
    files, calibrated = night.files(*IMAGES), night.files(*CALIBRATED)
    planes = [plane for path in calibrated for plane in planes_of(path)]
    masks = [(header, pixels) for _, name, header, pixels in planes if name == "MSK"]
    units = [header.get("BUNIT") for _, _, header, _ in planes]
    headers = {path: first_plane(path).header for path in calibrated}
    stacked = [h for path, h in headers.items() if path.match("*_template.fits")]
    named = [h for path, h in headers.items() if path.match("*_diff.fits") or path.match("*_template.fits")]
    dated = [h for path, h in headers.items() if not path.match("*_template.fits")]
    whole = [path for path in calibrated if not path.match("*_template.fits")]
    return [
        fitsverify_row("FITS files that fitsverify complains about", files),
        none_wrong("FITS files whose checksums are wrong or absent", [not checksums_agree(path) for path in files]),
        none_wrong(
            "planes without celestial coordinates", [not wcs_of(header).has_celestial for _, _, header, _ in planes]
        ),
        at_most("difference of the planes' coordinates", coordinate_spread_mas(planes), "mas", 0.001, n=len(planes)),
        none_wrong("planes without a unit that astropy knows", [not is_unit(unit) for unit in units]),
        none_wrong("planes that fitsio and astropy read differently", [not same_in_fitsio(*plane) for plane in planes]),
        none_wrong("mask planes with a bit without a name", [bool(unnamed_bits(*mask)) for mask in masks]),
        none_wrong("weights that CCDData takes for something else", [not is_ccddata(path) for path in whole]),
        none_wrong("images without date, time scale or instrument", [not set(OF_EXPOSURE) <= set(h) for h in dated]),
        none_wrong(
            "templates with the identity of the search", [bool(set(NOT_OF_TEMPLATES) & set(h)) for h in stacked]
        ),
        none_wrong("differences and templates that do not name all templates", [not names_templates(h) for h in named]),
    ]


def stamp_rows(night: ProcessedNight) -> list[Row]:
    """Check coordinates and pixels of the stamps against detections and images."""
    offsets, unequal = [], []
    for path in night.files("*_stamps.fits"):
        detections = {r["detection_id"]: r for r in pq.read_table(beside(path, "detections.parquet")).to_pylist()}
        difference = first_plane(beside(path, "diff.fits"))
        images = {"SEARCH": image_of(path), "DIFFERENCE": difference.data}
        # A difference is rounded when it is written, after its stamps were cut.
        steps = {"SEARCH": 0.0, "DIFFERENCE": float(difference.header.get("QUANTUM", 0.0))}
        coordinates = WCS(difference.header)
        with fits.open(path) as hdus:
            for hdu in hdus[1:]:
                row = detections[hdu.header["DETID"]]
                x, y = WCS(hdu.header).all_world2pix(row["ra"], row["dec"], 0)
                left, low = (round(row[name]) - hdu.data.shape[0] // 2 for name in "xy")
                offsets.append(np.hypot(x + left - row["x"], y + low - row["y"]) * 263.0)
                # A tangent plane for the polynomial: the corners deviate most.
                ra, dec = WCS(hdu.header).all_pix2world([0.0, 50.0], [0.0, 50.0], 0)
                px, py = coordinates.all_world2pix(ra, dec, 0)
                offsets.append(np.hypot(px - left - [0.0, 50.0], py - low - [0.0, 50.0]).max() * 263.0)
                if hdu.name in images:
                    unequal.append(not same_cut(hdu.data, images[hdu.name], left, low, 0.5 * steps[hdu.name]))
    return [
        at_most("coordinates of stamps against detections and images", float(max(offsets)), "mas", 1.0, n=len(offsets)),
        none_wrong("stamps whose pixels are not those of the image", unequal),
    ]


def planes_of(path: Path) -> Iterator[tuple[Path, str, fits.Header, np.ndarray]]:
    """Yield file, name, header and pixels of the planes of an image that have the shape of the first one."""
    shape = first_plane(path).data.shape
    with fits.open(path) as hdus:
        for hdu in hdus:
            if hdu.data is not None and hdu.data.shape == shape:
                yield path, hdu.name, hdu.header, hdu.data


def first_plane(path: Path) -> fits.ImageHDU:
    """Return header and pixels of the first plane of an image; if it is compressed, the primary HDU is empty."""
    with fits.open(path) as hdus:
        hdu = next(hdu for hdu in hdus if hdu.header["NAXIS"] > 0)
        return fits.ImageHDU(np.asarray(hdu.data), hdu.header.copy())


def wcs_of(header: fits.Header) -> WCS:
    """Return the coordinates of a header as astropy reads them, any complaint an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", FITSFixedWarning)
        return WCS(header)


def coordinate_spread_mas(planes: list[tuple[Path, str, fits.Header, np.ndarray]]) -> float:
    """Return the largest difference of positions between the planes of a file, mas."""
    places: dict[Path, np.ndarray] = {}
    worst = 0.0
    for path, _, header, _ in planes:
        place = np.array(wcs_of(header).all_pix2world([10.0, 2000.0], [4000.0, 50.0], 0))
        worst = max(worst, float(np.abs(place - places.setdefault(path, place)).max()) * 3.6e6)
    return worst


def is_unit(text: str | None) -> bool:
    """Whether astropy parses a unit; an empty one is dimensionless, a missing one no unit."""
    try:
        return text is not None and u.Unit(text, parse_strict="raise") is not None
    except ValueError:
        return False


def same_in_fitsio(path: Path, name: str, header: fits.Header, pixels: np.ndarray) -> bool:
    """Whether fitsio reads the pixels and the coordinates' first keyword as astropy does."""
    with fitsio.FITS(str(path)) as file:
        return bool(
            np.array_equal(file[name].read(), pixels, equal_nan=pixels.dtype.kind == "f")
            and file[name].read_header()["CRVAL1"] == header["CRVAL1"]
        )


def unnamed_bits(header: fits.Header, mask: np.ndarray) -> list[int]:
    """Return the bits of a mask that its header does not name as this project does."""
    used = int(np.bitwise_or.reduce(mask, axis=None))
    names = {number: header.get(f"MSKBIT{number:02d}") for number in range(15) if used >> number & 1}
    return [number for number, name in names.items() if name != MaskBit(1 << number).name]


def is_ccddata(path: Path) -> bool:
    """Whether CCDData reads pixels, mask and weight, with unit and the right kind of uncertainty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyUserWarning)
        image = CCDData.read(path, hdu="SCI", hdu_mask="MSK", hdu_uncertainty="WGT")
    known = image.unit == u.electron and image.wcs is not None and image.mask is not None
    return known and isinstance(image.uncertainty, InverseVariance)


def names_templates(header: fits.Header) -> bool:
    """Whether a header names as many templates as it counts, and tells how they were subtracted."""
    names = [header.get(f"TMPL{number:03d}", "") for number in range(1, header.get("NTMPL", 0) + 1)]
    history = " ".join(str(line) for line in header.get("HISTORY", []))
    return bool(names) and all(name.startswith("D") for name in names) and "kernel" in history


def checksums_agree(path: Path) -> bool:
    """Whether every HDU of a file has checksums, and they are right."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", AstropyUserWarning)
        try:
            with fits.open(path, checksum=True, disable_image_compression=True) as hdus:
                return all("CHECKSUM" in hdu.header for hdu in hdus)
        except AstropyUserWarning:
            return False


def fitsverify_row(name: str, files: list[Path]) -> Row:
    """Return the number of files with warnings or errors of fitsverify."""
    if FITSVERIFY is None:
        return Row(f"{name}: fitsverify is absent", None, "")
    runs = [subprocess.run([FITSVERIFY, "-q", str(p)], capture_output=True, text=True, check=False) for p in files]
    return none_wrong(name, ["verification OK" not in run.stdout for run in runs])


def beside(path: Path, suffix: str) -> Path:
    """Return the product of the same CCD with another suffix."""
    return path.with_name(f"{path.name.rpartition('_')[0]}_{suffix}")


def image_of(path: Path) -> np.ndarray:
    """Return the pixels of the final image of a CCD from the path of a product of its difference."""
    return np.asarray(first_plane(beside(path, "immask.fits").parents[2] / beside(path, "immask.fits").name).data)


def same_cut(stamp: np.ndarray, image: np.ndarray, left: int, low: int, off: float) -> bool:
    """Whether a stamp has the pixels of an image from a corner on, within a difference; NaN outside."""
    side = stamp.shape[0]
    expected = np.full(stamp.shape, np.nan, image.dtype)
    y0, x0 = max(low, 0), max(left, 0)
    part = image[y0 : low + side, x0 : left + side]
    expected[y0 - low : y0 - low + part.shape[0], x0 - left : x0 - left + part.shape[1]] = part
    return bool(np.allclose(stamp, expected, rtol=1e-6 if off else 0.0, atol=off, equal_nan=True))
