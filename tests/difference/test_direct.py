"""Forced photometry on the epochs themselves: search and template side."""

import numpy as np
import pytest

from imaging.detector.distortion import seed_wcs
from imaging.difference.direct import DirectImage, direct_table
from imaging.difference.forced import NANOJANSKY_ZEROPOINT
from imaging.difference.records import Identity
from imaging.difference.settings import DetectionSettings
from imaging.numerics.robust import mad_sigma
from imaging.tables import column
from tests.difference.drawn import ROUND, SIGMA, model_of

IDENTITY = Identity(41, "r", 20260101, 10, 61041.1)


def reading(frame, reads: list | None = None) -> DirectImage:
    image = frame.image

    def pixels(y, x):
        if reads is not None:
            reads.append((y, x))
        return image.pixels.science[y, x], image.pixels.weight[y, x]

    gain = float(image.pixels.header.get("GAIN", 1.0))
    return DirectImage(pixels, image.pixels.shape, image.wcs, image.psf, image.zeropoint_mag, gain)


def measure(frame, x, y, side="search", reads=None):
    ra, dec = frame.image.wcs.pixel_to_sky(np.asarray(x, float), np.asarray(y, float))
    names = [f"GWJ{k}" for k in range(len(ra))]
    return direct_table(reading(frame, reads), IDENTITY, side, names, ra, dec, DetectionSettings())


def dark_places(frame, n=4000):
    """Return places with next to no light within the fit, according to the truth."""
    rng = np.random.default_rng(3)
    ny, nx = frame.model.shape
    x, y = rng.uniform(25, nx - 25, n), rng.uniform(25, ny - 25, n)
    i, j = np.rint(x).astype(int), np.rint(y).astype(int)
    light = np.array([frame.model[b - 9 : b + 10, a - 9 : a + 10].max() for a, b in zip(i, j, strict=True)])
    faint = light < 0.1 / np.sqrt(np.median(frame.image.pixels.weight))
    return x[faint], y[faint]


@pytest.mark.parametrize("side", ["search", "template"])
def test_errors_in_the_dark_pass_a_pull_test(truth, side):
    frame = truth.search if side == "search" else truth.templates[0]
    x, y = dark_places(frame)
    table = measure(frame, x, y, side)
    good = ~np.array(table.column("masked").to_pylist()) & (column(table, "flux_error") > 0)
    pull = (column(table, "flux") / column(table, "flux_error"))[good]
    assert pull.size > 150
    assert mad_sigma(pull) == pytest.approx(1.0, abs=4 * 1.17 / np.sqrt(pull.size))
    assert np.median(pull) == pytest.approx(0.0, abs=0.5)
    assert set(table.column("side").to_pylist()) == {side}


def test_the_light_of_stars_around_a_place_is_no_change_when_the_seeing_is_a_tenth_worse():
    """Six stars of a million electrons, Moffat profiles, 14 pixels from a place without a source; noise of 10."""
    wcs, angle = seed_wcs(10, 150.0, -20.0), np.pi / 3.0 * np.arange(6)
    j, i = np.mgrid[:61, :61]

    def measured(flux, fwhm):
        width = fwhm / (2.0 * np.sqrt(2.0 ** (1 / 3.0) - 1.0))
        centre = np.array([30.0 + 14.0 * np.cos(angle), 30.0 + 14.0 * np.sin(angle)])[:, :, None, None]
        square = ((i - centre[0]) ** 2 + (j - centre[1]) ** 2) / width**2
        science = (flux * 2.0 / (np.pi * width**2) * (1.0 + square) ** -3.0).sum(axis=0).astype(np.float32)
        weight = np.full(science.shape, 1.0 / SIGMA**2, np.float32)
        image = DirectImage(lambda y, x: (science[y, x], weight[y, x]), (61, 61), wcs, model_of(ROUND), 31.4, 1.0)
        place = wcs.pixel_to_sky(np.array([30.0]), np.array([30.0]))
        table = direct_table(image, IDENTITY, "template", ["GWJ0"], *place, DetectionSettings())
        return column(table, "flux")[0], column(table, "flux_error")[0]

    noise, (flux, error), (other, other_error) = measured(0.0, 4.0)[1], measured(1e6, 4.0), measured(1e6, 4.4)
    assert abs(flux - other) > 20.0 * noise
    assert abs(flux - other) < np.hypot(error, other_error)
    assert error < 100.0 * noise
    assert noise == pytest.approx(SIGMA / np.sqrt(np.sum(model_of(ROUND).stamp(30.0, 30.0, 20) ** 2)), rel=0.02)


def test_a_transient_shines_in_the_search_and_not_in_the_template(truth):
    sky, search = truth.sky, truth.search
    n = sky.transient_x.size
    alone = np.arange(n) >= n // 2  # the first half lies on galaxies
    bright = alone & (sky.transient_mag < 21.0) & (sky.transient_mag > 18.5)
    inside = (np.abs(search.true_x - 400) < 360) & (np.abs(search.true_y - 450) < 410)
    chosen = np.flatnonzero(bright & inside)
    x, y = search.true_x[chosen], search.true_y[chosen]
    ra, dec = search.image.wcs.pixel_to_sky(x, y)
    now = measure(search, x, y)
    before = measure(truth.templates[0], *truth.templates[0].image.wcs.sky_to_pixel(ra, dec), "template")
    true = 10 ** (-0.4 * (sky.transient_mag[chosen] - NANOJANSKY_ZEROPOINT))
    masked = np.array(now.column("masked").to_pylist())
    change = (column(now, "flux") - column(before, "flux"))[~masked] / true[~masked]
    assert change.size >= 5
    assert np.median(change) == pytest.approx(1.0, abs=0.03)


def test_a_source_below_the_limit_has_a_limit_and_no_magnitude(truth):
    x, y = dark_places(truth.search)
    rows = measure(truth.search, x[:60], y[:60]).to_pylist()
    faint = [row for row in rows if row["snr"] is not None and row["snr"] < 2.0]
    assert faint and all(row["mag"] is None and 22.0 < row["limit_mag"] < 26.0 for row in faint)


def test_only_small_windows_are_read_and_places_beyond_the_image_are_left_out(truth):
    reads: list = []
    table = measure(truth.search, [-50.0, 0.2, 300.0, 799.2, 5000.0], [10.0, 0.2, 300.0, 899.0, 10.0], reads=reads)
    assert table.column("candidate_id").to_pylist() == ["GWJ1", "GWJ2", "GWJ3"]
    assert len(reads) == 3
    assert all((y.stop - y.start) * (x.stop - x.start) <= 51**2 for y, x in reads)
