"""Joint astrometric solution of all CCDs of an exposure.

The CCDs share the telescope's pointing, scale and rotation, the distortion of the focal plane and the atmospheric
dispersion; each has a small offset, linear and cubic distortion of its own, with priors; turbulence correlates the
residuals of its stars. A first fit without turbulence clips the stars; the covariance of the turbulence is that of
largest likelihood; generalised least squares give what is shared; and the polynomial of a CCD is predicted together
with its turbulence, which a polynomial fitted before would take for distortion. A CCD with few or no stars uses the
exposure's solution. The result is a TPV system per CCD and a table of corrections for what a cubic
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
from imaging.astrometry.turbulence import FieldStars, Interpolation, Turbulence, interpolate, measure_turbulence
from imaging.errors import CcdError
from imaging.tables import column
from imaging.wcs.tpv import TpvWcs, sky_to_plane

FloatArray = NDArray[np.float64]

COMMON_DEGREE = 3
"""Degree of the common distortion in the focal plane."""

CCD_DEGREE = 3
"""Degree of a CCD's own correction."""

N_COMMON, N_OWN = ((degree + 1) * (degree + 2) // 2 for degree in (COMMON_DEGREE, CCD_DEGREE))
"""Numbers of their coefficients per axis."""

SHARED_STARS = 200
"""Largest number of stars of a CCD in the fit of what all CCDs share; those of smallest error are used."""

GRID = (25, 13)
"""Grid points along y and x of the table of corrections, 45 arcsec apart; turbulence has lengths from 2 arcmin on."""

MAS_PER_ARCSEC = 1000.0
MINUTES = 60.0
"""Arcminutes per degree."""

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
    model = _JointModel(stars, shape, settings)
    used, scatter = model.clip()
    turbulence = measure_turbulence([model.field_stars(np.flatnonzero(used & (stars.ccd == ccd))) for ccd in ccds])
    model.fit_shared(used, turbulence)
    tied = {ccd: _tie_ccd(ccd, seeds[ccd], model, used, turbulence) for ccd in ccds}
    return ExposureAstrometry(
        ccds={ccd: part.model_copy(update={"displacement": displacements.get(ccd)}) for ccd, part in tied.items()},
        n_stars=int(used.sum()),
        scatter_mas=scatter,
        turbulence=turbulence,
        colour_shift_mas=(float(model.shared[0, N_COMMON]), float(model.shared[1, N_COMMON])),
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


class _JointModel:
    """Joint fit of what all CCDs share, beside a polynomial of each CCD and the turbulence.

    Shared are the common polynomial in the focal plane and the terms of the colour. The polynomials of the CCDs have
    priors and are eliminated CCD by CCD, with both axes together because the turbulence correlates them.
    """

    def __init__(self, stars: _Stars, shape: tuple[int, int], settings: AstrometrySettings) -> None:
        self.stars, self.shape, self.settings = stars, shape, settings
        self.shared = np.zeros((2, N_COMMON + COLOUR_TERMS))
        self.design = np.hstack([common_polynomial(stars.place), colour_powers(stars.colour, COLOUR_TERMS)])
        self.own = self.own_terms(stars.pairs.x, stars.pairs.y)

    def own_terms(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Return the (n, 10) terms of a CCD's own polynomial at pixels, each times its prior, mas."""
        s = self.settings
        curved = [s.ccd_curved_prior_arcsec] * (N_OWN - 3)
        prior = np.array([s.ccd_offset_prior_arcsec, *[s.ccd_linear_prior_arcsec] * 2, *curved])
        return pixel_polynomial(x, y, CCD_DEGREE, self.shape) * prior * MAS_PER_ARCSEC

    def clip(self) -> tuple[NDArray[np.bool_], float]:
        """Fit with clipping; return the (n,) stars used and the scatter per axis beyond the formal errors, mas."""
        stars, settings = self.stars, self.settings
        used = np.ones(len(stars.pairs), bool)
        scatter = 10.0 * settings.scatter_floor_mas
        rows = {ccd: np.flatnonzero(stars.ccd == ccd) for ccd in np.unique(stars.ccd)}
        systems = {ccd: self._system(own) for ccd, own in rows.items()}
        for _ in range(10):
            weight = used[:, None] / np.hypot(stars.error, scatter)
            own = self._solve({c: system * weight[rows[c]].T.reshape(-1, 1) for c, system in systems.items()})
            left = self.beside_shared()
            for ccd, terms in own.items():
                left[rows[ccd]] -= self.own[rows[ccd]] @ terms.T
            excess = np.median(left[used] ** 2 - 0.455 * stars.error[used] ** 2) / 0.455
            scatter = float(max(np.sqrt(max(excess, 0.0)), settings.scatter_floor_mas))
            new = np.hypot(*(left / np.hypot(stars.error, scatter)).T) < settings.clip_sigma * np.sqrt(2.0)
            if np.array_equal(new, used):
                break
            used = new
        return used, scatter

    def fit_shared(self, used: NDArray[np.bool_], turbulence: Turbulence) -> None:
        """Fit what is shared, with the turbulence within each CCD as correlated noise."""
        systems = {}
        for ccd in np.unique(self.stars.ccd[used]):
            rows = np.flatnonzero(used & (self.stars.ccd == ccd))
            stars = self.field_stars(rows)
            best = stars.best(SHARED_STARS)
            systems[ccd] = stars.select(best).whiten(self._system(rows[best]), turbulence)
        self._solve(systems)

    def _system(self, rows: NDArray[np.int64]) -> FloatArray:
        """Return the columns of the shared terms, the residuals and the own terms: both axes of stars below another."""
        both = np.eye(2)
        values = self.stars.residual[rows].T.reshape(-1, 1)
        return np.hstack([np.kron(both, self.design[rows]), values, np.kron(both, self.own[rows])])

    def _solve(self, systems: Mapping[int, FloatArray]) -> dict[int, FloatArray]:
        """Fit the shared terms to weighted systems; return the (2, 10) coefficients of each CCD's own terms."""
        n = self.shared.size
        normal = np.diag(np.append(np.tile(self._precision(), 2), 0.0))
        eliminated = {}
        for ccd, system in systems.items():
            product = system.T @ system
            block = product[n + 1 :, n + 1 :] + np.eye(2 * N_OWN)
            eliminated[ccd] = np.linalg.solve(block, product[n + 1 :, : n + 1])
            normal += product[: n + 1, : n + 1] - product[: n + 1, n + 1 :] @ eliminated[ccd]
        shared = np.linalg.solve(normal[:n, :n], normal[:n, n])
        self.shared = shared.reshape(2, -1)
        return {ccd: (terms[:, n] - terms[:, :n] @ shared).reshape(2, -1) for ccd, terms in eliminated.items()}

    def _precision(self) -> FloatArray:
        """Return the inverse variances of the shared unknowns of one axis."""
        colour = self.settings.colour_prior_mas * CURVATURE ** np.arange(COLOUR_TERMS)
        return 1.0 / np.concatenate([np.full(N_COMMON, COMMON_PRIOR_MAS), colour]) ** 2

    def beside_shared(self) -> FloatArray:
        """Return the (n, 2) residuals beside what is shared, mas."""
        return self.stars.residual - self.design @ self.shared.T

    def field_stars(self, rows: NDArray[np.int64]) -> FieldStars:
        """Return stars beside what is shared; the polynomials are those of their CCDs in the order of the numbers."""
        stars = self.stars
        numbers = np.unique(stars.ccd[rows])
        terms = (stars.ccd[rows, None] == numbers)[:, :, None] * self.own[rows, None]
        left = stars.residual[rows] - self.design[rows] @ self.shared.T
        return FieldStars(
            stars.place[rows] * MINUTES, left, stars.error[rows], terms.reshape(rows.size, numbers.size * N_OWN)
        )

    def common(self, place: FloatArray) -> FloatArray:
        """Return the (n, 2) common polynomial at standard coordinates in degrees, mas."""
        return common_polynomial(place) @ self.shared[:, :N_COMMON].T

    def chromatic(self) -> Chromatic:
        """Return the displacement of the stars by their colours, in the range of the stars used."""
        terms = self.shared[:, N_COMMON:]
        low, high = (float(np.quantile(self.stars.colour, q)) if len(self.stars.pairs) else 0.0 for q in (0.01, 0.99))
        typical = self.stars.typical
        return Chromatic(typical_mag=typical, range_mag=(typical + low, typical + high), terms_mas=terms.tolist())

    def pointing_offset(self) -> tuple[float, float]:
        """Return the offset of the pointing along xi and eta, arcseconds."""
        return float(self.shared[0, 0] / MAS_PER_ARCSEC), float(self.shared[1, 0] / MAS_PER_ARCSEC)


def common_polynomial(place_deg: FloatArray) -> FloatArray:
    """Return the (n, n_terms) monomials of focal-plane positions in degrees, low powers first."""
    u, v = place_deg[:, 0], place_deg[:, 1]
    return np.stack([u ** (t - j) * v**j for t in range(COMMON_DEGREE + 1) for j in range(t + 1)], axis=-1)


def _tie_ccd(ccd: int, seed: TpvWcs, model: _JointModel, used: NDArray[np.bool_], turbulence: Turbulence) -> TiedCcd:
    """Return the solution of one CCD."""
    stars, shape, settings = model.stars, model.shape, model.settings
    ny, nx = shape
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, nx - 1, GRID[1]), np.linspace(0, ny - 1, GRID[0])))
    xi, eta = seed.pixel_to_plane(x, y)
    place = np.stack([xi, eta], axis=-1)
    reach = settings.turbulence_reach_arcmin / MINUTES
    low, high = place.min(axis=0) - reach, place.max(axis=0) + reach
    near = np.flatnonzero(used & (stars.place > low).all(axis=1) & (stars.place < high).all(axis=1))
    terms = np.kron(np.unique(stars.ccd[near]) == ccd, model.own_terms(x, y))
    field = interpolate(turbulence, model.field_stars(near), place * MINUTES, terms)
    total = (model.common(place) + field.values) / MAS_PER_DEGREE
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
