"""Simulated CCDs prepared for measurement: detrended, sky subtracted, masked, weighted."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.detector.ccds import science_ccd
from imaging.detrend.chain import DetrendedCcd, detrend_ccd
from imaging.detrend.settings import DetrendSettings
from imaging.exposure import Exposure
from imaging.image import CcdImage
from imaging.io.calibrations import (
    CalibrationLibrary,
    read_calibration_image,
    read_sky_modes,
    read_sky_templates,
)
from imaging.io.colour_terms import COLOUR_TERMS, read_colour_terms
from imaging.io.detrend_calibrations import detrend_calibration_paths, read_detrend_calibrations
from imaging.io.raw import RawIndex, index_raw, read_raw_ccd
from imaging.io.reference import read_reference_cone
from imaging.io.tables import read_table
from imaging.masks.cosmic_rays import find_cosmic_rays
from imaging.masks.settings import CosmicRaySettings, StreakSettings
from imaging.masks.streak_model import mask_streak
from imaging.masks.streaks import find_streaks
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.settings import MeasureSettings
from imaging.photometry.colours import ColourTerms
from imaging.simulation.night import simulate_night
from imaging.simulation.psf import true_psf
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.truth import read_exposure_truth
from imaging.sky.fit import SkyFit, fit_sky
from imaging.sky.image import sky_image
from imaging.sky.settings import SkySettings
from imaging.sky.star_flat import apply_star_flat
from imaging.sky.weight import sky_weight

FloatArray = NDArray[np.float64]

FIELD_RADIUS_DEG = 1.3


@dataclass(frozen=True, eq=False)
class PreparedExposure:
    """CCDs of a simulated exposure, ready to be measured, and the truth about them.

    Attributes
    ----------
    exposure
        Exposure of the header.
    images
        CCD number to image.
    reference
        Reference stars of the field.
    colour_terms
        Colour terms of the calibration library.
    sources
        CCD number to the true sources.
    root
        Folder of the simulation.
    """

    exposure: Exposure
    images: Mapping[int, CcdImage]
    reference: pa.Table
    colour_terms: ColourTerms
    sources: Mapping[int, pa.Table]
    root: Path

    def true_stamp(self, ccd: int, x: float, y: float, half_width: int, shift: tuple[float, float]) -> FloatArray:
        """Return the true PSF: unit flux in the reference aperture, shifted by ``shift`` pixels."""
        truth = read_exposure_truth(self.root, self.exposure.expnum)
        mixture = true_psf(truth, ccd, [x], [y])
        offsets = np.arange(-half_width, half_width + 1.0)
        dx = offsets - (x - np.floor(x + 0.5)) - shift[0]
        dy = offsets - (y - np.floor(y + 0.5)) - shift[1]
        return mixture.evaluate(0, dx[None, :], dy[:, None]) / float(mixture.aperture_fraction()[0])


def prepare_exposure(folder: Path, seed: int, seeing_arcsec: float, ccds: tuple[int, ...]) -> PreparedExposure:
    """Simulate an exposure in the i band and prepare its CCDs.

    Parameters
    ----------
    folder
        Empty folder to simulate into.
    seed
        Seed of sky, weather and noise.
    seeing_arcsec
        Seeing at airmass one.
    ccds
        CCDs to simulate.
    """
    settings = SimulationSettings(
        seed=seed,
        ccds=ccds,
        focus_ccds=False,
        n_search_exposures=1,
        n_template_epochs=0,
        search_seeing_arcsec=(seeing_arcsec, seeing_arcsec),
    )
    night = simulate_night(folder, settings, processes=1)
    index = index_raw(night.raw_path(night.exposures[0]))
    exposure = index.exposure
    library = CalibrationLibrary(night.calibrations)
    detrended = {ccd: _detrend(index, night.raw_path(night.exposures[0]), library, ccd) for ccd in ccds}
    modes = read_sky_modes(library.find("sky_modes", exposure, ccds[0]))
    fit = fit_sky({ccd: d.mini_sky for ccd, d in detrended.items()}, modes, SkySettings())
    sources = folder / "truth" / "sources" / f"{exposure.expnum:08d}"
    return PreparedExposure(
        exposure=exposure,
        images={ccd: _prepare(d, fit, library, exposure, ccd) for ccd, d in detrended.items()},
        reference=read_reference_cone(night.stars, exposure.ra_deg, exposure.dec_deg, FIELD_RADIUS_DEG),
        colour_terms=read_colour_terms(night.calibrations / COLOUR_TERMS),
        sources={ccd: read_table(sources / f"c{ccd:02d}.parquet") for ccd in ccds},
        root=folder,
    )


def _detrend(index: RawIndex, path: Path, library: CalibrationLibrary, ccd: int) -> DetrendedCcd:
    exposure = index.exposure
    calibrations = read_detrend_calibrations(detrend_calibration_paths(library, exposure, ccd), ccd, exposure.band)
    leaking = calibrations.crosstalk.sources_of(ccd) if calibrations.crosstalk else ()
    raws = {
        number: read_raw_ccd(path, index.extensions[number], exposure.expnum)
        for number in (ccd, *leaking)
        if number in index.extensions
    }
    return detrend_ccd(science_ccd(ccd), raws[ccd], raws, exposure, calibrations, DetrendSettings())


def _prepare(
    detrended: DetrendedCcd, fit: SkyFit, library: CalibrationLibrary, exposure: Exposure, ccd: int
) -> CcdImage:
    shape = (detrended.science.shape[0], detrended.science.shape[1])
    templates = read_sky_templates(library.find("sky_templates", exposure, ccd), ccd)
    sky = sky_image(fit, templates, ccd, shape)
    science, mask, header = detrended.science - sky, detrended.mask, dict(detrended.header)
    star_flat = read_calibration_image(library.find("star_flat", exposure, ccd), ccd)
    flat = read_calibration_image(library.find("flat", exposure, ccd), ccd)
    apply_star_flat(science, mask, header, star_flat)
    weight = sky_weight(mask, sky, flat, star_flat, science_ccd(ccd), header)
    seeing = estimate_fwhm(science, mask, MeasureSettings())
    rays = find_cosmic_rays(science, weight, mask, seeing.short_pixels, CosmicRaySettings())
    mask[rays.pixels] |= np.int16(MaskBit.CRAY)
    for streak in find_streaks(science, weight, mask, StreakSettings()):
        mask_streak(mask, streak)
    weight[(mask & int(NO_WEIGHT)) != 0] = 0.0
    return CcdImage(science, mask, weight, header)
