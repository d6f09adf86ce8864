"""Plan the exposures of a simulation: times, pointings, conditions."""

from collections.abc import Iterator

import numpy as np

from imaging.bands import BANDS
from imaging.exposure import night_of
from imaging.simulation.conditions import with_conditions
from imaging.simulation.exposures import (
    CloudTruth,
    PsfTruth,
    Quadratic,
    Role,
    SimulatedExposure,
    StreakTruth,
    TurbulenceTruth,
    Wave,
    effective_time_factor,
)
from imaging.simulation.observing import best_instant, default_field, horizontal
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.streams import random_stream
from imaging.wcs.sphere import offset_position

READOUT_S = 29.0
"""Time between two exposures."""

EXPOSURES_PER_NIGHT = 300
"""Number of exposure numbers per night."""

DOME_FLAT_ELECTRONS = 60000.0
DOME_FLAT_EXPTIME_S = 10.0

RAMP_DIMMING = 0.1
"""Brightness of the lamp in the further bands of a ramp over that in the first."""

LAMP_DRIFT, LAMP_HOURS, LAMP_SCATTER = 0.008, 1.5, 1.5e-4
"""Drift of the lamp during a ramp: amplitude as a fraction, and its period; scatter of single frames."""

SHUTTER_OFFSET_S = 0.006
"""Time for which the shutter is open longer than the header says, seconds."""

FRINGE_AMPLITUDE = {"z": 0.004, "Y": 0.009}
"""Amplitude of the night-sky fringes relative to the sky."""


def field_of(settings: SimulationSettings) -> tuple[float, float]:
    """Return the nominal RA and Dec of the field, degrees."""
    if settings.field_ra_deg is not None and settings.field_dec_deg is not None:
        return settings.field_ra_deg % 360.0, settings.field_dec_deg
    duration = settings.search_interval_h * max(settings.n_search_exposures - 1, 0)
    return default_field(settings.night, duration)


def plan_exposures(settings: SimulationSettings) -> tuple[SimulatedExposure, ...]:
    """Draw all exposures, in order of time."""
    ra, dec = field_of(settings)
    exposures = [*_templates(settings, ra, dec), *_search(settings, ra, dec), *_calibrations(settings, ra, dec)]
    return tuple(sorted(exposures, key=lambda exposure: exposure.expnum))


def first_search_mjd(settings: SimulationSettings) -> float:
    """Return the start of the first search exposure."""
    duration = settings.search_interval_h * max(settings.n_search_exposures - 1, 0)
    ra, dec = field_of(settings)
    return best_instant(ra, dec, settings.night, duration) - duration / 48.0


def _search(settings: SimulationSettings, ra: float, dec: float) -> Iterator[SimulatedExposure]:
    start = first_search_mjd(settings)
    step = settings.exptime_s + READOUT_S
    for visit in range(settings.n_search_exposures):
        mjd = start + visit * settings.search_interval_h / 24.0
        first = settings.first_expnum + round(visit * settings.search_interval_h * 3600.0 / step)
        first = max(first, settings.first_expnum + visit * len(settings.bands))
        for number, band in enumerate(settings.bands):
            exposure = _on_sky(settings, "search", first + number, band, mjd + number * step / 86400.0, ra, dec)
            yield with_conditions(exposure, settings)


def _templates(settings: SimulationSettings, ra: float, dec: float) -> Iterator[SimulatedExposure]:
    youngest, oldest = settings.template_ages_days
    step = settings.exptime_s + READOUT_S
    for epoch in range(settings.n_template_epochs):
        share = (epoch + 0.5) / settings.n_template_epochs
        age = round(oldest - share * (oldest - youngest))
        mjd = best_instant(ra, dec, night_of(first_search_mjd(settings) - age))
        first = max(settings.first_expnum - age * EXPOSURES_PER_NIGHT, 1 + epoch * len(settings.bands))
        for number, band in enumerate(settings.bands):
            exposure = _on_sky(settings, "template", first + number, band, mjd + number * step / 86400.0, ra, dec)
            yield with_conditions(exposure, settings)


