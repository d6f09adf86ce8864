"""What appears and changes: light curves against the literature, numbers, ages and places."""

import astropy.units as u
import numpy as np
import pytest
from astropy.cosmology import FlatLambdaCDM
from scipy.stats import gamma, kstest
from sky_judges import MJD, coordinates, project, some_galaxies, some_transients

from imaging.simulation.transients import (
    INVISIBLE_MAG,
    KINDS,
    kilonova_magnitude,
    make_transients,
    nucleus_wander,
)

KILONOVA, IA, II, NUCLEUS = range(4)


def kilonova(band, days, distance=40.0):
    days = np.atleast_1d(np.asarray(days, dtype=float))
    return kilonova_magnitude(band, days, np.full(days.size, distance))


@pytest.mark.parametrize(
    ("band", "days", "mag"),
    [("i", 0.45, 17.48), ("i", 0.5, 17.48), ("z", 0.5, 17.59), ("g", 1.5, 18.7), ("r", 1.5, 17.99), ("z", 1.5, 17.6)],
)
def test_the_kilonova_has_the_photometry_of_at2017gfo(band, days, mag):
    """Coulter et al. (2017), Cowperthwaite et al. (2017), Drout et al. (2017); drawn by eye, to 0.1 mag."""
    assert kilonova(band, days)[0] == pytest.approx(mag, abs=0.13)


@pytest.mark.parametrize(("band", "low", "high"), [("g", 1.2, 2.0), ("i", 0.5, 0.9), ("z", 0.3, 0.6), ("Y", 0.15, 0.4)])
def test_the_kilonova_fades_faster_in_the_blue(band, low, high):
    """Magnitudes per day between 1.5 and 3.5 days; Cowperthwaite et al. give 2 in u and g to 0.3 in Y."""
    first, last = kilonova(band, [1.5, 3.5])
    assert low < (last - first) / 2.0 < high


def test_the_kilonova_rises_linearly_and_dims_with_the_square_of_distance():
    assert (kilonova("r", [-1.0, 0.0]) == INVISIBLE_MAG).all()
    flux = 10.0 ** (-0.4 * kilonova("r", [0.05, 0.1, 0.2, 0.25]))
    assert flux / flux[-1] == pytest.approx([0.2, 0.4, 0.8, 1.0], rel=1e-9)
    for distance in (20.0, 40.0, 165.0):
        dimmed = kilonova("z", 2.0, distance)[0] - kilonova("z", 2.0)[0]
        assert dimmed == pytest.approx(2.5 * np.log10((distance / 40.0) ** 2), abs=1e-12)
    np.testing.assert_allclose(kilonova("VR", 3.5), 0.45 * kilonova("g", 3.5) + 0.55 * kilonova("r", 3.5))


def curve(kind, band, days, stretch=1.0, peak=20.0):
    one = some_transients(kind, stretch=np.array([stretch]), peak_mag=np.array([peak]))
    return np.array([one.magnitude(band, MJD + d)[0] for d in np.atleast_1d(days)])


@pytest.mark.parametrize("stretch", [1.0, 1.3])
def test_a_supernova_of_type_ia_peaks_after_18_days_of_its_own_time(stretch):
    days = np.arange(1.0, 120.0, 0.25)
    mags = curve(IA, "i", days * stretch, stretch)
    assert days[np.argmin(mags)] == pytest.approx(18.0, abs=0.3)
    assert mags.min() == pytest.approx(20.0, abs=1e-9)
    assert curve(IA, "i", 33.0 * stretch, stretch)[0] == pytest.approx(20.9, abs=1e-6)  # 15 days after maximum
    assert curve(IA, "i", 0.4999 * stretch, stretch)[0] == INVISIBLE_MAG
    assert curve(IA, "i", 0.51 * stretch, stretch)[0] < 26.1
    tail = curve(IA, "i", [78.0 * stretch, 118.0 * stretch], stretch)
    assert np.diff(tail)[0] == pytest.approx(1.0, abs=1e-9)


def test_a_supernova_of_type_ii_has_a_plateau_and_falls_from_it():
    plateau = curve(II, "i", [12.0, 40.0, 80.0, 100.0, 130.0])
    assert plateau[0] == pytest.approx(20.0)
    assert plateau[2] - plateau[1] < 0.4
    assert plateau[3] - plateau[2] > 3 * (plateau[2] - plateau[1])
    assert curve(II, "r", 0.19)[0] == INVISIBLE_MAG
    assert curve(II, "r", 0.21)[0] < 24.1


