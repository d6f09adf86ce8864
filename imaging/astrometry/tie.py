"""Joint astrometric solution of all CCDs of an exposure.

The CCDs share the telescope's pointing, scale and rotation, the distortion of the focal plane and the atmospheric
dispersion; each has a small offset, linear and cubic distortion of its own, with priors; the remaining turbulence is
interpolated from the stars. One clipped linear fit gives everything but the turbulence, so that a CCD with few or no
stars uses the exposure's solution. The result is a TPV system per CCD and a table of corrections for what a cubic
cannot represent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.astrometry.displacement import PixelDisplacement
from imaging.astrometry.fit import MAS_PER_DEGREE, Pairs, pair_errors_mas, pixel_polynomial, wcs_through
from imaging.astrometry.settings import AstrometrySettings
from imaging.astrometry.solution import Chromatic, ExposureAstrometry, TiedCcd, colour_powers
from imaging.astrometry.turbulence import Interpolation, Turbulence, interpolate, measure_turbulence
from imaging.errors import CcdError
from imaging.tables import column
from imaging.wcs.tpv import TpvWcs, sky_to_plane

FloatArray = NDArray[np.float64]

COMMON_DEGREE = 3
"""Degree of the common distortion in the focal plane."""

CCD_DEGREE = 3
"""Degree of a CCD's own correction."""

GRID = (17, 9)
"""Grid points along y and x of the table of corrections."""

MAS_PER_ARCSEC = 1000.0

COLOUR_TERMS = 3
"""Powers of the colour in the chromatic displacement; the wavelength of red stars is not linear in BP - RP."""

CURVATURE = 0.3
"""Expected size of each further power relative to the one before."""

COMMON_PRIOR_MAS = 1e6
"""Prior of the common terms, effectively none: the pointing may be off by arcminutes."""


@dataclass(frozen=True, eq=False)
class _Stars:
    """All matched stars of the exposure, CCD after CCD.

    ``ccd`` (n,) number; ``pairs`` the pairs; ``place`` (n, 2) standard coordinates by the seed in degrees; ``residual``
    (n, 2) reference minus seed, mas; ``error`` (n, 2) mas; ``colour`` (n,) BP - RP minus its median ``typical``, 0
    where unknown.
    """

    ccd: NDArray[np.int64]
    pairs: Pairs
    place: FloatArray
    residual: FloatArray
    error: FloatArray
    colour: FloatArray
    typical: float


def tie_exposure(
    matches: Mapping[int, pa.Table],
    seeds: Mapping[int, TpvWcs],
    shape: tuple[int, int],
    settings: AstrometrySettings,
    displacements: Mapping[int, PixelDisplacement] = MappingProxyType({}),
) -> ExposureAstrometry:
    """Solve the astrometry of an exposure from the matches of its CCDs.

    Parameters
    ----------
    matches
        CCD number to columns of :data:`imaging.schemas.matches.ASTROMETRY_MATCHES`; CCDs without a match may be absent
        or empty.
    seeds
        Nominal coordinates of every CCD to solve, all with the same tangent point.
    shape
        (ny, nx) of a CCD.
    settings
        Priors and clipping.
    displacements
        CCD number to the displacements that are taken from the measured positions.

    Raises
    ------
    CcdError
        With reason ``astrometry_no_match`` if the exposure as a whole has too few matched stars.
    """
    ccds = sorted(seeds)
    stars = _gather(matches, seeds, ccds, displacements)
    if len(stars.pairs) < settings.minimum_stars:
        raise CcdError(
            "the exposure has too few matched stars",
            reason="astrometry_no_match",
            step="tie",
            value=len(stars.pairs),
            limit=f"at least {settings.minimum_stars}",
            remedy="check the pointing in the header and that the reference catalogue covers the field",
        )
    model = _LinearModel(stars, ccds, shape, settings)
    used, scatter = model.solve()
    left = stars.residual - model.at_stars()
    minutes = stars.place * 60.0
    with_own = [used & (stars.ccd == ccd) for ccd in ccds]
    turbulence = measure_turbulence([minutes[m] for m in with_own], [left[m] for m in with_own])
    noise = np.hypot(stars.error, settings.scatter_floor_mas)
    tied = {
        ccd: _tie_ccd(ccd, seeds[ccd], model, stars, left, used, noise, turbulence, shape, settings) for ccd in ccds
    }
    return ExposureAstrometry(
        ccds={ccd: part.model_copy(update={"displacement": displacements.get(ccd)}) for ccd, part in tied.items()},
        n_stars=int(used.sum()),
        scatter_mas=scatter,
        turbulence_mas=turbulence.amplitude_mas,
        turbulence_length_arcmin=turbulence.length_arcmin,
        colour_shift_mas=(float(model.solution[0, model.n_common]), float(model.solution[1, model.n_common])),
        pointing_offset_arcsec=model.pointing_offset(),
    )


