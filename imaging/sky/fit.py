"""Fit the sky background of an exposure to the mini-skies of all its CCDs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt, median_filter

from imaging.errors import CcdError, InputError
from imaging.numerics.robust import clipped, mad_sigma
from imaging.sky.mini_sky import MiniSky
from imaging.sky.modes import SkyModes
from imaging.sky.settings import SkySettings

FloatArray = NDArray[np.float64]

MESH_DEGREE = 4
"""Degree of the surface below a mesh: a lower one takes the ghost of the pupil for a source, a higher one follows
galaxies of arcminutes."""


@dataclass(frozen=True, slots=True)
class CcdSkyResidual:
    """Residuals of the fit on one CCD, as fractions of the sky.

    Attributes
    ----------
    offset
        Median residual.
    slope_x, slope_y
        Change of the residual from one edge of the CCD to the other.
    rms
        Robust scatter of the superpixels.
    n_superpixels
        Number of superpixels with sky.
    """

    offset: float
    slope_x: float
    slope_y: float
    rms: float
    n_superpixels: int

    @property
    def worst(self) -> float:
        """Largest of the offset and the slopes, absolute."""
        return max(abs(self.offset), abs(self.slope_x), abs(self.slope_y))


@dataclass(frozen=True)
class SkyFit:
    """The sky of one exposure.

    Attributes
    ----------
    method
        ``modes``: focal-plane modes; ``mesh``: every CCD's own superpixels.
    reason
        Why not all modes, or the mesh, were used; empty if all modes were used.
    coefficients
        Amplitudes of all modes, electrons; zero for unused ones.
    modes_used
        Numbers of the fitted modes.
    sky_electrons
        Median of the superpixels.
    rms_fraction
        Robust scatter of the superpixels about the fit, as a fraction of the sky.
    used_fraction
        Fraction of the superpixels that survived the clipping.
    n_superpixels
        Number of superpixels with sky.
    condition
        Condition number of the design matrix of the available CCDs; NaN for the mesh.
    residuals
        CCD number to its residuals.
    suspicious
        CCDs whose residual exceeds the limit.
    meshes
        CCD number to (ny / 128, nx / 128) electrons, for CCDs with their own mesh.
    """

    method: Literal["modes", "mesh"]
    reason: str
    coefficients: tuple[float, ...]
    modes_used: tuple[int, ...]
    sky_electrons: float
    rms_fraction: float
    used_fraction: float
    n_superpixels: int
    condition: float
    residuals: dict[int, CcdSkyResidual] = field(default_factory=dict)
    suspicious: tuple[int, ...] = ()
    meshes: dict[int, tuple[tuple[float, ...], ...]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as a JSON-serialisable dictionary; NaN becomes None."""
        document = asdict(self)
        document["condition"] = self.condition if np.isfinite(self.condition) else None
        for name in ("residuals", "meshes"):
            document[name] = {str(ccd): value for ccd, value in document[name].items()}
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "SkyFit":
        """Restore a fit from the dictionary of :meth:`to_dict`.

        Raises
        ------
        InputError
            If the dictionary is invalid.
        """
        values = dict(document)
        try:
            values["coefficients"] = tuple(values["coefficients"])
            values["modes_used"] = tuple(values["modes_used"])
            values["suspicious"] = tuple(values["suspicious"])
            values["condition"] = float("nan") if values["condition"] is None else values["condition"]
            values["residuals"] = {int(k): CcdSkyResidual(**v) for k, v in values["residuals"].items()}
            values["meshes"] = {int(k): tuple(tuple(row) for row in v) for k, v in values["meshes"].items()}
            return cls(**values)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError("sky fit not understood", value=error, remedy="fit the sky again") from error

    def header(self) -> dict[str, Any]:
        """Return the keywords of a sky-subtracted image, with DES names where they exist."""
        cards: dict[str, Any] = {"SKYMETH": self.method, "SKYBRITE": self.sky_electrons}
        cards |= {f"SKYPC{k:02d}": value for k, value in enumerate(self.coefficients)}
        return cards | {"SKYRMS": self.rms_fraction, "SKYFRAC": self.used_fraction, "SKYCOND": self.condition}


