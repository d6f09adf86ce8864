"""Draw the sources of a simulated CCD with GalSim (Rowe et al. 2015): another atmosphere, telescope and galaxies.

It shares the truth tables (with the seeing, the aberrations and the guiding of the exposure) and the geometry with
``imaging/simulation``, nothing of its point-spread function, galaxies or refraction. A CCD takes a minute or two.
"""

import galsim
import numpy as np
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.conventions import REFERENCE_APERTURE_PIXELS
from imaging.detector.ccds import NX, NY, PIXEL_SCALE_ARCSEC
from imaging.simulation.exposures import OpticsTruth, SimulatedExposure, quadratic
from imaging.simulation.optics import TrueGeometry, focal_plane
from imaging.simulation.scene import GalaxyParts, Painter, SceneSources
from imaging.simulation.skies import NO_EFFECTS, SkyEffects
from imaging.simulation.streams import random_stream

FloatArray = NDArray[np.float64]

NM_PER_MAG = {"u": 7.0, "g": 9.0, "r": 5.0, "i": 3.2, "z": 2.4, "Y": 1.5, "VR": 8.0}
"""Change of a star's effective wavelength per magnitude of g - i, from synthetic photometry."""

COLOURS = (0.0, 1.2, 2.4)
"""The g - i for which the point-spread function is computed; others are interpolated."""

OVERSAMPLING = 3
CORE_FWHM, SMALLEST_CORE_PIXELS = 11.0, 51
"""Samples per pixel of the core of the point-spread function, its size in units of the seeing, and the least size."""

WIDE_PIXELS = ((1.0e6, 769), (1.0e8, 2049))
"""Fluxes (electrons) from which stars have wings, spikes and aureole beyond the core, and the sizes of these."""

INTERPOLATED_ELECTRONS = 2.0e4
"""Flux above which sources are drawn with the function at their place instead of that of the nearest corner."""

FAINT_ELECTRONS = 2.0e3
"""Flux below which half the size of the core holds all that is above a tenth of an electron per pixel."""

MIRROR_M, OBSCURATION = 3.93, 0.35
STRUT_M, STRUT_SHARE, STRUT_DEG = 0.024, 0.0115, 52.0
"""Width of the four struts, their share of the pupil, and the direction of the first spike from x towards y."""

AUREOLE_SHARE = 0.015
AUREOLE = galsim.Moffat(beta=1.1, scale_radius=4.0 / PIXEL_SCALE_ARCSEC, trunc=400.0 / PIXEL_SCALE_ARCSEC)

ABERRATIONS = ("defocus", "astig1", "coma1", "trefoil1", "astig2", "coma2", "trefoil2", "spher")
EDGE_SLOPES = np.array([6.93, 4.90, 19.8, 8.49, 4.90, 19.8, 8.49, 26.8])
"""Zernike terms in the order of :class:`OpticsTruth`, and their radial derivatives at the edge of the pupil (Noll)."""

OUTER_SCALE_M = 25.0
AIR_KPA, AIR_K = 78.0, 283.0


class FourCorners:
    """The point-spread function at the corners of a CCD for three colours, interpolated linearly.

    Parameters
    ----------
    exposure
        The exposure: its seeing, airmass, telescope and seed.
    ccdnum
        CCD.
    """

    def __init__(self, exposure: SimulatedExposure, ccdnum: int) -> None:
        self.size = max(SMALLEST_CORE_PIXELS, 2 * int(CORE_FWHM / 2 * exposure.fwhm_pixels) + 1)
        places = [(x, y) for y in (0.0, NY - 1.0) for x in (0.0, NX - 1.0)]
        samples = self.size * OVERSAMPLING
        grid = {"nx": samples, "ny": samples, "scale": 1.0 / OVERSAMPLING, "method": "sb"}
        spikes = [_spikes(exposure, colour) for colour in COLOURS]
        self.wings = [
            (_guided(exposure, _air(exposure, colour)), light, AUREOLE_SHARE * AUREOLE)
            for colour, light in zip(COLOURS, spikes, strict=True)
        ]
        lines = [light.drawImage(**grid).array.astype(float) for light in spikes]
        halo = AUREOLE_SHARE * AUREOLE.drawImage(**grid).array.astype(float)
        self.cores = [
            _function(exposure, ccdnum, x, y, colour).drawImage(**grid).array + line + halo
            for x, y in places
            for colour, line in zip(COLOURS, lines, strict=True)
        ]
        self.kept = [_sampled(core) for core in self.cores]
        offset = (np.arange(samples) - (samples - 1) / 2) / OVERSAMPLING
        inside = np.hypot(offset[:, None], offset[None, :]) < REFERENCE_APERTURE_PIXELS / 2
        self.fractions = np.array([core[inside].sum() / OVERSAMPLING**2 for core in self.cores])

    def weights(self, x: FloatArray, y: FloatArray, colour: FloatArray) -> FloatArray:
        """Return the weights of corners and colours at positions: (n, 12)."""
        u, v = np.clip(x / (NX - 1), 0, 1), np.clip(y / (NY - 1), 0, 1)
        corner = np.stack([(1 - u) * (1 - v), u * (1 - v), (1 - u) * v, u * v], axis=1)
        step = np.clip((colour - COLOURS[0]) / (COLOURS[1] - COLOURS[0]), 0.0, 2.0)
        hue = np.clip(1.0 - np.abs(step[:, None] - np.arange(3)), 0.0, 1.0)
        return (corner[:, :, None] * hue[:, None, :]).reshape(len(x), corner.shape[1] * hue.shape[1])

    def at(self, weights: FloatArray, *, exact: bool) -> galsim.GSObject:
        """Return the function for some weights, or that of the largest weight; pixel units, pixel response included."""
        if not exact:
            return self.kept[int(np.argmax(weights))]
        return _sampled(sum(w * core for w, core in zip(weights, self.cores, strict=True) if w > 0.0))

    def stamp(self, x: float, y: float, half: int, dx: float = 0.0, dy: float = 0.0) -> FloatArray:
        """Return the function of a star of the reference colour as :meth:`bench.sky_night.SkyNight.true_psf` does."""
        weights = self.weights(np.array([x]), np.array([y]), np.array([0.61]))[0]
        column, row = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        image = galsim.ImageD(galsim.BoundsI(column - half, column + half, row - half, row + half), scale=1.0)
        self.at(weights, exact=True).drawImage(image, center=galsim.PositionD(x + dx, y + dy), method="sb")
        return np.asarray(image.array / (weights @ self.fractions))

    def beyond(self, weights: FloatArray) -> tuple[galsim.GSObject, ...]:
        """Return what continues the function beyond its core, where aberrations no longer matter: air, spikes, aureole.

        They are those of the nearest colour, and drawn one by one: only the spikes need a Fourier transform.
        """
        return self.wings[int(np.argmax(weights)) % len(COLOURS)]


