"""Plot of the probability to detect a source in the sky map against its magnitude."""

from collections.abc import Mapping
from typing import Any

from imaging.pictures.canvas import BAND_COLOURS, BAND_MARKERS, new_figure, to_png


def search_picture(report: Mapping[str, Any], *, title: str) -> bytes:
    """Draw the probability to detect a source anywhere in the map against its apparent magnitude, by band.

    Parameters
    ----------
    report
        Result of :func:`imaging.candidates.searched.search_report`.
    title
        Heading.

    Returns
    -------
    png
        PNG bytes.
    """
    figure, axes = new_figure(6.4, 3.4)
    searched = float(report["probability_searched"])
    axes.axhline(searched, color="#555555", linewidth=1.0, linestyle="--", label=f"searched: {searched:.3g}")
    for band, points in report["found_apparent"].items():
        axes.plot(
            [mag for mag, _ in points],
            [chance for _, chance in points],
            color=BAND_COLOURS[band],
            marker=BAND_MARKERS[band],
            markersize=4,
            label=f"found in {band}",
        )
    for name, label, style in (("found_at2017gfo", "AT2017gfo", "-."), ("found_kilonova", "typical kilonova", ":")):
        if report[name] is not None:
            axes.axhline(
                report[name], color="#b2432f", linewidth=1.2, linestyle=style, label=f"{label}: {report[name]:.3g}"
            )
    axes.set_ylim(0.0, max(1.08 * searched, 1e-6))
    axes.set_xlabel("apparent magnitude [AB mag]")
    axes.set_ylabel("probability to be found")
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    return to_png(figure)
