"""Classes of real light curves, and of those drawn from independent descriptions."""

import numpy as np
import pytest

from bench.real_lightcurves import MAPS, MERGER_MJD, classes_of, real_curves
from bench.real_stamps import REAL_STAMPS
from imaging.candidates.classify import CLASSES, probability_column
from imaging.candidates.words import class_in_words
from imaging.schemas.candidates import CANDIDATES

T0 = 60000.0
NEAR = (40.0, 10.0)

AT2017GFO = (
    ("i", 1.449, 17.785), ("g", 1.451, 18.664), ("i", 2.448, 18.383), ("g", 2.449, 20.209), ("i", 3.456, 18.725),
    ("g", 3.457, 20.928), ("i", 4.451, 19.223), ("g", 4.462, 21.731),
)  # fmt: skip
"""Band, days after the merger, magnitude: Cowperthwaite et al. 2017 (ApJL 848, L17), as observed with DECam."""

SUPERNOVA_PAIRS = """
0.96 18.02 17.76; 1.02 17.65 17.66; 2.97 16.06 15.94; 2.40 16.63 16.54; 1.64 18.86 19.29; 0.97 18.58 18.67; 2.37
17.94 17.87; 2.43 18.06 18.10; 1.03 18.99 18.92; 1.49 19.17 19.10; 1.67 14.31 14.54; 1.01 17.32 17.34; 2.44 16.90
16.75; 1.99 16.49 16.64; 1.00 19.35 19.24; 1.41 18.94 19.19; 1.47 17.80 17.87; 1.00 17.66 17.74; 1.80 16.74 16.74;
1.65 16.22 16.69; 2.05 14.96 14.92; 2.02 17.92 17.85; 2.02 15.06 15.13; 1.00 19.78 19.76; 0.98 16.25 16.25; 3.02
14.01 14.10; 1.07 16.69 16.68; 2.04 18.15 18.22; 0.98 17.12 17.12; 0.97 15.83 15.85; 3.03 19.38 19.47; 1.01 18.46
18.54; 1.99 15.74 15.84; 0.95 16.78 16.81; 3.00 15.93 16.05; 2.12 19.52 19.81; 1.03 17.42 17.42; 0.89 19.01 18.91;
1.03 17.90 17.93; 2.07 17.28 17.01; 1.00 17.68 17.67; 1.00 18.11 18.15; 0.90 17.75 17.67; 2.01 17.22 17.19; 2.97
17.53 17.74; 1.80 17.36 17.36; 0.99 19.00 18.98; 3.07 16.59 16.66; 1.03 18.93 19.15; 1.95 18.77 18.65; 1.00 17.58
17.70; 1.21 18.83 18.98; 1.01 17.40 17.53; 2.00 15.24 15.08; 1.00 17.74 17.77; 1.90 19.26 19.46; 1.00 16.92 16.97;
2.00 17.39 16.90; 1.00 18.77 18.82; 0.90 18.04 17.99; 1.00 17.24 17.31; 1.00 18.55 18.53; 2.00 16.47 16.51; 1.00
17.80 17.74; 1.10 16.36 16.50; 2.00 16.31 16.23; 2.00 17.42 17.36; 2.01 17.21 17.01; 3.04 17.06 17.03; 3.04 16.20
15.58; 2.02 19.56 19.48; 2.19 16.85 16.94; 2.94 19.03 18.96; 0.80 18.27 18.15; 3.05 18.49 18.80; 2.06 15.36 14.74
"""
"""Days between two points in i, and both magnitudes, of supernovae Ia near their peaks: CfA (Hicken et al. 2009, 2012),
CSP (Krisciunas et al. 2017), Foundation (Foley et al. 2018). Each supernova gives one pair, chosen by its number."""


def njy(mag):
    return 3.631e12 * 10 ** (-0.4 * np.asarray(mag, dtype=float))


def curve(points, fainter=0.0, noise=300.0):
    """Points of magnitudes as photometry with errors of 1 % and of the sky."""
    fluxes = [(T0 + days, band, float(njy(mag + fainter))) for band, days, mag in points]
    return [(mjd, band, flux, float(np.hypot(0.01 * flux, noise))) for mjd, band, flux in fluxes]


@pytest.mark.skipif(not REAL_STAMPS.is_dir(), reason="the real light curves are not part of the project")
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 12])
def test_real_contaminants_are_not_called_kilonovae(n):
    curves = [points[:n] for points in real_curves(REAL_STAMPS)]
    assert len(curves) == 30
    for distance, error in MAPS:
        found = classes_of(curves, MERGER_MJD, distance, error)
        assert (found.name == "kilonova").sum() <= 1
        if n == 1:
            assert set(found.name) == {"undecided"}
        if n == 8:
            # the events lasted weeks
            assert (found.name != "undecided").sum() >= 10
            assert np.median(found.probability[:, 0]) < 0.01


