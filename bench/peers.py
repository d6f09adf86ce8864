"""Other programs on the same pixels: SExtractor and PSFEx, if installed (Debian packages)."""

import resource
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.image import CcdImage
from imaging.io.psf import read_psf
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]

_FIRST = """NUMBER X_IMAGE Y_IMAGE FLUX_RADIUS FLUX_APER(1) FLUXERR_APER(1) ELONGATION FLAGS SNR_WIN
VIGNET(45,45)"""
_SECOND = "NUMBER XWIN_IMAGE YWIN_IMAGE FLUX_PSF FLUXERR_PSF FLUX_AUTO SPREAD_MODEL SPREADERR_MODEL FLAGS"

SEXTRACTOR = {
    "FILTER_NAME": "gauss.conv",
    "CATALOG_TYPE": "FITS_LDAC",
    "DETECT_MINAREA": "4",
    "DEBLEND_NTHRESH": "32",
    "DEBLEND_MINCONT": "0.005",
    "PHOT_APERTURES": "22.22",
    "GAIN": "1.0",
    "BACK_TYPE": "MANUAL",
    "BACK_VALUE": "0.0",
    "WEIGHT_TYPE": "MAP_WEIGHT",
    "WEIGHT_IMAGE": "weight.fits",
    "PIXEL_SCALE": "0.263",
    "NTHREADS": "1",
    "VERBOSE_TYPE": "QUIET",
}
# With the survey's SAMPLE_VARIABILITY 0.2 and SAMPLE_MINSN 20 small galaxies are taken for stars and the PSF error is
# 2 %; with these values 0.4 %. Degree one is better than two with 200 stars (0.44 instead of 0.64 %).
_PSFEX = {
    "BASIS_TYPE": "PIXEL_AUTO",
    "PSF_SIZE": "45,45",
    "PSFVAR_KEYS": "X_IMAGE,Y_IMAGE",
    "PSFVAR_GROUPS": "1,1",
    "PSFVAR_DEGREES": "1",
    "SAMPLE_MINSN": "50",
    "SAMPLE_FWHMRANGE": "2.0,30.0",
    "SAMPLE_VARIABILITY": "0.05",
    "SAMPLE_MAXELLIP": "0.3",
    "CHECKPLOT_TYPE": "NONE",
    "CHECKIMAGE_TYPE": "NONE",
    "WRITE_XML": "N",
    "NTHREADS": "1",
    "VERBOSE_TYPE": "QUIET",
}
_FILTER = """CONV NORM
# 5x5 Gaussian of 3 pixels
0.004963 0.021388 0.034749 0.021388 0.004963
0.021388 0.092163 0.149736 0.092163 0.021388
0.034749 0.149736 0.243277 0.149736 0.034749
0.021388 0.092163 0.149736 0.092163 0.021388
0.004963 0.021388 0.034749 0.021388 0.004963
"""


@dataclass(frozen=True, eq=False)
class PeerResult:
    """Results of SExtractor and PSFEx for an image.

    Attributes
    ----------
    x, y
        (n,) windowed centroids, pixels, 0-based.
    flux_psf, flux_psf_error
        (n,) PSF fluxes, electrons, and their errors.
    spread_model, spread_model_error
        (n,) star/galaxy statistic and its error.
    flags
        (n,) extraction flags.
    psf
        The PSF, PSFEx's model or another.
    cpu_s
        CPU seconds per program.
    """

    x: FloatArray
    y: FloatArray
    flux_psf: FloatArray
    flux_psf_error: FloatArray
    spread_model: FloatArray
    spread_model_error: FloatArray
    flags: NDArray[np.int64]
    psf: PsfModel
    cpu_s: dict[str, float]


def peers_installed() -> bool:
    """Whether both programs are on the path."""
    return all(shutil.which(name) for name in ("source-extractor", "psfex"))


def run_peers(image: CcdImage, folder: Path, fwhm_pixels: float, saturation_electrons: float) -> PeerResult:
    """Run SExtractor, PSFEx, and SExtractor with the PSF on an image.

    Parameters
    ----------
    image
        Sky-subtracted pixels.
    folder
        Empty folder for the files.
    fwhm_pixels
        Seeing.
    saturation_electrons
        Level above which pixels are saturated.
    """
    write_frame(image, folder, {})
    settings = _settings(fwhm_pixels, saturation_electrons)
    times = {}
    first = settings | {"DETECT_THRESH": "3.0", "CATALOG_NAME": "first.cat"}
    times["source-extractor for psfex"] = run_program("source-extractor", "image.fits", first, folder, _FIRST)
    times["psfex"] = run_program("psfex", "first.cat", _PSFEX, folder)
    found = photometry_with("first.psf", folder, fwhm_pixels, saturation_electrons)
    return replace(found, cpu_s=times | found.cpu_s)


def photometry_with(psf: str, folder: Path, fwhm_pixels: float, saturation_electrons: float) -> PeerResult:
    """Run SExtractor with a PSF file on the image of a folder in which :func:`write_frame` has put it.

    Parameters
    ----------
    psf
        Name of the PSF file in the folder.
    folder, fwhm_pixels, saturation_electrons
        As in :func:`run_peers`.
    """
    settings = _settings(fwhm_pixels, saturation_electrons)
    settings |= {"DETECT_THRESH": "1.5", "CATALOG_NAME": "second.cat", "PSF_NAME": psf}
    seconds = run_program("source-extractor", "image.fits", settings, folder, _SECOND)
    rows = fits.getdata(folder / "second.cat", "LDAC_OBJECTS")
    columns = {name: np.asarray(rows[name]).astype(float) for name in _SECOND.split()}
    return PeerResult(
        x=columns["XWIN_IMAGE"] - 1.0,
        y=columns["YWIN_IMAGE"] - 1.0,
        flux_psf=columns["FLUX_PSF"],
        flux_psf_error=columns["FLUXERR_PSF"],
        spread_model=columns["SPREAD_MODEL"],
        spread_model_error=columns["SPREADERR_MODEL"],
        flags=columns["FLAGS"].astype(np.int64),
        psf=read_psf(folder / psf),
        cpu_s={"source-extractor with psf": seconds},
    )


def _settings(fwhm_pixels: float, saturation_electrons: float) -> dict[str, str]:
    return SEXTRACTOR | {"SATUR_LEVEL": str(saturation_electrons), "SEEING_FWHM": f"{fwhm_pixels * 0.263:.3f}"}


def write_frame(image: CcdImage, folder: Path, header: Mapping[str, Any]) -> None:
    """Write the input files of SExtractor: pixels with some keywords, weights, the filter."""
    folder.mkdir(parents=True, exist_ok=True)
    keywords = fits.Header(list(header.items()))
    fits.PrimaryHDU(image.science, keywords).writeto(folder / "image.fits", overwrite=True)
    fits.PrimaryHDU(image.weight).writeto(folder / "weight.fits", overwrite=True)
    (folder / "gauss.conv").write_text(_FILTER)


def run_program(program: str, source: str, settings: dict[str, str], folder: Path, columns: str = "") -> float:
    """Run a program in a folder and return the CPU seconds it took."""
    if columns:
        (folder / "columns.param").write_text("\n".join(columns.split()) + "\n")
        settings = settings | {"PARAMETERS_NAME": "columns.param"}
    (folder / f"{program}.conf").write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    before = _children_cpu()
    subprocess.run(
        [str(shutil.which(program)), source, "-c", f"{program}.conf"], cwd=folder, check=True, capture_output=True
    )
    return _children_cpu() - before


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
