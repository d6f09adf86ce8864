"""Likelihoods of kilonova and contaminant models for the forced photometry of candidates.

All likelihoods are relative to zero flux. Amplitudes are marginalised on a grid: the kilonova likelihood is kept as a
function of distance modulus, so that a new sky map does not require a new fit; the amplitudes of contaminants follow
number counts that rise with magnitude. Photometry before the merger enters a separate history term. Upper limits need
no special treatment, because all models are fitted in flux.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numba
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imaging.candidates.settings import LightcurveSettings
from imaging.candidates.templates import AB_ZERO_NJY, kilonova_fluxes, supernova_fluxes, variable_fluxes
from imaging.tables import column

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RIVALS = ("supernova", "slow variable", "fast variable", "flash")
"""Classes of contaminants, in the order of the columns."""

AMPLITUDE_STEP_MAG = 0.25

NIGHT_DAYS = 0.5
"""Points further apart in time are of different nights."""


@dataclass(frozen=True, eq=False)
class LightcurveLikelihood:
    """Log likelihoods of the light curves of n candidates relative to zero flux.

    Attributes
    ----------
    moduli
        (j,) distance moduli.
    kilonova
        (n, j) float32, a kilonova of the luminosity of AT2017gfo at each modulus.
    rivals
        (n, 4) float32, the classes of :data:`RIVALS`, each weighted by its fraction.
    history
        (n,) log likelihood ratio of no activity before the merger against a mixture of activity and none.
    history_snr
        (n,) largest absolute significance of the flux before the merger; zero without such photometry.
    n_after
        (n,) photometric points after the merger.
    fading
        (n,) log likelihood ratio of the kilonova and the supernova or constant source that fit best, of any brightness
        each; NaN if the points after the merger are of one night.
    one_colour
        (n,) whether the points after the merger are of one night and one band.
    """

    moduli: FloatArray
    kilonova: NDArray[np.float32]
    rivals: NDArray[np.float32]
    history: FloatArray
    history_snr: FloatArray
    n_after: IntArray
    fading: FloatArray
    one_colour: NDArray[np.bool_]


def lightcurve_likelihood(
    forced: pa.Table, candidate_ids: pa.Array | pa.ChunkedArray, mjd_event: float, settings: LightcurveSettings
) -> LightcurveLikelihood:
    """Compute the light-curve likelihoods of candidates.

    Parameters
    ----------
    forced
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY`, in any order. Masked points and points without
        a finite flux and a positive error are ignored.
    candidate_ids
        (n,) candidates, in the order of the result.
    mjd_event
        Time of the merger, MJD UTC.
    settings
        Templates and priors.
    """
    table = _photometry(forced, candidate_ids, settings)
    moduli = settings.modulus_first + settings.modulus_step * np.arange(settings.modulus_count, dtype=np.float64)
    days, band = table["mjd"] - mjd_event, table["band"]
    n = len(candidate_ids)
    after = (days[table["exposure"]] > 0) & (days[table["exposure"]] <= settings.max_days)
    before = days[table["exposure"]] <= 0
    rows = _segments(table, after, n, "variance")
    rivals = np.empty((n, len(RIVALS)), dtype=np.float32)
    amplitudes, prior = _rival_amplitudes(settings, settings.contaminant_slope)
    ours, steady = (
        kilonova_fluxes(days, band, settings),
        (supernova_fluxes(days, band, settings), variable_fluxes(band)),
    )
    kilonova = _grid_likelihood(*rows, ours, 10 ** (-0.4 * moduli))
    for kind, fluxes in enumerate(steady):
        rivals[:, kind] = _mean_likelihood(*rows, fluxes, amplitudes, prior)
    fading = _best_likelihood(*rows, ours) - _best_likelihood(*rows, np.concatenate(steady))
    rivals[:, 2] = _scatter_likelihood(*rows[:3], amplitudes * AB_ZERO_NJY, prior)
    rivals[:, 3] = _flash_likelihood(*rows[:3], amplitudes * AB_ZERO_NJY, prior)
    shares = np.array(
        [settings.share_supernova, settings.share_slow_variable, settings.share_fast_variable, settings.share_flash]
    )
    one_night = ~_differs(rows, days, NIGHT_DAYS)
    history, history_snr = _history(_segments(table, before, n, "noise"), band, settings)
    return LightcurveLikelihood(
        moduli,
        kilonova,
        rivals + np.log(shares / shares.sum()).astype(np.float32),
        history,
        history_snr,
        np.diff(rows[0]),
        np.where(one_night, np.nan, fading),
        one_night & ~_differs(rows, np.unique(band, return_inverse=True)[1].astype(float), 0.0),
    )


def marginal_kilonova(likelihood: LightcurveLikelihood, modulus: FloatArray, sigma: FloatArray) -> FloatArray:
    """Return the log likelihood of a kilonova at an uncertain distance.

    Parameters
    ----------
    likelihood
        Light curves of n candidates.
    modulus, sigma
        (n,) mean and scatter of the distance modulus, the scatter of the luminosity included.
    """
    result = np.empty(len(modulus))
    step = 100_000
    for first in range(0, len(modulus), step):
        chosen = slice(first, first + step)
        offset = (likelihood.moduli[None, :] - modulus[chosen, None]) / sigma[chosen, None]
        prior = -0.5 * offset**2
        prior -= _logsumexp(prior)[:, None]
        result[chosen] = _logsumexp(prior + likelihood.kilonova[chosen])
    return result


def total_rivals(likelihood: LightcurveLikelihood) -> FloatArray:
    """Return the (n,) log likelihood of the mixture of contaminants."""
    return _logsumexp(likelihood.rivals.astype(float))


def _logsumexp(values: FloatArray) -> FloatArray:
    top = values.max(axis=1)
    return top + np.log(np.exp(values - top[:, None]).sum(axis=1))


def _rival_amplitudes(settings: LightcurveSettings, slope: float) -> tuple[FloatArray, FloatArray]:
    """Return amplitudes of the contaminants and their log probabilities, which grow by ``slope`` per mag."""
    magnitudes = np.arange(
        settings.contaminant_bright_mag, settings.contaminant_faint_mag + 0.5 * AMPLITUDE_STEP_MAG, AMPLITUDE_STEP_MAG
    )
    frequency = slope * magnitudes
    return 10 ** (-0.4 * magnitudes), frequency - _logsumexp(frequency[None, :])[0]


def _photometry(
    forced: pa.Table, candidate_ids: pa.Array | pa.ChunkedArray, settings: LightcurveSettings
) -> dict[str, NDArray]:
    """Return the usable points sorted by candidate and time, and the exposures that they belong to."""
    wanted = pa.array(candidate_ids, type=pa.string())
    place = pc.index_in(forced.column("candidate_id"), value_set=wanted).to_numpy(zero_copy_only=False)
    flux, error = column(forced, "flux").astype(float), column(forced, "flux_error").astype(float)
    good = np.isfinite(place) & np.isfinite(flux) & np.isfinite(error) & (error > 0)
    good &= ~np.asarray(forced.column("masked").fill_null(False)).astype(bool)
    chosen = np.flatnonzero(good)
    place = place[chosen].astype(np.int64)
    mjd, expnum = column(forced, "mjd")[chosen], column(forced, "expnum")[chosen]
    order = np.lexsort((expnum, mjd, place))
    chosen, place = chosen[order], place[order]
    _, first, exposure = np.unique(expnum[order], return_index=True, return_inverse=True)
    flux, error = flux[chosen], error[chosen]
    band = forced.column("band").take(pa.array(chosen[first]))
    return {
        "candidate": place,
        "exposure": exposure.astype(np.int64),
        "flux": flux,
        "noise": error**2,
        "variance": error**2 + (settings.flux_error_fraction * np.maximum(flux, 0.0)) ** 2,
        "mjd": mjd[order][first],
        "band": np.asarray(band.to_pylist(), dtype=str),
    }


def _segments(
    table: Mapping[str, NDArray], chosen: NDArray[np.bool_], n: int, variance: str
) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """Return the first index of each candidate's points (n + 1), and their fluxes, variances and exposures.

    ``variance`` names the column: ``noise`` alone for zero expected flux, otherwise with the model error.
    """
    candidate = table["candidate"][chosen]
    start = np.searchsorted(candidate, np.arange(n + 1))
    return start, table["flux"][chosen], table[variance][chosen], table["exposure"][chosen]


def _history(
    rows: tuple[IntArray, FloatArray, FloatArray, IntArray],
    band: NDArray[np.str_],
    settings: LightcurveSettings,
) -> tuple[FloatArray, FloatArray]:
    amplitudes, prior = _rival_amplitudes(settings, 0.0)
    scatter = _scatter_likelihood(*rows[:3], amplitudes * AB_ZERO_NJY, prior)
    constant = _mean_likelihood(*rows, variable_fluxes(band), amplitudes, prior)
    active = np.logaddexp(scatter, constant) - np.log(2.0)
    share = settings.history_share
    start, flux, variance, _ = rows
    snr = np.zeros(len(start) - 1)
    np.maximum.at(snr, np.repeat(np.arange(len(snr)), np.diff(start)), np.abs(flux) / np.sqrt(variance))
    return -np.logaddexp(np.log(1 - share), np.log(share) + active), snr


def _differs(
    rows: tuple[IntArray, FloatArray, FloatArray, IntArray], values: FloatArray, limit: float
) -> NDArray[np.bool_]:
    """Return (n,) whether a value per exposure spans more than a limit over the points of each candidate."""
    start, _, _, exposure = rows
    seen = np.flatnonzero(np.diff(start) > 0)
    result = np.zeros(len(start) - 1, dtype=bool)
    if len(seen):
        here = values[exposure]
        result[seen] = np.maximum.reduceat(here, start[seen]) - np.minimum.reduceat(here, start[seen]) > limit
    return result


@numba.njit(cache=True)
def _sums(
    first: int, last: int, flux: FloatArray, variance: FloatArray, template: FloatArray, exposure: IntArray
) -> tuple[float, float]:
    """Return the sums of flux times template and of the template's square, over the variance, of rows first to last."""
    linear, square = 0.0, 0.0
    for row in range(first, last):
        s = template[exposure[row]]
        linear += flux[row] * s / variance[row]
        square += s * s / variance[row]
    return linear, square


@numba.njit(cache=True)
def _best_likelihood(
    start: IntArray, flux: FloatArray, variance: FloatArray, exposure: IntArray, templates: FloatArray
) -> FloatArray:
    """Return (n,): log likelihood of the template and the positive amplitude that fit best."""
    n = len(start) - 1
    result = np.zeros(n)
    for i in range(n):
        for k in range(templates.shape[0]):
            linear, square = _sums(start[i], start[i + 1], flux, variance, templates[k], exposure)
            if linear > 0.0:
                result[i] = max(result[i], 0.5 * linear * linear / square)
    return result


@numba.njit(cache=True)
def _grid_likelihood(
    start: IntArray,
    flux: FloatArray,
    variance: FloatArray,
    exposure: IntArray,
    templates: FloatArray,
    amplitudes: FloatArray,
) -> NDArray[np.float32]:
    """Return (n, j) float32: log of the mean over templates of the likelihood at each amplitude."""
    n, n_templates, n_amplitudes = len(start) - 1, templates.shape[0], len(amplitudes)
    result = np.zeros((n, n_amplitudes), dtype=np.float32)
    top = np.empty(n_amplitudes)
    total = np.empty(n_amplitudes)
    for i in range(n):
        top[:] = -np.inf
        total[:] = 0.0
        for k in range(n_templates):
            linear, square = _sums(start[i], start[i + 1], flux, variance, templates[k], exposure)
            for j in range(n_amplitudes):
                value = amplitudes[j] * linear - 0.5 * amplitudes[j] ** 2 * square
                if value > top[j]:
                    total[j] = total[j] * np.exp(top[j] - value) + 1.0
                    top[j] = value
                elif value > top[j] - 30.0:
                    total[j] += np.exp(value - top[j])
        for j in range(n_amplitudes):
            result[i, j] = top[j] + np.log(total[j] / n_templates)
    return result


@numba.njit(cache=True)
def _mean_likelihood(
    start: IntArray,
    flux: FloatArray,
    variance: FloatArray,
    exposure: IntArray,
    templates: FloatArray,
    amplitudes: FloatArray,
    prior: FloatArray,
) -> FloatArray:
    """Return (n,): log of the mean of the likelihood over templates, and over amplitudes by their log probability."""
    n, n_templates, n_amplitudes = len(start) - 1, templates.shape[0], len(amplitudes)
    result = np.zeros(n)
    for i in range(n):
        top, total = -np.inf, 0.0
        for k in range(n_templates):
            linear, square = _sums(start[i], start[i + 1], flux, variance, templates[k], exposure)
            for j in range(n_amplitudes):
                value = prior[j] + amplitudes[j] * linear - 0.5 * amplitudes[j] ** 2 * square
                if value > top:
                    total = total * np.exp(top - value) + 1.0
                    top = value
                elif value > top - 30.0:
                    total += np.exp(value - top)
        result[i] = top + np.log(total / n_templates)
    return result


@numba.njit(cache=True)
def _scatter_likelihood(
    start: IntArray, flux: FloatArray, variance: FloatArray, amplitudes: FloatArray, prior: FloatArray
) -> FloatArray:
    """Return (n,): log of the mean over amplitudes, by their log probability, of Gaussian fluxes of that width."""
    n = len(start) - 1
    result = np.zeros(n)
    for i in range(n):
        top, total = -np.inf, 0.0
        for j in range(len(amplitudes)):
            value = prior[j]
            for row in range(start[i], start[i + 1]):
                wide = variance[row] + amplitudes[j] ** 2
                value += 0.5 * (np.log(variance[row] / wide) + flux[row] ** 2 * (1.0 / variance[row] - 1.0 / wide))
            if value > top:
                total = total * np.exp(top - value) + 1.0
                top = value
            else:
                total += np.exp(value - top)
        result[i] = top + np.log(total)
    return result


@numba.njit(cache=True)
def _flash_likelihood(
    start: IntArray, flux: FloatArray, variance: FloatArray, amplitudes: FloatArray, prior: FloatArray
) -> FloatArray:
    """Return (n,): log of the mean over points, and amplitudes by their log probability, of a flux in one point."""
    n = len(start) - 1
    result = np.zeros(n)
    for i in range(n):
        count = start[i + 1] - start[i]
        if count == 0:
            continue
        top, total = -np.inf, 0.0
        for row in range(start[i], start[i + 1]):
            for j in range(len(amplitudes)):
                value = prior[j] + (amplitudes[j] * flux[row] - 0.5 * amplitudes[j] ** 2) / variance[row]
                if value > top:
                    total = total * np.exp(top - value) + 1.0
                    top = value
                else:
                    total += np.exp(value - top)
        result[i] = top + np.log(total / count)
    return result