def fit_sky(mini_skies: Mapping[int, MiniSky], modes: SkyModes | None, settings: SkySettings) -> SkyFit:
    """Fit the sky modes to all CCDs of an exposure simultaneously.

    The fit is linear, equally weighted and clipped. Of modes that are degenerate on the available CCDs, those whose
    removal helps most are dropped; if the remaining modes do not describe the sky, every CCD uses a smoothed mesh of
    its superpixels. CCDs without modes also use a mesh.

    Parameters
    ----------
    mini_skies
        CCD number to mini-sky.
    modes
        Modes of the band; None if the calibrations have none.
    settings
        Limits.

    Returns
    -------
    fit
        Coefficients and quality of the fit.

    Raises
    ------
    CcdError
        If no CCD has a superpixel with sky (``no_sky``).
    """
    known = {ccd: sky for ccd, sky in sorted(mini_skies.items()) if np.isfinite(sky.values).any()}
    if not known:
        raise CcdError(
            "no CCD of the exposure shows the sky",
            reason="no_sky",
            step="fit sky",
            value=f"0 superpixels on {len(mini_skies)} CCDs",
            limit="at least 1",
            remedy="check the exposures for clouds, saturation or a closed shutter",
        )
    covered = {} if modes is None else {ccd: sky for ccd, sky in known.items() if ccd in modes.values}
    if modes is None or not covered:
        return _mesh_fit(known, settings, "there are no sky modes for these CCDs")
    return _modes_fit(known, covered, modes, settings)


def _modes_fit(
    known: Mapping[int, MiniSky], covered: Mapping[int, MiniSky], modes: SkyModes, settings: SkySettings
) -> SkyFit:
    """Fit the modes to the CCDs that they cover; use the mesh if they do not describe the sky."""
    design, data, owner = _design(covered, modes)
    used, condition, reason = _distinguishable(design, _sizes(modes), settings)
    if not used:
        return _mesh_fit(known, settings, reason)
    fitted, keep = _robust_fit(design[:, used], data, settings)
    sky = float(np.median(data))
    residual = (data - design[:, used] @ fitted) / sky
    residuals = {
        ccd: _ccd_residual(_spread(residual[owner == ccd], covered[ccd].values), keep[owner == ccd]) for ccd in covered
    }
    suspicious = tuple(c for c, r in residuals.items() if r.worst > settings.residual_limit_fraction)
    rms, kept = mad_sigma(residual), float(keep.mean())
    if rms > settings.maximum_rms_fraction or kept < settings.minimum_fraction or (reason and suspicious):
        problem = f"modes {used} leave {rms:.2%} of the sky, {kept:.0%} of the superpixels kept"
        return _mesh_fit(known, settings, "; ".join(filter(None, (reason, problem))))
    coefficients = np.zeros(modes.n_modes)
    coefficients[used] = fitted
    return SkyFit(
        method="modes",
        reason=reason,
        coefficients=tuple(coefficients.tolist()),
        modes_used=tuple(used),
        sky_electrons=sky,
        rms_fraction=rms,
        used_fraction=kept,
        n_superpixels=int(data.size),
        condition=condition,
        residuals=residuals,
        suspicious=suspicious,
        meshes={ccd: _mesh(sky, settings) for ccd, sky in known.items() if ccd not in covered},
    )


def _design(skies: Mapping[int, MiniSky], modes: SkyModes) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Stack the modes at the superpixels with sky: (n, n_modes), their values (n,), their CCDs (n,)."""
    rows, values, owners = [], [], []
    for ccd, sky in skies.items():
        good = np.isfinite(sky.values)
        rows.append(modes.values[ccd][:, good].T.astype(float))
        values.append(sky.values[good].astype(float))
        owners.append(np.full(int(good.sum()), ccd))
    return np.concatenate(rows), np.concatenate(values), np.concatenate(owners)


def _sizes(modes: SkyModes) -> FloatArray:
    """Return the rms of each mode over all its CCDs."""
    squares = np.stack([np.mean(values.astype(float) ** 2, axis=(1, 2)) for values in modes.values.values()])
    return np.sqrt(squares.mean(axis=0))


def _distinguishable(design: FloatArray, sizes: FloatArray, settings: SkySettings) -> tuple[list[int], float, str]:
    """Return the non-degenerate modes, their condition number, and why modes were dropped."""
    offered = design.shape[1]
    enough = design.shape[0] // settings.minimum_superpixels_per_mode
    visible = np.sqrt(np.mean(design**2, axis=0)) > settings.minimum_visibility * sizes
    used = np.flatnonzero(visible).tolist()[:enough]
    condition = _condition(design[:, used])
    while len(used) > 1 and condition > settings.maximum_condition:
        options = [[m for m in used if m != out] for out in used[1:]]
        used = min(options, key=lambda option: _condition(design[:, option]))
        condition = _condition(design[:, used])
    if len(used) == offered:
        return used, condition, ""
    reason = f"{len(used)} of {offered} modes can be separated on {design.shape[0]} superpixels of the available CCDs"
    return used, condition, reason


def _condition(design: FloatArray) -> float:
    """Return the condition number of a matrix whose columns are normalised; infinite if one of them is zero."""
    if not design.size:
        return float("nan")
    norms = np.linalg.norm(design, axis=0)
    return float(np.linalg.cond(design / norms)) if norms.all() else float("inf")


def _robust_fit(design: FloatArray, data: FloatArray, settings: SkySettings) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Solve the linear fit, clipping superpixels until nothing changes."""
    keep = clipped(data / np.maximum(design[:, 0], 1e-6), 2 * settings.clip_sigma)
    coefficients: FloatArray = np.zeros(design.shape[1])
    for _ in range(settings.maximum_iterations):
        coefficients = np.asarray(np.linalg.lstsq(design[keep], data[keep], rcond=None)[0], dtype=float)
        new = clipped(data - design @ coefficients, settings.clip_sigma, 3)
        if np.array_equal(new, keep) or new.sum() < design.shape[1]:
            break
        keep = new
    return coefficients, keep


