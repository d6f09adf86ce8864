"""The simulated sky: stars, galaxies, transients, asteroids, and the part on each CCD."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.detector.distortion import seed_wcs
from imaging.exposure import night_of
from imaging.simulation.asteroids import Asteroids, make_asteroids
from imaging.simulation.dust import redden
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.galaxies import Galaxies, host_galaxy, make_galaxies
from imaging.simulation.galaxy_structure import large_galaxies
from imaging.simulation.plan import field_of, first_search_mjd
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.stars import FIRST_ID, Stars, make_stars, with_small_variables
from imaging.simulation.streams import random_stream
from imaging.simulation.transients import Transients, make_transients
from imaging.wcs.tpv import sky_to_plane

FloatArray = NDArray[np.float64]
Catalogue = TypeVar("Catalogue", Stars, Galaxies, Transients)

FIELD_RADIUS_DEG = 1.25
"""Radius of the simulated sky: the camera's field, dithers and a margin."""

FIELD_AREA_DEG2 = np.pi * FIELD_RADIUS_DEG**2
CCD_AREA_DEG2 = NX * NY * (PIXEL_SCALE_ARCSEC / 3600.0) ** 2

MARGIN_PIXELS = 1500.0
"""Margin around a CCD of the nominal pointing within which sources are kept: dither, pointing error, wide wings."""

ASTEROID_FIELD_DEG = 1.4

CROWDED = 5.0
"""Star density above which only stars near the simulated CCDs are drawn."""

GHOST_MAG = 14.0
"""Stars brighter than this may throw ghosts from anywhere in the field."""


@dataclass(frozen=True, eq=False)
class SimulatedSky:
    """All sources of a simulated sky.

    Attributes
    ----------
    stars, galaxies, transients
        Stationary sources.
    asteroids
        Asteroids by night.
    """

    stars: Stars
    galaxies: Galaxies
    transients: Transients
    asteroids: Mapping[int, Asteroids]


def select(catalogue: Catalogue, keep: NDArray[Any]) -> Catalogue:
    """Return the chosen rows of a catalogue (boolean mask or indices)."""
    changes: dict[str, Any] = {}
    for item in fields(catalogue):
        value = getattr(catalogue, item.name)
        changes[item.name] = {k: v[keep] for k, v in value.items()} if isinstance(value, Mapping) else value[keep]
    return replace(catalogue, **changes)


def concatenate(first: Catalogue, second: Catalogue) -> Catalogue:
    """Return the rows of both catalogues."""
    changes: dict[str, Any] = {}
    for item in fields(first):
        a, b = getattr(first, item.name), getattr(second, item.name)
        if isinstance(a, Mapping):
            changes[item.name] = {k: np.concatenate([a[k], b[k]]) for k in a}
        else:
            changes[item.name] = np.concatenate([a, b])
    return replace(first, **changes)


def make_sky(settings: SimulationSettings, exposures: tuple[SimulatedExposure, ...]) -> SimulatedSky:
    """Draw the sky; it depends on seed and field, not on the simulated CCDs.

    Parameters
    ----------
    settings
        The simulation's settings.
    exposures
        Its exposures; every night has its own asteroids.
    """
    ra, dec = field_of(settings)
    search_mjd = first_search_mjd(settings)
    density = 1.0 / CCD_AREA_DEG2
    stars = make_stars(
        settings.seed,
        ra,
        dec,
        FIELD_RADIUS_DEG,
        settings.star_density,
        settings.variable_stars_per_ccd * density,
        search_mjd,
        partial(near_any, ccds=settings.ccds, ra0_deg=ra, dec0_deg=dec) if settings.star_density > CROWDED else None,
    )
    effects = settings.effects
    if effects.small_variables > 0.0:
        stars = with_small_variables(stars, settings.seed, effects.small_variables)
    if settings.extra_star_mag is not None:
        place = host_ccd(settings), NX * 0.85, NY * 0.8
        stars = concatenate(stars, _extra_star(stars, settings, settings.extra_star_mag, place, 999_999_999))
    random = random_stream(settings.seed, "bright stars")
    for number, mag in enumerate(effects.bright_stars):
        spot = int(random.choice(settings.ccds)), random.uniform(200.0, NX - 200.0), random.uniform(200.0, NY - 200.0)
        stars = concatenate(stars, _extra_star(stars, settings, mag, spot, 999_999_990 - number))
    galaxies = make_galaxies(settings.seed, ra, dec, FIELD_RADIUS_DEG, settings.galaxy_density)
    if effects.large_galaxies_per_ccd > 0.0:
        mean = effects.large_galaxies_per_ccd * density * FIELD_AREA_DEG2
        galaxies = concatenate(galaxies, large_galaxies(settings.seed, ra, dec, FIELD_RADIUS_DEG, mean))
    host_ra, host_dec = host_position(settings)
    galaxies = concatenate(galaxies, host_galaxy(settings.seed, host_ra, host_dec, settings.distance_mpc))
    numbers = {
        "supernovae": settings.supernovae_per_ccd * density * FIELD_AREA_DEG2,
        "active_nuclei": settings.active_nuclei_per_ccd * density * FIELD_AREA_DEG2,
    }
    merger = search_mjd - settings.merger_age_h / 24.0
    host = len(galaxies.ra) - 1
    transients = make_transients(
        settings.seed,
        galaxies,
        host,
        numbers,
        search_mjd,
        merger,
        settings.distance_mpc,
        by_profile=effects.hosts_by_profile,
    )
    sky = SimulatedSky(stars, galaxies, transients, _asteroids(settings, exposures, ra, dec))
    near = _near_ccds(sky, settings.ccds, ra, dec, GHOST_MAG if effects.ghosts else -np.inf)
    return _behind_dust(near, settings) if effects.extinction_mag > 0.0 else near


