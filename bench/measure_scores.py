"""Compare the measurement of simulated CCDs with the truth."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from bench.prepared import PreparedExposure
from imaging.bits import NO_WEIGHT
from imaging.catalogue.flags import CatalogueFlag
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.numerics.gaussian import FWHM_TO_SIGMA
from imaging.psf.model import PsfModel
from imaging.tables import column

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ToSky = Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
"""Function from pixel coordinates to RA and Dec, degrees."""

MAS_PER_DEGREE = 3.6e6
MAS_PER_PIXEL = 1000.0 * PIXEL_SCALE_ARCSEC
SIGNAL_TO_NOISE = 30.0
"""Minimum signal to noise of the PSF flux of stars used to measure position errors."""

MILLIMAG = 2500.0 / np.log(10.0)
FAINTEST_NEIGHBOUR = 300.0
"""Minimum flux of neighbours and counterparts, electrons."""

NEIGHBOUR_PIXELS, NEIGHBOUR_SHARE = 14.0, 0.003
"""Maximum distance and minimum relative flux of a true source that counts as a neighbour."""

DISTURBED = (
    CatalogueFlag.DEBLENDED | CatalogueFlag.SATURATED | CatalogueFlag.TRUNCATED | CatalogueFlag.APERTURE_INCOMPLETE
)


@dataclass
class Scores:
    """Results of all CCDs and exposures."""

    psf_error: list[float] = field(default_factory=list)
    psf_bias: list[float] = field(default_factory=list)
    flux_difference_mmag: list[float] = field(default_factory=list)
    alone: list[FloatArray] = field(default_factory=list)
    tied: list[FloatArray] = field(default_factory=list)
    coordinates_alone: list[FloatArray] = field(default_factory=list)
    coordinates_tied: list[FloatArray] = field(default_factory=list)
    centroid_noise: list[FloatArray] = field(default_factory=list)
    photon_noise: list[FloatArray] = field(default_factory=list)
    centroid_error: list[FloatArray] = field(default_factory=list)
    mean_offset_mas: list[float] = field(default_factory=list)
    clean_sources: list[NDArray[np.int64]] = field(default_factory=list)
    own_zeropoint_mmag: list[float] = field(default_factory=list)
    zeropoint_mmag: list[float] = field(default_factory=list)
    zeropoint_pull: list[float] = field(default_factory=list)
    stars: list[FloatArray] = field(default_factory=list)
    galaxies: list[FloatArray] = field(default_factory=list)
    cpu_s: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class Truth:
    """True sources of one CCD: (n,) arrays."""

    x: FloatArray
    y: FloatArray
    ra: FloatArray
    dec: FloatArray
    mag: FloatArray
    flux: FloatArray
    is_star: BoolArray
    is_galaxy: BoolArray

    @classmethod
    def of(cls, sources: pa.Table) -> "Truth":
        """Read the simulator's table, without sources fainter than :data:`FAINTEST_NEIGHBOUR`."""
        kind = np.array(sources.column("kind").to_pylist())
        flux = column(sources, "flux_aperture_electrons").astype(float)
        keep = flux > FAINTEST_NEIGHBOUR
        x, y, ra, dec, mag = (column(sources, name).astype(float)[keep] for name in ("x", "y", "ra", "dec", "mag"))
        unsaturated = ~np.asarray(column(sources, "is_saturated"), dtype=bool)
        return cls(x, y, ra, dec, mag, flux[keep], ((kind == "star") & unsaturated)[keep], (kind == "galaxy")[keep])

    def zeropoint_mag(self) -> float:
        """Return the magnitude of a source of one electron in the reference aperture."""
        return float(np.median((self.mag + 2.5 * np.log10(self.flux))[self.is_star]))


@dataclass(frozen=True, eq=False)
class Counterparts:
    """The true source of each catalogued source: (n,) arrays.

    ``index`` into the truth; ``same`` whether the pair is closer than a pixel; ``alone`` whether no other true source
    of more than 0.3 % of its flux lies within 14 pixels.
    """

    index: NDArray[np.int64]
    same: BoolArray
    alone: BoolArray


def counterparts(truth: Truth, x: FloatArray, y: FloatArray) -> Counterparts:
    """Match catalogued positions to true sources."""
    tree = cKDTree(np.stack([truth.x, truth.y], axis=-1))
    distance, index = tree.query(np.stack([x, y], axis=-1))
    around = tree.query_ball_point(np.stack([truth.x[index], truth.y[index]], axis=-1), NEIGHBOUR_PIXELS)
    alone = [
        all(truth.flux[other] < NEIGHBOUR_SHARE * truth.flux[own] for other in others if other != own)
        for own, others in zip(index, around, strict=True)
    ]
    return Counterparts(index, distance < 1.0, np.array(alone, dtype=bool))


