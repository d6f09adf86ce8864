"""Draw the conditions of an exposure on a hard sky: telescope, guiding, clouds, Moon, glints."""

import numpy as np

from imaging.bands import BANDS
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.simulation.exposures import (
    CloudTruth,
    GlintTruth,
    MoonTruth,
    OpticsTruth,
    PsfTruth,
    Quadratic,
    SimulatedExposure,
    StreakTruth,
    TwilightTruth,
    Wave,
)
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.skies import SkyEffects
from imaging.simulation.streams import random_stream

VANE_ANGLE_DEG = 45.0
"""Direction of the spikes on the CCDs; the mounting is equatorial, so that they never turn."""

BAD_FOCUS_ARCSEC = 0.7
"""Ray displacement at the edge of the pupil of an exposure that is clearly out of focus."""

WINGSPAN_DEG, AIRCRAFT_SIGMA_PIXELS = 0.2, 75.0
"""Distance of the wings' lights, 35 m, and width of their trails, that of the mirror, at 10 km."""

_RELATIVE = np.array([1.0, 0.6, 0.6, 0.45, 0.6, 0.6, 0.45, 0.3])
"""Sizes of the aberrations relative to defocus: astigmatism, coma, trefoil, their second directions, spherical."""

_SHAPE = np.array([1.0, 0.5, 0.5, 0.35, 0.35, 0.35])
"""Sizes of constant, tilt and curvature over the focal plane."""


def with_conditions(exposure: SimulatedExposure, settings: SimulationSettings) -> SimulatedExposure:
    """Return an exposure with the conditions of the named sky; unchanged on the easy one.

    Parameters
    ----------
    exposure
        An exposure on the sky, as planned.
    settings
        Settings of the night.
    """
    effects = settings.effects
    random = random_stream(settings.seed, "conditions", exposure.expnum)
    changes: dict[str, object] = {}
    scattered = 0.0
    if _has_optics(effects):
        changes["optics"] = _optics(effects, settings.camera_seed, random)
        changes["psf"] = _simple(exposure.psf)
    if effects.cloud_structure > 0.0:
        changes["clouds"] = _structured(exposure.clouds, effects.cloud_structure, random)
    streaks = exposure.streaks
    if effects.wide_trails > 0.0:
        streaks = tuple(_perhaps_wide(streak, effects.wide_trails, random) for streak in streaks)
    if effects.tumbling > 0.0 or effects.aircraft_per_exposure > 0.0:
        streaks = _with_flashes(streaks, exposure, settings)
    if streaks is not exposure.streaks:
        changes["streaks"] = streaks
    if effects.moonlight > 0.0:
        sky = exposure.sky_electrons * effects.moonlight * random.uniform(0.5, 1.5)
        separation, direction = float(random.uniform(25.0, 120.0)), float(random.uniform(0.0, 360.0))
        changes["moon"] = MoonTruth(electrons=float(sky), separation_deg=separation, direction_deg=direction)
        scattered += sky
    evening = random_stream(settings.seed, "twilight", exposure.expnum)
    if evening.random() < effects.twilight:
        glow = _twilight(exposure, evening)
        changes["twilight"] = glow
        scattered += glow.electrons
    if effects.fringe_change > 0.0 and BANDS[exposure.band].has_fringes:
        changes["second_fringes"] = float(random.normal(0.0, effects.fringe_change) * exposure.sky_modes[-1])
    if effects.glints_per_exposure > 0.0:
        changes["glints"] = tuple(_glint(random) for _ in range(random.poisson(effects.glints_per_exposure)))
    if scattered > 0.0:
        changes["t_eff"] = exposure.t_eff * exposure.sky_electrons / (exposure.sky_electrons + scattered)
    return exposure.model_copy(update=changes) if changes else exposure


def _twilight(exposure: SimulatedExposure, random: np.random.Generator) -> TwilightTruth:
    """Draw the light of twilight: once to three times the dark sky, 3 to 10 % per degree towards the Sun."""
    return TwilightTruth(
        electrons=float(exposure.sky_electrons * random.uniform(1.0, 3.0)),
        per_radius=float(random.uniform(0.03, 0.1)),
        direction_deg=float(random.uniform(0.0, 360.0)),
    )


def _glint(random: np.random.Generator) -> GlintTruth:
    radius, place = 1.0 * np.sqrt(random.random()), random.uniform(0.0, 2 * np.pi)
    return GlintTruth(
        xi_deg=float(radius * np.cos(place)),
        eta_deg=float(radius * np.sin(place)),
        angle_deg=float(random.uniform(0.0, 180.0)),
        length_arcsec=float(random.uniform(1.0, 5.0)),
        electrons=float(10.0 ** random.uniform(3.3, 5.0)),
    )


def _has_optics(effects: SkyEffects) -> bool:
    return (
        any((effects.kolmogorov, effects.vanes, effects.wide_aureole, effects.chromatic))
        or max(effects.aberrations_arcsec, effects.focus_steps_arcsec, effects.guiding_jumps, effects.bad_focus) > 0.0
    )


