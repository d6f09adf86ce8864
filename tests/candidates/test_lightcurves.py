import numpy as np
import pyarrow as pa
import pytest

from imaging.candidates.lightcurve import RIVALS, lightcurve_likelihood, marginal_kilonova, total_rivals
from imaging.candidates.settings import LightcurveSettings
from imaging.candidates.templates import (
    AB_ZERO_NJY,
    kilonova_anchors,
    kilonova_fluxes,
    kilonova_magnitude,
    reddening_shape,
    supernova_fluxes,
)
from imaging.errors import InputError
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.tables import make_table

T0 = 60000.0
SETTINGS = LightcurveSettings()
EPOCHS = [("g", -20.0), ("i", -5.0), ("g", 0.6), ("i", 0.61), ("z", 0.62), ("g", 3.6), ("i", 3.61), ("z", 3.62)]


def njy(mag):
    return AB_ZERO_NJY * 10 ** (-0.4 * np.asarray(mag, dtype=float))


def forced(curves, *, error=500.0, epochs=EPOCHS, masked=False, first_expnum=5):
    n, m = len(curves), len(epochs)
    flux = np.array([curve for _, curve in curves], dtype=float).ravel()
    return make_table(
        {
            "candidate_id": np.repeat([name for name, _ in curves], m).astype(object),
            "expnum": np.tile(np.arange(m) + first_expnum, n),
            "band": np.tile(np.array([band for band, _ in epochs], dtype=object), n),
            "night": np.zeros(n * m, dtype=int),
            "ccd": np.ones(n * m, dtype=int),
            "mjd": np.tile([T0 + t for _, t in epochs], n),
            "flux": flux,
            "flux_error": np.full(n * m, error),
            "snr": np.zeros(n * m),
            "mag": pa.nulls(n * m, pa.float32()),
            "mag_error": pa.nulls(n * m, pa.float32()),
            "limit_mag": np.full(n * m, 23.0),
            "masked": np.full(n * m, masked),
        },
        FORCED_PHOTOMETRY,
    )


def kilonova(distance_mpc, offset=0.5, stretch=1.0):
    modulus = 5 * np.log10(distance_mpc) + 25
    return [njy(kilonova_magnitude(np.array([t / stretch]), band)[0] + modulus + offset) for band, t in EPOCHS]


def constant(mag, start=-np.inf):
    return [njy(mag) if t > start else 0.0 for _, t in EPOCHS]


def likelihood_of(*curves, settings=SETTINGS, **options):
    table = forced([(f"C{i}", curve) for i, curve in enumerate(curves)], **options)
    return lightcurve_likelihood(table, pa.array([f"C{i}" for i in range(len(curves))]), T0, settings)


def ratio(likelihood, distance_mpc=100.0):
    n = len(likelihood.history)
    modulus = np.full(n, 5 * np.log10(distance_mpc) + 25)
    return marginal_kilonova(likelihood, modulus, np.full(n, 1.1)) - total_rivals(likelihood)


@pytest.mark.parametrize(
    ("band", "days", "mag"),
    [("g", 0.47, 17.02), ("i", 1.44, 17.64), ("r", 3.45, 19.53), ("z", 7.47, 19.73), ("Y", 4.45, 18.22)],
)
def test_the_anchors_are_at2017gfo(band, days, mag):
    # dereddened photometry at 40.7 Mpc; the anchors are smoothed to about 0.15 mag
    modulus = 5 * np.log10(40.7) + 25
    assert kilonova_magnitude(np.array([days]), band)[0] + modulus == pytest.approx(mag, abs=0.2)


def test_there_is_nothing_before_the_merger_and_no_unknown_band():
    assert np.isinf(kilonova_magnitude(np.array([-0.1, 0.0]), "g")).all()
    assert (kilonova_fluxes(np.array([-1.0]), np.array(["i"]), SETTINGS) == 0).all()
    with pytest.raises(InputError, match="no kilonova light curve"):
        kilonova_magnitude(np.array([1.0]), "w")
    assert set(kilonova_anchors()) == {"days", "u", "g", "r", "i", "z", "Y", "VR"}


def test_kilonovae_fade_and_redden_while_supernovae_hardly_change():
    fading = kilonova_magnitude(np.array([1.5, 3.5]), "g")
    assert fading[1] - fading[0] > 2.0
    colour = [kilonova_magnitude(np.array([t]), "g")[0] - kilonova_magnitude(np.array([t]), "z")[0] for t in (0.5, 3.5)]
    assert colour[1] - colour[0] > 1.5
    old = supernova_fluxes(np.array([1.0, 3.0]), np.array(["i", "i"]), SETTINGS)[-1]
    assert abs(np.log(old[1] / old[0])) < 0.2
    assert reddening_shape("g") - reddening_shape("z") == pytest.approx(1.0)


