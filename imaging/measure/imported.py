"""Measure an image that another pipeline has calibrated, so that it stands where this project's measured images do."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from imaging.astrometry.fit import wcs_through
from imaging.astrometry.reference import reference_at_epoch
from imaging.astrometry.settings import AstrometrySettings
from imaging.astrometry.solution import TiedCcd
from imaging.bits import MaskBit
from imaging.detector.ccds import AMPLIFIERS, CCDS, NX, NY
from imaging.detector.distortion import seed_wcs
from imaging.detrend.header import initial_header
from imaging.difference.prepare import SkylessImage, in_electrons, without_sky
from imaging.errors import CcdError, InputError
from imaging.foreign.cards import FILE_GAIN, GIVEN_ZEROPOINT, SOURCE, positive
from imaging.foreign.identity import ForeignCcd, source_text
from imaging.foreign.noise import CORRELATED
from imaging.image import CcdImage, LoadedImage
from imaging.masks.cosmic_rays import CosmicRays, find_cosmic_rays
from imaging.masks.streak_model import Streak
from imaging.measure.chain import MeasuredCcd, measure_ccd
from imaging.measure.clean import mask_cosmic_rays
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.settings import MeasureSettings
from imaging.psf.model import PsfModel
from imaging.sky.noise import check_noise
from imaging.tables import column
from imaging.timing import StepTimes
from imaging.wcs.sphere import unit_vectors
from imaging.wcs.tpv import N_TERMS, TpvWcs, sky_to_plane

FloatArray = NDArray[np.float64]

GRID = (17, 9)
"""Points along y and x at which the coordinates of a header are fitted by a cubic."""

MAX_MISFIT_ARCSEC = 0.1
"""Largest difference between the coordinates of a header and the cubic; the reference stars correct the rest."""

NEAR_ARCSEC, MIN_CONFIRMING, MAX_SCATTER_ARCSEC = 1.5, 3, 0.2
"""Part of a CCD with few reference stars: distance of a star from its source, fewest stars that confirm the header's
coordinates, and their largest scatter."""


@dataclass(frozen=True, eq=False)
class ImportedCcd:
    """An image of another pipeline, measured.

    Attributes
    ----------
    image
        Sky-subtracted electrons, mask, weight, and the header of an image of this project.
    measured
        Coordinates, PSF and catalogue.
    cosmic_rays, streaks
        Cosmic rays and streaks that were masked beside those of the file's mask.
    nominal
        Coordinates of the file's header, as a cubic about the pointing.
    is_whole
        Whether it is the image of a whole CCD; the coordinates of a part are final.
    quality
        Quality numbers.
    times
        Seconds per step.
    correlation
        (6, 6) autocorrelation of the noise of a stack; None if it is white.
    """

    image: CcdImage
    measured: MeasuredCcd
    cosmic_rays: CosmicRays
    streaks: tuple[Streak, ...]
    nominal: TpvWcs
    is_whole: bool
    quality: Mapping[str, float]
    times: StepTimes
    correlation: FloatArray | None = None

    def part_solution(self) -> TiedCcd | None:
        """Return the final coordinates of a part of a CCD; None for a whole one, which is tied to its neighbours."""
        if self.is_whole:
            return None
        numbers = self.measured.quality
        return TiedCcd.without_others(
            self.measured.wcs, int(numbers["n_astrometry"]), numbers.get("astrometry_rms_mas")
        )


def import_ccd(
    loaded: LoadedImage,
    shown: ForeignCcd,
    reference: pa.Table,
    settings: MeasureSettings,
    *,
    psf: PsfModel | None = None,
    zeropoint_mag: float | None = None,
) -> ImportedCcd:
    """Convert and measure an image of another pipeline.

    Parameters
    ----------
    loaded, shown
        The image as read, and what its header shows.
    reference
        Reference stars around the CCD: columns of :data:`imaging.schemas.reference.REFERENCE_STARS`.
    settings
        Settings of the measurement.
    psf
        PSF, in pixels of the file; None to fit it.
    zeropoint_mag
        AB magnitude of one unit of the file, given by the user; None to solve it.

    Raises
    ------
    CcdError
        If the image is empty, resampled, or has too few stars for its seeing, its PSF or its coordinates.
    InputError
        If its coordinates are no cubic.
    """
    times = StepTimes()
    is_whole, exposure = shown.corner is not None, shown.exposure
    if shown.corner is not None:
        loaded, psf = on_whole_ccd(loaded, shown.corner), moved_psf(psf, shown.corner)
    with times.step("sky"):
        prepared = without_sky(loaded, is_wide=is_whole)
        _require_white(prepared, loaded.label)
    with times.step("electrons"):
        image, gain = in_electrons(loaded, prepared, psf, settings)
    with times.step("seeing"):
        fwhm, short = _widths(image, psf, settings)
    nominal = nominal_wcs(loaded, shown)
    header = _header(loaded, shown, gain, zeropoint_mag)
    image = CcdImage(image.science, image.mask, image.weight, header)
    with times.step("cosmic_rays"):
        rays = find_cosmic_rays(image.science, image.weight, image.mask, short, settings.cosmic_rays)
        mask_cosmic_rays(image, rays)
    measured = measure_ccd(image, exposure, shown.ccd, reference, settings, fwhm, nominal=nominal, psf_model=psf)
    times.add(measured.times)
    if not is_whole and measured.astrometry is None:
        measured = confirmed(measured, reference, exposure.mjd_mid, settings.astrometry)
    quality = dict(measured.quality) | _sky_and_noise(image, loaded, prepared.sky, gain, shown.ccd)
    quality |= {
        "n_cosmic_rays": float(rays.x.size),
        "n_streaks": float(len(prepared.streaks)),
        "file_gain": gain,
        "header_offset_arcsec": offset_arcsec(nominal, measured.wcs, image.shape),
    }
    return ImportedCcd(image, measured, rays, prepared.streaks, nominal, is_whole, quality, times)


def _widths(image: CcdImage, psf: PsfModel | None, settings: MeasureSettings) -> tuple[float, float]:
    """Return the seeing and the width along the short axis of the stars, pixels."""
    if psf:
        return psf.fwhm_pixels, psf.fwhm_pixels
    seeing = estimate_fwhm(image.science, image.mask, settings)
    return seeing.fwhm_pixels, seeing.short_pixels


def _require_white(prepared: SkylessImage, label: str) -> None:
    """Raise if neighbouring pixels have correlated noise, which final images of this project do not have."""
    if prepared.correlation is not None:
        raise CcdError(
            "the noise of neighbouring pixels is correlated: the image was resampled",
            reason="resampled",
            value=f"{prepared.correlation[0, 1]:.2f}, {label}",
            limit=f"{CORRELATED:g}",
            remedy="import the image that was not resampled",
        )


def on_whole_ccd(loaded: LoadedImage, corner: tuple[int, int]) -> LoadedImage:
    """Return an image on the pixels of its whole CCD; those that it lacks have no data.

    Parameters
    ----------
    loaded
        The image.
    corner
        (x, y) of its first pixel on the CCD.
    """
    ny, nx = loaded.science.shape
    if (ny, nx) == (NY, NX):
        return loaded
    place = (slice(corner[1], corner[1] + ny), slice(corner[0], corner[0] + nx))
    science = np.full((NY, NX), np.nan, dtype=np.float32)
    mask = np.full((NY, NX), int(MaskBit.EDGE), dtype=np.int16)
    weight = np.zeros((NY, NX), dtype=np.float32)
    science[place], mask[place] = loaded.science, loaded.mask
    if loaded.weight is not None:
        weight[place] = loaded.weight
    wcs = loaded.wcs.shifted(float(corner[0]), float(corner[1]))
    return replace(loaded, science=science, mask=mask, weight=None if loaded.weight is None else weight, wcs=wcs)


def nominal_wcs(loaded: LoadedImage, shown: ForeignCcd) -> TpvWcs:
    """Return the coordinates of an image as a cubic about the pointing, the tangent point of all CCDs of an exposure.

    The tangent point of a stack is its middle.

    Parameters
    ----------
    loaded, shown
        The image, and what its header shows.

    Raises
    ------
    InputError
        If a cubic does not represent them.
    """
    ny, nx = loaded.science.shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, GRID[1]), np.linspace(0, ny - 1, GRID[0])))
    place, is_stack = (shown.exposure.ra_deg, shown.exposure.dec_deg), shown.first_mjd is not None
    seed = _linear_wcs(loaded, place) if is_stack else seed_wcs(shown.ccd, *place)
    xi, eta = sky_to_plane(*loaded.wcs.pixel_to_sky(x, y), *seed.crval)
    if shown.corner is None and not is_stack:
        centre = seed.plane_to_pixel(xi.mean(), eta.mean())
        seed = seed.shifted(float(nx / 2 - centre[0]), float(ny / 2 - centre[1]))
    fitted = wcs_through(seed, x, y, xi, eta)
    misfit = 3600.0 * float(np.hypot(*np.subtract(fitted.pixel_to_plane(x, y), (xi, eta))).max())
    if misfit > MAX_MISFIT_ARCSEC:
        value, limit = f"{misfit:.2f} arcsec, {loaded.label}", f"{MAX_MISFIT_ARCSEC:g} arcsec"
        raise InputError("the coordinates of the header are no polynomial of third order", value=value, limit=limit)
    return fitted


def _linear_wcs(loaded: LoadedImage, place: tuple[float, float]) -> TpvWcs:
    """Return linear coordinates about a tangent point (RA, Dec), as those of an image are in its middle."""
    x, y = (n / 2 for n in loaded.science.shape[::-1])
    xi, eta = sky_to_plane(*loaded.wcs.pixel_to_sky(np.array([x, x + 1.0, x]), np.array([y, y, y + 1.0])), *place)
    cd = np.array([[xi[1] - xi[0], xi[2] - xi[0]], [eta[1] - eta[0], eta[2] - eta[0]]])
    away = np.linalg.solve(cd, (xi[0], eta[0]))
    pv = np.zeros((2, N_TERMS))
    pv[:, 1] = 1.0
    return TpvWcs(place, (float(x + 1.0 - away[0]), float(y + 1.0 - away[1])), cd, pv)


def moved_psf(psf: PsfModel | None, corner: tuple[int, int]) -> PsfModel | None:
    """Return a PSF in pixels of another image, in whose pixels (x, y) the first pixel of its own is the corner."""
    if psf is None:
        return None
    return replace(psf, origin=(psf.origin[0] + corner[0], psf.origin[1] + corner[1]))


def _header(loaded: LoadedImage, shown: ForeignCcd, gain: float, zeropoint_mag: float | None) -> dict[str, Any]:
    """Return the keywords of an image of this project for an image of another pipeline."""
    ccd, file = CCDS[shown.ccd], loaded.header
    header = initial_header(ccd, file, shown.exposure)
    if shown.corner is None:
        header = {key: value for key, value in header.items() if not key.rstrip("AB").endswith("SEC")}
    header |= {"BUNIT": "electron", "GAIN": 1.0}
    for name in AMPLIFIERS:
        amplifier = ccd.amplifier(name)
        header[f"GAIN{name}"] = 1.0
        header[f"GAINRAW{name}"] = positive(file, f"GAINRAW{name}") or gain
        header[f"RDNOISE{name}"] = positive(file, f"RDNOISE{name}") or amplifier.read_noise_electrons
    nominal = max(a.saturation_adu * a.gain for a in ccd.amplifiers)
    header["SATURATE"] = loaded.saturation * gain if np.isfinite(loaded.saturation) else nominal
    header[SOURCE] = (source_text(shown.form, loaded.label), "pipeline and file")
    header[FILE_GAIN] = (gain, "electrons per unit of the file")
    if zeropoint_mag is not None:
        header[GIVEN_ZEROPOINT] = (zeropoint_mag + 2.5 * float(np.log10(gain)), "[mag] of one electron, given")
    return header


def _sky_and_noise(
    image: CcdImage, loaded: LoadedImage, level: float | None, gain: float, ccd: int
) -> dict[str, float]:
    """Return the quality numbers of the sky, and write them into the header of the image."""
    noise = check_noise(image.science, image.weight, image.mask)
    sky = _sky_electrons(loaded, level, gain, noise.sigma_electrons, ccd)
    image.header["SKYBRITE"], image.header["SKYSIGMA"] = sky, noise.sigma_electrons
    return {
        "sky_electrons": sky,
        "sky_sigma_electrons": noise.sigma_electrons,
        "sky_offset_electrons": noise.offset_electrons,
        "noise_ratio": noise.ratio,
    }


def _sky_electrons(loaded: LoadedImage, level: float | None, gain: float, sigma: float, ccd: int) -> float:
    """Return the level of the sky: that of the pixels or, where it was subtracted before, that of the noise."""
    if level is not None and level * gain > 10.0 * sigma:
        return level * gain
    read = np.mean([amplifier.read_noise_electrons for amplifier in CCDS[ccd].amplifiers])
    of_noise = max(sigma**2 - float(read) ** 2, 0.0)
    stated = positive(loaded.header, "SKYBRITE") if loaded.is_own_product else None
    return of_noise if stated is None else stated * (loaded.gain or 1.0)


def offset_arcsec(nominal: TpvWcs, wcs: TpvWcs, shape: tuple[int, int]) -> float:
    """Return the distance between two coordinate systems in the middle of an image."""
    middle = (shape[1] / 2, shape[0] / 2)
    return 3600.0 * float(np.hypot(*np.subtract(nominal.pixel_to_plane(*middle), wcs.pixel_to_plane(*middle))))


def confirmed(measured: MeasuredCcd, reference: pa.Table, mjd: float, settings: AstrometrySettings) -> MeasuredCcd:
    """Return a measured part of a CCD, with the coordinates of its header shifted to the few reference stars on it.

    Parameters
    ----------
    measured
        The image, measured with the coordinates of its header.
    reference, mjd, settings
        Reference stars, epoch, settings.

    Raises
    ------
    CcdError
        If fewer than three stars confirm the coordinates, or they scatter.
    """
    table, wcs = measured.catalogue, measured.wcs
    stars = reference_at_epoch(reference, mjd, settings)
    stars = stars.select(stars.good)
    sky = unit_vectors(column(table, "ra"), column(table, "dec"))
    apart, which = cKDTree(sky).query(
        unit_vectors(stars.ra, stars.dec), distance_upper_bound=np.radians(NEAR_ARCSEC / 3600.0)
    )
    near = np.isfinite(apart)
    x, y = column(table, "x")[which[near]], column(table, "y")[which[near]]
    xi, eta = sky_to_plane(stars.ra[near], stars.dec[near], *wcs.crval)
    offset = np.stack([xi, eta]) - np.stack(wcs.pixel_to_plane(x, y))
    shift = np.median(offset, axis=1) if near.any() else np.zeros(2)
    scatter = 3600.0 * float(np.hypot(*(offset - shift[:, None])).max(initial=0.0))
    n = int(near.sum())
    if n < MIN_CONFIRMING or scatter > MAX_SCATTER_ARCSEC:
        raise CcdError(
            "the reference stars do not confirm the coordinates of the header",
            reason="astrometry_no_match",
            step="astrometry",
            value=f"{n} stars, scatter {scatter:.2f} arcsec",
            limit=f"at least {MIN_CONFIRMING}, {MAX_SCATTER_ARCSEC:g} arcsec",
            remedy="give a larger part of the image",
        )
    pv = wcs.pv.copy()
    pv[:, 0] += shift
    number = {
        "n_astrometry": float(n),
        "astrometry_rms_mas": float(np.sqrt(np.mean((offset - shift[:, None]) ** 2)) * 3.6e6),
    }
    return replace(
        measured,
        wcs=TpvWcs(wcs.crval, wcs.crpix, wcs.cd, pv),
        astrometry_failure=None,
        quality=dict(measured.quality) | number,
    )
