"""Motion of minor planets under the attraction of the Sun and the planets.

Unperturbed orbits miss a main-belt asteroid by seconds to minutes of arc a hundred days after the date of the elements.
The equations of motion relative to the Sun are therefore integrated, with the planets where ERFA's ``plan94`` puts them
(Simon et al. 1994, A&A 282, 663): to 1e-3 of their distances, which is enough for their attraction.
Relativity and the attraction of asteroids are neglected.
"""

import erfa
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from scipy.interpolate import CubicSpline

from imaging.minor_planets.orbits import GAUSS

FloatArray = NDArray[np.float64]

MJD_ZERO = 2400000.5

INVERSE_MASSES = (6023600.0, 408523.71, 328900.56, 3098708.0, 1047.3486, 3497.898, 22902.98, 19412.24)
"""Mass of the Sun over those of Mercury, Venus, Earth and Moon, Mars to Neptune (IAU 2009)."""

PLANET_STEP_DAYS = 1.0
SOFT_AU = 1e-4
"""Distance within which the attraction of a planet no longer grows, so that no collision ends the integration."""

TOLERANCE = 1e-9
"""Relative error of an integration step; with a hundredth of it positions after 100 days change by 0.8 mas at most."""


class Planets:
    """Heliocentric positions of the planets over a period, equator of J2000.

    Parameters
    ----------
    first_mjd, last_mjd
        The period, MJD TT.
    """

    def __init__(self, first_mjd: float, last_mjd: float) -> None:
        times = np.arange(first_mjd - 3.0, last_mjd + 3.0 + PLANET_STEP_DAYS, PLANET_STEP_DAYS)
        places = [erfa.plan94(MJD_ZERO, times, number)["p"] for number in range(1, 9)]
        self._spline = CubicSpline(times, np.stack(places, axis=1))
        self._gm = GAUSS**2 / np.array(INVERSE_MASSES)

    def attraction(self, mjd: float, position: FloatArray) -> FloatArray:
        """Return the accelerations of bodies relative to the Sun by Sun and planets.

        Parameters
        ----------
        mjd
            MJD TT.
        position
            (n, 3) heliocentric positions, AU.

        Returns
        -------
        acceleration
            (n, 3) AU per day squared.
        """
        planets = self._spline(mjd)
        away = planets[None] - position[:, None]
        pull = self._gm[:, None] * planets / np.linalg.norm(planets, axis=-1, keepdims=True) ** 3  # of the Sun
        total = np.einsum("p,npk->nk", self._gm, away / (np.sum(away**2, axis=-1, keepdims=True) + SOFT_AU**2) ** 1.5)
        return total - pull.sum(axis=0) - GAUSS**2 * position / np.linalg.norm(position, axis=-1, keepdims=True) ** 3


def integrate(
    position: FloatArray, velocity: FloatArray, epoch_mjd: float, times_mjd: FloatArray, planets: Planets
) -> FloatArray:
    """Return positions of bodies of one epoch at several times.

    Parameters
    ----------
    position, velocity
        (n, 3) heliocentric, equator of J2000, at the epoch; AU, and AU per day.
    epoch_mjd
        The epoch, MJD TT.
    times_mjd
        (m,) times in increasing order, MJD TT.
    planets
        Planets over the period.

    Returns
    -------
    positions
        (n, m, 3) AU.
    """
    n = len(position)

    def change(mjd: float, state: FloatArray) -> FloatArray:
        bodies = state.reshape(2, n, 3)
        return np.concatenate([bodies[1].ravel(), planets.attraction(mjd, bodies[0]).ravel()])

    def solved(state: FloatArray, begin: float, times: FloatArray) -> FloatArray:
        answer = solve_ivp(
            change, (begin, times[-1]), state, method="DOP853", t_eval=times, rtol=TOLERANCE, atol=TOLERANCE * 1e-2
        )
        return np.asarray(answer.y)

    state = np.concatenate([position.ravel(), velocity.ravel()])
    if times_mjd[0] != epoch_mjd:
        state = solved(state, epoch_mjd, times_mjd[:1])[:, 0]
    states = state[:, None] if len(times_mjd) == 1 else solved(state, float(times_mjd[0]), times_mjd)
    return states[: 3 * n].reshape(n, 3, -1).transpose(0, 2, 1)
