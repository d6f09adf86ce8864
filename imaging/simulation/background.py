"""Simulated sky background: a level times a few focal-plane modes, and fringes within the CCDs."""

import numpy as np
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.simulation.camera import upsample
from imaging.simulation.exposures import FOCAL_PLANE_RADIUS_PIXELS, MoonTruth, SimulatedExposure, TwilightTruth
from imaging.simulation.optics import focal_plane
from imaging.simulation.streams import random_stream

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

MODES = ("level", "gradient_x", "gradient_y", "radius", "pupil_ghost")
"""Number of smooth modes; bands with fringes have one more."""

TEMPLATE_BIN = 8
"""Pixels per side of a bin of the sky templates."""

OTHER_LINES = 1.12
"""Wavelength of the usual airglow lines over that of those that vary independently."""

SUPERPIXEL = 128
"""Pixels per side of a superpixel of the mini-skies."""


def smooth_modes(ccdnum: int, x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the smooth modes at pixels of a CCD: (5, ...); gradients reach one at the camera's edge."""
    u, v = focal_plane(ccdnum, x, y)
    r = np.hypot(u, v)
    ghost = np.exp(-(((r - 0.3) / 0.12) ** 2))
    return np.stack([np.ones_like(u), u, v, r**2 - 0.45, ghost - 0.15])


def fringe_phase(camera_seed: int, ccdnum: int, band: str) -> FloatArray:
    """Return the phase of the fringes on a grid of 64 pixels: (65, 33), radians; it follows the silicon's thickness."""
    random = random_stream(camera_seed, "fringes", ccdnum)
    x, y = np.meshgrid(np.arange(0, NX + 1, 64), np.arange(0, NY + 1, 64))
    thickness = np.zeros(x.shape)
    for _ in range(4):
        wavelength, direction = random.uniform(1500.0, 4000.0), random.uniform(0.0, 2 * np.pi)
        k = 2 * np.pi / wavelength
        thickness += 2.2 * np.cos(k * (x * np.cos(direction) + y * np.sin(direction)) + random.uniform(0.0, 2 * np.pi))
    return 2 * np.pi * thickness * 926.0 / BANDS[band].wavelength_nm


def fringes(camera_seed: int, ccdnum: int, band: str, step: int = 1) -> FloatImage:
    """Return the fringe pattern at bin centres: (4096/step, 2048/step) float32, of amplitude one."""
    phase = upsample(fringe_phase(camera_seed, ccdnum, band), 64, (NY, NX))
    if step > 1:
        phase = phase.reshape(NY // step, step, NX // step, step).mean(axis=(1, 3), dtype=np.float32)
    return np.sin(phase)


def sky_image(exposure: SimulatedExposure, camera_seed: int, ccdnum: int, ny: int = NY) -> FloatImage:
    """Return the sky of an exposure for unit flat: (ny, 2048) float32, electrons."""
    x, y = np.meshgrid(np.arange(0, NX + 1, 64, dtype=float), np.arange(0, ny + 1, 64, dtype=float))
    amplitudes = exposure.sky_modes
    smooth = np.tensordot(amplitudes[: len(MODES)], smooth_modes(ccdnum, x, y)[: len(amplitudes)], axes=1)
    coarse = exposure.sky_electrons * smooth
    if exposure.moon is not None:
        coarse = coarse + moonlight(exposure.moon, *focal_plane(ccdnum, x, y))
    if exposure.twilight is not None:
        coarse = coarse + twilight_glow(exposure.twilight, *focal_plane(ccdnum, x, y))
    sky = upsample(coarse, 64, (ny, NX))
    if len(amplitudes) > len(MODES):
        sky += np.float32(exposure.sky_electrons * amplitudes[-1]) * fringes(camera_seed, ccdnum, exposure.band)
    if exposure.second_fringes:
        pattern = np.sin(upsample(OTHER_LINES * fringe_phase(camera_seed, ccdnum, exposure.band), 64, (NY, NX)))
        sky += np.float32(exposure.sky_electrons * exposure.second_fringes) * pattern
    return sky


def moonlight(moon: MoonTruth, u: FloatArray, v: FloatArray) -> FloatArray:
    """Return scattered moonlight at positions of the focal plane, electrons per pixel.

    Rayleigh and Mie scattering by the angle from the Moon (Krisciunas and Schaefer 1991, PASP 103, 1033, equation 21).

    Parameters
    ----------
    moon
        The Moon's light at the centre, distance and direction.
    u, v
        Positions in units of the focal plane's radius, to the south and to the east.
    """
    degrees = FOCAL_PLANE_RADIUS_PIXELS * PIXEL_SCALE_ARCSEC / 3600.0
    direction = np.radians(moon.direction_deg)
    towards = degrees * (v * np.sin(direction) - u * np.cos(direction))
    across = degrees * (v * np.cos(direction) + u * np.sin(direction))
    angle = np.hypot(moon.separation_deg - towards, across)

    def scattering(rho: FloatArray | float) -> FloatArray:
        rayleigh = 10.0**5.36 * (1.06 + np.cos(np.radians(rho)) ** 2)
        return rayleigh + 10.0 ** (6.15 - np.asarray(rho, dtype=float) / 40.0)

    return moon.electrons * scattering(angle) / scattering(moon.separation_deg)


def twilight_glow(twilight: TwilightTruth, u: FloatArray, v: FloatArray) -> FloatArray:
    """Return the Sun's scattered light at positions of the focal plane (u to the south, v to the east), electrons.

    It grows exponentially towards the Sun (Chromey and Hasselbacher 1996, PASP 108, 944, for its gradients).
    """
    direction = np.radians(twilight.direction_deg)
    towards = v * np.sin(direction) - u * np.cos(direction)
    return twilight.electrons * np.exp(twilight.per_radius * towards)


def sky_templates(camera_seed: int, ccdnum: int, band: str, step: int = TEMPLATE_BIN) -> FloatImage:
    """Return all modes of a band in bins of ``step`` pixels: (n_modes, 4096/step, 2048/step) float32."""
    x, y = np.meshgrid(np.arange(NX // step, dtype=float), np.arange(NY // step, dtype=float))
    centre = (step - 1) / 2.0
    modes = smooth_modes(ccdnum, x * float(step) + centre, y * float(step) + centre).astype(np.float32)
    if not BANDS[band].has_fringes:
        return modes
    pattern = fringes(camera_seed, ccdnum, band, min(step, TEMPLATE_BIN))
    if step > TEMPLATE_BIN:
        r = step // TEMPLATE_BIN
        pattern = pattern.reshape(NY // step, r, NX // step, r).mean(axis=(1, 3))
    return np.concatenate([modes, pattern[None]])
