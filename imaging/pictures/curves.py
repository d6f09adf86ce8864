"""Plots of light curves, detection efficiency and zero points."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from imaging.bands import BANDS
from imaging.candidates.templates import AB_ZERO_NJY, kilonova_magnitude
from imaging.pictures.canvas import BAND_COLOURS, BAND_MARKERS, new_figure, to_png
from imaging.tables import column

NJY_PER_MICROJANSKY = 1000.0

BEYOND = 1.5
"""AT2017gfo is drawn from the first exposure after the merger divided by this to the last one times this."""


def lightcurve_picture(forced: pa.Table, mjd_event: float, *, title: str, distance_mpc: float | None = None) -> bytes:
    """Draw the forced photometry of one candidate against the time since the merger.

    Parameters
    ----------
    forced
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY` of the candidate; masked points are omitted.
    mjd_event
        Time of the merger, MJD UTC.
    title
        Heading.
    distance_mpc
        If given, AT2017gfo at this distance is drawn as a thin line in each band.

    Returns
    -------
    png
        PNG bytes.
    """
    forced = forced.filter(pa.array(~np.asarray(forced.column("masked").fill_null(True)).astype(bool)))
    days = column(forced, "mjd") - mjd_event
    flux, error = (column(forced, name) / NJY_PER_MICROJANSKY for name in ("flux", "flux_error"))
    bands = np.asarray(forced.column("band").to_pylist(), dtype=str)
    figure, axes = new_figure(6.4, 3.6)
    key: list[Line2D] = []
    highest = [float((flux + error).max()) if len(flux) else 0.0, 1e-3]
    for band in sorted(set(bands), key=lambda name: BANDS[name].wavelength_nm):
        here = bands == band
        axes.errorbar(
            days[here],
            flux[here],
            error[here],
            linestyle="",
            color=BAND_COLOURS[band],
            marker=BAND_MARKERS[band],
            markersize=5,
            capsize=2,
        )
        key.append(Line2D([], [], linestyle="", color=BAND_COLOURS[band], marker=BAND_MARKERS[band], label=band))
        if distance_mpc:
            highest.append(_draw_kilonova(axes, band, days, distance_mpc))
    axes.axhline(0.0, color="#999999", linewidth=0.8)
    axes.axvline(0.0, color="#000000", linewidth=0.8, linestyle="--")
    _set_day_axis(axes, days)
    axes.set_xlabel(
        "days after the merger" + (f" (lines: AT2017gfo at {distance_mpc:.0f} Mpc)" if distance_mpc else "")
    )
    axes.set_ylabel("difference flux [µJy]")
    axes.set_title(title, fontsize=10.5)
    if len(flux):
        low, high = min(0.0, float((flux - error).min())), max(highest)
        axes.set_ylim(low - 0.08 * (high - low), high + 0.08 * (high - low))
        # Outside the axes: a marker inside them would read as a measurement.
        figure.legend(handles=key, loc="outside right upper", fontsize=9, frameon=False, handletextpad=0.1)
    return to_png(figure)


def efficiency_picture(
    magnitudes: NDArray[np.floating], found: NDArray[np.bool_], *, title: str, m50_mag: float | None = None
) -> bytes:
    """Draw the detection efficiency: fraction of injected sources found, by magnitude.

    Parameters
    ----------
    magnitudes
        (n,) magnitudes injected.
    found
        (n,) whether found.
    title
        Heading.
    m50_mag
        Magnitude at which half are found; marked if given.

    Returns
    -------
    png
        PNG bytes.
    """
    figure, axes = new_figure(6.0, 3.6)
    if len(magnitudes):
        edges = np.arange(np.floor(magnitudes.min() * 4) / 4, magnitudes.max() + 0.25, 0.25)
        place = np.digitize(magnitudes, edges) - 1
        total = np.bincount(place, minlength=len(edges))
        hits = np.asarray(np.bincount(place, found.astype(float), minlength=len(edges)), dtype=np.float64)
        used = total > 0
        share = hits[used] / total[used]
        low, high = _wilson(hits[used], total[used].astype(np.float64))
        axes.errorbar(
            edges[used] + 0.125, share, [share - low, high - share], fmt="o", color="#0072b2", capsize=2, markersize=5
        )
        axes.set_title(f"{title} ({int(total.sum())} injected)", fontsize=10.5)
    if m50_mag is not None:
        axes.axvline(m50_mag, color="#d55e00", linestyle="--", linewidth=1.2)
        axes.text(m50_mag, 1.02, f" m50 = {m50_mag:.2f}", color="#d55e00", fontsize=9)
    axes.axhline(0.5, color="#999999", linewidth=0.8)
    axes.set_ylim(-0.03, 1.1)
    axes.set_xlabel("magnitude injected [AB]")
    axes.set_ylabel("share found")
    return to_png(figure)


def zeropoint_picture(
    zeropoints: Mapping[int, tuple[float, float]], flagged: Sequence[int], *, exposure_mag: float, title: str
) -> bytes:
    """Draw the zero point of each CCD with its error.

    Parameters
    ----------
    zeropoints
        CCD number to zero point and error, magnitudes.
    flagged
        CCDs with a flagged zero point, drawn as open squares.
    exposure_mag
        Zero point of the exposure.
    title
        Heading.

    Returns
    -------
    png
        PNG bytes.
    """
    figure, axes = new_figure(7.2, 3.2, place=(0.1, 0.15, 0.88, 0.74))
    for marked, fill, marker, name in ((False, "#0072b2", "o", "own"), (True, "none", "s", "flagged")):
        ccds = [ccd for ccd in sorted(zeropoints) if (ccd in set(flagged)) is marked]
        if ccds:
            values, errors = np.array([zeropoints[ccd] for ccd in ccds]).T
            axes.errorbar(
                ccds,
                (values - exposure_mag) * 1e3,
                errors * 1e3,
                fmt=marker,
                color="#d55e00" if marked else "#0072b2",
                markerfacecolor=fill,
                capsize=2,
                markersize=5,
                label=name,
            )
    axes.axhline(0.0, color="#999999", linewidth=0.8)
    axes.set_xlim(0, 63)
    axes.set_xlabel("CCD")
    axes.set_ylabel(f"zero point − {exposure_mag:.3f} [mmag]")
    axes.set_title(title, fontsize=10.5)
    axes.legend(fontsize=9, frameon=False, ncol=2)
    return to_png(figure)


def _set_day_axis(axes: Axes, days: NDArray[np.float64]) -> None:
    """Make the axis of days logarithmic on both sides of the merger, with a margin beside the first and last point."""
    axes.set_xscale("symlog", linthresh=1.0)
    axes.xaxis.set_major_locator(FixedLocator([-1000, -100, -30, -10, -3, -1, 0, 1, 3, 10, 30]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if len(days):
        scale = axes.xaxis.get_transform()
        start, end = scale.transform([min(0.0, float(days.min())), max(0.1, BEYOND * float(days.max()))])
        margin = 0.06 * (end - start)
        axes.set_xlim(*scale.inverted().transform([start - margin, end + margin]))


def _draw_kilonova(axes: Axes, band: str, days: NDArray[np.float64], distance_mpc: float) -> float:
    """Draw AT2017gfo over the days of the data, and somewhat before and after; return its highest flux there."""
    last = max(float(days.max()), 0.3)
    grid = np.geomspace(float(days[days > 0].min(initial=last)) / BEYOND, last * BEYOND, 100)
    magnitude = kilonova_magnitude(grid, band) + 5.0 * np.log10(distance_mpc) + 25.0
    flux = AB_ZERO_NJY * 10 ** (-0.4 * magnitude) / NJY_PER_MICROJANSKY
    axes.plot(grid, flux, color=BAND_COLOURS[band], linewidth=0.9, alpha=0.6)
    return float(np.nanmax(flux))


def _wilson(hits: NDArray[np.float64], total: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the one-sigma confidence interval of fractions (Wilson 1927)."""
    share = hits / total
    middle = (share + 0.5 / total) / (1.0 + 1.0 / total)
    half = np.sqrt(share * (1 - share) / total + 0.25 / total**2) / (1.0 + 1.0 / total)
    return np.minimum(middle - half, share), np.maximum(middle + half, share)
