"""Measurements of the pipeline's functions on real pixels of the camera, compared with known values.

The overscan of a raw exposure, and nine calibrated cut-outs of one field with three Gaia stars (pixels, masks and
weights from the Community Pipeline, zero points and offsets from the Legacy Surveys). The folder with the pixels is
beside a developer's checkout and not part of the project. ``python -m bench.real_pixels [--json]`` prints the table;
without the folder it has no rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np
import pyarrow as pa
from astropy.io import fits
from numpy.typing import NDArray

from bench.real_epochs import REAL_DATA
from bench.report import Row, at_most, main
from imaging.astrometry.reference import ReferenceStars, reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.catalogue.apertures import circle_fluxes
from imaging.catalogue.build import find_sources
from imaging.catalogue.settings import CatalogueSettings
from imaging.detector.sections import Section
from imaging.detrend.overscan import measure_overscan
from imaging.detrend.settings import DetrendSettings
from imaging.foreign.mask_planes import COMMUNITY_PIPELINE_CODES
from imaging.image import CcdImage
from imaging.io.calibrated import read_image
from imaging.numerics.robust import mad_sigma
from imaging.schemas.reference import REFERENCE_STARS
from imaging.tables import make_table
from imaging.wcs.foreign import ImageWcs

EPOCHS, RAW = REAL_DATA, REAL_DATA.parent / "raw_decam_cutout"

OVERSCAN = Section(81, 100, 0, 100)
"""Columns of the raw cut-outs that are true overscan."""

APERTURE_PIXELS = 3.5 / 0.2625
"""Radius of an aperture of 7 arcsec."""

CONSTANT_STAR_G = 18.00
CONSTANT_STAR_MAG = {
    431608: 16.68,
    630780: 16.64,
    640615: 16.66,
    720558: 16.67,
    650104: 18.29,
    716705: 18.26,
    730182: 18.22,
    634850: 19.64,
    725257: 19.65,
}
"""Exposure number to the magnitude of the constant star through 7 arcsec with the survey's zero points."""


@dataclass(frozen=True, eq=False)
class CutOut:
    """A calibrated cut-out.

    Attributes
    ----------
    row
        Row of the survey's table.
    image
        Pixels less their median, mask, weight (zero where masked).
    codes
        Mask codes of the Community Pipeline.
    wcs
        Coordinates of the file.
    stars, gaia
        Gaia stars at the epoch, and as catalogued.
    """

    row: np.void
    image: CcdImage
    codes: NDArray[np.integer]
    wcs: ImageWcs
    stars: ReferenceStars
    gaia: pa.Table

    @property
    def expnum(self) -> int:
        """Exposure number."""
        return int(self.row["expnum"])

    @property
    def band(self) -> str:
        """Band."""
        return str(self.row["filter"]).strip()

    def stars_inside(self, border: int = 8) -> NDArray[np.int64]:
        """Return the indices of the stars brighter than G = 20 at some distance from the border, pixels."""
        x, y = self.wcs.sky_to_pixel(self.stars.ra, self.stars.dec)
        ny, nx = self.image.shape
        inside = (x > border) & (x < nx - border) & (y > border) & (y < ny - border)
        return np.flatnonzero(inside & (self.stars.g_mag < 20))

    def constant_star(self) -> int:
        """Return the index of the constant star."""
        found = self.stars_inside(14)
        return int(found[np.argmin(np.abs(self.stars.g_mag[found] - CONSTANT_STAR_G))])

    def offset_arcsec(self) -> tuple[float, float]:
        """Return the mean of image minus Gaia to the east and north over the stars inside."""
        sources = find_sources(self.image, float(self.row["fwhm"]), CatalogueSettings()).centroids
        x, y = self.wcs.sky_to_pixel(self.stars.ra, self.stars.dec)
        nearest = [int(np.argmin(np.hypot(sources.x - x[k], sources.y - y[k]))) for k in self.stars_inside()]
        ra, dec = self.wcs.pixel_to_sky(sources.x[nearest], sources.y[nearest])
        stars = self.stars.select(self.stars_inside())
        east = (ra - stars.ra) * np.cos(np.radians(dec)) * 3600.0
        return float(east.mean()), float((dec - stars.dec).mean() * 3600.0)

    def constant_star_mag(self) -> float:
        """Return the magnitude of the constant star through 7 arcsec with the survey's zero point."""
        k = self.constant_star()
        x, y = self.wcs.sky_to_pixel(self.stars.ra[k : k + 1], self.stars.dec[k : k + 1])
        empty = np.zeros(self.image.shape, np.int32)
        flux, _ = circle_fluxes(self.image.science, self.image.weight, empty, x, y, np.array([APERTURE_PIXELS]))
        return float(self.row["ccdzpt"] - 2.5 * np.log10(flux[0, 0] / self.row["exptime"]))

    def noise_over_stated(self) -> float:
        """Return the sky noise relative to the weights, from differences of neighbouring pixels.

        Differences are insensitive to gradients of the sky; pixels above four sigma are excluded.
        """
        scaled = self.image.science * np.sqrt(self.image.weight)
        differences = np.diff(np.where((self.image.weight > 0.0) & (scaled < 4.0), scaled, np.nan), axis=1)
        return mad_sigma(differences[np.isfinite(differences)]) / np.sqrt(2.0)

    def masks_agree(self) -> bool:
        """Return whether every code was converted to its mask bits, and nothing else was masked."""
        bits = np.array([int(COMMUNITY_PIPELINE_CODES.get(int(code), 0)) for code in range(int(self.codes.max()) + 1)])
        return bool(np.array_equal(bits[self.codes], self.image.mask))