def test_a_kilonova_beats_its_rivals_and_they_beat_it():
    rng = np.random.default_rng(1)
    random = njy(21.0) * rng.normal(size=len(EPOCHS))
    flash = [njy(20.5) if k == 3 else 0.0 for k in range(len(EPOCHS))]
    rising = [njy(20.0) * max(t + 3.0, 0.0) ** 2 / 20.0 for _, t in EPOCHS]
    found = ratio(likelihood_of(kilonova(100.0), constant(20.5), constant(20.5, start=0.0), random, flash, rising))
    assert found[0] > 3.0
    assert (found[1:] < -2.0).all()


@pytest.mark.parametrize("stretch", [0.7, 1.3])
@pytest.mark.parametrize("offset", [-0.3, 1.5])
def test_other_kilonovae_are_recognised_too(stretch, offset):
    assert ratio(likelihood_of(kilonova(100.0, offset, stretch)))[0] > 2.0


def test_the_distance_matters():
    likelihood = likelihood_of(kilonova(100.0))
    assert ratio(likelihood, 100.0)[0] > ratio(likelihood, 400.0)[0] + 3.0
    assert ratio(likelihood, 100.0)[0] > ratio(likelihood, 15.0)[0] + 3.0


def test_rivals_are_told_apart():
    flash = [njy(20.5) if k == 3 else 0.0 for k in range(len(EPOCHS))]
    likelihood = likelihood_of(constant(20.5, start=0.0), [-f for f in constant(20.5)], flash)
    best = [RIVALS[k] for k in likelihood.rivals.argmax(axis=1)]
    assert best[1:] == ["slow variable", "flash"]
    assert best[0] in ("supernova", "slow variable")


def test_history_knows_activity_before_the_merger():
    quiet, active = kilonova(100.0), kilonova(100.0)
    active[0] = 5 * 500.0
    likelihood = likelihood_of(quiet, active, [-f for f in active])
    assert likelihood.history[0] == pytest.approx(np.log(2), abs=0.2)
    assert (likelihood.history[1:] < -5.0).all()
    assert likelihood.history_snr[0] == 0.0
    assert likelihood.history_snr[1] == pytest.approx(5.0)


def test_upper_limits_speak():
    seen_once = [0.0, 0.0, njy(20.9), 0.0, 0.0, 0.0, 0.0, 0.0]
    # a kilonova this bright in g must be there in i and z as well
    assert ratio(likelihood_of(seen_once))[0] < -5.0
    alone = forced([("C0", seen_once)]).slice(2, 1)
    assert ratio(lightcurve_likelihood(alone, pa.array(["C0"]), T0, SETTINGS))[0] > -2.0


def test_points_that_say_nothing_are_ignored():
    good = forced([("C0", kilonova(100.0))])
    bad = forced([("C0", [1e5] * len(EPOCHS))], masked=True)
    broken = forced([("C0", [np.nan] * len(EPOCHS))])
    zero = forced([("C0", [1e5] * len(EPOCHS))], error=0.0)
    later = [(band, 100.0 + k) for k, (band, _) in enumerate(EPOCHS)]
    late = forced([("C0", [1e5] * len(EPOCHS))], epochs=later, first_expnum=50)
    expected = lightcurve_likelihood(good, pa.array(["C0"]), T0, SETTINGS)
    for other in (bad, broken, zero, late):
        found = lightcurve_likelihood(pa.concat_tables([other, good]), pa.array(["C0"]), T0, SETTINGS)
        np.testing.assert_array_equal(found.kilonova, expected.kilonova)
    nothing = lightcurve_likelihood(good, pa.array(["other"]), T0, SETTINGS)
    assert nothing.n_after[0] == 0
    assert ratio(nothing)[0] == pytest.approx(0.0, abs=1e-5)


def test_the_order_of_points_and_candidates_does_not_matter():
    table = forced([("A", kilonova(100.0)), ("B", constant(20.0))])
    shuffled = table.take(pa.array(np.random.default_rng(2).permutation(table.num_rows)))
    first = lightcurve_likelihood(table, pa.array(["A", "B"]), T0, SETTINGS)
    second = lightcurve_likelihood(shuffled, pa.array(["B", "A"]), T0, SETTINGS)
    np.testing.assert_array_equal(first.kilonova, second.kilonova[::-1])
    np.testing.assert_array_equal(first.rivals, second.rivals[::-1])


def test_nothing_to_judge():
    likelihood = lightcurve_likelihood(FORCED_PHOTOMETRY.empty_table(), pa.array(["A"]), T0, SETTINGS)
    assert likelihood.n_after.tolist() == [0]
    assert ratio(likelihood)[0] == pytest.approx(0.0, abs=1e-5)


def test_a_bright_source_is_a_rarer_contaminant_than_a_faint_one():
    steep, even = (LightcurveSettings(contaminant_slope=slope) for slope in (0.6, 0.0))
    bright, faint = constant(18.0, start=0.0), constant(21.5, start=0.0)
    rivals = [total_rivals(likelihood_of(bright, faint, settings=s)) for s in (steep, even)]
    change = rivals[0] - rivals[1]
    assert change[1] - change[0] == pytest.approx(0.6 * 3.5, abs=0.2)
