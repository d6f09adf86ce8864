"""Uniformity of zero points over the focal plane with a star flat built from dithered exposures.

At the level of catalogues: stars of a simulated field as measured by Gaia and by the camera, on the 60 usual CCDs, with
the camera's true response to stars relative to the dome lamp, and thin clouds. The star flat is fitted as in
``flows/build_star_flat.py`` and compared with the truth.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.report import Row, at_most
from imaging.bands import BANDS
from imaging.detector.ccds import NX, NY, SCIENCE_CCDS, science_ccd
from imaging.detector.distortion import seed_wcs
from imaging.masters.settings import StarFlatSettings
from imaging.masters.star_flat import StarZeropoints, exposure_zeropoint, fit_star_flat, passband_slopes
from imaging.photometry.colours import REFERENCE_COLOUR_MAG, band_magnitudes
from imaging.photometry.match import MAG_PER_RELATIVE_FLUX
from imaging.simulation.calibrated_fields import EXPTIME_S, FIELD, FLUX_FLOOR, MJD, NOISE_PIXELS
from imaging.simulation.camera import make_star_flat
from imaging.simulation.exposures import CloudTruth, Wave
from imaging.simulation.reference_catalogues import gaia_like_table, locus_colour_terms
from imaging.simulation.stars import Stars, make_stars
from imaging.tables import column
from imaging.wcs.sphere import offset_position
from imaging.wcs.tpv import sky_to_plane

FloatArray = NDArray[np.float64]

BAND = "i"
CAMERA_SEED = 61
CCDS = tuple(ccd for ccd in SCIENCE_CCDS if ccd not in (2, 61))
SAMPLE_PIXELS = 64
"""Grid spacing on which the response is defined and compared, pixels."""
RADIUS_DEG = 1.9
DITHER_ARCSEC = 1200.0
"""Rms offset of the pointings, arcsec: a CCD's width, so that most stars are observed on several CCDs."""
PASSBAND_MAG = 0.003
"""Rms change of a CCD's zero point per magnitude of BP - RP (Li et al. 2016, AJ 151, 157: some millimagnitudes)."""
CLOUDS_MAG, CLOUD_WAVES = 0.003, 4
"""Rms extinction over the field on a photometric night, and the number of plane waves that it is composed of."""
MINIMUM_SNR = 50.0


def uniformity_rows(seeds: Sequence[int], numbers: Sequence[int] = (5, 10, 20)) -> list[Row]:
    """Return the residual rms over the focal plane for star flats of ``numbers`` exposures, worst of the seeds."""
    truth = {ccd: true_excess(ccd) for ccd in CCDS}
    before = np.concatenate([excess.ravel() for excess in truth.values()])
    rows = [Row("uniformity over the focal plane without star flat, rms", _millimag(before), "mmag", n=len(CCDS))]
    slope = "zero point against BP - RP of CCDs, relative to the camera's,"
    rows.append(
        Row(f"{slope} as simulated, rms", _millimag(np.array(list(true_slopes().values()))), "mmag/mag", n=len(CCDS))
    )
    left: dict[int, list[tuple[float, float]]] = {number: [] for number in numbers}
    for seed in seeds:
        seen = observe_dithered(seed, max(numbers), truth)
        for number in numbers:
            flat, slopes = remaining({n: seen[n] for n in range(number)}, truth)
            left[number].append((_millimag(flat), _millimag(slopes)))
    for number, values in left.items():
        name = f"uniformity over the focal plane after a star flat of {number} dithered exposures, rms"
        worst = np.max(values, axis=0)
        rows.append(at_most(name, float(worst[0]), "mmag", 3.0, n=len(CCDS), seeds=seeds))
        name = f"{slope} left by {number} dithered exposures, rms"
        rows.append(Row(name, float(worst[1]), "mmag/mag", n=len(CCDS), seeds=tuple(seeds)))
    return rows


def true_excess(ccd: int) -> FloatArray:
    """Return the camera's response to stars minus that to the lamp, magnitudes, on the coarse grid."""
    response = make_star_flat(CAMERA_SEED, science_ccd(ccd), list(BANDS).index(BAND))
    half = SAMPLE_PIXELS // 2
    return 2.5 * np.log10(response[half::SAMPLE_PIXELS, half::SAMPLE_PIXELS].astype(float))


def observe_dithered(seed: int, number: int, truth: dict[int, FloatArray]) -> dict[int, dict[int, StarZeropoints]]:
    """Observe a field with dithered pointings.

    Parameters
    ----------
    seed, number
        Seed, and number of exposures.
    truth
        CCD number to the excess of its response.

    Returns
    -------
    seen
        Exposure to CCD number to the zero points of its stars.
    """
    random = np.random.default_rng([seed, 7])
    stars = make_stars(seed, *FIELD, RADIUS_DEG, 1.0, 20.0, MJD)
    gaia = gaia_like_table(seed, stars)
    known = band_magnitudes(gaia, BAND, locus_colour_terms())
    by_id = {int(identity): k for k, identity in enumerate(stars.source_id)}
    index = np.array([by_id[int(identity)] for identity in gaia.column("source_id").to_numpy()])
    usable = np.flatnonzero(known.usable & (known.mag < 20.0))
    reference, error, index = known.mag[usable], known.mag_error[usable], index[usable]
    bp, rp = (column(gaia, f"phot_{name}_mean_mag").astype(float)[usable] for name in ("bp", "rp"))
    slopes = true_slopes()
    return {n: _observe(random, stars, index, reference, error, bp - rp, truth, slopes) for n in range(number)}