def _simple(psf: PsfTruth) -> PsfTruth:
    """Keep what is not of the optics: seeing, and the ellipticity by wind and guiding, the same everywhere."""
    none = (0.0, 0.0, 0.0, 0.0, 0.0)
    return PsfTruth(fwhm_arcsec=psf.fwhm_arcsec, e1=(psf.e1[0], *none), e2=(psf.e2[0], *none))


def _optics(effects: SkyEffects, camera_seed: int, random: np.random.Generator) -> OpticsTruth:
    size = effects.aberrations_arcsec * _RELATIVE[:, None] * _SHAPE * random.normal(0.0, 1.0, (8, 6))
    if random.random() < effects.bad_focus:
        size[0, 0] = np.copysign(BAD_FOCUS_ARCSEC, size[0, 0])
    share = random.uniform(0.1, 0.5) if random.random() < effects.guiding_jumps else 0.0
    length, direction = random.uniform(0.5, 1.5) / PIXEL_SCALE_ARCSEC, random.uniform(0.0, 2 * np.pi)
    aberrations: tuple[Quadratic, ...] = tuple(tuple(map(float, row)) for row in size)  # type: ignore[misc]
    return OpticsTruth(
        moffat=not effects.kolmogorov,
        aberrations=aberrations,
        focus_step_arcsec=effects.focus_steps_arcsec,
        camera_seed=camera_seed,
        vane_angle_deg=VANE_ANGLE_DEG if effects.vanes else None,
        wide_aureole=effects.wide_aureole,
        chromatic=effects.chromatic,
        jump_share=float(share),
        jump_pixels=(float(length * np.cos(direction)), float(length * np.sin(direction))),
    )


def _structured(clouds: CloudTruth, relative: float, random: np.random.Generator) -> CloudTruth:
    """Add waves of 3 to 30 arcmin whose power follows the turbulence that breaks up a cloud (Kolmogorov)."""
    length_deg = np.geomspace(0.5, 0.05, 12)
    amplitude = length_deg ** (1.0 / 3.0)
    amplitude *= clouds.mean_mag * relative * np.sqrt(2.0 / np.sum(amplitude**2))
    waves = []
    for wavelength, size in zip(length_deg, amplitude, strict=True):
        direction = random.uniform(0.0, 2 * np.pi)
        k = 2 * np.pi / wavelength
        kx, ky, phase = k * np.cos(direction), k * np.sin(direction), random.uniform(0.0, 2 * np.pi)
        waves.append(Wave(amplitude=float(size), kx=float(kx), ky=float(ky), phase=float(phase)))
    return CloudTruth(mean_mag=clouds.mean_mag, waves=(*clouds.waves, *waves))


def _perhaps_wide(streak: StreakTruth, share: float, random: np.random.Generator) -> StreakTruth:
    """Widen a share of the trails: a source at distance h is a disc of mirror diameter over h (Ragazzoni 2020)."""
    wide = random.random() < share
    distance_km, diameter_m = 10.0 ** random.uniform(1.0, 2.6), 3.93
    sigma = np.degrees(diameter_m / (distance_km * 1e3)) * 3600.0 / PIXEL_SCALE_ARCSEC / 4.0
    if not wide:
        return streak
    return streak.model_copy(update={"sigma_pixels": float(np.clip(np.hypot(sigma, 2.0), 4.0, 60.0))})


def _with_flashes(
    streaks: tuple[StreakTruth, ...], exposure: SimulatedExposure, settings: SimulationSettings
) -> tuple[StreakTruth, ...]:
    """Let a share of the trails tumble to darkness, and add aircraft 10 km away whose lights flash once a second."""
    effects, random = settings.effects, random_stream(settings.seed, "flashes", exposure.expnum)
    found = []
    for streak in streaks:
        period = float(random.uniform(0.05, 0.5))
        tumbles = {"tumbling_amplitude": 1.0, "tumbling_period_deg": period}
        found.append(streak.model_copy(update=tumbles if random.random() < effects.tumbling else {}))
    for _ in range(random.poisson(effects.aircraft_per_exposure)):
        radius, place = np.sqrt(random.random()), random.uniform(0.0, 2 * np.pi)
        angle = float(random.uniform(0.0, 180.0))
        peak, period = float(10.0 ** random.uniform(1.5, 3.0)), float(random.uniform(0.7, 1.5))
        for side in (-0.5, 0.5):
            offset = side * WINGSPAN_DEG
            wing = StreakTruth(
                xi_deg=float(radius * np.cos(place) - offset * np.sin(np.radians(angle))),
                eta_deg=float(radius * np.sin(place) + offset * np.cos(np.radians(angle))),
                angle_deg=angle,
                peak_electrons=peak,
                sigma_pixels=AIRCRAFT_SIGMA_PIXELS,
                tumbling_amplitude=1.0,
                tumbling_period_deg=period,
            )
            found.append(wing)
    return tuple(found)
