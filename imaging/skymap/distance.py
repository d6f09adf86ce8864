"""Distance along the line of sight, from the conditional distributions of a sky map.

Each pixel has p(r) = norm N(r; mu, sigma) r^2 for r > 0 (Singer et al. 2016, ApJL 829, L15). The moments are those of a
Gaussian truncated at zero, in closed form.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from imaging.skymap.model import FloatArray, SkyMap


def conditional_distance(skymap: SkyMap, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation of the distance at positions, Mpc.

    Parameters
    ----------
    skymap
        Sky map.
    ra_deg, dec_deg
        (n,) positions, degrees.

    Returns
    -------
    mean_mpc, sigma_mpc
        (n,) NaN where the map has no distance.
    """
    mu, sigma, _ = _columns_at(skymap, ra_deg, dec_deg)
    return moments_of(mu, sigma)


def distance_density(skymap: SkyMap, ra_deg: ArrayLike, dec_deg: ArrayLike, distance_mpc: ArrayLike) -> FloatArray:
    """Return the (n,) probability density of distances at positions, per Mpc; NaN where the map has no distance."""
    mu, sigma, norm = _columns_at(skymap, ra_deg, dec_deg)
    r = np.asarray(distance_mpc, dtype=float)
    with np.errstate(invalid="ignore", under="ignore"):
        gaussian = np.exp(-0.5 * ((r - mu) / sigma) ** 2) / (np.sqrt(2 * np.pi) * sigma)
        return np.where(r > 0, norm * gaussian * r**2, np.where(np.isnan(mu), np.nan, 0.0))


def moments_of(mu_mpc: FloatArray, sigma_mpc: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation, Mpc, of N(r; mu, sigma) r^2 over r > 0."""
    m2, m3, m4 = _moments(mu_mpc, sigma_mpc)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = m3 / m2
        return mean, np.sqrt(np.maximum(m4 / m2 - mean**2, 0.0))


def norm_of(mu_mpc: FloatArray, sigma_mpc: FloatArray) -> FloatArray:
    """Return the normalisation that makes p(r) integrate to one over r > 0, 1/Mpc^2."""
    return 1.0 / _moments(mu_mpc, sigma_mpc)[0]


def _columns_at(skymap: SkyMap, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    index = skymap.find(ra_deg, dec_deg)
    if skymap.distance is None:
        nothing = np.full(index.shape, np.nan)
        return nothing, nothing, nothing
    columns = skymap.distance
    mu, sigma, norm = columns.mu_mpc[index], columns.sigma_mpc[index], columns.norm[index]
    known = (index >= 0) & np.isfinite(mu) & np.isfinite(sigma) & (sigma > 0) & (norm > 0)
    return np.where(known, mu, np.nan), np.where(known, sigma, np.nan), np.where(known, norm, np.nan)


def _moments(mu: FloatArray, sigma: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the integrals of r^2, r^3 and r^4 times N(r; mu, sigma) over r > 0.

    By parts: I_k = mu I_{k-1} + (k - 1) sigma^2 I_{k-2}, from I_0 = Phi(mu / sigma) and
    I_1 = mu I_0 + sigma phi(mu / sigma).
    """
    with np.errstate(invalid="ignore", under="ignore"):
        x = mu / sigma
        previous = ndtr(x)
        current = mu * previous + sigma * np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
        moments = []
        for k in (2, 3, 4):
            previous, current = current, mu * current + (k - 1) * sigma**2 * previous
            moments.append(current)
    return moments[0], moments[1], moments[2]
