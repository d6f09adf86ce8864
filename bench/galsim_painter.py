"""Draw the sources of a simulated CCD with GalSim (Rowe et al. 2015): another atmosphere, telescope and galaxies.

It shares the truth tables and the geometry with ``imaging/simulation``, nothing of its point-spread function, galaxies
or refraction. A CCD takes a minute or two.
"""

import galsim
import numpy as np
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.simulation.exposures import SimulatedExposure
from imaging.simulation.optics import TrueGeometry, focal_plane
from imaging.simulation.scene import GalaxyParts, Painter, SceneSources
from imaging.simulation.skies import NO_EFFECTS, SkyEffects
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

NM_PER_MAG = {"u": 7.0, "g": 9.0, "r": 5.0, "i": 3.2, "z": 2.4, "Y": 1.5, "VR": 8.0}
"""Change of a star's effective wavelength per magnitude of g - i, from synthetic photometry."""

COLOURS = (0.0, 1.2, 2.4)
"""The g - i for which the point-spread function is computed; others are interpolated."""

CORE_PIXELS, WIDE_PIXELS, OVERSAMPLING = 51, 769, 3
"""Sizes of the images of the point-spread function, of all stars and of bright ones; samples per pixel of the first."""

WIDE_ELECTRONS, INTERPOLATED_ELECTRONS = 1.0e6, 2.0e4
"""Fluxes above which stars are drawn with spikes and aureole, and sources with the function at their place."""

AUREOLE_SHARE = 0.015
AUREOLE = galsim.Moffat(beta=1.1, scale_radius=4.0 / PIXEL_SCALE_ARCSEC, trunc=200.0 / PIXEL_SCALE_ARCSEC)
"""The aureole, of bright stars only: its light within the reference aperture is below 1 mmag."""

OUTER_SCALE_M = 25.0
AIR_KPA, AIR_K = 78.0, 283.0


class FourCorners:
    """The point-spread function at the corners of a CCD for three colours, interpolated linearly.

    Parameters
    ----------
    exposure
        The exposure: its seeing, airmass and seed.
    ccdnum
        CCD.
    """

    def __init__(self, exposure: SimulatedExposure, ccdnum: int) -> None:
        self.places = [(x, y) for y in (0.0, NY - 1.0) for x in (0.0, NX - 1.0)]
        self.cores, self.functions = [], []
        for x, y in self.places:
            for colour in COLOURS:
                function = _function(exposure, ccdnum, x, y, colour)
                size = CORE_PIXELS * OVERSAMPLING
                drawn = function.drawImage(nx=size, ny=size, scale=1.0 / OVERSAMPLING, method="sb")
                self.functions.append(function)
                self.cores.append(drawn.array.astype(float))
        self.kept = [_sampled(core) for core in self.cores]
        offset = (np.arange(CORE_PIXELS * OVERSAMPLING) - (CORE_PIXELS * OVERSAMPLING - 1) / 2) / OVERSAMPLING
        inside = np.hypot(offset[:, None], offset[None, :]) < 11.11
        self.fractions = np.array([core[inside].sum() / OVERSAMPLING**2 for core in self.cores])

    def weights(self, x: FloatArray, y: FloatArray, colour: FloatArray) -> FloatArray:
        """Return the weights of corners and colours at positions: (n, 12)."""
        u, v = np.clip(x / (NX - 1), 0, 1), np.clip(y / (NY - 1), 0, 1)
        corner = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], axis=1)
        step = np.clip((colour - COLOURS[0]) / (COLOURS[1] - COLOURS[0]), 0.0, 2.0)
        hue = np.clip(1.0 - np.abs(step[:, None] - np.arange(3)), 0.0, 1.0)
        return (corner[:, :, None] * hue[:, None, :]).reshape(len(x), -1)

    def at(self, weights: FloatArray, *, exact: bool) -> galsim.GSObject:
        """Return the function for some weights, or that of the largest weight; pixel units, pixel response included."""
        if not exact:
            return self.kept[int(np.argmax(weights))]
        return _sampled(sum(w * core for w, core in zip(weights, self.cores, strict=True) if w > 0.0))


def _sampled(core: FloatArray) -> galsim.InterpolatedImage:
    image = galsim.Image(np.ascontiguousarray(core), scale=1.0 / OVERSAMPLING)
    return galsim.InterpolatedImage(image, normalization="sb", x_interpolant="lanczos5")