def test_at2017gfo_is_called_a_kilonova_from_its_second_point_on():
    shorter = [curve(AT2017GFO[:n]) for n in range(1, len(AT2017GFO) + 1)]
    for distance, error in (MAPS[0], NEAR):
        found = classes_of(shorter, T0, distance, error)
        assert found.name.tolist() == ["undecided"] + ["kilonova"] * (len(AT2017GFO) - 1)
        assert found.reason.tolist() == ["one point"] + [None] * (len(AT2017GFO) - 1)
        assert found.probability[1, 0] > 10 / 11
    # put at 200 Mpc, with the noise of a survey
    far = classes_of([curve(AT2017GFO[:n], fainter=3.5) for n in (2, 3, 4)], T0, *MAPS[1])
    assert far.name.tolist() == ["kilonova"] * 3


@pytest.mark.parametrize("first", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("fainter", [0.0, 1.5, 3.0])
@pytest.mark.parametrize("at", [*MAPS, NEAR], ids=str)
def test_real_supernovae_of_two_nights_in_i_are_hardly_ever_called_kilonovae(first, fainter, at):
    pairs = [tuple(map(float, pair.split())) for pair in SUPERNOVA_PAIRS.split(";")]
    assert len(pairs) > 70
    curves = [curve([("i", first, a), ("i", first + gap, b)], fainter) for gap, a, b in pairs]
    found = classes_of(curves, T0, *at)
    assert (found.name == "kilonova").mean() <= 0.03
    # the most probable class alone would call many so at the distance where they are as bright as AT2017gfo
    if at == NEAR and fainter == 0.0:
        assert (found.probability.argmax(axis=1) == 0).mean() > 0.3


@pytest.mark.parametrize("mag", np.arange(16.0, 24.0, 1.0))
@pytest.mark.parametrize("at", [*MAPS, NEAR], ids=str)
def test_one_night_in_one_band_names_no_class_that_is_constant_within_it(mag, at):
    """Its brightness can be that of a kilonova, a supernova or an active nucleus."""
    one_night = [("i", 0.67, mag), ("i", 0.77, mag + 0.03), ("i", 0.87, mag)]
    two_nights = [*one_night, ("i", 5.67, mag - 0.5)]
    flash = [(T0 + d, "i", float(njy(mag)) if k == 1 else 0.0, 30.0) for k, d in enumerate((0.67, 0.77, 0.87))]
    found = classes_of([curve(one_night, noise=30.0), curve(two_nights, noise=30.0), flash], T0, *at)
    assert found.name.tolist() == ["undecided", found.name[1], "flash"]
    assert found.reason[[0, 2]].tolist() == ["one night, one band", None]
    assert found.name[1] in ("supernova", "slow variable", "undecided")


def test_probabilities_follow_from_the_odds_and_every_class_can_be_named():
    days = (1.0, 1.1, 4.0, 4.1, 9.0, 9.1)
    bands = ("g", "i") * 3
    drawn = {
        "kilonova": AT2017GFO,
        "slow variable": [(b, d, 19.5 if b == "i" else 20.3) for b, d in zip(bands, days, strict=True)],
        "supernova": [("i", d, 21.5 - 2.5 * np.log10((d / 2.0) ** 2)) for d in (1.0, 2.0, 4.0, 6.0, 8.0)],
    }
    curves = {kind: curve(points) for kind, points in drawn.items()}
    rng = np.random.default_rng(3)
    curves["slow variable"] = [(t, b, -f, e) for t, b, f, e in curves["slow variable"]]
    curves["fast variable"] = [(T0 + d, "i", float(rng.normal(0.0, njy(20.0))), 300.0) for d in np.arange(1.0, 9.0)]
    curves["flash"] = [(T0 + d, "i", float(njy(19.5)) if k == 3 else 0.0, 300.0) for k, d in enumerate(days)]
    found = classes_of(list(curves.values()), T0, *MAPS[0])
    assert found.name.tolist() == list(curves)
    assert set(curves) == set(CLASSES)
    np.testing.assert_allclose(found.probability.sum(axis=1), 1.0)
    assert (found.probability.max(axis=1) > 10 / 11).all()


def test_words_tell_the_class_and_its_probability():
    columns = [probability_column(name) for name in CLASSES]
    assert set(columns) <= set(CANDIDATES.names)
    chances = dict(zip(columns, (0.62, 0.05, 0.02, 0.01, 0.30), strict=True))
    undecided = chances | {"lightcurve_class": "undecided", "undecided_because": "one night, one band"}
    likely = "relative likelihoods kilonova 62 %, flash 30 %, supernova 5 %, slow variable 2 %"
    assert class_in_words(undecided) == f"class undecided (one night, one band), {likely}"
    assert class_in_words({"lightcurve_class": "undecided"}) == "class undecided"
    sure = chances | {"lightcurve_class": "kilonova", "probability_kilonova": 0.97}
    assert class_in_words(sure) == "kilonova 97 %"
    assert class_in_words({"lightcurve_class": "supernova"}) == "supernova"
