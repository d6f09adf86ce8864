"""Draw all sources on one CCD of a simulated exposure."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.simulation.asteroids import Asteroids
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.galaxies import DE_VAUCOULEURS, EXPONENTIAL, Galaxies
from imaging.simulation.optics import TrueGeometry
from imaging.simulation.psf import PsfMixture, true_psf
from imaging.simulation.render import draw_extended, draw_points
from imaging.simulation.sky import SimulatedSky
from imaging.simulation.stars import Stars
from imaging.simulation.transients import KINDS, Transients

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

FAINTEST_MAG = 28.0
TRAIL_STEP_PIXELS = 0.5
"""Spacing of the points that represent a moving source."""

RECORDED_MARGIN_PIXELS = 20.0
"""Largest distance outside the CCD of recorded sources."""

SOURCE_KINDS = ("star", "variable_star", "galaxy", *KINDS, "asteroid")


@dataclass(frozen=True, eq=False)
class SceneSources:
    """Sources before they are drawn; all arrays have length n.

    Attributes
    ----------
    source_id
        Identifier.
    kind
        Index into :data:`SOURCE_KINDS`.
    ra, dec
        Position at the epoch of the exposure, degrees.
    mag
        AB magnitude in the exposure's band.
    g_minus_i
        Colour.
    """

    source_id: NDArray[np.int64]
    kind: NDArray[np.integer]
    ra: FloatArray
    dec: FloatArray
    mag: FloatArray
    g_minus_i: FloatArray

    def take(self, chosen: NDArray[np.intp]) -> "SceneSources":
        """Return the chosen sources."""
        return SceneSources(*(getattr(self, item.name)[chosen] for item in fields(self)))


@dataclass(frozen=True, eq=False)
class Scene:
    """The light on a CCD and its sources.

    Attributes
    ----------
    light
        (ny, nx) float32, expected electrons of the sources for unit response.
    sources
        Columns of the sources on the CCD or just outside: source_id, kind (index into :data:`SOURCE_KINDS`), x, y, ra,
        dec, mag, flux_electrons, flux_aperture_electrons, g_minus_i.
    """

    light: FloatImage
    sources: dict[str, NDArray]


def draw_scene(exposure: SimulatedExposure, ccdnum: int, geometry: TrueGeometry, sky: SimulatedSky) -> Scene:
    """Draw all sources with light on a CCD.

    Parameters
    ----------
    exposure
        The exposure.
    ccdnum
        The CCD.
    geometry
        Its true geometry.
    sky
        The sky.
    """
    painter = _Painter(exposure, ccdnum, geometry)
    painter.stars(sky.stars)
    painter.galaxies(sky.galaxies)
    painter.transients(sky.transients)
    asteroids = sky.asteroids.get(exposure.night)
    if asteroids is not None:
        painter.asteroids(asteroids)
    return Scene(painter.light, painter.columns())


class _Painter:
    """Draw kinds of sources on one CCD and record them."""

    def __init__(self, exposure: SimulatedExposure, ccdnum: int, geometry: TrueGeometry) -> None:
        self.exposure, self.ccdnum, self.geometry = exposure, ccdnum, geometry
        self.light: FloatImage = np.zeros((NY, NX), dtype=np.float32)
        self.records: list[dict[str, NDArray]] = []

    def columns(self) -> dict[str, NDArray]:
        """Return the columns of all sources drawn so far."""
        return {name: np.concatenate([record[name] for record in self.records]) for name in self.records[0]}

    def stars(self, stars: Stars) -> None:
        """Draw the stars."""
        mjd = self.exposure.mjd_mid
        kind = np.where(stars.variability > 0, SOURCE_KINDS.index("variable_star"), SOURCE_KINDS.index("star"))
        mag = stars.magnitude(self.exposure.band, mjd)
        self._points(SceneSources(stars.source_id, kind, *stars.at_epoch(mjd), mag, stars.mags["g"] - stars.mags["i"]))

    def transients(self, transients: Transients) -> None:
        """Draw the kilonova, supernovae and active nuclei."""
        mjd = self.exposure.mjd_mid
        kind = SOURCE_KINDS.index(KINDS[0]) + transients.kind
        mag = transients.magnitude(self.exposure.band, mjd)
        colour = np.clip(transients.magnitude("g", mjd) - transients.magnitude("i", mjd), -1.0, 3.0)
        self._points(SceneSources(transients.source_id, kind, transients.ra, transients.dec, mag, colour))

    def galaxies(self, galaxies: Galaxies) -> None:
        """Draw the galaxies: a bulge and a disc each."""
        rough = self.geometry.wcs.sky_to_pixel(galaxies.ra, galaxies.dec)
        chosen = np.flatnonzero(_on_ccd(*rough, np.clip(30.0 * galaxies.radius_arcsec, 40.0, 500.0)))
        kind = np.full(len(galaxies.ra), SOURCE_KINDS.index("galaxy"))
        mag, colour = galaxies.mags[self.exposure.band], galaxies.mags["g"] - galaxies.mags["i"]
        sources = SceneSources(galaxies.source_id, kind, galaxies.ra, galaxies.dec, mag, colour).take(chosen)
        x, y, flux, psf = self._place(sources)
        shape, bulge = galaxies.shape_pixels(chosen), galaxies.bulge[chosen]
        draw_extended(self.light, x, y, flux * bulge, shape, DE_VAUCOULEURS, psf)
        draw_extended(self.light, x, y, flux * (1.0 - bulge), shape, EXPONENTIAL, psf)
        self._record(sources, x, y, flux, psf)

    def asteroids(self, asteroids: Asteroids) -> None:
        """Draw the asteroids as rows of points along their paths during the exposure."""
        e = self.exposure
        n = len(asteroids.mag_i)
        kind, mag = np.full(n, SOURCE_KINDS.index("asteroid")), asteroids.magnitude(e.band)
        colour = asteroids.magnitude("g") - asteroids.magnitude("i")
        everything = SceneSources(asteroids.source_id, kind, *asteroids.position(e.mjd_mid), mag, colour)
        chosen = np.flatnonzero(_on_ccd(*self.geometry.wcs.sky_to_pixel(everything.ra, everything.dec), 200.0))
        if not len(chosen):
            return
        speed = np.hypot(asteroids.rate_east, asteroids.rate_north)[chosen]
        steps = np.ceil(speed / 3600.0 * e.exptime_s / PIXEL_SCALE_ARCSEC / TRAIL_STEP_PIXELS).astype(int) + 1
        share = np.concatenate([(np.arange(count) + 0.5) / count - 0.5 for count in steps])
        which = np.repeat(chosen, steps)
        hours = (e.mjd_mid - asteroids.mjd) * 24.0 + share * e.exptime_s / 3600.0
        ra, dec = asteroids.position_of(which, hours)
        x, y, flux, psf = self._place(replace(everything.take(which), ra=ra, dec=dec))
        draw_points(self.light, x, y, flux / np.repeat(steps, steps), psf)
        sources = everything.take(chosen)
        self._record(sources, *self._place(sources))

    def _points(self, sources: SceneSources) -> None:
        """Draw point sources; bright ones from farther outside the CCD."""
        visible = sources.take(np.flatnonzero(sources.mag < FAINTEST_MAG))
        rough_flux = 10.0 ** (-0.4 * (visible.mag - self.exposure.zeropoint_mag))
        margin = np.where(rough_flux > 3e6, 1000.0, np.where(rough_flux > 1e5, 200.0, 50.0))
        chosen = _on_ccd(*self.geometry.wcs.sky_to_pixel(visible.ra, visible.dec), margin)
        near = visible.take(np.flatnonzero(chosen))
        x, y, flux, psf = self._place(near)
        draw_points(self.light, x, y, flux, psf)
        self._record(near, x, y, flux, psf)

    def _place(self, sources: SceneSources) -> tuple[FloatArray, FloatArray, FloatArray, PsfMixture]:
        """Return positions (pixels), fluxes (electrons) and point-spread functions of sources."""
        x, y = self.geometry.sky_to_pixel(sources.ra, sources.dec, sources.g_minus_i)
        clouds = self.exposure.clouds.extinction_mag(*self.geometry.plane(sources.ra, sources.dec))
        flux = 10.0 ** (-0.4 * (sources.mag + clouds - self.exposure.zeropoint_mag))
        return x, y, flux, true_psf(self.exposure, self.ccdnum, x, y)

    def _record(self, sources: SceneSources, x: FloatArray, y: FloatArray, flux: FloatArray, psf: PsfMixture) -> None:
        keep = _on_ccd(x, y, RECORDED_MARGIN_PIXELS)
        columns = {item.name: getattr(sources, item.name) for item in fields(sources)}
        columns |= {"x": x, "y": y, "flux_electrons": flux, "flux_aperture_electrons": flux * psf.aperture_fraction()}
        self.records.append({name: values[keep] for name, values in columns.items()})


def _on_ccd(x: FloatArray, y: FloatArray, margin: FloatArray | float) -> NDArray[np.bool_]:
    """Return which positions are on the CCD or within a margin around it."""
    return (x > -margin) & (x < NX + margin) & (y > -margin) & (y < NY + margin)