def _sampled(core: FloatArray) -> galsim.InterpolatedImage:
    image = galsim.Image(np.ascontiguousarray(core), scale=1.0 / OVERSAMPLING)
    return galsim.InterpolatedImage(image, normalization="sb", x_interpolant="lanczos5")


def _wavelength_nm(exposure: SimulatedExposure, colour: float) -> float:
    return float(BANDS[exposure.band].wavelength_nm + NM_PER_MAG[exposure.band] * (colour - 0.61))


def _air(exposure: SimulatedExposure, colour: float) -> galsim.GSObject:
    """Return the image through the atmosphere, of the light that is not in spikes and aureole; lengths in pixels."""
    fwhm_rad, reference = np.radians(exposure.psf.fwhm_arcsec / 3600.0), BANDS[exposure.band].wavelength_nm / 500.0
    r0_500 = 0.88 * 0.976 * 500e-9 / fwhm_rad * reference**0.2
    nm = _wavelength_nm(exposure, colour)
    air = galsim.VonKarman(lam=nm, r0_500=r0_500, L0=OUTER_SCALE_M, scale_unit=galsim.arcsec)
    return air.withFlux(1.0 - AUREOLE_SHARE - 2.0 * STRUT_SHARE).dilate(1.0 / PIXEL_SCALE_ARCSEC)


def _spikes(exposure: SimulatedExposure, colour: float) -> galsim.GSObject:
    """Return the light that the struts diffract across themselves: two crossing lines, lengths in pixels.

    Over a broad band the fringes of sinc^2 average to its envelope, 1 / (2 pi^2 t^2) at t widths of wavelength over
    strut: the projection of a Moffat profile of exponent 1.5. The light that the struts' shadow takes from the pupil is
    diffracted once more (Babinet's principle).
    """
    width = np.degrees(_wavelength_nm(exposure, colour) * 1e-9 / STRUT_M) * 3600.0 / PIXEL_SCALE_ARCSEC
    line = galsim.Moffat(beta=1.5, scale_radius=width / (2.0 * np.pi), flux=STRUT_SHARE)
    thin = 0.02
    lines = [
        line.dilate(thin**0.5).shear(q=thin, beta=angle * galsim.degrees) for angle in (STRUT_DEG, STRUT_DEG + 90.0)
    ]
    return galsim.Convolve([galsim.Add(lines), galsim.Gaussian(fwhm=exposure.fwhm_pixels)])


def _guided(exposure: SimulatedExposure, light: galsim.GSObject) -> galsim.GSObject:
    """Return an image that is double where the telescope jumped during the exposure; its centre is that of light."""
    optics = exposure.optics or OpticsTruth()
    if optics.jump_share == 0.0:
        return light
    share, step = optics.jump_share, galsim.PositionD(*optics.jump_pixels)
    return galsim.Add([(1.0 - share) * light.shift(-share * step), share * light.shift((1.0 - share) * step)])


