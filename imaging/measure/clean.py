"""Prepare a detrended CCD for measurement: sky subtraction, weight map, cosmic-ray and streak masks."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.bits import NO_WEIGHT, MaskBit
from imaging.detector.ccds import Ccd
from imaging.errors import CcdError, InputError
from imaging.image import CcdImage
from imaging.masks.cosmic_rays import CosmicRays, find_cosmic_rays
from imaging.masks.streak_model import Streak, mask_streak
from imaging.masks.streaks import find_streaks
from imaging.measure.fwhm import estimate_fwhm
from imaging.measure.settings import MeasureSettings
from imaging.sky.fit import SkyFit
from imaging.sky.image import sky_image
from imaging.sky.modes import SkyTemplates
from imaging.sky.noise import NoiseCheck, check_noise
from imaging.sky.star_flat import apply_star_flat
from imaging.sky.weight import sky_weight
from imaging.timing import StepTimes


@dataclass(frozen=True, eq=False)
class CleanCalibrations:
    """Calibrations for cleaning; None skips the correction.

    Attributes
    ----------
    flat
        (ny, nx) float32, the applied flat.
    star_flat
        (ny, nx) float32.
    star_flat_name
        Name of the star flat's file, for the header.
    sky_templates
        Modes of this CCD's sky.
    """

    flat: NDArray[np.float32] | None = None
    star_flat: NDArray[np.float32] | None = None
    star_flat_name: str = ""
    sky_templates: SkyTemplates | None = None

    def require_shape(self, shape: tuple[int, ...]) -> None:
        """Raise if a flat does not have the size of the CCD, or the sky templates' bins do not cover it evenly.

        Raises
        ------
        InputError
            If the size differs.
        """
        templates = None if self.sky_templates is None else self.sky_templates.values.shape[1:]
        for kind, size in (
            ("flat", None if self.flat is None else self.flat.shape),
            ("star_flat", None if self.star_flat is None else self.star_flat.shape),
            ("sky_templates", templates and tuple(n * max(shape[0] // templates[0], 1) for n in templates)),
        ):
            if size is not None and size != shape:
                raise InputError(
                    f"calibration has the wrong size: {kind}",
                    value=size,
                    limit=shape,
                    remedy="copy the file of this CCD into the calibration library again",
                )


@dataclass(frozen=True, eq=False)
class CleanCcd:
    """A CCD prepared for measurement.

    Attributes
    ----------
    image
        Sky-subtracted pixels, complete mask, weight.
    fwhm_pixels
        Seeing.
    cosmic_rays, streaks
        Masked cosmic rays and streaks.
    noise
        Noise of blank sky relative to the weights.
    sky_electrons
        Median of the subtracted sky.
    times
        Seconds per step.
    """

    image: CcdImage
    fwhm_pixels: float
    cosmic_rays: CosmicRays
    streaks: list[Streak]
    noise: NoiseCheck
    sky_electrons: float
    times: StepTimes


def clean_ccd(
    science: NDArray[np.float32],
    mask: NDArray[np.int16],
    header: dict[str, Any],
    ccd: Ccd,
    sky: SkyFit,
    calibrations: CleanCalibrations,
    settings: MeasureSettings,
) -> CleanCcd:
    """Subtract the sky, divide by the star flat, compute weights, mask cosmic rays and streaks.

    The seeing is measured first, because cosmic rays are identified as sharper than stars.

    Parameters
    ----------
    science, mask, header, ccd
        The detrended image of a CCD; changed in place.
    sky, calibrations, settings
        Sky of the exposure, calibrations of this CCD and band, thresholds.

    Returns
    -------
    clean
        The image, and the cosmic rays and streaks found on it.

    Raises
    ------
    CcdError
        As :func:`estimate_fwhm` and :func:`find_cosmic_rays`, or if no pixel has weight (``masked``).
    InputError
        If a calibration is of another size than the CCD.
    """
    calibrations.require_shape(science.shape)
    times = StepTimes()
    with times.step("sky"):
        background = sky_image(sky, calibrations.sky_templates, ccd.ccdnum, science.shape)
        science -= background
        header.update(sky.header())
    with times.step("star_flat"):
        if calibrations.star_flat is not None:
            apply_star_flat(science, mask, header, calibrations.star_flat, calibrations.star_flat_name)
    with times.step("weight"):
        weight = sky_weight(mask, background, calibrations.flat, calibrations.star_flat, ccd, header)
        sky_electrons = float(np.median(background[::16, ::16]))
        del background
        if not weight.any():
            raise CcdError("all pixels of the CCD are masked", reason="masked", value="0 pixels", limit="more than 0")
    image = CcdImage(science, mask, weight, header)
    with times.step("seeing"):
        seeing = estimate_fwhm(science, mask, settings)
    with times.step("cosmic_rays"):
        rays = find_cosmic_rays(science, weight, mask, seeing.short_pixels, settings.cosmic_rays)
        mask_cosmic_rays(image, rays)
    with times.step("streaks"):
        streaks = find_streaks(science, weight, mask, settings.streaks)
        mask_streaks(image, streaks)
    with times.step("noise"):
        noise = check_noise(science, weight, mask)
    return CleanCcd(image, seeing.fwhm_pixels, rays, streaks, noise, sky_electrons, times)


def mask_cosmic_rays(image: CcdImage, rays: CosmicRays) -> None:
    """Mask cosmic rays on an image in place, set their weight to zero and count them in the header."""
    image.mask[rays.pixels] |= np.int16(MaskBit.CRAY)
    image.weight[rays.pixels] = 0.0
    image.header["DESNCRAY"] = int(rays.x.size)


def mask_streaks(image: CcdImage, streaks: list[Streak]) -> None:
    """Mask streaks on an image in place, set their weight to zero and count them in the header."""
    for streak in streaks:
        mask_streak(image.mask, streak)
    if streaks:
        image.weight[(image.mask & np.int16(NO_WEIGHT)) != 0] = 0.0
    image.header["DESNSTRK"] = int(image.header.get("DESNSTRK", 0)) + len(streaks)