def _gather(
    matches: Mapping[int, pa.Table],
    seeds: Mapping[int, TpvWcs],
    ccds: list[int],
    displacements: Mapping[int, PixelDisplacement],
) -> _Stars:
    parts: dict[str, list[FloatArray]] = {name: [] for name in ("x", "y", "xi", "eta", "e1", "e2", "snr", "u", "v")}
    numbers: list[NDArray[np.int64]] = []
    colours: list[FloatArray] = []
    for ccd in ccds:
        table = matches.get(ccd)
        if table is None or table.num_rows == 0:
            continue
        seed = seeds[ccd]
        names = ("x", "y", "ra", "dec", "x_error", "y_error", "ra_error_mas", "dec_error_mas", "snr", "colour_mag")
        c = {name: column(table, name).astype(np.float64) for name in names}
        if ccd in displacements:
            c["x"], c["y"] = displacements[ccd].undo(c["x"], c["y"])
        xi, eta = sky_to_plane(c["ra"], c["dec"], *seed.crval)
        u, v = seed.pixel_to_plane(c["x"], c["y"])
        errors = pair_errors_mas(
            seed, c["x"], c["y"], (c["x_error"], c["y_error"]), (c["ra_error_mas"], c["dec_error_mas"])
        )
        for name, values in zip(parts, (c["x"], c["y"], xi, eta, *errors, c["snr"], u, v), strict=True):
            parts[name].append(values)
        numbers.append(np.full(table.num_rows, ccd, np.int64))
        colours.append(c["colour_mag"])
    joined = {name: np.concatenate(values) if values else np.zeros(0) for name, values in parts.items()}
    place = np.stack([joined["u"], joined["v"]], axis=-1)
    reference = np.stack([joined["xi"], joined["eta"]], axis=-1)
    colour = np.concatenate(colours) if colours else np.zeros(0)
    known = np.isfinite(colour)
    typical = float(np.median(colour[known])) if known.any() else 0.0
    return _Stars(
        ccd=np.concatenate(numbers) if numbers else np.zeros(0, np.int64),
        pairs=Pairs(*(joined[name] for name in ("x", "y", "xi", "eta", "e1", "e2", "snr"))),
        place=place,
        residual=(reference - place) * MAS_PER_DEGREE,
        error=np.stack([joined["e1"], joined["e2"]], axis=-1),
        colour=np.where(known, colour - typical, 0.0),
        typical=typical,
    )