@pytest.mark.parametrize(
    ("kind", "days", "g_minus_i"),
    [(IA, 0.6, -0.229), (IA, 18.0, 0.38), (IA, 40.0, 1.15), (IA, 90.0, 1.5), (II, 40.0, 0.31), (II, 150.0, 1.1)],
)
def test_supernovae_redden_and_all_bands_follow(kind, days, g_minus_i):
    i = curve(kind, "i", days)[0]
    assert curve(kind, "g", days)[0] - i == pytest.approx(g_minus_i, abs=1e-9)
    for band, weight in (("u", 1.9), ("r", 0.42), ("z", -0.2), ("Y", -0.3), ("VR", 0.7)):
        assert curve(kind, band, days)[0] - i == pytest.approx(weight * g_minus_i, abs=1e-9)


def test_kinds_of_one_table_do_not_disturb_one_another():
    mixed = some_transients([NUCLEUS, KILONOVA, II, IA], stretch=np.array([0.2, 1.0, 1.0, 1.0]))
    mags = mixed.magnitude("g", MJD + 20.0)
    assert mags[1] == pytest.approx(kilonova("g", 20.0)[0])
    assert mags[2] == pytest.approx(curve(II, "g", 20.0)[0])
    assert mags[3] == pytest.approx(curve(IA, "g", 20.0)[0])
    assert abs(mags[0] - 20.35) < 0.2 * 5
    assert KINDS.index("active_nucleus") == NUCLEUS


def test_nuclei_wander_with_rms_one_over_three_days_to_three_years():
    days = np.arange(0.0, 60_000.0, 0.5)
    for source in (3_000_000_001, 3_000_000_002):
        wander = nucleus_wander(days, np.full(days.size, source))
        # 24 waves, the slowest 60 times within the span
        assert wander.std() == pytest.approx(1.0, abs=0.02)
        assert wander.mean() == pytest.approx(0.0, abs=0.02)
        slow, fast = (2 * np.abs(np.mean(wander * np.exp(-2j * np.pi * days * f))) for f in (1.0 / 1000.0, 1.0 / 3.0))
        assert slow / fast == pytest.approx((1000.0 / 3.0) ** 0.45, rel=0.05)
    one, other = (nucleus_wander(days, np.full(days.size, k)) for k in (3_000_000_001, 3_000_000_002))
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.8


def test_a_nucleus_varies_by_its_rms_about_its_mean():
    nucleus = some_transients(NUCLEUS, stretch=np.array([0.25]), peak_mag=np.array([19.0]))
    mags = np.array([nucleus.magnitude("r", MJD + d)[0] for d in np.arange(0.0, 20_000.0, 7.3)])
    assert mags.std() == pytest.approx(0.25, rel=0.1)
    assert mags.mean() == pytest.approx(19.0 + 0.35 * 0.42, abs=0.02)


@pytest.fixture(scope="module")
def population():
    rng = np.random.default_rng(5)
    n = 40_000
    mags = rng.uniform(15.0, 24.5, n)
    galaxies = some_galaxies(
        190.0 + rng.uniform(-0.5, 0.5, n),
        -10.0 + rng.uniform(-0.5, 0.5, n),
        mags,
        redshift=np.where(rng.random(n) < 0.1, 0.005, rng.uniform(0.02, 0.4, n)),
        radius_arcsec=rng.uniform(0.5, 3.0, n),
        axis_ratio=rng.uniform(0.2, 1.0, n),
        position_angle_deg=rng.uniform(0.0, 180.0, n),
    )
    host = int(np.flatnonzero(mags < 16.0)[0])
    numbers = {"supernovae": 2000.0, "active_nuclei": 800.0}
    return galaxies, host, make_transients(9, galaxies, host, numbers, MJD, MJD - 0.7, 120.0)


def hosts_of(galaxies, transients):
    return np.searchsorted(galaxies.source_id, transients.host_id)


def test_as_many_transients_of_each_kind_as_wanted(population):
    _, _, transients = population
    count = np.bincount(transients.kind, minlength=4)
    assert count[KILONOVA] == 1
    assert abs(count[IA] + count[II] - 2000) < 4 * np.sqrt(2000)
    assert abs(count[NUCLEUS] - 800) < 4 * np.sqrt(800)
    assert abs(count[IA] - 0.6 * (count[IA] + count[II])) < 4 * np.sqrt(2000 * 0.24)
    assert (transients.kind[0], transients.start_mjd[0], transients.distance_mpc[0]) == (KILONOVA, MJD - 0.7, 120.0)


