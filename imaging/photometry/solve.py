"""Joint zero-point solution of all CCDs of an exposure.

The CCDs of an exposure share a zero point except for clouds, which are smooth over the focal plane, and a scatter from
CCD to CCD. Both are estimated from all given CCDs, in any number and order; each CCD's adopted value is the weighted
mean of its own and of the prediction from the others at its position (the shrinkage of Efron and Morris 1975, JASA 70,
311). CCDs without stars get the prediction, as do outliers, with a flag.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.detector.ccds import science_ccd
from imaging.exposure import Exposure
from imaging.photometry.settings import PhotometrySettings
from imaging.photometry.zeropoint import CcdZeropoint, intrinsic_scatter
from imaging.schemas.zeropoints import ZEROPOINTS, ZeropointFlag
from imaging.tables import make_table

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

FOCAL_PLANE_HALF_WIDTH_PIXELS = 14336.0

UPPER = 0.7
"""Number of standard errors by which the estimated scatter from CCD to CCD is increased."""


@dataclass(frozen=True, eq=False)
class _Field:
    """A smooth zero point over the focal plane.

    ``coefficients`` with their ``covariance`` are those of the polynomial of ``degree``; ``scatter`` is that of the
    CCDs about it, magnitudes.
    """

    degree: int
    coefficients: FloatArray
    covariance: FloatArray
    scatter: float

    def predict(self, place: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return value and error, without the scatter, at (n, 2) positions."""
        design = _design(place, self.degree)
        error = np.sqrt(np.einsum("ni,ij,nj->n", design, self.covariance, design))
        return design @ self.coefficients, error


def solve_exposure_zeropoints(
    own: Mapping[int, CcdZeropoint],
    exposure: Exposure,
    settings: PhotometrySettings,
    units_mag: Mapping[int, float] = MappingProxyType({}),
) -> pa.Table:
    """Compute the adopted zero point of every CCD of an exposure.

    Parameters
    ----------
    own
        CCD number to the CCD's own zero point; any subset of CCDs, in any order.
    exposure
        The exposure.
    settings
        Limits.
    units_mag
        Imported images: CCD number to the zero point of an electron minus that of the file's unit. The CCDs of other
        pipelines have a common zero point in their unit, whatever their gains.

    Returns
    -------
    zeropoints
        Columns of :data:`imaging.schemas.zeropoints.ZEROPOINTS`, one row per CCD in order of number.
    """
    ccds = sorted(own)
    unit = np.array([units_mag.get(c, 0.0) for c in ccds])
    values = np.array([_or_nan(own[c].zeropoint_mag) for c in ccds]) - unit
    errors = np.array([_or_nan(own[c].zeropoint_error_mag) for c in ccds])
    place = np.array([science_ccd(c).focal_plane_centre for c in ccds]).reshape(-1, 2)
    place = place / FOCAL_PLANE_HALF_WIDTH_PIXELS
    flags = np.zeros(len(ccds), np.int32)
    has_own = np.isfinite(values)
    flags[~has_own] |= int(ZeropointFlag.TOO_FEW_STARS)
    if not has_own.any():
        flags |= int(ZeropointFlag.UNCALIBRATED)
        nothing = np.full(len(ccds), np.nan)
        return _table(ccds, own, exposure, settings, nothing, nothing, np.nan, flags)
    good = _not_outlying(values, errors, place, has_own, settings)
    flags[has_own & ~good] |= int(ZeropointFlag.OUTLIER)
    n_outliers = int((has_own & ~good).sum())
    if n_outliers > 1 and n_outliers >= settings.many_outliers_fraction * has_own.sum():
        flags |= int(ZeropointFlag.MANY_OUTLIERS)
    adopted, adopted_error, exposure_value = _adopt(values, errors, place, has_own, good, settings)
    exposure_value += float(np.mean(unit))
    return _table(ccds, own, exposure, settings, adopted + unit, adopted_error, exposure_value, flags)


def _or_nan(value: float | None) -> float:
    return np.nan if value is None else value


def _design(place: FloatArray, degree: int) -> FloatArray:
    u, v = place[:, 0], place[:, 1]
    return np.stack([u ** (total - j) * v**j for total in range(degree + 1) for j in range(total + 1)], axis=-1)


def _not_outlying(
    values: FloatArray, errors: FloatArray, place: FloatArray, has_own: BoolArray, settings: PhotometrySettings
) -> BoolArray:
    """Return which CCDs agree with the exposure, about a robust smooth field."""
    if has_own.sum() < settings.minimum_ccds_for_outliers:
        return has_own.copy()
    good = has_own & (np.abs(values - np.median(values[has_own])) < 3.0 * settings.outlier_mag)
    if not good.any():
        good = has_own.copy()
    for _ in range(10):
        field = _fit_field(values[good], errors[good], place[good], settings)
        deviation = np.abs(values - field.predict(place)[0])
        new = has_own & (deviation < settings.outlier_mag)
        if not new.any() or np.array_equal(new, good):
            break
        good = new
    return good


def _fit_field(values: FloatArray, errors: FloatArray, place: FloatArray, settings: PhotometrySettings) -> _Field:
    """Fit a constant, or a smooth field if its terms are significant."""
    best = _fit_degree(values, errors, place, 0)
    for degree in range(1, settings.maximum_field_degree + 1):
        n_terms = (degree + 1) * (degree + 2) // 2
        if values.size < 3 * n_terms:
            break
        candidate = _fit_degree(values, errors, place, degree)
        total = np.hypot(errors, candidate.scatter)
        chi2 = [float((((values - field.predict(place)[0]) / total) ** 2).sum()) for field in (best, candidate)]
        if chi2[0] - chi2[1] > settings.field_gain * (n_terms - best.coefficients.size):
            best = candidate
    return best