def _function(exposure: SimulatedExposure, ccdnum: int, x: float, y: float, colour: float) -> galsim.GSObject:
    """Return atmosphere, telescope, aureole and pixel at a place for a colour; lengths in pixels."""
    u, v = (float(value) for value in focal_plane(ccdnum, x, y))
    band = BANDS[exposure.band]
    nm = band.wavelength_nm + NM_PER_MAG[exposure.band] * (colour - 0.61)
    random = random_stream(exposure.seed, "galsim telescope", exposure.expnum)
    field = random.normal(0.0, 1.0, (8, 4)) @ np.array([1.0, u, v, u * u + v * v])
    height = random_stream(61, "galsim height", ccdnum).normal(0.0, 1.0)
    waves = dict(
        zip(
            ("defocus", "astig1", "astig2", "coma1", "coma2", "trefoil1", "trefoil2", "spher"),
            0.06 * field,
            strict=True,
        )
    )
    waves["defocus"] = 1.5 * waves["defocus"] + 0.08 * height
    r0_500 = 0.976 * 500e-9 / np.radians(exposure.psf.fwhm_arcsec / 3600.0) * (band.wavelength_nm / 500.0) ** 0.2
    pixel = PIXEL_SCALE_ARCSEC
    air = galsim.VonKarman(lam=nm, r0_500=r0_500 * 0.88, L0=OUTER_SCALE_M, scale_unit=galsim.arcsec)
    telescope = galsim.OpticalPSF(
        lam=nm,
        diam=3.93,
        obscuration=0.35,
        nstruts=4,
        strut_thick=0.006,
        strut_angle=45.0 * galsim.degrees,
        scale_unit=galsim.arcsec,
        pad_factor=1.5,
        suppress_warning=True,
        **{name: float(value) for name, value in waves.items()},
    )
    dispersed = galsim.Convolve([air, telescope, _spectrum(exposure)])
    light = dispersed.withFlux(1.0 - AUREOLE_SHARE)
    return galsim.Convolve([light.dilate(1.0 / pixel), galsim.Pixel(1.0)]).shift(-1.0 * light.centroid / pixel)


def _refraction_arcsec(exposure: SimulatedExposure, nm: float) -> float:
    zenith = exposure.zenith_distance_deg * galsim.degrees
    air = {"pressure": AIR_KPA, "temperature": AIR_K, "H2O_pressure": 0.5}
    return float(galsim.dcr.get_refraction(nm, zenith, **air) * 206264.806)


def _spectrum(exposure: SimulatedExposure) -> galsim.GSObject:
    """Return the short spectrum of the atmosphere towards the zenith, arcseconds; x to the south, y to the east."""
    band = BANDS[exposure.band]
    half = float(band.filter_id.split()[-1]) / 20.0
    length = abs(
        _refraction_arcsec(exposure, band.wavelength_nm - half)
        - _refraction_arcsec(exposure, band.wavelength_nm + half)
    )
    angle = np.arctan2(np.sin(np.radians(exposure.parallactic_deg)), -np.cos(np.radians(exposure.parallactic_deg)))
    sigma = max(length, 0.01) / np.sqrt(12.0)
    return galsim.Gaussian(sigma=sigma * np.sqrt(0.05)).shear(q=0.05, beta=float(angle) * galsim.radians)


class Fractions:
    """What a :class:`Painter` asks of a point-spread function: the fractions of light in the reference aperture."""

    def __init__(self, value: FloatArray) -> None:
        self.value = value

    def aperture_fraction(self) -> FloatArray:
        """Return the fractions."""
        return self.value

    def take(self, chosen: NDArray[np.intp]) -> "Fractions":
        """Return those of the chosen sources."""
        return Fractions(self.value[chosen])


