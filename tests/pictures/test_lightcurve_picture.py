"""The light curve of a candidate: every mark in it is a measurement, and nothing is cut."""

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure

from imaging.candidates.templates import kilonova_magnitude
from imaging.pictures import curves
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.tables import make_table

MJD_EVENT = 60440.0
BANDS = ("g", "r", "VR", "z")


def photometry(flux_njy):
    n = len(flux_njy)
    flux = np.asarray(flux_njy, dtype=float)
    columns = {"candidate_id": ["A"] * n, "expnum": np.arange(n), "band": [BANDS[k % 4] for k in range(n)]}
    columns |= {"night": np.full(n, 20240510), "ccd": np.full(n, 27), "mjd": MJD_EVENT + 0.5 + np.arange(n) / 8}
    columns |= {"flux": flux, "flux_error": np.full(n, 300.0), "snr": flux / 300.0, "mag": np.full(n, 22.0)}
    columns |= {"mag_error": np.full(n, 0.1), "limit_mag": np.full(n, 23.0), "masked": np.arange(n) == n - 1}
    return make_table(columns, FORCED_PHOTOMETRY)


@pytest.fixture
def drawn(monkeypatch):
    """Draw a light curve; return its figure, drawn."""

    def draw(*words, **options) -> Figure:
        figures = []
        original = curves.to_png
        monkeypatch.setattr(curves, "to_png", lambda figure: (figures.append(figure), original(figure))[1])
        assert curves.lightcurve_picture(*words, title="A", **options)
        monkeypatch.setattr(curves, "to_png", original)
        return figures[0]

    return draw


def test_every_marker_in_the_axes_is_a_measurement(drawn):
    table = photometry(np.linspace(2000.0, 9000.0, 12))
    figure = drawn(table, MJD_EVENT, distance_mpc=165.0)
    (axes,) = figure.axes
    assert axes.get_legend() is None
    marks = [line for line in axes.lines if line.get_marker() in curves.BAND_MARKERS.values()]
    shown = np.sort(np.concatenate([line.get_ydata() for line in marks]))
    assert shown == pytest.approx(np.linspace(2.0, 9.0, 12)[:-1], rel=1e-6), "the last one is masked"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["g", "VR", "r", "z"]
    frame, key = axes.get_window_extent(), legend.get_window_extent()
    assert key.x0 >= frame.x1, "the key is beside the axes"
    assert key.x1 <= figure.bbox.x1 + 0.5


def test_no_point_touches_the_border(drawn):
    """Templates months before the merger and the last point of the night, with their markers, are inside the axes."""
    table = photometry(np.linspace(9000.0, 2000.0, 8))
    days = pa.array(MJD_EVENT + np.array([-91.0, -57.0, 0.66, 0.67, 1.0, 2.0, 3.0, 9.0]))
    figure = drawn(table.set_column(5, table.schema.field("mjd"), days), MJD_EVENT)
    (axes,) = figure.axes
    frame = axes.get_window_extent()
    marks = [line for line in axes.lines if line.get_marker() in curves.BAND_MARKERS.values()]
    places = np.concatenate([axes.transData.transform(line.get_xydata()) for line in marks])
    assert places[:, 0].min() > frame.x0 + 5
    assert places[:, 0].max() < frame.x1 - 5


@pytest.mark.parametrize("distance_mpc", [40.0, 165.0, None])
def test_nothing_is_cut_at_the_top(drawn, distance_mpc):
    table = photometry(np.linspace(9000.0, 2000.0, 8))
    figure = drawn(table, MJD_EVENT, distance_mpc=distance_mpc)
    (axes,) = figure.axes
    highest = max(float(np.max(line.get_ydata())) for line in axes.lines if len(line.get_ydata()) > 1)
    assert axes.get_ylim()[1] > max(highest, 9.3)
    if distance_mpc is not None:
        days = MJD_EVENT + 0.5 - MJD_EVENT
        magnitude = kilonova_magnitude(np.array([days]), "z")[0] + 5 * np.log10(distance_mpc * 1e5)
        assert axes.get_ylim()[1] > 10 ** (-0.4 * (magnitude - 23.9)), "AT2017gfo at the time of the first exposure"
