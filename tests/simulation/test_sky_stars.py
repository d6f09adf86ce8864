"""Stars of the simulated sky: counts, places, colours, motions and light curves against astropy and the literature."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import Distance, SkyCoord, get_body_barycentric
from astropy.time import Time
from scipy.integrate import cumulative_trapezoid
from scipy.stats import kstest
from sky_judges import MJD, coordinates, some_stars

from imaging.bands import BANDS
from imaging.simulation.stars import make_stars, random_positions, stellar_locus

FIELD = (190.5, -10.0)
RADIUS, DENSITY, VARIABLES = 1.1, 1.0, 400.0
AREA = np.pi * RADIUS**2


@pytest.fixture(scope="module")
def stars():
    return make_stars(4, *FIELD, RADIUS, DENSITY, VARIABLES, MJD)


def cycle_of(star, band, n=4000):
    """Magnitude changes of one star over one period from its phase zero on."""
    when = (np.arange(n) + 0.5) / n
    mags = [star.magnitude(band, star.phase[0] + t * star.period_d[0])[0] for t in when]
    return when, np.array(mags) - star.mags[band][0]


def test_counts_rise_with_the_slopes_of_the_galaxy(stars):
    grid = np.linspace(4.0, 26.0, 22001)
    slope = np.select([grid < 14, grid < 17, grid < 20.5, grid < 23], [0.33, 0.22, 0.14, 0.11], 0.06)
    density = 10.0 ** cumulative_trapezoid(slope, grid, initial=0.0)
    cumulative = cumulative_trapezoid(density, grid, initial=0.0)
    assert kstest(stars.g, lambda g: np.interp(g, grid, cumulative / cumulative[-1])).pvalue > 1e-3
    expected = DENSITY * 5600.0 * AREA
    assert abs((stars.g < 20.7).sum() - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("field", [FIELD, (0.001, 40.0), (77.0, -89.5)])
def test_stars_fill_a_disc_evenly(field):
    ra, dec = random_positions(np.random.default_rng(8), 20_000, *field, RADIUS)
    centre, places = coordinates(*field), coordinates(ra, dec)
    r = np.degrees(np.tan(centre.separation(places).rad)) / RADIUS
    assert r.max() < 1.0 + 1e-9
    assert kstest(r**2, "uniform").pvalue > 1e-3
    assert kstest(centre.position_angle(places).deg / 360.0, "uniform").pvalue > 1e-3
    assert ((ra >= 0.0) & (ra < 360.0)).all()


@pytest.mark.parametrize("mjd", [51544.5, 57388.5, 60441.0, 60532.0])
@pytest.mark.parametrize("place", [(10.0, -60.0), (190.5, -10.0), (359.9999, 45.0)])
def test_place_at_an_epoch_is_that_of_astropy(place, mjd):
    star = some_stars(*place, 15.0, pmra=np.array([310.0]), pmdec=np.array([-420.0]), parallax=np.array([80.0]))
    start = SkyCoord(
        *(place * u.deg),
        distance=Distance(parallax=80.0 * u.mas),
        pm_ra_cosdec=310.0 * u.mas / u.yr,
        pm_dec=-420.0 * u.mas / u.yr,
        radial_velocity=0.0 * u.km / u.s,
        obstime=Time(2016.0, format="jyear", scale="tdb"),
    )
    when = Time(mjd, format="mjd", scale="tdb")
    earth = get_body_barycentric("earth", when, ephemeris="builtin")
    seen = start.apply_space_motion(new_obstime=when).cartesian.without_differentials() - earth
    judged = SkyCoord(seen, frame="icrs", representation_type="cartesian")
    ra, dec = star.at_epoch(mjd)
    # what is left out is of second order: (8 arcsec)^2 tan(dec) = 0.5 mas
    assert judged.separation(coordinates(ra[0], dec[0])).to_value(u.mas) < 0.7
    assert 0.0 <= ra[0] < 360.0


def test_the_sun_and_an_m_dwarf_have_their_colours():
    """Willmer (2018) for the Sun, with BP - RP = 0.82 and M_G = 4.67; M3 dwarfs after Pecaut and Mamajek (2013)."""
    locus = stellar_locus(np.array([0.82, 2.5]))
    sun = {name: locus[name[0]][0] - locus[name[2]][0] for name in ("g-r", "r-i", "i-z", "u-g")}
    assert sun["g-r"] == pytest.approx(0.45, abs=0.04)
    assert sun["r-i"] == pytest.approx(0.12, abs=0.03)
    assert sun["i-z"] == pytest.approx(0.03, abs=0.02)
    assert sun["u-g"] == pytest.approx(1.35, abs=0.12)
    assert -locus["r"][0] == pytest.approx(0.03, abs=0.04)  # G - r
    dwarf = {name: locus[name[0]][1] - locus[name[2]][1] for name in ("g-r", "r-i", "i-z", "z-Y")}
    assert dwarf["g-r"] == pytest.approx(1.47, abs=0.06)
    assert dwarf["r-i"] == pytest.approx(1.15, abs=0.12)
    assert dwarf["i-z"] == pytest.approx(0.50, abs=0.08)
    assert dwarf["z-Y"] == pytest.approx(0.16, abs=0.06)


def test_the_wide_band_lies_between_g_and_r_and_the_ends_of_the_locus_hold():
    colour = np.linspace(-0.4, 4.2, 300)
    locus = stellar_locus(colour)
    np.testing.assert_allclose(locus["VR"], 0.45 * locus["g"] + 0.55 * locus["r"], atol=2 * 0.003)
    for band, offset in stellar_locus(np.array([-3.0, 9.0])).items():
        np.testing.assert_allclose(offset, locus[band][[0, -1]], atol=1e-12)


def test_stars_scatter_about_the_locus_partly_in_all_bands_together(stars):
    mean = stellar_locus(stars.bp - stars.rp)
    left = np.array([stars.mags[b] - stars.g - mean[b] for b in ("g", "i", "Y")])
    n = left.shape[1]
    assert left.std(axis=1) == pytest.approx(0.012, rel=4 / np.sqrt(2 * n) + 0.004)  # hypot(0.7, 0.71) = 0.997
    assert np.abs(left.mean(axis=1)).max() < 4 * 0.012 / np.sqrt(n)
    assert np.corrcoef(left)[[0, 0, 1], [1, 2, 2]] == pytest.approx(0.49 / 0.994, abs=4 / np.sqrt(n))


def test_faint_stars_are_red_and_giants_are_bright(stars):
    colour = stars.bp - stars.rp
    for low, high in ((15.5, 16.5), (18.5, 19.5), (22.5, 23.5)):
        chosen = (stars.g > low) & (stars.g < high)
        share = np.clip(((low + high) / 2 - 15.0) / 8.0, 0.0, 0.75)
        # of the red ones, N(2.4, 0.55), 95 % lie beyond 1.5; of the others, N(0.85, 0.2), none
        expected = 0.949 * share
        noise = np.sqrt(expected / chosen.sum())
        assert (colour[chosen] > 1.5).mean() == pytest.approx(expected, abs=4 * noise + 0.012)
    assert ((colour >= -0.4 - 1e-9) & (colour <= 4.2 + 1e-9)).all()
    assert (stars.bp > stars.g)[colour > 0.3].all()
    assert (stars.rp < stars.g)[colour > 0.3].all()


def test_parallaxes_are_those_of_the_main_sequence(stars):
    for colour, absolute in ((0.82, 4.67), (2.4, 9.6)):
        alike = np.abs(stars.bp - stars.rp - colour) < 0.02
        distance = Distance(parallax=stars.parallax[alike] * u.mas)
        assert np.median(stars.g[alike] - distance.distmod.value) == pytest.approx(absolute, abs=0.25)
    assert stars.parallax.max() <= 100.0  # none nearer than 10 pc


def test_velocities_are_those_of_the_disc_and_beyond(stars):
    kpc = 1.0 / stars.parallax
    height = kpc * np.sin(np.abs(coordinates(*FIELD).galactic.b.rad))
    for chosen, speed in ((height < 0.98, 35.0), (height > 1.02, 120.0)):
        n = chosen.sum()
        assert n > 1000
        to_speed = (u.mas / u.yr * u.kpc).to(u.km / u.s, equivalencies=u.dimensionless_angles())
        east, north = stars.pmra[chosen] * kpc[chosen] * to_speed, stars.pmdec[chosen] * kpc[chosen] * to_speed
        assert east.std() == pytest.approx(speed, rel=4 / np.sqrt(2 * n) + 1e-3)
        assert north.std() == pytest.approx(speed, rel=4 / np.sqrt(2 * n) + 1e-3)
        assert east.mean() == pytest.approx(0.0, abs=4 * speed / np.sqrt(n))
        assert north.mean() == pytest.approx(-0.3 * speed, abs=4 * speed / np.sqrt(n))


@pytest.mark.parametrize("band", ["g", "i", "Y"])
def test_an_rr_lyrae_star_rises_fast_and_fades_slowly(band):
    star = some_stars(*FIELD, 17.0, variability=np.int8([1]), amplitude_mag=np.array([0.8]), period_d=np.array([0.6]))
    when, change = cycle_of(star, band)
    height = 0.8 * (780.0 / BANDS[band].wavelength_nm) ** 0.8
    assert np.ptp(change) == pytest.approx(height, rel=2e-3)
    assert change.mean() == pytest.approx(0.0, abs=1e-3)
    assert when[np.argmax(change)] == pytest.approx(0.85, abs=1e-3)
    assert change[0] == pytest.approx(-height / 2, rel=2e-3)
    assert change[:3400] == pytest.approx(np.linspace(-0.5, 0.5, 3400) * height, abs=1e-3)


def test_an_eclipsing_binary_has_two_minima():
    star = some_stars(*FIELD, 17.0, variability=np.int8([2]), amplitude_mag=np.array([0.6]), period_d=np.array([2.0]))
    when, change = cycle_of(star, "r")
    assert change[[0, -1]] == pytest.approx(0.6, abs=1e-4)
    assert change[np.abs(when - 0.5) < 1e-3].max() == pytest.approx(0.3, abs=1e-4)
    assert change[np.abs(when - 0.25) < 0.05].max() < 1e-3
    width = 0.035 * np.sqrt(2 * np.log(2.0))  # half of the depth
    assert when[:1000][np.argmin(np.abs(change[:1000] - 0.3))] == pytest.approx(width, abs=3e-4)
    assert when[np.flatnonzero(change[1000:3000] > 0.15) + 1000].min() == pytest.approx(0.5 - width, abs=5e-4)
    np.testing.assert_array_equal(cycle_of(star, "g", 50)[1], cycle_of(star, "Y", 50)[1])


def test_a_flare_is_blue_and_decays_by_e_in_its_decay_time():
    values = {"variability": np.int8([3]), "amplitude_mag": np.array([2.0]), "period_d": np.array([0.03])}
    star = some_stars(*FIELD, 19.0, phase=np.array([MJD]), **values)

    def excess(band, days):
        return 10.0 ** (-0.4 * (star.magnitude(band, MJD + days)[0] - 19.0)) - 1.0

    assert excess("g", -1e-4) == 0.0
    start = (10.0**0.8 - 1.0) * (780.0 / 783.5) ** 3.2
    assert excess("i", 1e-7) == pytest.approx(start, rel=1e-4)
    assert excess("i", 0.03) == pytest.approx(start / np.e, rel=1e-5)
    assert excess("i", 0.09) == pytest.approx(start / np.e**3, rel=1e-5)
    assert excess("g", 0.01) / excess("i", 0.01) == pytest.approx((783.5 / 472.0) ** 3.2, rel=1e-5)


def test_variable_stars_are_as_many_and_of_the_kinds_that_are_wanted(stars):
    colour = stars.bp - stars.rp
    wanted = VARIABLES * AREA
    for kind, share, amplitudes, periods in (
        (1, 0.2, (0.3, 1.0), (0.35, 0.75)),
        (2, 0.6, (0.15, 0.7), (10**-0.6, 10**0.7)),
        (3, 0.2, (0.5, 4.0), (0.01, 0.04)),
    ):
        chosen = stars.variability == kind
        assert abs(chosen.sum() - share * wanted) < 4 * np.sqrt(share * wanted)
        for values, (low, high) in ((stars.amplitude_mag, amplitudes), (stars.period_d, periods)):
            edge = 8 * (high - low) / chosen.sum()  # all of n uniform numbers miss an edge so wide once in 3000
            assert low <= values[chosen].min() < low + edge
            assert high - edge * (3 if kind == 2 else 1) < values[chosen].max() <= high
        assert ((stars.g[chosen] > 15.0) & (stars.g[chosen] < 23.0)).all()
    assert colour[stars.variability == 1].max() < 1.0 < colour[stars.variability == 2].max() < 2.2
    assert stars.g[stars.variability == 1].max() < 20.5
    assert colour[stars.variability == 3].min() > 2.2
    onset = stars.phase[stars.variability == 3] - MJD
    assert -0.05 <= onset.min() < -0.02 < 0.12 < onset.max() <= 0.15
    assert kstest((stars.phase[stars.variability == 2] - MJD) / 10.0, "uniform").pvalue > 1e-3


def test_the_seed_alone_decides_on_the_stars():
    first, again, other = (make_stars(seed, *FIELD, 0.2, 1.0, 20.0, MJD) for seed in (4, 4, 5))
    for name in ("ra", "pmdec", "parallax", "bp", "variability", "phase"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    np.testing.assert_array_equal(first.mags["u"], again.mags["u"])
    assert not set(first.ra) & set(other.ra)