def true_slopes() -> dict[int, float]:
    """Return the change of the zero point of each CCD per magnitude of BP - RP, magnitudes: passbands differ."""
    random = np.random.default_rng(CAMERA_SEED)
    return {ccd: float(random.normal(0.0, PASSBAND_MAG)) for ccd in CCDS}


def _observe(
    random: np.random.Generator,
    stars: Stars,
    index: NDArray[np.int64],
    reference: FloatArray,
    error: FloatArray,
    listed: FloatArray,
    truth: dict[int, FloatArray],
    slopes: dict[int, float],
) -> dict[int, StarZeropoints]:
    pointing = tuple(float(v) for v in offset_position(*FIELD, *random.normal(0.0, DITHER_ARCSEC, 2)))
    ra, dec = (positions[index] for positions in stars.at_epoch(MJD))
    true_mag, true_colour = stars.magnitude(BAND, MJD)[index], (stars.bp - stars.rp)[index]
    extinction = _clouds(random).extinction_mag(*sky_to_plane(ra, dec, *FIELD))
    nominal = BANDS[BAND].zeropoint_rate_mag + 2.5 * np.log10(EXPTIME_S)
    sky = BANDS[BAND].sky_rate_electrons * EXPTIME_S + 50.0
    seen = {}
    for ccd in CCDS:
        x, y = seed_wcs(ccd, *pointing).sky_to_pixel(ra, dec)
        on = np.flatnonzero((x > 20) & (x < NX - 20) & (y > 20) & (y < NY - 20))
        excess = truth[ccd][(y[on] // SAMPLE_PIXELS).astype(int), (x[on] // SAMPLE_PIXELS).astype(int)]
        excess = excess + slopes[ccd] * (true_colour[on] - REFERENCE_COLOUR_MAG)
        flux = 10.0 ** (0.4 * (nominal + excess - extinction[on] - true_mag[on]))
        flux_error = np.hypot(np.sqrt(flux + NOISE_PIXELS * sky), FLUX_FLOOR * flux)
        measured = flux + flux_error * random.normal(0.0, 1.0, on.size)
        good = (flux > MINIMUM_SNR * flux_error) & (flux < 2.5e6)
        zeropoint = reference[on] + 2.5 * np.log10(np.maximum(measured, 1.0))
        total = np.hypot(error[on], MAG_PER_RELATIVE_FLUX * flux_error / flux)
        known = on[good]
        seen[ccd] = StarZeropoints(
            *(x[known], y[known], zeropoint[good], total[good], listed[known], stars.source_id[index[known]])
        )
    return seen


def _clouds(random: np.random.Generator) -> CloudTruth:
    waves = []
    for _ in range(CLOUD_WAVES):
        k, direction = 2 * np.pi / random.uniform(0.8, 4.0), random.uniform(0.0, 2 * np.pi)
        phase = float(random.uniform(0.0, 2 * np.pi))
        amplitude = CLOUDS_MAG * np.sqrt(2.0 / CLOUD_WAVES)
        waves.append(
            Wave(amplitude=amplitude, kx=float(k * np.cos(direction)), ky=float(k * np.sin(direction)), phase=phase)
        )
    return CloudTruth(mean_mag=0.01, waves=tuple(waves))


def remaining(
    seen: dict[int, dict[int, StarZeropoints]], truth: dict[int, FloatArray]
) -> tuple[FloatArray, FloatArray]:
    """Fit the star flats; return the residual response on all CCDs, magnitudes, and residual slopes with colour."""
    zeropoints = {number: exposure_zeropoint(stars) for number, stars in seen.items()}
    fits = {
        ccd: fit_star_flat({n: stars[ccd] for n, stars in seen.items()}, zeropoints, ccd, StarFlatSettings())
        for ccd in truth
    }
    slopes, true, half, left = passband_slopes(fits), true_slopes(), SAMPLE_PIXELS // 2, []
    for ccd, excess in truth.items():
        response = fits[ccd].at_reference_colour(slopes[ccd]).response()
        fitted = 2.5 * np.log10(response[half::SAMPLE_PIXELS, half::SAMPLE_PIXELS].astype(float))
        left.append((excess - fitted).ravel())
    return np.concatenate(left), np.array([slopes[ccd] - true[ccd] for ccd in fits])


def _millimag(excess: FloatArray) -> float:
    return float(1000.0 * np.std(excess))
