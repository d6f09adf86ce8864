"""Write and read PSF models in PSFEx format.

The format is a binary table with one row and the column PSF_MASK of (n_terms, n, n) values; its header gives the
polynomial in position (PSFEx user's manual, Bertin 2011). Positions in the header are 1-based, as in FITS. The values
are flux per image pixel, not per sample: PSF_MASK sums to 1 / PSF_SAMP^2, which SExtractor relies on. PSFEx normalises
to the flux in the aperture of its PHOTFLUX_KEY, this project to that in the reference aperture. The reader measures
this flux in the model and renormalises, so that models of other programs, and those of the last version of this
project, which sum to 1, need not be told apart. The keyword PSFNORM states the normalisation for other readers.
"""

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.errors import InputError, StorageError
from imaging.io.atomic import write_bytes
from imaging.io.checked import fits_file
from imaging.io.checksums import bytes_with_checksums
from imaging.io.damage import DamagedError
from imaging.io.images import product
from imaging.psf.model import PsfModel
from imaging.psf.shape import normalised

EXTENSION = "PSF_DATA"

MAX_DEGREE = 10
"""Degree of the polynomial; PSFEx is run with 2 to 5."""


def write_psf(path: Path, psf: PsfModel) -> None:
    """Write a model as a PSFEx file.

    Raises
    ------
    StorageError
        If the file cannot be written.
    """
    n_terms, ny, nx = psf.coefficients.shape
    cards: dict[str, Any] = {
        "LOADED": psf.n_stars,
        "ACCEPTED": psf.n_stars,
        "CHI2": psf.chi2 if np.isfinite(psf.chi2) else 0.0,
        "POLNAXIS": 2,
    }
    for axis, name in enumerate(("X_IMAGE", "Y_IMAGE")):
        cards |= {
            f"POLGRP{axis + 1}": 1,
            f"POLNAME{axis + 1}": name,
            f"POLZERO{axis + 1}": psf.origin[axis] + 1.0,
            f"POLSCAL{axis + 1}": psf.scale[axis],
        }
    cards |= {"POLNGRP": 1, "POLDEG1": psf.degree, "PSF_FWHM": psf.fwhm_pixels, "PSF_SAMP": psf.step}
    cards |= {"PSFNAXIS": 3, "PSFAXIS1": nx, "PSFAXIS2": ny, "PSFAXIS3": n_terms}
    cards["PSFNORM"] = (REFERENCE_APERTURE_PIXELS, "[pixel] diameter of the aperture of unit flux")
    cards["PSFCOLOR"] = (round(psf.width_per_mag, 6), "[1/mag] of the width, with BP - RP")
    values = psf.coefficients[None]
    column = fits.Column("PSF_MASK", f"{psf.coefficients.size}E", dim=f"({nx},{ny},{n_terms})", array=values)
    header = fits.Header([(key, *value) if isinstance(value, tuple) else (key, value) for key, value in cards.items()])
    table = fits.BinTableHDU.from_columns([column], header=header, name=EXTENSION)
    write_bytes(path, bytes_with_checksums(fits.HDUList([fits.PrimaryHDU(), table])))


def read_psf(path: Path) -> PsfModel:
    """Read a PSFEx file, written by :func:`write_psf`, PSFEx or another program.

    Raises
    ------
    StorageError
        If the file is missing or damaged.
    InputError
        If the model is not a polynomial in x and y.
    """
    with product(path, "PSF file"), fits.open(fits_file(path), memmap=False) as hdus:
        header = dict(hdus[1].header)
        data = hdus[1].data
        named = [name for name in data.names if name.upper() == "PSF_MASK"]
        if not named:
            raise InputError(
                "the file has no PSF model of PSFEx",
                value=path,
                limit="a binary table with the column PSF_MASK",
                remedy="give the file that PSFEx wrote for this image",
            )
        if len(data) != 1:
            raise DamagedError(f"{len(data)} models where a file has one")
        return normalised(_model(header, np.array(data[named[0]][0], dtype=np.float32), path))


def read_given_psf(path: Path) -> PsfModel:
    """Read a PSFEx file that the user names.

    Raises
    ------
    InputError
        If it is missing, damaged, or no PSFEx file.
    """
    try:
        return read_psf(path)
    except StorageError as error:
        raise InputError(error.problem, value=path, limit="a PSFEx file") from error


def _model(header: dict[str, Any], mask: NDArray[np.float32], path: Path) -> PsfModel:
    degree = int(header.get("POLDEG1", 0))
    if not 0 <= degree <= MAX_DEGREE:
        raise DamagedError(f"POLDEG1 = {degree}")
    n_terms = (degree + 1) * (degree + 2) // 2
    mask = mask.reshape(-1, *mask.shape[-2:])
    if mask.shape[0] != n_terms or mask.shape[1] % 2 == 0 or mask.shape[1] != mask.shape[2]:
        raise InputError(
            "PSF file not understood",
            value=f"{path}: {mask.shape}",
            limit=f"{n_terms} square images of odd size",
            remedy="rerun the step that writes it",
        )
    origin, scale = (
        tuple(float(header.get(f"{key}{axis}", default)) - shift for axis in (1, 2))
        for key, default, shift in (("POLZERO", 1.0, 1.0), ("POLSCAL", 1.0, 0.0))
    )
    step = float(header.get("PSF_SAMP", 1.0))
    numbers = np.array([*origin, *scale, step])
    if not (np.isfinite(mask).all() and np.isfinite(numbers).all() and min(*scale, step) > 0 and mask[0].sum() > 0):
        raise DamagedError("samples, POLZERO, POLSCAL or PSF_SAMP are no possible numbers")
    return PsfModel(
        coefficients=mask,
        degree=degree,
        step=step,
        origin=(origin[0], origin[1]),
        scale=(scale[0], scale[1]),
        fwhm_pixels=float(header.get("PSF_FWHM", np.nan)),
        n_stars=int(header.get("ACCEPTED", 0)),
        chi2=float(header.get("CHI2", np.nan)),
        width_per_mag=float(header.get("PSFCOLOR", 0.0)),
    )