def _spread(values: FloatArray, like: NDArray[np.float32]) -> FloatArray:
    """Return the values of the superpixels with sky on the grids of their CCDs."""
    image = np.full(like.shape, np.nan)
    image[np.isfinite(like)] = values
    return image


def _ccd_residual(image: FloatArray, keep: NDArray[np.bool_]) -> CcdSkyResidual:
    """Fit a plane to the residual of one CCD over the kept superpixels, or over all if few were kept."""
    y, x = np.nonzero(np.isfinite(image))
    values = image[y, x]
    n = int(values.size)
    if keep.sum() >= 16:
        y, x, values = y[keep], x[keep], values[keep]
    u, v = (x + 0.5) / image.shape[1] - 0.5, (y + 0.5) / image.shape[0] - 0.5
    slope_x = slope_y = 0.0
    if values.size >= 16:
        basis = np.stack([np.ones_like(u), u, v], axis=1)
        _, slope_x, slope_y = (float(c) for c in np.linalg.lstsq(basis, values, rcond=None)[0])
    return CcdSkyResidual(float(np.median(values)), slope_x, slope_y, mad_sigma(values), n)


def _mesh_fit(skies: Mapping[int, MiniSky], settings: SkySettings, reason: str) -> SkyFit:
    """Return the mesh of every CCD with enough superpixels."""
    data = np.concatenate([sky.values[np.isfinite(sky.values)] for sky in skies.values()]).astype(float)
    level = float(np.median(data))
    meshes, residuals = {}, {}
    for ccd, sky in skies.items():
        mesh = _mesh(sky, settings)
        meshes[ccd] = mesh
        residual = (sky.values - np.array(mesh)) / level
        residuals[ccd] = _ccd_residual(residual, np.ones(int(np.isfinite(residual).sum()), dtype=bool))
    return SkyFit(
        method="mesh",
        reason=reason,
        coefficients=(),
        modes_used=(),
        sky_electrons=level,
        rms_fraction=float(np.median([r.rms for r in residuals.values()])),
        used_fraction=1.0,
        n_superpixels=int(data.size),
        condition=float("nan"),
        residuals=residuals,
        suspicious=tuple(c for c, r in residuals.items() if r.worst > settings.residual_limit_fraction),
        meshes=meshes,
    )


def _mesh(sky: MiniSky, settings: SkySettings) -> tuple[tuple[float, ...], ...]:
    """Smooth a CCD's superpixels about a smooth surface, which takes the place of sources of many superpixels.

    Superpixels without sky get the nearest value, or the median if few have sky.
    """
    values = sky.values.astype(float)
    good = np.isfinite(values)
    if good.sum() < settings.mesh_minimum_superpixels:
        smooth = np.full(values.shape, np.median(values[good]))
    else:
        nearest = distance_transform_edt(~good, return_distances=False, return_indices=True)
        y, x = (np.linspace(-1.0, 1.0, n) for n in values.shape)
        powers = [(i, j) for i in range(MESH_DEGREE + 1) for j in range(MESH_DEGREE + 1 - i)]
        design = np.stack([np.multiply.outer(y**j, x**i) for i, j in powers], axis=-1)
        fitted, keep = _robust_fit(design[good], values[good], settings)
        surface = design @ fitted
        residual = values[tuple(nearest)] - surface
        sources = residual > settings.clip_sigma * mad_sigma(residual[good][keep])
        residual[binary_dilation(sources & good, np.ones((3, 3))) & good] = 0.0
        smooth = surface + median_filter(residual, settings.mesh_smoothing, mode="nearest")
    return tuple(tuple(round(float(v), 4) for v in row) for row in smooth)
