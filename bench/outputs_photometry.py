"""SExtractor's photometry with the PSF files of a processed night, and the exported catalogue."""

import io
import subprocess
import tempfile
from pathlib import Path

import fitsio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Table
from scipy.spatial import cKDTree

from bench.outputs_night import ProcessedNight
from bench.outputs_tables import STILTS
from bench.peers import peers_installed, photometry_with, write_frame
from bench.report import Row, at_least, at_most, none_wrong
from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.image import CcdImage
from imaging.io.images import read_planes
from imaging.tables import column
from tasks.jobs import StepJob

WINDOW = slice(200, 1200)
"""Rows and columns of the image that SExtractor measures; its PSF photometry of a whole CCD takes over a minute."""

BRIGHT_ELECTRONS = 20_000.0
STAR_SPREAD = 0.003


def photometry_rows(night: ProcessedNight) -> list[Row]:
    """Compare SExtractor's PSF magnitudes with our PSF file with ours."""
    name = "PSF magnitudes, SExtractor with our PSF file minus ours, median"
    who, ccd = next(night.ccds())
    job = StepJob(exposure=who, ccd=ccd, site=night.site)
    psf = job.product_path("psf.fits")
    with fits.open(psf) as hdus:
        total, step = float(hdus[1].data["PSF_MASK"][0, 0].sum()), float(hdus[1].header["PSF_SAMP"])
    # The wings outside the reference aperture of 22 pixels: 1 to 3 % of the flux.
    rows = [at_most("sum of PSF_MASK times PSF_SAMP^2 minus one", abs(total * step**2 - 1.0), "", 0.03)]
    if not peers_installed():
        return [*rows, Row(f"{name}: SExtractor or PSFEx is absent", None, "mag")]
    planes, header = read_planes(job.product_path("immask.fits"))
    outside = np.ones(planes["SCI"].shape, bool)
    outside[WINDOW, WINDOW] = False
    image = CcdImage(planes["SCI"], planes["MSK"], planes["WGT"], header)
    image.science[outside], image.weight[outside] = 0.0, 0.0
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as scratch:
        folder = Path(scratch)
        write_frame(image, folder, {})
        (folder / "ours.psf").write_bytes(psf.read_bytes())
        found = photometry_with("ours.psf", folder, float(header["FWHM"]), float(header["SATURATE"]))
    catalogue = pq.read_table(job.product_path("fullcat.parquet"))
    places = np.column_stack([column(catalogue, "x"), column(catalogue, "y")])
    distance, nearest = cKDTree(places).query(np.column_stack([found.x, found.y]))
    ours = column(catalogue, "flux_psf")[nearest]
    clean = (column(catalogue, "flags") == 0) & (column(catalogue, "mask") == 0)
    clean &= np.abs(column(catalogue, "spread_model")) < STAR_SPREAD
    stars = (distance < 0.5) & (found.flags == 0) & clean[nearest] & (ours > BRIGHT_ELECTRONS) & (found.flux_psf > 0)
    offset = float(np.median(-2.5 * np.log10(found.flux_psf[stars] / ours[stars])))
    return [
        *rows,
        at_most(name, abs(offset), "mag", 0.01, n=int(stars.sum())),
        at_least("  stars", int(stars.sum()), "", 8),
    ]


def export_rows(night: ProcessedNight) -> list[Row]:
    """Compare the exported image and catalogue with the native ones."""
    paths = night.exported()
    catalogue = pq.read_table(paths["corners"].parent / next(paths["corners"].parent.glob("*_fullcat.parquet")).name)
    exported = Table.read(paths["catalogue"], hdu="LDAC_OBJECTS")
    cards = np.ravel(fits.getdata(paths["catalogue"], "LDAC_IMHEAD")[0][0])
    header = fits.Header.fromstring("".join(str(card).ljust(80) for card in cards))
    flux = column(catalogue, "flux_psf").astype(float)
    bright = flux > 0
    mag = np.asarray(exported["MAG_PSF"])[bright] - header["SEXMGZPT"] + header["MAGZERO"]
    off = float(np.abs(mag - header["MAGZERO"] + 2.5 * np.log10(flux[bright])).max())
    with fitsio.FITS(str(paths["catalogue"])) as file:
        fluxes = file["LDAC_OBJECTS"]["FLUX_PSF"].read(), np.asarray(exported["FLUX_PSF"])
    same = bool(np.array_equal(*fluxes, equal_nan=True))
    planes, _ = read_planes(paths["image"])
    with fits.open(paths["image"]) as hdus:
        names = [hdu.header.get("MSKBIT01") for hdu in hdus if hdu.name == "MSK"]
        placed = all("CRVAL1" in hdu.header for hdu in hdus[1:])
        same_mask = bool(np.array_equal(hdus["MSK"].data, planes["MSK"]))
    with fits.open(paths["psf"]) as hdus:
        norm = hdus[1].header["PSFNORM"]
    return [
        at_most("exported magnitudes by the zero points in their file", off, "mag", 1e-4, n=int(bright.sum())),
        none_wrong(
            "exported files that astropy and fitsio do not find complete",
            [not same, not same_mask, not placed, names != ["SATURATE"], norm != REFERENCE_APERTURE_PIXELS],
        ),
        stilts_row(paths["catalogue"], catalogue),
    ]


def stilts_row(path: Path, catalogue: pa.Table) -> Row:
    """Return the number of rows whose number, place or flux STILTS reads differently from the native catalogue."""
    name = "rows of the exported catalogue that STILTS reads differently"
    if STILTS is None:
        return Row(f"{name}: STILTS is absent", None, "")
    columns = {"NUMBER": "number", "ALPHA_J2000": "ra", "DELTA_J2000": "dec", "FLUX_AUTO": "flux_auto"}
    words = [STILTS, "tpipe", f"in={path}#LDAC_OBJECTS", f"cmd=keepcols '{' '.join(columns)}'", "ofmt=csv"]
    run = subprocess.run(words, capture_output=True, text=True, check=True)
    found = np.genfromtxt(io.StringIO(run.stdout), delimiter=",", names=True)
    expected = np.array([column(catalogue, ours).astype(float) for ours in columns.values()])
    read = np.array([found[theirs] for theirs in columns])
    return none_wrong(name, (~np.isclose(read, expected, rtol=1e-6, atol=1e-9, equal_nan=True)).any(axis=0).tolist())