def read_cut_outs(folder: Path) -> list[CutOut]:
    """Read the calibrated cut-outs of a folder."""
    gaia = _gaia_table(folder / "gaia")
    found = []
    for row in fits.getdata(folder / "survey-ccds-1.fits.gz"):
        path = folder / "images" / row["image_filename"].strip()
        loaded = read_image(path)
        codes = fits.getdata(str(path).replace("_ooi_", "_ood_"))
        weight = np.zeros_like(loaded.science) if loaded.weight is None else loaded.weight.copy()
        weight[loaded.mask != 0] = 0.0
        science = loaded.science - np.float32(np.median(loaded.science[loaded.mask == 0]))
        stars = reference_at_epoch(gaia, row["mjd_obs"] + row["exptime"] / 172800.0, AstrometrySettings())
        found.append(CutOut(row, CcdImage(science, loaded.mask, weight, {}), codes, loaded.wcs, stars, gaia))
    return found


def _gaia_table(folder: Path) -> pa.Table:
    parts = [part for part in (fits.getdata(path) for path in sorted(folder.glob("chunk-*.fits"))) if len(part)]
    rows = np.concatenate(parts)
    columns = {}
    for field in REFERENCE_STARS:
        if field.name in (rows.dtype.names or ()):
            values = np.asarray(rows[field.name])
            values = values.astype(values.dtype.newbyteorder("="))
            columns[field.name] = values if field.name == "source_id" else pa.array(values, mask=~np.isfinite(values))
        elif field.name.endswith("mag_error"):
            snr = np.asarray(rows[field.name.replace("mag_error", "flux_over_error")], float)
            columns[field.name] = 1.0857 / np.maximum(snr, 1e-3)
    columns["ruwe"] = pa.nulls(len(rows), pa.float32())
    columns["variable"] = np.zeros(len(rows), bool)
    return make_table(columns, REFERENCE_STARS)


def overscan_differences(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return level minus known level, ADU, and noise over known noise, of the science CCDs of the raw exposure."""
    layout = np.genfromtxt(
        folder / "derived_raw_layout.csv", delimiter=",", names=True, dtype=None, encoding="utf-8", usecols=range(16)
    )
    known = {row["extname"]: row for row in layout}
    settings = DetrendSettings(overscan_trim_columns=0)
    levels, noises = [], []
    with fitsio.FITS(str(folder / "cutout_c4d_200306_000415_ori.fits.fz")) as file:
        for hdu in file[1:]:
            header = hdu.read_header()
            row = known[header["EXTNAME"].strip()]
            if header["CCDNUM"] > 62 or not row["os_sigma_e"] > 0:
                continue
            overscan = measure_overscan(hdu.read().astype(np.uint16), OVERSCAN, settings)
            levels.append(overscan.level_adu - row["os_median_adu"])
            noises.append(overscan.noise_adu * header[f"GAIN{row['os_side']}"] / row["os_sigma_e"])
    return np.array(levels), np.array(noises)


def measure(quick: bool) -> Sequence[Row]:  # noqa: ARG001 (it takes three seconds)
    """Measure the real pixels; no rows if the folder is absent."""
    if not EPOCHS.is_dir():
        return []
    levels, noises = overscan_differences(RAW)
    cut_outs = read_cut_outs(EPOCHS)
    offsets = np.array([cut_out.offset_arcsec() for cut_out in cut_outs])
    known = np.array([(-cut_out.row["ccdraoff"], -cut_out.row["ccddecoff"]) for cut_out in cut_outs])
    error_mas, blue = 1000.0 * np.abs(offsets - known), np.array([cut_out.band == "g" for cut_out in cut_outs])
    mags = [cut_out.constant_star_mag() - CONSTANT_STAR_MAG[cut_out.expnum] for cut_out in cut_outs]
    noise = [cut_out.noise_over_stated() - 1.0 for cut_out in cut_outs]
    wrong = sum(not cut_out.masks_agree() for cut_out in cut_outs)
    n = len(cut_outs)
    return [
        at_most("raw overscan, level against the known one, worst", _worst(levels), "ADU", 0.6, n=levels.size),
        at_most("raw overscan, noise against the known one, worst", _worst(noises - 1.0), "", 0.08, n=noises.size),
        at_most(
            "offset from Gaia, r and z, worst axis",
            float(error_mas[~blue].max()),
            "mas",
            21.0,
            n=2 * int((~blue).sum()),
        ),
        at_most("offset from Gaia, g, worst axis", float(error_mas[blue].max()), "mas", 42.0, n=2 * int(blue.sum())),
        at_most("magnitude of the constant star, worst", _worst(mags), "mag", 0.02, n=n),
        at_most("measured over stated noise of the sky, worst distance from 1", _worst(noise), "", 0.04, n=n),
        at_most("masks that are not those of the codes", float(wrong), "", 0.0, n=n),
    ]


def _worst(values: NDArray[np.float64] | Sequence[float]) -> float:
    return float(np.max(np.abs(values)))


if __name__ == "__main__":
    main("Real pixels", measure)