def test_hosts_are_taken_in_proportion_to_their_light_to_the_power_of_five_eighths(population):
    galaxies, host, transients = population
    at = hosts_of(galaxies, transients)
    assert at[0] == host
    assert len(np.unique(at)) == len(at)
    mag, z = galaxies.mags["i"][at[1:]], galaxies.redshift[at[1:]]
    assert ((mag > 16.5) & (mag < 23.0) & (z > 0.01)).all()
    faint = mag[mag > 20.0]  # where few of the galaxies are used up
    eligible = np.sort(galaxies.mags["i"][(galaxies.mags["i"] > 20.0) & (galaxies.mags["i"] < 23.0)])
    weight = np.cumsum(10.0 ** (-0.25 * eligible))
    assert kstest(faint, lambda m: np.interp(m, eligible, weight / weight[-1])).pvalue > 1e-3


def test_supernovae_have_the_brightness_and_the_clock_of_their_redshift(population):
    galaxies, _, transients = population
    z = galaxies.redshift[hosts_of(galaxies, transients)]
    exact = FlatLambdaCDM(H0=70.0, Om0=0.3).luminosity_distance(z)
    assert transients.distance_mpc[1:] == pytest.approx(exact.to_value(u.Mpc)[1:], rel=0.012)
    for kind, mean, sigma in ((IA, -19.1, 0.2), (II, -17.4, 0.7)):
        chosen = (transients.kind == kind) & (transients.distance_mpc > 400.0)  # nearer, peaks are cut at 17
        absolute = (transients.peak_mag - 5.0 * np.log10(transients.distance_mpc) - 25.0)[chosen]
        assert absolute.mean() == pytest.approx(mean, abs=4 * sigma / np.sqrt(chosen.sum()))
        assert absolute.std() == pytest.approx(sigma, rel=4 / np.sqrt(2 * chosen.sum()))
    supernova = np.isin(transients.kind, (IA, II))
    assert transients.peak_mag[supernova].min() >= 17.0
    clock = transients.stretch[supernova] / (1.0 + z[supernova])
    assert clock.mean() == pytest.approx(1.0, abs=4 * 0.07 / np.sqrt(supernova.sum()))
    assert clock.std() == pytest.approx(0.07, rel=4 / np.sqrt(2 * supernova.sum()))
    age = MJD - transients.start_mjd[1:]
    assert kstest((age - 0.5) / 109.5, "uniform").pvalue > 1e-3


def test_nuclei_are_fainter_than_their_galaxies(population):
    galaxies, _, transients = population
    chosen = transients.kind == NUCLEUS
    below = transients.peak_mag[chosen] - galaxies.mags["i"][hosts_of(galaxies, transients)[chosen]]
    assert kstest((below - 0.3) / 1.7, "uniform").pvalue > 1e-3
    assert kstest((transients.stretch[chosen] - 0.1) / 0.25, "uniform").pvalue > 1e-3


def test_transients_lie_on_the_ellipses_of_their_galaxies(population):
    galaxies, host, transients = population
    at = hosts_of(galaxies, transients)
    nucleus = transients.kind == NUCLEUS
    apart = coordinates(galaxies.ra[at], galaxies.dec[at]).separation(coordinates(transients.ra, transients.dec))
    assert apart[nucleus].arcsec.max() < 1e-6
    reach = []
    for k in np.flatnonzero(~nucleus):
        g = at[k]
        east, north = (
            3600.0 * v[0] for v in project(transients.ra[k], transients.dec[k], galaxies.ra[g], galaxies.dec[g])
        )
        pa = np.radians(galaxies.position_angle_deg[g])
        along, across = east * np.sin(pa) + north * np.cos(pa), east * np.cos(pa) - north * np.sin(pa)
        reach.append(np.hypot(along, across / galaxies.axis_ratio[g]) / galaxies.radius_arcsec[g])
    assert at[0] == host
    assert reach[0] == pytest.approx(1.3, abs=1e-3)
    assert kstest(reach[1:], gamma(1.5, scale=0.5).cdf).pvalue > 1e-3


def test_few_galaxies_bear_few_transients():
    galaxies = some_galaxies([190.0, 190.1, 190.2], -10.0, [18.0, 20.0, 24.0])
    numbers = {"supernovae": 30.0, "active_nuclei": 5.0}
    crowded = make_transients(2, galaxies, 0, numbers, MJD, MJD - 1.0, 100.0)
    assert crowded.host_id.tolist() == [2000, 2001]
    alone = make_transients(2, galaxies, 0, {"supernovae": 0.0, "active_nuclei": 0.0}, MJD, MJD - 1.0, 100.0)
    assert alone.kind.tolist() == [KILONOVA]