class _LinearModel:
    """Joint fit of common distortion, colour term and each CCD's own correction, with priors.

    The unknowns of one axis are the common polynomial in the focal plane, the colour coefficient, and one polynomial
    in pixels per CCD.
    """

    def __init__(self, stars: _Stars, ccds: list[int], shape: tuple[int, int], settings: AstrometrySettings) -> None:
        self.stars, self.ccds, self.shape, self.settings = stars, ccds, shape, settings
        self.n_common = (COMMON_DEGREE + 1) * (COMMON_DEGREE + 2) // 2
        self.n_own = (CCD_DEGREE + 1) * (CCD_DEGREE + 2) // 2
        self.solution = np.zeros((2, self.n_common + COLOUR_TERMS + self.n_own * len(ccds)))
        self.design = self._design()

    def _design(self) -> FloatArray:
        stars = self.stars
        design = np.zeros((len(stars.pairs), self.solution.shape[1]))
        design[:, : self.n_common] = common_polynomial(stars.place)
        design[:, self._colour()] = colour_powers(stars.colour)
        for k, ccd in enumerate(self.ccds):
            rows = stars.ccd == ccd
            design[rows, self._own(k)] = pixel_polynomial(
                stars.pairs.x[rows], stars.pairs.y[rows], CCD_DEGREE, self.shape
            )
        return design

    def _own(self, k: int) -> slice:
        first = self.n_common + COLOUR_TERMS + k * self.n_own
        return slice(first, first + self.n_own)

    def _colour(self) -> slice:
        return slice(self.n_common, self.n_common + COLOUR_TERMS)

    def _prior(self) -> FloatArray:
        """Return the inverse variances of the unknowns."""
        s = self.settings
        width = np.full(self.solution.shape[1], COMMON_PRIOR_MAS)
        width[self._colour()] = s.colour_prior_mas * CURVATURE ** np.arange(COLOUR_TERMS)
        own = np.full(self.n_own, s.ccd_curved_prior_arcsec)
        own[0], own[1:3] = s.ccd_offset_prior_arcsec, s.ccd_linear_prior_arcsec
        for k in range(len(self.ccds)):
            width[self._own(k)] = own * MAS_PER_ARCSEC
        return 1.0 / width**2

    def solve(self) -> tuple[NDArray[np.bool_], float]:
        """Fit with clipping; return the (n,) stars used and the scatter per axis beyond the formal errors, mas."""
        stars, settings = self.stars, self.settings
        used = np.ones(len(stars.pairs), bool)
        scatter = 10.0 * settings.scatter_floor_mas
        prior = np.diag(self._prior())
        for _ in range(10):
            total = np.hypot(stars.error, scatter)
            for axis in range(2):
                weighted = self.design[used] / total[used, axis, None] ** 2
                normal = weighted.T @ self.design[used] + prior
                self.solution[axis] = np.linalg.solve(normal, weighted.T @ stars.residual[used, axis])
            left = stars.residual - self.at_stars()
            excess = np.median(left[used] ** 2 - 0.455 * stars.error[used] ** 2) / 0.455
            scatter = float(max(np.sqrt(max(excess, 0.0)), settings.scatter_floor_mas))
            new = np.hypot(*(left / np.hypot(stars.error, scatter)).T) < settings.clip_sigma * np.sqrt(2.0)
            if np.array_equal(new, used):
                break
            used = new
        return used, scatter

    def at_stars(self) -> FloatArray:
        """Return the (n, 2) model at the stars, mas."""
        return self.design @ self.solution.T

    def at_pixels(self, ccd: int, seed: TpvWcs, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the (n, 2) model at pixels of a CCD for a star of the typical colour, mas."""
        place = np.stack(seed.pixel_to_plane(x, y), axis=-1)
        common = common_polynomial(place) @ self.solution[:, : self.n_common].T
        own = self.solution[:, self._own(self.ccds.index(ccd))]
        return common + pixel_polynomial(x, y, CCD_DEGREE, self.shape) @ own.T

    def chromatic(self) -> Chromatic:
        """Return the displacement of the stars by their colours, in the range of the stars used."""
        terms = self.solution[:, self._colour()]
        low, high = (float(np.quantile(self.stars.colour, q)) if len(self.stars.pairs) else 0.0 for q in (0.01, 0.99))
        typical = self.stars.typical
        return Chromatic(typical_mag=typical, range_mag=(typical + low, typical + high), terms_mas=terms.tolist())

    def pointing_offset(self) -> tuple[float, float]:
        """Return the offset of the pointing along xi and eta, arcseconds."""
        return float(self.solution[0, 0] / MAS_PER_ARCSEC), float(self.solution[1, 0] / MAS_PER_ARCSEC)


def common_polynomial(place_deg: FloatArray) -> FloatArray:
    """Return the (n, n_terms) monomials of focal-plane positions in degrees, low powers first."""
    u, v = place_deg[:, 0], place_deg[:, 1]
    return np.stack([u ** (t - j) * v**j for t in range(COMMON_DEGREE + 1) for j in range(t + 1)], axis=-1)


def _tie_ccd(
    ccd: int,
    seed: TpvWcs,
    model: _LinearModel,
    stars: _Stars,
    left: FloatArray,
    used: NDArray[np.bool_],
    noise: FloatArray,
    turbulence: Turbulence,
    shape: tuple[int, int],
    settings: AstrometrySettings,
) -> TiedCcd:
    """Return the solution of one CCD."""
    ny, nx = shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, GRID[1]), np.linspace(0, ny - 1, GRID[0])))
    xi, eta = seed.pixel_to_plane(x, y)
    minutes = np.stack([xi, eta], axis=-1) * 60.0
    reach = settings.turbulence_reach_arcmin
    low, high = minutes.min(axis=0) - reach, minutes.max(axis=0) + reach
    near = used & (stars.place * 60.0 > low).all(axis=1) & (stars.place * 60.0 < high).all(axis=1)
    field = interpolate(turbulence, stars.place[near] * 60.0, left[near], noise[near], minutes)
    total = (model.at_pixels(ccd, seed, x, y) + field.values) / MAS_PER_DEGREE
    wcs = wcs_through(seed, x, y, xi + total[:, 0], eta + total[:, 1])
    rest = np.stack([xi + total[:, 0], eta + total[:, 1]], axis=-1) - np.stack(wcs.pixel_to_plane(x, y), axis=-1)
    own = used & (stars.ccd == ccd)
    return TiedCcd(
        header=wcs.to_header(),
        n_stars=int(own.sum()),
        source="own" if own.sum() >= settings.minimum_stars else "exposure",
        rms_mas=_rms(wcs, stars, own, settings),
        left_out_rms_mas=_left_out_rms(field, own[near], stars.pairs.snr[near], settings),
        correction_mas=(rest * MAS_PER_DEGREE).reshape(*GRID, 2).round(3).tolist(),
        chromatic=model.chromatic(),
    )


def _bright(snr: FloatArray, settings: AstrometrySettings) -> NDArray[np.bool_]:
    bright = snr > settings.rms_snr
    return bright if bright.sum() >= 3 else np.ones(snr.size, bool)


def _rms(
    wcs: TpvWcs, stars: _Stars, own: NDArray[np.bool_], settings: AstrometrySettings
) -> tuple[float, float] | None:
    """Return the rms residuals of a CCD's stars under its TPV system; None without stars."""
    if own.sum() < 3:
        return None
    pairs = stars.pairs
    xi, eta = wcs.pixel_to_plane(pairs.x[own], pairs.y[own])
    bright = _bright(pairs.snr[own], settings)
    difference = np.stack([pairs.xi[own] - xi, pairs.eta[own] - eta])[:, bright] * MAS_PER_DEGREE
    rms = np.sqrt(np.mean(difference**2, axis=1))
    return float(rms[0]), float(rms[1])


def _left_out_rms(
    field: Interpolation, own: NDArray[np.bool_], snr: FloatArray, settings: AstrometrySettings
) -> tuple[float, float] | None:
    """Return the rms residuals of a CCD's stars after the turbulence predicted from the other stars."""
    if own.sum() < 3:
        return None
    rms = np.sqrt(np.mean(field.left_out[own][_bright(snr[own], settings)] ** 2, axis=0))
    return float(rms[0]), float(rms[1])
