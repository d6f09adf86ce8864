"""Zero points of real exposures from Gaia, compared with those of a survey: ``python -m bench.real_zeropoints FOLDER``.

The folder is that of ``bench.real_epochs``: nine cut-outs of one field with three Gaia stars, one of them variable.
Each constant star within the colour range of the band's colour term gives a zero point; their weighted mean is compared
with the survey's, with the stated error: photon noise, Gaia's errors, scatter and scale of the colour term. The
consistency of the survey's zero points is measured by the magnitudes that they give to one constant star.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import sep
from numpy.typing import NDArray

from bench.real_epochs import CONSTANT_STAR_MAG, VARIABLE, Epoch, read_epochs
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.io.source_tables import source_batches
from imaging.photometry.colours import BandMagnitudes, band_magnitudes, gaia_release, published_colour_terms
from imaging.photometry.match import MAG_PER_RELATIVE_FLUX
from imaging.reference.gaia import reference_stars, source_types
from imaging.reference.settings import ReferenceCatalogueSettings

FloatArray = NDArray[np.float64]

CONSTANT = 3960312687065540992
"""Gaia identifier of the brighter constant star."""
APERTURE_DIAMETER_ARCSEC = 7.0
SKY_ANNULUS_ARCSEC = (6.0, 10.0)
PIXEL_ARCSEC = 0.262
SCALE_ERROR_MAG = 0.02
"""Uncertainty with which the survey's zero points and the terms follow the scale of Pan-STARRS, mag. Both are on that
scale, so that its offset from AB cancels."""


@dataclass(frozen=True)
class RealZeropoint:
    """One exposure's zero point compared with the survey's.

    Attributes
    ----------
    date, band
        Date and band of the exposure.
    survey_mag
        The survey's zero point of one count.
    difference_mag, error_mag
        Zero point from Gaia minus the survey's, and its stated error; NaN without a star in the term's range.
    n_stars
        Number of stars used.
    constant_mag, constant_gaia_mag
        Magnitude of the brighter constant star with the survey's zero point, and from Gaia (NaN out of range).
    """

    date: str
    band: str
    survey_mag: float
    difference_mag: float
    error_mag: float
    n_stars: int
    constant_mag: float
    constant_gaia_mag: float

    def is_within(self, survey_scatter_mag: float) -> bool:
        """Whether the difference is no larger than twice the stated error and the survey's scatter together."""
        return bool(abs(self.difference_mag) <= 2.0 * np.hypot(self.error_mag, survey_scatter_mag))


def survey_scatter_mag(rows: Sequence[RealZeropoint]) -> dict[str, float]:
    """Return the rms of a constant star's magnitudes with the survey's zero points, by band."""
    bands = dict.fromkeys(row.band for row in rows)
    return {band: float(np.std([row.constant_mag for row in rows if row.band == band], ddof=1)) for band in bands}


def read_gaia(folder: Path) -> pa.Table:
    """Import the field's Gaia tables (second data release)."""
    settings, types = ReferenceCatalogueSettings(compress=False), source_types()
    paths = sorted((folder / "gaia").glob("*.fits"))
    return pa.concat_tables(
        reference_stars(batch, settings, path.name) for path in paths for batch in source_batches(path, types)
    )


def real_zeropoints(folder: Path) -> list[RealZeropoint]:
    """Compare the zero points of all cut-outs, in order of band and date."""
    stars = read_gaia(folder)
    found = [_compare(epoch, stars) for epoch in read_epochs(folder)]
    return sorted(found, key=lambda row: ("grz".index(row.band), row.date))


def _compare(epoch: Epoch, stars: pa.Table) -> RealZeropoint:
    reference = reference_at_epoch(stars, float(epoch.loaded.header["MJD-OBS"]), AstrometrySettings())
    magnitudes = band_magnitudes(stars, epoch.band, published_colour_terms(gaia_release(stars)))
    ny, nx = epoch.loaded.science.shape
    x, y = epoch.loaded.wcs.sky_to_pixel(reference.ra, reference.dec)
    on = np.flatnonzero((x > 15) & (x < nx - 15) & (y > 15) & (y < ny - 15) & (reference.source_id != VARIABLE))
    flux, error = _photometry(epoch, x[on], y[on])
    constant = reference.source_id[on] == CONSTANT
    own = epoch.zeropoint_mag - 2.5 * np.log10(flux[constant][0])
    difference, difference_error, n = _mean(epoch, magnitudes, on, flux, error)
    gaia = float(magnitudes.mag[on][constant][0])
    return RealZeropoint(epoch.date, epoch.band, epoch.zeropoint_mag, difference, difference_error, n, float(own), gaia)


def _mean(
    epoch: Epoch, magnitudes: BandMagnitudes, on: NDArray[np.int64], flux: FloatArray, error: FloatArray
) -> tuple[float, float, int]:
    """Return the weighted mean of the stars' zero points minus the survey's, its error, and the number of stars."""
    usable = magnitudes.usable[on] & (flux > 5.0 * error)
    if not usable.any():
        return float("nan"), float("nan"), 0
    values = (magnitudes.mag[on] + 2.5 * np.log10(flux) - epoch.zeropoint_mag)[usable]
    errors = np.hypot(magnitudes.mag_error[on], MAG_PER_RELATIVE_FLUX * error / flux)[usable]
    weight = 1.0 / errors**2
    stated = float(np.hypot(1.0 / np.sqrt(weight.sum()), SCALE_ERROR_MAG))
    return float(np.average(values, weights=weight)), stated, int(usable.sum())


def _photometry(epoch: Epoch, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return fluxes and errors in the survey's aperture, with the sky from an annulus."""
    image = np.ascontiguousarray(epoch.loaded.science, dtype=np.float32)
    weight = epoch.loaded.weight
    if weight is None:
        raise ValueError(f"{epoch.date}: the cut-out has no weight")
    noise = np.where(weight > 0, 1.0 / np.sqrt(np.maximum(weight, 1e-12)), 0.0).astype(np.float32)
    flux, error, _ = sep.sum_circle(
        image,
        x,
        y,
        APERTURE_DIAMETER_ARCSEC / 2.0 / PIXEL_ARCSEC,
        err=noise,
        bkgann=tuple(r / PIXEL_ARCSEC for r in SKY_ANNULUS_ARCSEC),
        gain=epoch.loaded.gain,
    )
    return np.asarray(flux, float), np.asarray(error, float)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="zero points of real exposures")
    parser.add_argument("folder", type=Path)
    rows = real_zeropoints(parser.parse_args().folder)
    scatter = survey_scatter_mag(rows)
    print("band date        survey zp  Gaia-survey  error  survey rms  stars  agree  star, survey (known)  star, Gaia")
    for row in rows:
        agrees = "yes" if row.is_within(scatter[row.band]) else "NO"
        print(
            f"{row.band:4s} {row.date}  {row.survey_mag:9.3f}  {row.difference_mag:+11.3f}  {row.error_mag:.3f}"
            f"  {scatter[row.band]:10.3f}  {row.n_stars:5d}  {agrees:5s}"
            f"  {row.constant_mag:12.2f} ({CONSTANT_STAR_MAG[row.date]:.2f})  {row.constant_gaia_mag:10.2f}"
        )


if __name__ == "__main__":
    main()
