"""SCAMP on the same pixels and the same reference stars, if installed (a Debian package)."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from bench.peers import SEXTRACTOR, run_program, write_frame
from imaging.astrometry.reference import ReferenceStars
from imaging.export.catalogue import DesColumn
from imaging.image import CcdImage
from imaging.io.ldac import write_ldac
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]

_COLUMNS = """NUMBER X_IMAGE Y_IMAGE XWIN_IMAGE YWIN_IMAGE ERRAWIN_IMAGE ERRBWIN_IMAGE ERRTHETAWIN_IMAGE FLUX_AUTO
FLUXERR_AUTO FLUX_RADIUS ELONGATION FLAGS"""

_SCAMP = {
    "ASTREF_CATALOG": "FILE",
    "ASTREFCAT_NAME": "reference.cat",
    "ASTREFCENT_KEYS": "RA,DEC",
    "ASTREFERR_KEYS": "ERRA,ERRB,ERRTHETA",
    "ASTREFMAG_KEY": "MAG",
    "ASTREFMAGERR_KEY": "MAGERR",
    "ASTREFMAG_LIMITS": "-99.0,22.0",
    "POSITION_MAXERR": "2.0",
    "CROSSID_RADIUS": "2.0",
    "DISTORT_DEGREES": "3",
    "STABILITY_TYPE": "INSTRUMENT",
    "CENTROID_KEYS": "XWIN_IMAGE,YWIN_IMAGE",
    "CENTROIDERR_KEYS": "ERRAWIN_IMAGE,ERRBWIN_IMAGE,ERRTHETAWIN_IMAGE",
    "DISTORT_KEYS": "XWIN_IMAGE,YWIN_IMAGE",
    "SOLVE_PHOTOM": "N",
    "CHECKPLOT_TYPE": "NONE",
    "WRITE_XML": "N",
    "NTHREADS": "1",
    "VERBOSE_TYPE": "QUIET",
}


@dataclass(frozen=True, eq=False)
class ScampResult:
    """Results of SCAMP for a CCD.

    Attributes
    ----------
    wcs
        Its coordinates.
    cpu_s
        CPU seconds per program.
    """

    wcs: TpvWcs
    cpu_s: dict[str, float]


def scamp_installed() -> bool:
    """Whether the programs are on the path."""
    return all(shutil.which(name) for name in ("source-extractor", "scamp"))


def run_scamp(image: CcdImage, seed: TpvWcs, stars: ReferenceStars, folder: Path) -> ScampResult:
    """Run SExtractor and SCAMP on an image.

    Parameters
    ----------
    image
        Sky-subtracted pixels.
    seed
        Initial coordinates from the header.
    stars
        Reference stars at the epoch.
    folder
        Empty folder for the files.
    """
    write_frame(image, folder, seed.to_header())
    nearby = np.hypot(stars.dec - seed.crval[1], (stars.ra - seed.crval[0]) * np.cos(np.radians(seed.crval[1]))) < 1.3
    _write_reference(folder / "reference.cat", stars, nearby)
    settings = SEXTRACTOR | {"DETECT_THRESH": "5.0", "CATALOG_NAME": "scamp.cat"}
    times = {"source-extractor for scamp": run_program("source-extractor", "image.fits", settings, folder, _COLUMNS)}
    times["scamp"] = run_program("scamp", "scamp.cat", _SCAMP, folder)
    text = (folder / "scamp.head").read_text(encoding="latin-1")
    header = fits.Header.fromstring("\n".join(line for line in text.splitlines() if "COMMENT" not in line), sep="\n")
    return ScampResult(TpvWcs.from_header(dict(header)), times)


def _write_reference(path: Path, stars: ReferenceStars, chosen: NDArray[np.bool_]) -> None:
    """Write reference stars as an LDAC file; SCAMP expects error ellipses in degrees."""
    n, error = int(chosen.sum()), stars.ra_error_mas[chosen] / 3.6e6
    values: dict[str, tuple[FloatArray, str, str]] = {
        "RA": (stars.ra[chosen], "D", "deg"),
        "DEC": (stars.dec[chosen], "D", "deg"),
        "ERRA": (error, "E", "deg"),
        "ERRB": (error, "E", "deg"),
        "ERRTHETA": (np.zeros(n), "E", "deg"),
        "MAG": (stars.g_mag[chosen], "E", "mag"),
        "MAGERR": (np.full(n, 0.01), "E", "mag"),
        "OBSDATE": (np.full(n, 2000.0), "D", "yr"),
    }
    columns = {name: DesColumn(array, form, unit, "") for name, (array, form, unit) in values.items()}
    write_ldac(path, columns, {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0})