def _on_sky(
    settings: SimulationSettings, role: Role, expnum: int, band_name: str, mjd: float, ra: float, dec: float
) -> SimulatedExposure:
    random = random_stream(settings.seed, "exposure", expnum)
    band = BANDS[band_name]
    search = role == "search"
    dither = settings.search_dither_arcsec if search else settings.template_dither_arcsec
    header_ra, header_dec = _moved(ra, dec, random.normal(0.0, dither, 2))
    error = settings.pointing_error_arcsec * np.sqrt(random.random())
    angle = random.uniform(0.0, 2 * np.pi)
    true_ra, true_dec = _moved(header_ra, header_dec, error * np.array([np.cos(angle), np.sin(angle)]))
    place = horizontal(true_ra, true_dec, mjd)
    seeing = random.uniform(*(settings.search_seeing_arcsec if search else settings.template_seeing_arcsec))
    fwhm = seeing * place.airmass**0.6 * (band.wavelength_nm / BANDS["i"].wavelength_nm) ** -0.2
    sky_rate = band.sky_rate_electrons * settings.sky_brightness * place.airmass**0.7 * random.normal(1.05, 0.04)
    clouds = _clouds(settings, random)
    transparency = 10.0 ** (-0.4 * clouds.mean_mag)
    zeropoint = band.zeropoint_rate_mag + 2.5 * np.log10(settings.exptime_s)
    return SimulatedExposure(
        seed=settings.seed,
        expnum=expnum,
        role=role,
        band=band_name,
        night=night_of(mjd),
        mjd=mjd,
        exptime_s=settings.exptime_s,
        object_name=f"{settings.event} search" if search else "wide field",
        ra_deg=header_ra,
        dec_deg=header_dec,
        true_ra_deg=true_ra,
        true_dec_deg=true_dec,
        rotation_deg=float(random.normal(0.0, settings.rotation_deg)),
        scale=float(1.0 + random.normal(0.0, 1e-4)),
        shear=(float(random.normal(0.0, 5e-5)), float(random.normal(0.0, 5e-5))),
        hour_angle_deg=place.hour_angle_deg,
        zenith_distance_deg=place.zenith_distance_deg,
        azimuth_deg=place.azimuth_deg,
        parallactic_deg=place.parallactic_deg,
        airmass=place.airmass,
        zeropoint_mag=float(zeropoint - band.extinction_mag * (place.airmass - 1.0)),
        sky_electrons=float(sky_rate * settings.exptime_s),
        sky_modes=_sky_modes(random, band_name),
        psf=_psf(random, fwhm),
        clouds=clouds,
        turbulence=_turbulence(settings, random, expnum),
        streaks=_streaks(settings, random, np.sqrt(sky_rate * settings.exptime_s + 50.0)),
        cosmic_rays_per_ccd=settings.cosmic_rays_per_minute * (settings.exptime_s + READOUT_S / 2) / 60.0,
        t_eff=effective_time_factor(band_name, fwhm, sky_rate, transparency),
    )


def _moved(ra: float, dec: float, offset_arcsec: np.ndarray) -> tuple[float, float]:
    new_ra, new_dec = offset_position(ra, dec, offset_arcsec[0], offset_arcsec[1])
    return float(new_ra), float(new_dec)


def _quadratic(random: np.random.Generator, linear: float, square: float) -> Quadratic:
    c = random.normal(0.0, 1.0, 6) * np.array([0.0, linear, linear, square, square, square])
    return tuple(float(value) for value in c)  # type: ignore[return-value]


def _psf(random: np.random.Generator, fwhm_arcsec: float) -> PsfTruth:
    constant = random.normal(0.0, 0.015, 2)
    e1, e2 = _quadratic(random, 0.012, 0.012), _quadratic(random, 0.012, 0.012)
    return PsfTruth(
        fwhm_arcsec=fwhm_arcsec,
        size=_quadratic(random, 0.012, 0.02),
        e1=(float(constant[0]), *e1[1:]),
        e2=(float(constant[1]), *e2[1:]),
        coma=(float(random.normal(0.0, 0.02)), float(random.normal(0.0, 0.02))),
        ccd_scatter=0.004,
    )


def _clouds(settings: SimulationSettings, random: np.random.Generator) -> CloudTruth:
    mean = settings.cloud_mag * random.uniform(0.5, 1.5)
    rms = mean * settings.cloud_patchiness
    waves = []
    for _ in range(6):
        wavelength, direction = random.uniform(0.8, 4.0), random.uniform(0.0, 2 * np.pi)
        k = 2 * np.pi / wavelength
        waves.append(
            Wave(
                amplitude=float(rms * np.sqrt(2.0 / 6.0)),
                kx=float(k * np.cos(direction)),
                ky=float(k * np.sin(direction)),
                phase=float(random.uniform(0.0, 2 * np.pi)),
            )
        )
    return CloudTruth(mean_mag=float(mean), waves=tuple(waves))