class GalsimPainter(Painter):
    """Draws stars and galaxies with GalSim; trails, ghosts and the detector stay those of the simulator."""

    def __init__(
        self, exposure: SimulatedExposure, ccdnum: int, geometry: TrueGeometry, effects: SkyEffects = NO_EFFECTS
    ) -> None:
        super().__init__(exposure, ccdnum, geometry, effects)
        self.functions = FourCorners(exposure, ccdnum)
        self.canvas = galsim.Image(self.light, xmin=0, ymin=0, scale=1.0)

    def place(self, sources: SceneSources) -> tuple[FloatArray, FloatArray, FloatArray, Fractions]:  # type: ignore[override]
        """Return positions with GalSim's refraction, fluxes, and fractions in the aperture."""
        x, y = self.geometry.sky_to_pixel(sources.ra, sources.dec)
        e = self.exposure
        centre = BANDS[e.band].wavelength_nm
        slope = (_refraction_arcsec(e, centre + 5.0) - _refraction_arcsec(e, centre - 5.0)) / 10.0 / PIXEL_SCALE_ARCSEC
        shift = slope * NM_PER_MAG[e.band] * (np.clip(sources.g_minus_i, -1.0, 4.0) - 0.61)
        angle = np.radians(e.parallactic_deg)
        x, y = x - shift * np.cos(angle), y + shift * np.sin(angle)
        clouds = e.clouds.extinction_mag(*self.geometry.plane(sources.ra, sources.dec))
        flux = 10.0 ** (-0.4 * (sources.mag + clouds - e.zeropoint_mag))
        weights = self.functions.weights(x, y, sources.g_minus_i)
        return x, y, flux, Fractions(weights @ self.functions.fractions)

    def paint_points(  # type: ignore[override]
        self, x: FloatArray, y: FloatArray, flux: FloatArray, psf: Fractions, colour: FloatArray | None
    ) -> None:
        """Draw points, bright ones with spikes and aureole; the functions are those of this class, not ``psf``."""
        del psf
        weights = self.functions.weights(x, y, np.full(len(x), 0.61) if colour is None else colour)
        for k in range(len(x)):
            if flux[k] > WIDE_ELECTRONS:
                function = self.functions.functions[int(np.argmax(weights[k]))]
                self._draw(function, x[k], y[k], flux[k], WIDE_PIXELS)
                self._draw(AUREOLE, x[k], y[k], flux[k] * AUREOLE_SHARE, WIDE_PIXELS)
            else:
                exact = flux[k] > INTERPOLATED_ELECTRONS
                self._draw(self.functions.at(weights[k], exact=exact), x[k], y[k], flux[k], CORE_PIXELS - 4)

    def paint_galaxies(  # type: ignore[override]
        self, x: FloatArray, y: FloatArray, parts: GalaxyParts, psf: Fractions, colour: FloatArray
    ) -> None:
        """Draw bulges and discs as Sersic profiles of index 4 and 1, convolved by Fourier transform."""
        del psf
        weights = self.functions.weights(x, y, colour)
        for k in range(len(x)):
            total = parts.bulge_electrons[k] + parts.disc_electrons[k]
            function = self.functions.at(weights[k], exact=total > INTERPOLATED_ELECTRONS)
            radius = float(np.sqrt(parts.disc_shape[k, 0] + parts.disc_shape[k, 2]))
            size = int(np.clip(12 * radius, 32, 1024)) if total > 300.0 else 32
            profile = []
            for n, light, shape in (
                (4.0, parts.bulge_electrons[k], parts.bulge_shape[k]),
                (1.0, parts.disc_electrons[k], parts.disc_shape[k]),
            ):
                if light > 0.03 * total:
                    profile.append(_sersic(n, shape).withFlux(float(light)))
            self._draw(galsim.Convolve([galsim.Add(profile), function]), x[k], y[k], 1.0, size)

    def _draw(self, thing: galsim.GSObject, x: float, y: float, flux: float, size: int) -> None:
        """Add the surface brightness of something to the CCD."""
        column, row = round(float(x)), round(float(y))
        half = size // 2
        stamp = galsim.Image(galsim.BoundsI(column - half, column + half, row - half, row + half), scale=1.0)
        overlap = stamp.bounds & self.canvas.bounds
        if not overlap.isDefined():
            return
        thing.drawImage(stamp, center=galsim.PositionD(float(x), float(y)), method="sb")
        self.canvas[overlap] += float(flux) * stamp[overlap]


def _sersic(n: float, shape: FloatArray) -> galsim.GSObject:
    """Return a profile of unit flux whose half-light ellipse has these squares xx, xy, yy in pixels."""
    xx, xy, yy = (float(value) for value in shape)
    half_trace, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    major, minor = np.sqrt(half_trace + root), np.sqrt(max(half_trace - root, 0.04 * half_trace))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) * galsim.radians
    base = galsim.DeVaucouleurs if n == 4.0 else galsim.Exponential
    return base(half_light_radius=np.sqrt(major * minor)).shear(q=float(minor / major), beta=angle)