def score_psf(scores: Scores, prepared: PreparedExposure, ccd: int, psf: PsfModel) -> None:
    """Compare a PSF with the truth on a grid, up to a shift, because the definition of the centre is arbitrary."""
    half_width, h = 15, 0.02
    offsets = np.arange(-half_width, half_width + 1)
    core = np.hypot(*np.meshgrid(offsets, offsets)) < 7
    for x in np.linspace(40, 2007, 4):
        for y in np.linspace(40, 4055, 5):
            model = psf.stamp(x, y, half_width)
            true, right, up = (
                prepared.true_stamp(ccd, x, y, half_width, shift) for shift in ((0.0, 0.0), (h, 0.0), (0.0, h))
            )
            slopes = np.stack([(right - true).ravel() / h, (up - true).ravel() / h], axis=-1)
            shift, *_ = np.linalg.lstsq(slopes, (model - true).ravel(), rcond=None)
            true = true + (slopes @ shift).reshape(true.shape)
            scores.psf_error.append(float(((model - true) ** 2).sum() / (true**2).sum()))
            scores.psf_bias.append(float((model * true)[core].sum() / (model**2)[core].sum() - 1.0))


def score_photometry(scores: Scores, truth: Truth, catalogue: pa.Table) -> None:
    """Collect the flux differences of single stars of 16.5 to 18.5 mag, and the star/galaxy statistic to 22."""
    pairs = counterparts(truth, column(catalogue, "x"), column(catalogue, "y"))
    flux = column(catalogue, "flux_psf").astype(float)
    spread = column(catalogue, "spread_model").astype(float)
    mag = truth.mag[pairs.index]
    clean = pairs.same & pairs.alone & undisturbed(catalogue) & np.isfinite(flux) & (flux > 0) & np.isfinite(spread)
    bright = clean & truth.is_star[pairs.index] & (mag > 16.5) & (mag < 18.5)
    difference = -MILLIMAG * np.log(flux[bright] / truth.flux[pairs.index][bright])
    scores.flux_difference_mmag += difference.tolist()
    scores.clean_sources.append(pairs.index[clean])
    faint = clean & (mag > 19.0) & (mag < 22.0)
    scores.stars.append(spread[faint & truth.is_star[pairs.index]])
    scores.galaxies.append(spread[faint & truth.is_galaxy[pairs.index]])


def undisturbed(catalogue: pa.Table) -> BoolArray:
    """Return which sources are complete and without masked pixels, (n,) bool."""
    flags, mask = column(catalogue, "flags"), column(catalogue, "mask")
    return ((flags & int(DISTURBED)) == 0) & ((mask & int(NO_WEIGHT)) == 0)


