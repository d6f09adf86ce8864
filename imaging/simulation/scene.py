"""Draw all sources on one CCD of a simulated exposure."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.simulation.asteroids import Asteroids
from imaging.simulation.chromatic import REFERENCE_COLOUR, passband_slope_mag
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.galaxies import DE_VAUCOULEURS, EXPONENTIAL, Galaxies
from imaging.simulation.galaxy_structure import (
    DUST_REACH,
    KNOT_SHARE,
    absorb_by_dust,
    bulge_shape_pixels,
    has_dust_lanes,
    knots_of,
)
from imaging.simulation.ghosts import add_ghosts
from imaging.simulation.nebulosity import add_nebulosity
from imaging.simulation.optics import TrueGeometry
from imaging.simulation.psf import PsfMixture, blurred_psf, true_psf
from imaging.simulation.render import draw_extended, draw_points
from imaging.simulation.skies import NO_EFFECTS, SkyEffects
from imaging.simulation.sky import GHOST_MAG, SimulatedSky
from imaging.simulation.stars import Stars
from imaging.simulation.transients import KINDS, Transients
from imaging.wcs.tpv import plane_to_sky

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

FAINTEST_MAG = 28.0
TRAIL_STEP_PIXELS = 0.5
"""Spacing of the points that represent a moving source."""

RESOLVED_PIXELS = 11.0
"""Half-light radius above which a galaxy's own light blurs the telescope's rays."""

SHARP_POINT_ELECTRONS, SHARP_GALAXY_ELECTRONS = 1.0e4, 1.5e5
"""Fluxes above which the telescope's rays are drawn one by one; below, their second moments differ from them by less
than the photon noise."""

GLINT_POINTS, GLINT_ID = 25, 5_000_000_000
"""Number of points that represent a glint, and identifier of the first one of an exposure."""

RECORDED_MARGIN_PIXELS = 20.0
"""Largest distance outside the CCD of recorded sources."""

FUNCTION_PIXELS, FUNCTION_ELECTRONS = 81, 1.0e6
"""Side of the image of a point with which dust lanes are convolved, and the flux with which it is drawn."""

LEAST_COVARIANCE = (0.5, 0.0, 0.5)
"""Covariance with which a galaxy is drawn before that, square pixels: the least that the pixels sample."""

SOURCE_KINDS = ("star", "variable_star", "galaxy", *KINDS, "asteroid", "glint")


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
class GalaxyParts:
    """Bulges and discs of galaxies: (n,) electrons, and (n, 3) half-light ellipses xx, xy, yy in square pixels."""

    bulge_electrons: FloatArray
    bulge_shape: FloatArray
    disc_electrons: FloatArray
    disc_shape: FloatArray


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


def draw_scene(
    exposure: SimulatedExposure,
    ccdnum: int,
    geometry: TrueGeometry,
    sky: SimulatedSky,
    effects: SkyEffects = NO_EFFECTS,
    painter: "type[Painter] | None" = None,
) -> Scene:
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
    effects
        Effects beyond the easy sky.
    painter
        Way to draw; None for :class:`Painter`.
    """
    paint = (painter or Painter)(exposure, ccdnum, geometry, effects)
    paint.stars(sky.stars)
    paint.galaxies(sky.galaxies)
    paint.transients(sky.transients)
    asteroids = sky.asteroids.get(exposure.night)
    if asteroids is not None:
        paint.asteroids(asteroids)
    paint.glints()
    if effects.nebulosity_mag is not None:
        add_nebulosity(paint.light, geometry, effects.nebulosity_mag)
    return Scene(paint.light, paint.columns())


