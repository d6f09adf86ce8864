"""Fit the sky of an exposure from the mini-skies of all its CCDs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, median_filter

from imaging.errors import CcdError, InputError
from imaging.numerics.robust import clipped, mad_sigma
from imaging.sky.mini_sky import MiniSky
from imaging.sky.modes import SkyModes
from imaging.sky.settings import SkySettings

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CcdSkyResidual:
    """What the fit left on one CCD, as shares of the sky.

    Attributes
    ----------
    offset
        Median residual.
    slope_x, slope_y
        Change of the residual from one edge of the CCD to the other.
    rms
        Robust scatter of the superpixels.
    n_superpixels
        Superpixels that showed the sky.
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
        Why fewer modes than there are, or the mesh, were taken; empty if all modes were.
    coefficients
        Amplitudes of all modes, electrons; zero for those that were not used.
    modes_used
        Numbers of the modes that were fitted.
    sky_electrons
        Median of the superpixels.
    rms_fraction
        Robust scatter of the superpixels about the fit, as a share of the sky.
    used_fraction
        Share of the superpixels that survived the clipping.
    n_superpixels
        Superpixels that showed the sky.
    condition
        Condition number of the design matrix of the CCDs present; NaN for the mesh.
    residuals
        CCD number to what the fit left there.
    suspicious
        CCDs whose residual exceeds the limit.
    meshes
        CCD number to (ny / 128, nx / 128) electrons, for CCDs whose sky is their own mesh.
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
        """Return the fit as plain values for JSON; a NaN becomes None."""
        document = asdict(self)
        document["condition"] = self.condition if np.isfinite(self.condition) else None
        for name in ("residuals", "meshes"):
            document[name] = {str(ccd): value for ccd, value in document[name].items()}
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "SkyFit":
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        InputError
            If it is not that.
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
        """Return the keywords that go with a sky-subtracted image; names of the Dark Energy Survey where it has one."""
        cards: dict[str, Any] = {"SKYMETH": self.method, "SKYBRITE": self.sky_electrons}
        cards |= {f"SKYPC{k:02d}": value for k, value in enumerate(self.coefficients)}
        return cards | {"SKYRMS": self.rms_fraction, "SKYFRAC": self.used_fraction, "SKYCOND": self.condition}


def fit_sky(mini_skies: Mapping[int, MiniSky], modes: SkyModes | None, settings: SkySettings) -> SkyFit:
    """Fit the modes of the sky to all CCDs of an exposure at once.

    The fit is linear, weighted equally and clipped. Of modes that the CCDs present cannot tell apart, those are given
    up whose loss helps most; if the modes that remain do not describe the sky, every CCD takes a smoothed mesh of its
    own superpixels. CCDs without modes take a mesh too.

    Parameters
    ----------
    mini_skies
        CCD number to mini-sky.
    modes
        Modes of the band; None where the calibrations hold none.
    settings
        Limits.

    Returns
    -------
    fit
        Coefficients and how far they can be trusted.

    Raises
    ------
    CcdError
        If no superpixel of any CCD shows the sky (``no_sky``).
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
    """Fit the modes to the CCDs that they cover; take the mesh if they do not describe the sky."""
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
    """Stack the modes at the superpixels that show the sky: (n, n_modes), their values (n,), their CCDs (n,)."""
    rows, values, owners = [], [], []
    for ccd, sky in skies.items():
        good = np.isfinite(sky.values)
        rows.append(modes.values[ccd][:, good].T.astype(float))
        values.append(sky.values[good].astype(float))
        owners.append(np.full(int(good.sum()), ccd))
    return np.concatenate(rows), np.concatenate(values), np.concatenate(owners)


def _sizes(modes: SkyModes) -> FloatArray:
    """Return the rms of each mode over all CCDs that it is known for."""
    squares = np.stack([np.mean(values.astype(float) ** 2, axis=(1, 2)) for values in modes.values.values()])
    return np.sqrt(squares.mean(axis=0))


def _distinguishable(design: FloatArray, sizes: FloatArray, settings: SkySettings) -> tuple[list[int], float, str]:
    """Return the modes that the superpixels can tell apart, their condition number, and why not all."""
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
    reason = f"{len(used)} of {offered} modes can be told apart on {design.shape[0]} superpixels of the CCDs present"
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
    """Put the values of the superpixels that show the sky back into their places."""
    image = np.full(like.shape, np.nan)
    image[np.isfinite(like)] = values
    return image


def _ccd_residual(image: FloatArray, keep: NDArray[np.bool_]) -> CcdSkyResidual:
    """Fit a plane to the residual of one CCD over the superpixels that were kept, all of them if few were."""
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
    """Give every CCD that has enough superpixels its own mesh."""
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
    """Smooth a CCD's superpixels; those without sky take the value of the nearest one, few ones their median."""
    values = sky.values.astype(float)
    good = np.isfinite(values)
    if good.sum() < settings.mesh_minimum_superpixels:
        smooth = np.full(values.shape, np.median(values[good]))
    else:
        nearest = distance_transform_edt(~good, return_distances=False, return_indices=True)
        smooth = median_filter(values[tuple(nearest)], settings.mesh_smoothing, mode="nearest")
    return tuple(tuple(round(float(v), 4) for v in row) for row in smooth)