def _fit_degree(values: FloatArray, errors: FloatArray, place: FloatArray, degree: int) -> _Field:
    design = _design(place, degree)
    scatter = 0.0
    inflate = np.sqrt(max(values.size - 1, 1) / max(values.size - design.shape[1], 1))
    for _ in range(20):
        weight = 1.0 / (errors**2 + scatter**2)
        covariance = np.asarray(np.linalg.inv(design.T @ (design * weight[:, None])), dtype=np.float64)
        coefficients = covariance @ (design.T @ (weight * values))
        new = intrinsic_scatter((values - design @ coefficients) * inflate, errors)
        if abs(new - scatter) < 1e-6:
            break
        scatter = new
    return _Field(degree, coefficients, covariance, scatter)


def _adopt(
    values: FloatArray,
    errors: FloatArray,
    place: FloatArray,
    has_own: BoolArray,
    good: BoolArray,
    settings: PhotometrySettings,
) -> tuple[FloatArray, FloatArray, float]:
    """Return adopted values and errors of all CCDs, and the exposure's value: the field's mean over the CCDs."""
    field = _fit_field(values[good], errors[good], place[good], settings)
    adopted, adopted_error = np.empty_like(values), np.empty_like(values)
    for k in range(values.size):
        others = good.copy()
        others[k] = False
        if not others.any():
            adopted[k], adopted_error[k] = values[k], errors[k]
            continue
        value, error = _predict_from(values, errors, place, others, k, field, settings)
        if good[k] and others.sum() >= settings.minimum_ccds_for_outliers:
            weights = np.array([1.0 / errors[k] ** 2, 1.0 / error**2])
            adopted[k] = float(np.average([values[k], value], weights=weights))
            adopted_error[k] = float(1.0 / np.sqrt(weights.sum()))
        elif good[k]:
            adopted[k], adopted_error[k] = values[k], errors[k]
        else:
            deviation = abs(values[k] - value) if has_own[k] else 0.0
            adopted[k], adopted_error[k] = value, np.hypot(error, deviation)
    adopted_error = np.hypot(np.maximum(adopted_error, settings.error_floor_mag), settings.common_error_mag)
    return adopted, adopted_error, float(np.mean(field.predict(place)[0]))


def _predict_from(
    values: FloatArray,
    errors: FloatArray,
    place: FloatArray,
    others: BoolArray,
    k: int,
    field: _Field,
    settings: PhotometrySettings,
) -> tuple[float, float]:
    """Predict a CCD from the others: value and error, scatter from CCD to CCD included."""
    degree = field.degree if others.sum() > field.coefficients.size + 2 else 0
    fitted = _fit_degree(values[others], errors[others], place[others], degree)
    value, error = fitted.predict(place[k : k + 1])
    few = others.sum() < settings.minimum_ccds_for_outliers
    scatter = (
        settings.outlier_mag / 3.0 if few else max(_upper_scatter(fitted, errors[others]), settings.error_floor_mag)
    )
    return float(value[0]), float(np.hypot(error[0], scatter))


def _upper_scatter(field: _Field, errors: FloatArray) -> float:
    """Return the scatter from CCD to CCD, increased by its uncertainty, which is large for few CCDs."""
    total2 = float(np.mean(errors**2)) + field.scatter**2
    return float(np.sqrt(field.scatter**2 + UPPER * np.sqrt(2.0 / errors.size) * total2))


def _table(
    ccds: list[int],
    own: Mapping[int, CcdZeropoint],
    exposure: Exposure,
    settings: PhotometrySettings,
    adopted: FloatArray,
    adopted_error: FloatArray,
    exposure_value: float,
    flags: NDArray[np.int32],
) -> pa.Table:
    n = len(ccds)
    airmass = np.full(n, exposure.airmass, np.float32)
    scale_error = settings.scale_error_mag.get(exposure.band, np.nan)
    columns = {
        "expnum": np.full(n, exposure.expnum, np.int64),
        "band": [exposure.band] * n,
        "night": np.full(n, exposure.night, np.int32),
        "ccd": np.array(ccds, np.int16),
        "zeropoint_mag": _nullable(adopted),
        "zeropoint_error_mag": _nullable(adopted_error),
        "zeropoint_scale_error_mag": _nullable(np.where(np.isfinite(adopted), scale_error, np.nan)),
        "own_zeropoint_mag": [own[c].zeropoint_mag for c in ccds],
        "own_zeropoint_error_mag": [own[c].zeropoint_error_mag for c in ccds],
        "scatter_mag": [own[c].scatter_mag for c in ccds],
        "exposure_zeropoint_mag": _nullable(np.full(n, exposure_value)),
        "n_matched": np.array([own[c].n_matched for c in ccds], np.int32),
        "n_used": np.array([own[c].n_used for c in ccds], np.int32),
        "airmass": pa.array(airmass, mask=~np.isfinite(airmass)),
        "exptime_s": np.full(n, exposure.exptime_s, np.float32),
        "flags": flags,
    }
    return make_table(columns, ZEROPOINTS)


def _nullable(values: FloatArray) -> pa.Array:
    return pa.array(values, mask=~np.isfinite(values))