class Painter:
    """Draw kinds of sources on one CCD and record them.

    Another way to draw overrides :meth:`place`, :meth:`paint_points` and :meth:`paint_galaxies`.

    Parameters
    ----------
    exposure, ccdnum, geometry, effects
        As in :func:`draw_scene`.
    """

    def __init__(
        self, exposure: SimulatedExposure, ccdnum: int, geometry: TrueGeometry, effects: SkyEffects = NO_EFFECTS
    ) -> None:
        self.exposure, self.ccdnum, self.geometry, self.effects = exposure, ccdnum, geometry, effects
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
        sources = SceneSources(stars.source_id, kind, *stars.at_epoch(mjd), mag, stars.mags["g"] - stars.mags["i"])
        self._points(sources)
        if self.effects.ghosts:
            bright = sources.take(np.flatnonzero(mag < GHOST_MAG))
            x, y, flux, _ = self.place(bright)
            add_ghosts(self.light, self.ccdnum, x, y, flux)

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
        margin = np.clip(30.0 * galaxies.radius_arcsec, 40.0, np.where(galaxies.radius_arcsec > 12.0, 2000.0, 500.0))
        chosen = np.flatnonzero(_on_ccd(*rough, margin))
        kind = np.full(len(galaxies.ra), SOURCE_KINDS.index("galaxy"))
        mag, colour = galaxies.mags[self.exposure.band], galaxies.mags["g"] - galaxies.mags["i"]
        sources = SceneSources(galaxies.source_id, kind, galaxies.ra, galaxies.dec, mag, colour).take(chosen)
        x, y, flux, psf = self.place(sources)
        shape, bulge = galaxies.shape_pixels(chosen), galaxies.bulge[chosen]
        bulge_shape, disc = shape, 1.0 - bulge
        dusty = has_dust_lanes(galaxies, chosen) if self.effects.dust_lanes else np.zeros(0, dtype=np.intp)
        if self.effects.galaxy_structure:
            bulge_shape = bulge_shape_pixels(galaxies, chosen)
            knots = knots_of(galaxies, chosen)
            at = knots.galaxy
            light = (flux * disc)[at] * knots.share
            self.paint_points(x[at] + knots.dx, y[at] + knots.dy, light, psf.take(at), None)
            disc = disc * np.where(np.isin(np.arange(len(x)), at), 1.0 - KNOT_SHARE, 1.0)
        parts = GalaxyParts(flux * bulge, bulge_shape, flux * disc, shape)
        self.paint_galaxies(x, y, parts, psf, sources.g_minus_i)
        for k in dusty:
            own = GalaxyParts(*(getattr(parts, item.name)[[k]] for item in fields(parts)))
            function = self._function(x[k], y[k], psf.take(np.array([k])))
            self._absorb(galaxies, chosen[k], float(x[k]), float(y[k]), own, function)
        self._record(sources, x, y, flux, psf)

    def _absorb(self, galaxies: Galaxies, k: int, x: float, y: float, parts: GalaxyParts, function: FloatImage) -> None:
        """Take from a galaxy's bulge and disc, of electrons and shapes ``parts``, what its dust absorbs.

        The lanes are seen through the point-spread function as the light is: ``function`` is its image of unit sum.
        """
        reach = int(DUST_REACH * galaxies.radius_arcsec[k] / PIXEL_SCALE_ARCSEC) + 1
        side, column, row = 2 * reach + 1, round(x) - reach, round(y) - reach
        place, point = (np.array([x - column]), np.array([y - row])), np.array([[[*LEAST_COVARIANCE]]])
        sky = np.zeros((side, side), dtype=np.float32)
        for electrons, shape, profile in (
            (parts.bulge_electrons, parts.bulge_shape, DE_VAUCOULEURS),
            (parts.disc_electrons, parts.disc_shape, EXPONENTIAL),
        ):
            draw_extended(sky, *place, electrons, shape, profile, PsfMixture(np.ones(1), point, np.zeros((1, 1, 2))))
        dimmed = sky.copy()
        absorb_by_dust(dimmed, galaxies, k, float(place[0][0]), float(place[1][0]))
        size, half = side + function.shape[0], function.shape[0] // 2
        spectra = np.fft.rfft2(sky - dimmed, (size, size)) * np.fft.rfft2(function, (size, size))
        absorbed = np.fft.irfft2(spectra, (size, size))[half : half + side, half : half + side]
        ny, nx = self.light.shape
        rows, columns = (np.clip([first, first + side], 0, n) for first, n in ((row, ny), (column, nx)))
        seen = absorbed[rows[0] - row : rows[1] - row, columns[0] - column : columns[1] - column]
        self.light[slice(*rows), slice(*columns)] -= seen.astype(np.float32)

    def _function(self, x: float, y: float, psf: PsfMixture) -> FloatImage:
        """Return the image of a point near a place, on a pixel's centre, of unit sum."""
        before, half = self.light.copy(), FUNCTION_PIXELS // 2
        column, row = (int(np.clip(round(v), half, n - 1 - half)) for v, n in ((x, NX), (y, NY)))
        self.light[:] = 0.0
        self.paint_points(np.array([column]), np.array([row]), np.array([FUNCTION_ELECTRONS]), psf, None)
        stamp = self.light[row - half : row + half + 1, column - half : column + half + 1].copy()
        self.light[:] = before
        return stamp / stamp.sum()

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
        x, y, flux, psf = self.place(replace(everything.take(which), ra=ra, dec=dec))
        self.paint_points(x, y, flux / np.repeat(steps, steps), psf, None)
        sources = everything.take(chosen)
        self._record(sources, *self.place(sources))

    def glints(self) -> None:
        """Draw the flashes of tumbling satellites as rows of points, shorter than the exposure."""
        e = self.exposure
        if not e.glints:
            return
        values = np.array([(g.xi_deg, g.eta_deg, g.angle_deg, g.length_arcsec, g.electrons) for g in e.glints])
        n = len(values)
        share = (np.arange(GLINT_POINTS) + 0.5) / GLINT_POINTS - 0.5
        along = share[:, None] * values[:, 3] / 3600.0
        angle = np.radians(values[:, 2])
        xi, eta = values[:, 0] + along * np.cos(angle), values[:, 1] + along * np.sin(angle)
        ra, dec = plane_to_sky(xi.ravel(), eta.ravel(), e.true_ra_deg, e.true_dec_deg)
        mag = e.zeropoint_mag - 2.5 * np.log10(values[:, 4])
        number, kind = GLINT_ID + np.arange(n), np.full(n, SOURCE_KINDS.index("glint"))
        centre = plane_to_sky(values[:, 0], values[:, 1], e.true_ra_deg, e.true_dec_deg)
        sources = SceneSources(number, kind, *centre, mag, np.full(n, REFERENCE_COLOUR))
        points = replace(sources.take(np.tile(np.arange(n), GLINT_POINTS)), ra=ra, dec=dec)
        x, y, flux, psf = self.place(points)
        self.paint_points(x, y, flux / GLINT_POINTS, psf, None)
        self._record(sources, *self.place(sources))

    def _points(self, sources: SceneSources) -> None:
        """Draw point sources; bright ones from farther outside the CCD."""
        visible = sources.take(np.flatnonzero(sources.mag < FAINTEST_MAG))
        rough_flux = 10.0 ** (-0.4 * (visible.mag - self.exposure.zeropoint_mag))
        margin = np.where(rough_flux > 3e6, 1000.0, np.where(rough_flux > 1e5, 200.0, 50.0))
        if self.effects.wide_aureole or self.effects.vanes:
            margin = np.where(rough_flux > 3e8, 5000.0, margin)
        chosen = _on_ccd(*self.geometry.wcs.sky_to_pixel(visible.ra, visible.dec), margin)
        near = visible.take(np.flatnonzero(chosen))
        x, y, flux, psf = self.place(near)
        self.paint_points(x, y, flux, psf, near.g_minus_i)
        self._record(near, x, y, flux, psf)

    def place(self, sources: SceneSources) -> tuple[FloatArray, FloatArray, FloatArray, PsfMixture]:
        """Return positions (pixels), fluxes (electrons) and point-spread functions of sources."""
        x, y = self.geometry.sky_to_pixel(sources.ra, sources.dec, sources.g_minus_i)
        flux = self.electrons(sources)
        return x, y, flux, blurred_psf(self.exposure, self.ccdnum, x, y, sources.g_minus_i)

    def electrons(self, sources: SceneSources) -> FloatArray:
        """Return the fluxes of sources behind the clouds, in the passband of the CCD."""
        mag = sources.mag + self.exposure.clouds.extinction_mag(*self.geometry.plane(sources.ra, sources.dec))
        if self.effects.passband_steps_mmag:
            seed = 0 if self.exposure.optics is None else self.exposure.optics.camera_seed
            slope = passband_slope_mag(seed, self.ccdnum, self.exposure.band, self.effects.passband_steps_mmag)
            mag = mag - slope * (sources.g_minus_i - REFERENCE_COLOUR)
        return np.asarray(10.0 ** (-0.4 * (mag - self.exposure.zeropoint_mag)))

    def paint_points(
        self, x: FloatArray, y: FloatArray, flux: FloatArray, psf: PsfMixture, colour: FloatArray | None
    ) -> None:
        """Draw points; without colours they are parts of a source and seen through the blurred function."""
        sharp = np.zeros(len(x), dtype=bool) if colour is None else flux > SHARP_POINT_ELECTRONS
        for some, seen in self._seen(x, y, psf, colour, sharp):
            draw_points(self.light, x[some], y[some], flux[some], seen)

    def paint_galaxies(
        self, x: FloatArray, y: FloatArray, parts: GalaxyParts, psf: PsfMixture, colour: FloatArray
    ) -> None:
        """Draw bulges and discs."""
        compact = parts.disc_shape[:, 0] + parts.disc_shape[:, 2] < 2.0 * RESOLVED_PIXELS**2
        sharp = compact & (parts.bulge_electrons + parts.disc_electrons > SHARP_GALAXY_ELECTRONS)
        for some, seen in self._seen(x, y, psf, colour, sharp):
            bulge, disc = parts.bulge_electrons[some], parts.disc_electrons[some]
            draw_extended(self.light, x[some], y[some], bulge, parts.bulge_shape[some], DE_VAUCOULEURS, seen)
            draw_extended(self.light, x[some], y[some], disc, parts.disc_shape[some], EXPONENTIAL, seen)

    def _seen(
        self, x: FloatArray, y: FloatArray, blurred: PsfMixture, colour: FloatArray | None, sharp: NDArray[np.bool_]
    ) -> Iterator[tuple[NDArray[Any], PsfMixture]]:
        """Split sources: indices of the sharp ones with their full point-spread functions, and the others.

        Where the telescope's rays are not drawn, all are seen through the same function.
        """
        if self.exposure.optics is None or colour is None:
            yield np.arange(len(x)), blurred
            return
        bright, faint = np.flatnonzero(sharp), np.flatnonzero(~sharp)
        yield faint, blurred.take(faint)
        yield bright, true_psf(self.exposure, self.ccdnum, x[bright], y[bright], colour[bright])

    def _record(self, sources: SceneSources, x: FloatArray, y: FloatArray, flux: FloatArray, psf: PsfMixture) -> None:
        keep = _on_ccd(x, y, RECORDED_MARGIN_PIXELS)
        columns = {item.name: getattr(sources, item.name) for item in fields(sources)}
        columns |= {"x": x, "y": y, "flux_electrons": flux, "flux_aperture_electrons": flux * psf.aperture_fraction()}
        self.records.append({name: values[keep] for name, values in columns.items()})


def _on_ccd(x: FloatArray, y: FloatArray, margin: FloatArray | float) -> NDArray[np.bool_]:
    """Return which positions are on the CCD or within a margin around it."""
    return (x > -margin) & (x < NX + margin) & (y > -margin) & (y < NY + margin)