@dataclass(frozen=True, eq=False)
class BrightStars:
    """The single stars above S/N 30 of a CCD, and the truth about them.

    Attributes
    ----------
    x, y, x_error, y_error
        (n,) measured positions and their stated errors, pixels.
    true_x, true_y, ra, dec, flux
        (n,) truth: pixels, degrees, electrons.
    """

    x: FloatArray
    y: FloatArray
    x_error: FloatArray
    y_error: FloatArray
    true_x: FloatArray
    true_y: FloatArray
    ra: FloatArray
    dec: FloatArray
    flux: FloatArray

    @classmethod
    def of(cls, truth: Truth, catalogue: pa.Table) -> "BrightStars":
        """Choose the stars of a catalogue."""
        x, y, x_error, y_error, flux, flux_error = (
            column(catalogue, name).astype(float)
            for name in ("x", "y", "x_error", "y_error", "flux_psf", "flux_psf_error")
        )
        pairs = counterparts(truth, x, y)
        keep = pairs.same & pairs.alone & undisturbed(catalogue) & truth.is_star[pairs.index]
        keep &= flux > SIGNAL_TO_NOISE * flux_error
        index = pairs.index[keep]
        measured = (values[keep] for values in (x, y, x_error, y_error))
        return cls(*measured, *(getattr(truth, name)[index] for name in ("x", "y", "ra", "dec", "flux")))

    def position_errors(self, to_sky: ToSky) -> FloatArray:
        """Return the (2, n) errors of the measured positions to the east and north, mas, including photon noise."""
        return self._from_truth(*to_sky(self.x, self.y))

    def coordinate_errors(self, to_sky: ToSky, centres: FloatArray) -> FloatArray:
        """Return the (2, n) errors of the coordinates at the true star positions, mas: those of the solution alone.

        ``centres`` (2, n) is the offset in pixels, x and y, of the windowed centre of a noiseless image from the star's
        true position: for asymmetric images the coordinates refer to the windowed centres.
        """
        return self._from_truth(*to_sky(self.true_x + centres[0], self.true_y + centres[1]))

    def stated_errors(self) -> FloatArray:
        """Return the (2, n) stated errors to the east and north, mas: x runs to the south and y to the east."""
        return MAS_PER_PIXEL * np.stack([self.y_error, self.x_error])

    def centroid_errors(self) -> FloatArray:
        """Return the (2, n) errors of the centroids, mas, in the order of :meth:`stated_errors`, less their medians.

        The centre of an asymmetric image is a matter of definition, which the coordinates follow.
        """
        errors = MAS_PER_PIXEL * np.stack([self.y - self.true_y, self.x - self.true_x])
        return np.asarray(errors - np.median(errors, axis=1, keepdims=True))

    def _from_truth(self, ra: FloatArray, dec: FloatArray) -> FloatArray:
        east = ((ra - self.ra + 180.0) % 360.0 - 180.0) * np.cos(np.radians(self.dec))
        return MAS_PER_DEGREE * np.stack([east, dec - self.dec])


PLACES = tuple((x, y) for y in (700.0, 2048.0, 3400.0) for x in (350.0, 1024.0, 1700.0))
"""Pixel positions at which the true PSF is evaluated."""


def photon_noise(prepared: PreparedExposure, ccd: int, stars: BrightStars) -> FloatArray:
    """Return the (2, n) least possible errors of the stars' centroids to the east and north, mas (Cramer and Rao).

    From the true PSF at the nearest of nine places, the median weight of the CCD, and the star's own photons.
    """
    image = prepared.images[ccd]
    sky_variance = 1.0 / float(np.median(image.weight[image.weight > 0.0]))
    nearest = cKDTree(PLACES).query(np.stack([stars.true_x, stars.true_y], axis=-1))[1]
    errors = np.empty((2, stars.flux.size))
    for k, (x, y) in enumerate(PLACES):
        stamp, right, up = (
            prepared.true_stamp(ccd, x, y, 20, shift) for shift in ((0.0, 0.0), (0.05, 0.0), (0.0, 0.05))
        )
        slopes = np.stack([(up - stamp).ravel(), (right - stamp).ravel()]) / 0.05
        for star in np.flatnonzero(nearest == k):
            flux = stars.flux[star]
            information = flux**2 * (slopes**2 / (sky_variance + flux * stamp.ravel())).sum(axis=1)
            errors[:, star] = MAS_PER_PIXEL / np.sqrt(information)
    return errors


def windowed_centres(prepared: PreparedExposure, ccd: int, stars: BrightStars, fwhm_pixels: float) -> FloatArray:
    """Return the (2, n) offset in pixels, x and y, from the true star position to the windowed centre without noise.

    A plane fitted to the offsets of the true PSF at nine positions.
    """
    offsets = np.arange(-20, 21.0)
    found = []
    for x, y in PLACES:
        stamp = prepared.true_stamp(ccd, x, y, 20, (0.0, 0.0))
        centre = np.zeros(2)
        for _ in range(20):
            dx, dy = offsets[None, :] - centre[0], offsets[:, None] - centre[1]
            weighted = stamp * np.exp(-0.5 * (dx**2 + dy**2) / (fwhm_pixels * FWHM_TO_SIGMA) ** 2)
            centre += 2.0 * np.array([(weighted * dx).sum(), (weighted * dy).sum()]) / weighted.sum()
        found.append(centre)
    design = np.array([(1.0, x, y) for x, y in PLACES])
    plane = np.linalg.lstsq(design, np.array(found), rcond=None)[0]
    return np.asarray((np.stack([np.ones_like(stars.x), stars.true_x, stars.true_y], axis=-1) @ plane).T)


def separation_share(stars: FloatArray, galaxies: FloatArray) -> float:
    """Return the probability that a galaxy's statistic exceeds a star's (area under the receiver's curve)."""
    return float(np.mean(stars[:, None] < galaxies[None, :]))