def _turbulence(settings: SimulationSettings, random: np.random.Generator, expnum: int) -> TurbulenceTruth:
    return TurbulenceTruth(
        seed=(settings.seed, expnum),
        rms_mas=float(settings.turbulence_mas * random.uniform(0.8, 1.2) * np.sqrt(90.0 / settings.exptime_s)),
        correlation_arcmin=settings.turbulence_arcmin,
        wind_deg=float(random.uniform(0.0, 180.0)),
    )


def _sky_modes(random: np.random.Generator, band: str) -> tuple[float, ...]:
    """Amplitudes relative to the sky level: level, gradients in x and y, radius, pupil ghost, fringes."""
    gradient_x, gradient_y = random.normal(0.0, 0.012, 2)
    fringes = FRINGE_AMPLITUDE.get(band, 0.0) * random.uniform(0.7, 1.3)
    modes = (1.0, gradient_x, gradient_y, random.normal(0.0, 0.006), random.normal(0.01, 0.003), fringes)
    return tuple(float(mode) for mode in (modes if fringes else modes[:5]))


def _streaks(settings: SimulationSettings, random: np.random.Generator, sky_sigma: float) -> tuple[StreakTruth, ...]:
    streaks = []
    for _ in range(random.poisson(settings.streaks_per_exposure)):
        radius = 1.0 * np.sqrt(random.random())
        place = random.uniform(0.0, 2 * np.pi)
        streaks.append(
            StreakTruth(
                xi_deg=float(radius * np.cos(place)),
                eta_deg=float(radius * np.sin(place)),
                angle_deg=float(random.uniform(0.0, 180.0)),
                peak_electrons=float(sky_sigma * 10.0 ** random.uniform(-0.1, 1.3)),
                sigma_pixels=float(random.uniform(2.0, 4.0)),
                tumbling_amplitude=float(random.uniform(0.0, 0.3)),
                tumbling_period_deg=float(random.uniform(0.2, 2.0)),
            )
        )
    return tuple(streaks)


def _calibrations(settings: SimulationSettings, ra: float, dec: float) -> Iterator[SimulatedExposure]:
    """Draw bias and dome-flat exposures of the afternoon."""
    level, usual = DOME_FLAT_ELECTRONS, DOME_FLAT_EXPTIME_S
    kinds = [("zero", settings.bands[0], 0.0, 0.0)] * settings.n_bias_exposures
    kinds += [("dome flat", band, usual, level) for band in settings.bands for _ in range(settings.n_flat_exposures)]
    kinds += [("dome flat", *exposure) for exposure in _ramp(settings)]
    mjd = first_search_mjd(settings) - 0.2
    for number, (obstype, band, exptime, electrons) in enumerate(kinds):
        role: Role = "zero" if obstype == "zero" else "dome flat"
        yield SimulatedExposure(
            seed=settings.seed,
            expnum=max(settings.first_expnum - 100 - len(kinds) + number, 1),
            role=role,
            band=band,
            night=settings.night,
            mjd=mjd,
            exptime_s=exptime,
            object_name="bias" if role == "zero" else f"dome flat {band}",
            ra_deg=ra,
            dec_deg=dec,
            true_ra_deg=ra,
            true_dec_deg=dec,
            zeropoint_mag=BANDS[band].zeropoint_rate_mag,
            sky_electrons=electrons,
            sky_modes=(1.0,),
            cosmic_rays_per_ccd=settings.cosmic_rays_per_minute * (exptime + READOUT_S / 2) / 60.0,
        )
        mjd += (exptime + READOUT_S) / 86400.0


def _ramp(settings: SimulationSettings) -> Iterator[tuple[str, float, float]]:
    """Draw the dome flats of a ramp: band, exposure time, electrons."""
    random, hours = random_stream(settings.seed, "ramp"), 0.0
    for number, band in enumerate(settings.bands):
        rate = DOME_FLAT_ELECTRONS / DOME_FLAT_EXPTIME_S * RAMP_DIMMING ** min(number, 1)
        for exptime in settings.ramp_exptimes_s:
            lamp = 1.0 + LAMP_DRIFT * np.sin(2 * np.pi * hours / LAMP_HOURS) + LAMP_SCATTER * random.normal()
            yield band, exptime, float(rate * lamp * (exptime + SHUTTER_OFFSET_S))
            hours += (exptime + READOUT_S) / 3600.0