def _function(exposure: SimulatedExposure, ccdnum: int, x: float, y: float, colour: float) -> galsim.GSObject:
    """Return atmosphere, telescope and pixel at a place for a colour; lengths in pixels."""
    u, v = focal_plane(ccdnum, np.array([x]), np.array([y]))
    optics, nm = exposure.optics or OpticsTruth(), _wavelength_nm(exposure, colour)
    rays = np.array([quadratic(terms, u, v)[0] for terms in optics.aberrations])
    rays[0] += optics.focus_step_arcsec * random_stream(61, "galsim height", ccdnum).normal()
    waves = np.radians(rays / 3600.0) * MIRROR_M / 2.0 / (nm * 1e-9) / EDGE_SLOPES
    telescope = galsim.OpticalPSF(
        lam=nm,
        diam=MIRROR_M,
        obscuration=OBSCURATION,
        scale_unit=galsim.arcsec,
        pad_factor=1.5,
        suppress_warning=True,
        **{name: float(value) for name, value in zip(ABERRATIONS, waves, strict=True)},
    ).dilate(1.0 / PIXEL_SCALE_ARCSEC)
    light = galsim.Convolve([_air(exposure, colour), telescope, _spectrum(exposure)])
    centred = light.shift(-1.0 * telescope.centroid)
    return galsim.Convolve([_guided(exposure, centred), galsim.Pixel(1.0)])


def _refraction_arcsec(exposure: SimulatedExposure, nm: float) -> float:
    zenith = exposure.zenith_distance_deg * galsim.degrees
    air = {"pressure": AIR_KPA, "temperature": AIR_K, "H2O_pressure": 0.5}
    return float(galsim.dcr.get_refraction(nm, zenith, **air) * 206264.806)


def _spectrum(exposure: SimulatedExposure) -> galsim.GSObject:
    """Return the short spectrum of the atmosphere towards the zenith, pixels; x to the south, y to the east."""
    band = BANDS[exposure.band]
    half = float(band.filter_id.split()[-1]) / 20.0
    length = abs(
        _refraction_arcsec(exposure, band.wavelength_nm - half)
        - _refraction_arcsec(exposure, band.wavelength_nm + half)
    )
    angle = np.arctan2(np.sin(np.radians(exposure.parallactic_deg)), -np.cos(np.radians(exposure.parallactic_deg)))
    sigma = max(length, 0.01) / np.sqrt(12.0) / PIXEL_SCALE_ARCSEC
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
        weights = self.functions.weights(x, y, sources.g_minus_i)
        return x, y, self.electrons(sources), Fractions(weights @ self.functions.fractions)

    def paint_points(  # type: ignore[override]
        self, x: FloatArray, y: FloatArray, flux: FloatArray, psf: Fractions, colour: FloatArray | None
    ) -> None:
        """Draw points, bright ones with wings, spikes and aureole; the functions are those of this class."""
        del psf
        weights = self.functions.weights(x, y, np.full(len(x), 0.61) if colour is None else colour)
        for k in range(len(x)):
            core = self.functions.at(weights[k], exact=flux[k] > INTERPOLATED_ELECTRONS)
            sizes = [size for least, size in WIDE_PIXELS if flux[k] > least]
            if sizes:
                self._draw(self.functions.beyond(weights[k]), x[k], y[k], flux[k], sizes[-1], core)
            else:
                size = self.functions.size - 4
                self._draw((core,), x[k], y[k], flux[k], size // 2 if flux[k] < FAINT_ELECTRONS else size)

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
            self._draw((galsim.Convolve([galsim.Add(profile), function]),), x[k], y[k], 1.0, size)

    def _draw(
        self,
        things: tuple[galsim.GSObject, ...],
        x: float,
        y: float,
        flux: float,
        size: int,
        core: galsim.GSObject | None = None,
    ) -> None:
        """Add the surface brightness of something to the CCD; within the size of a core, of that instead."""
        column, row = round(float(x)), round(float(y))
        centre = galsim.PositionD(float(x), float(y))

        def square(half: int) -> galsim.Image:
            return galsim.Image(galsim.BoundsI(column - half, column + half, row - half, row + half), scale=1.0)

        stamp = square(size // 2)
        overlap = stamp.bounds & self.canvas.bounds
        if not overlap.isDefined():
            return
        for thing in things:
            thing.drawImage(stamp, center=centre, method="sb", add_to_image=True)
        if core is not None:
            inner = core.drawImage(square(self.functions.size // 2 - 2), center=centre, method="sb")
            stamp[inner.bounds] = inner
        self.canvas[overlap] += float(flux) * stamp[overlap]


def _sersic(n: float, shape: FloatArray) -> galsim.GSObject:
    """Return a profile of unit flux whose half-light ellipse has these squares xx, xy, yy in pixels."""
    xx, xy, yy = (float(value) for value in shape)
    half_trace, root = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    major, minor = np.sqrt(half_trace + root), np.sqrt(max(half_trace - root, 0.04 * half_trace))
    angle = 0.5 * np.arctan2(2 * xy, xx - yy) * galsim.radians
    base = galsim.DeVaucouleurs if n == 4.0 else galsim.Exponential
    return base(half_light_radius=np.sqrt(major * minor)).shear(q=float(minor / major), beta=angle)