def _behind_dust(sky: SimulatedSky, settings: SimulationSettings) -> SimulatedSky:
    """Return the sky as it is seen through the dust of the Galaxy."""
    stars, galaxies = redden(settings.seed, settings.effects.extinction_mag, sky.stars, sky.galaxies)
    return replace(sky, stars=stars, galaxies=galaxies)


def host_ccd(settings: SimulationSettings) -> int:
    """Return the CCD of the kilonova."""
    if settings.host_ccd is not None:
        return settings.host_ccd
    poor = {2, 31, 61}

    def distance(ccd: int) -> tuple[bool, float]:
        return ccd in poor, float(np.hypot(*_middle(ccd)))

    return min(settings.ccds, key=distance)


def _middle(ccd: int) -> tuple[float, float]:
    crpix = seed_wcs(ccd).crpix
    return crpix[0] - NX / 2, crpix[1] - NY / 2


def host_position(settings: SimulationSettings) -> tuple[float, float]:
    """Return RA and Dec of the kilonova's host, in the inner part of its CCD."""
    random = random_stream(settings.seed, "host position")
    x, y = NX * random.uniform(0.3, 0.7), NY * random.uniform(0.3, 0.7)
    ra, dec = seed_wcs(host_ccd(settings), *field_of(settings)).pixel_to_sky([x], [y])
    return float(ra[0]), float(dec[0])


def _extra_star(
    stars: Stars, settings: SimulationSettings, mag: float, place: tuple[int, float, float], number: int
) -> Stars:
    """Copy a star of solar colour to a position (CCD, x, y), at a given Gaia G."""
    star = select(stars, np.array([int(np.argmin(np.abs(stars.bp - stars.rp - 0.82)))]))
    ra, dec = seed_wcs(place[0], *field_of(settings)).pixel_to_sky([place[1]], [place[2]])
    shift = mag - star.g
    return replace(
        star,
        source_id=np.array([FIRST_ID + number]),
        ra=ra,
        dec=dec,
        g=star.g + shift,
        bp=star.bp + shift,
        rp=star.rp + shift,
        mags={band: mag + shift for band, mag in star.mags.items()},
        variability=np.zeros(1, dtype=np.int8),
    )


def _asteroids(
    settings: SimulationSettings, exposures: tuple[SimulatedExposure, ...], ra: float, dec: float
) -> dict[int, Asteroids]:
    mean = settings.asteroids_per_ccd / CCD_AREA_DEG2 * np.pi * ASTEROID_FIELD_DEG**2
    nights: dict[int, list[float]] = {}
    for exposure in exposures:
        if exposure.is_on_sky:
            nights.setdefault(night_of(exposure.mjd), []).append(exposure.mjd)
    return {
        night: make_asteroids(
            *(settings.seed, night, float(np.mean(mjds)), ra, dec, ASTEROID_FIELD_DEG, mean),
            all_rates=settings.effects.movers_of_all_rates,
        )
        for night, mjds in nights.items()
    }


def _near_ccds(sky: SimulatedSky, ccds: tuple[int, ...], ra: float, dec: float, everywhere_mag: float) -> SimulatedSky:
    """Keep the sources that may affect one of the CCDs: those near it, and bright stars from everywhere."""
    stars = near_any(sky.stars.ra, sky.stars.dec, ccds, ra, dec) | (sky.stars.g < everywhere_mag)
    transients = select(sky.transients, near_any(sky.transients.ra, sky.transients.dec, ccds, ra, dec))
    return SimulatedSky(
        select(sky.stars, stars),
        select(sky.galaxies, near_any(sky.galaxies.ra, sky.galaxies.dec, ccds, ra, dec)),
        transients,
        sky.asteroids,
    )


def near_any(
    ra_deg: FloatArray, dec_deg: FloatArray, ccds: tuple[int, ...], ra0_deg: float, dec0_deg: float
) -> NDArray[np.bool_]:
    """Return which positions are on or near one of the CCDs of a nominal pointing."""
    xi, eta = sky_to_plane(ra_deg, dec_deg, ra0_deg, dec0_deg)
    margin = MARGIN_PIXELS * PIXEL_SCALE_ARCSEC / 3600.0
    near = np.zeros(len(xi), dtype=bool)
    for ccd in ccds:
        corners = seed_wcs(ccd).pixel_to_plane([0, NX, 0, NX], [0, 0, NY, NY])
        (x0, x1), (y0, y1) = ((c.min() - margin, c.max() + margin) for c in corners)
        near |= (xi > x0) & (xi < x1) & (eta > y0) & (eta < y1)
    return near
