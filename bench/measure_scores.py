"""Hold the measurement of simulated CCDs against the truth."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from bench.prepared import PreparedExposure
from imaging.bits import NO_WEIGHT
from imaging.catalogue.flags import CatalogueFlag
from imaging.io.tables import column
from imaging.psf.model import PsfModel

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MAS_PER_DEGREE = 3.6e6
MILLIMAG = 2500.0 / np.log(10.0)
FAINTEST_NEIGHBOUR = 300.0
"""Sources fainter than this, electrons, are not counted as neighbours or counterparts."""

DISTURBED = (
    CatalogueFlag.DEBLENDED | CatalogueFlag.SATURATED | CatalogueFlag.TRUNCATED | CatalogueFlag.APERTURE_INCOMPLETE
)


@dataclass
class Scores:
    """Figures gathered over CCDs and exposures."""

    psf_error: list[float] = field(default_factory=list)
    psf_bias: list[float] = field(default_factory=list)
    flux_difference_mmag: list[float] = field(default_factory=list)
    alone: list[FloatArray] = field(default_factory=list)
    tied: list[FloatArray] = field(default_factory=list)
    corrected: list[FloatArray] = field(default_factory=list)
    centroid_noise: list[FloatArray] = field(default_factory=list)
    mean_offset_mas: list[float] = field(default_factory=list)
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
        """Read the simulator's table; sources too faint to matter are left out."""
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
    """Which true source each catalogued one is: (n,) arrays.

    ``index`` into the truth; ``same`` whether the pair is closer than a pixel; ``alone`` whether no other true source
    that matters lies within 14 pixels.
    """

    index: NDArray[np.int64]
    same: BoolArray
    alone: BoolArray


def counterparts(truth: Truth, x: FloatArray, y: FloatArray) -> Counterparts:
    """Pair catalogued positions with true sources."""
    tree = cKDTree(np.stack([truth.x, truth.y], axis=-1))
    distance, nearest = tree.query(np.stack([x, y], axis=-1), k=2)
    second = truth.flux[nearest[:, 1]] / truth.flux[nearest[:, 0]]
    return Counterparts(nearest[:, 0], distance[:, 0] < 1.0, (distance[:, 1] > 14.0) | (second < 0.003))


def score_psf(scores: Scores, prepared: PreparedExposure, ccd: int, psf: PsfModel) -> None:
    """Compare a PSF with the truth on a grid; a displacement is allowed, because the centre is a convention."""
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
    faint = clean & (mag > 19.0) & (mag < 22.0)
    scores.stars.append(spread[faint & truth.is_star[pairs.index]])
    scores.galaxies.append(spread[faint & truth.is_galaxy[pairs.index]])


def undisturbed(catalogue: pa.Table) -> BoolArray:
    """Return which sources are whole and on good pixels."""
    flags, mask = column(catalogue, "flags"), column(catalogue, "mask")
    return ((flags & int(DISTURBED)) == 0) & ((mask & int(NO_WEIGHT)) == 0)


def position_errors(
    truth: Truth, catalogue: pa.Table, to_sky: Callable[[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]
) -> tuple[FloatArray, FloatArray]:
    """Return (2, n) position errors of the single stars above S/N 30, mas, and the (2, n) errors of their centroids."""
    x, y = column(catalogue, "x"), column(catalogue, "y")
    pairs = counterparts(truth, x, y)
    snr = column(catalogue, "flux_psf").astype(float) / column(catalogue, "flux_psf_error").astype(float)
    stars = pairs.same & pairs.alone & undisturbed(catalogue) & truth.is_star[pairs.index] & (snr > 30.0)
    ra, dec = to_sky(x[stars], y[stars])
    index = pairs.index[stars]
    east = (ra - truth.ra[index]) * np.cos(np.radians(dec)) * MAS_PER_DEGREE
    north = (dec - truth.dec[index]) * MAS_PER_DEGREE
    # x runs to the south and y to the east.
    noise = [column(catalogue, name).astype(float)[stars] * 263.0 for name in ("y_error", "x_error")]
    return np.stack([east, north]), np.stack(noise)


def separation_share(stars: FloatArray, galaxies: FloatArray) -> float:
    """Return the probability that a galaxy's statistic exceeds a star's (area under the receiver's curve)."""
    return float(np.mean(stars[:, None] < galaxies[None, :]))
