"""Galaxies of the simulated sky: counts, distances, sizes, shapes, colours and groups."""

import astropy.units as u
import numpy as np
import pytest
from astropy.constants import c as light
from astropy.coordinates import Distance
from astropy.cosmology import FlatLambdaCDM, z_at_value
from scipy.integrate import cumulative_trapezoid
from scipy.spatial import cKDTree
from scipy.stats import kstest
from sky_judges import coordinates, project, some_galaxies

from imaging.detector.distortion import seed_wcs
from imaging.simulation.galaxies import host_galaxy, luminosity_distance_mpc, make_galaxies, redshift_at

FIELD = (190.5, -10.0)
RADIUS, DENSITY = 0.5, 0.3
AREA = np.pi * RADIUS**2
COSMOLOGY = FlatLambdaCDM(H0=70.0, Om0=0.3)


@pytest.fixture(scope="module")
def galaxies():
    return make_galaxies(6, *FIELD, RADIUS, DENSITY)


def agrees_with_mean(values, mean, sigma):
    return abs(values.mean() - mean) < 4 * sigma / np.sqrt(len(values))


def test_distances_are_those_of_the_standard_cosmology():
    z = np.array([0.01, 0.0375, 0.1, 0.3, 0.5])
    assert luminosity_distance_mpc(z) == pytest.approx(COSMOLOGY.luminosity_distance(z).value, rel=0.012)
    hubble = light.to_value(u.km / u.s) / 70.0
    assert luminosity_distance_mpc(np.array([1e-5]))[0] / 1e-5 == pytest.approx(hubble, rel=5e-5)
    for distance in (20.0, 165.0, 1000.0):
        exact = float(z_at_value(COSMOLOGY.luminosity_distance, distance * u.Mpc).value)
        assert redshift_at(distance) == pytest.approx(exact, rel=0.01)
        assert luminosity_distance_mpc(np.array([redshift_at(distance)]))[0] == pytest.approx(distance, rel=1e-6)


def test_galaxy_counts_rise_with_their_slopes(galaxies):
    grid = np.linspace(13.5, 25.5, 12001)
    slope = np.select([grid < 17.5, grid < 21.5], [0.58, 0.42], 0.31)
    density = 10.0 ** cumulative_trapezoid(slope, grid, initial=0.0)
    cumulative = cumulative_trapezoid(density, grid, initial=0.0)
    mag = galaxies.mags["i"]
    # the table of the counts ends at its last step of 0.01 mag
    all_of_them = np.interp(25.49, grid, cumulative)
    assert kstest(mag, lambda m: np.interp(m, grid, cumulative / all_of_them)).pvalue > 1e-3
    expected = DENSITY * 120_000.0 * AREA
    assert abs((mag < 25.0).sum() - expected) < 4 * np.sqrt(expected)


def test_sizes_follow_magnitudes(galaxies):
    mag, size = galaxies.mags["i"], np.log10(galaxies.radius_arcsec)
    for low, high in ((19.0, 20.5), (23.5, 24.5), (24.5, 25.5)):
        chosen = (mag > low) & (mag < high)
        residual = size[chosen] - np.log10(0.36) + 0.115 * (mag[chosen] - 24.0)
        assert agrees_with_mean(residual, 0.0, 0.16)
        assert residual.std() == pytest.approx(0.16, rel=4 / np.sqrt(2 * chosen.sum()))
    assert galaxies.radius_arcsec.min() >= 0.08
    assert galaxies.radius_arcsec.max() <= 12.0
    assert kstest(galaxies.position_angle_deg / 180.0, "uniform").pvalue > 1e-3


def test_redshifts_grow_with_magnitude(galaxies):
    mag = galaxies.mags["i"]
    residual = np.log10(galaxies.redshift) - np.log10(0.06) - 0.135 * (mag - 16.5)
    assert agrees_with_mean(residual, 0.0, 0.16)
    assert residual.std() == pytest.approx(0.16, rel=4 / np.sqrt(2 * len(mag)))


def test_bulges_and_shapes_tell_red_from_blue_galaxies(galaxies):
    mag, bulge = galaxies.mags["i"], galaxies.bulge
    assert 0.0 <= bulge.min() < 1e-3
    assert bulge.max() < 1.0
    for low, high in ((20.4, 21.6), (23.8, 24.2)):
        chosen = (mag > low) & (mag < high)
        red = np.clip(0.55 - 0.04 * (mag[chosen] - 17.0), 0.12, 0.55).mean()
        expected = 0.8 * red  # a red one has a bulge of 0.5 to 1, a blue one of at most 0.6
        assert abs((bulge[chosen] > 0.6).mean() - expected) < 4 * np.sqrt(expected / chosen.sum())
    red, blue = bulge > 0.6, bulge < 0.5
    assert kstest((galaxies.axis_ratio[red] - 0.5) / 0.5, "uniform").pvalue > 1e-3
    assert kstest((galaxies.axis_ratio[blue] - 0.2) / 0.8, "uniform").pvalue > 1e-3
    assert np.median(bulge[blue & (bulge > 0)]) == pytest.approx(0.15 * np.log(2.0), rel=0.1)


def test_colours_of_the_red_and_the_blue_sequence(galaxies):
    m, z = galaxies.mags, galaxies.redshift
    red, blue = galaxies.bulge > 0.6, galaxies.bulge < 0.5
    for chosen, expected in (
        (red & (z < 0.3), {"ug": 1.7, "gr": (0.65, 2.2), "ri": 0.33, "iz": (0.22, 0.2), "zY": 0.08}),
        (red & (z > 0.4) & (z < 0.7), {"gr": 0.65 + 2.2 * 0.38, "ri": (0.33 - 0.27, 0.9), "zY": 0.08}),
        (red & (z > 0.9), {"gr": 0.65 + 2.2 * 0.38, "ri": 0.69, "iz": 0.22 + 0.18}),
        (blue & (z < 0.9), {"ug": 0.9, "gr": (0.42, 0.7), "ri": (0.20, 0.35), "iz": (0.10, 0.15), "zY": 0.05}),
    ):
        assert chosen.sum() > 25
        for pair, law in expected.items():
            first, slope = law if isinstance(law, tuple) else (law, 0.0)
            residual = (m[pair[0]] - m[pair[1]] - first - slope * z)[chosen]
            sigma = {"ug": 0.2, "gr": 0.09, "ri": 0.05, "iz": 0.04, "zY": 0.03}[pair]
            assert agrees_with_mean(residual, 0.0, sigma), (pair, law)
            assert residual.std() == pytest.approx(sigma, rel=5 / np.sqrt(2 * chosen.sum()))
    np.testing.assert_allclose(m["VR"], 0.45 * m["g"] + 0.55 * m["r"], rtol=1e-12)


def close_pairs(x, y):
    return len(cKDTree(np.stack([x, y], axis=-1)).query_pairs(0.01))


def test_a_fifth_of_the_galaxies_stand_in_groups(galaxies):
    """Pairs closer than 36 arcsec, against fields drawn here by the same law and fields without groups."""
    rng = np.random.default_rng(3)
    n, found = len(galaxies.ra), close_pairs(*project(galaxies.ra, galaxies.dec, *FIELD))

    def disc(k):
        r, phi = RADIUS * np.sqrt(rng.random(k)), 2 * np.pi * rng.random(k)
        return r * np.cos(phi), r * np.sin(phi)

    grouped, even = [], []
    for _ in range(8):
        x, y = disc(n)
        even.append(close_pairs(x, y))
        gx, gy = disc(int(40 * AREA))
        member, group = rng.random(n) < 0.2, rng.integers(0, len(gx), n)
        r, phi = 0.02 * np.abs(rng.standard_t(3, n)), 2 * np.pi * rng.random(n)
        x, y = np.where(member, gx[group] + r * np.cos(phi), x), np.where(member, gy[group] + r * np.sin(phi), y)
        grouped.append(close_pairs(x, y))
    assert found == pytest.approx(np.mean(grouped), abs=4 * np.std(grouped, ddof=1))
    assert found > np.mean(even) + 20 * np.std(even, ddof=1)


@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 140.0])
def test_ellipses_lie_on_the_pixels_as_on_the_sky(angle):
    place = coordinates(*FIELD)
    galaxy = some_galaxies(*FIELD, 18.0, radius_arcsec=np.array([2.63]), axis_ratio=np.array([0.4]))
    object.__setattr__(galaxy, "position_angle_deg", np.array([angle]))
    xx, xy, yy = galaxy.shape_pixels(np.array([0]))[0]
    values, vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    assert np.sqrt(values) == pytest.approx([4.0, 10.0], rel=1e-9)
    tip = place.directional_offset_by(angle * u.deg, 60.0 * u.arcsec)
    wcs = seed_wcs(34, *FIELD)
    (x0, x1), (y0, y1) = wcs.sky_to_pixel([place.ra.deg, tip.ra.deg], [place.dec.deg, tip.dec.deg])
    along = np.array([x1 - x0, y1 - y0]) / np.hypot(x1 - x0, y1 - y0)
    assert abs(vectors[:, 1] @ along) > np.cos(np.radians(1.0))  # the camera's axes are 0.15 degrees off


@pytest.mark.parametrize("distance", [40.0, 165.0, 400.0])
def test_the_host_is_an_early_type_galaxy_at_its_distance(distance):
    host = host_galaxy(3, *FIELD, distance)
    assert len(host.ra) == 1
    assert host.mags["i"][0] == pytest.approx(Distance(distance * u.Mpc).distmod.value - 21.3, abs=1e-9)
    z = float(z_at_value(COSMOLOGY.luminosity_distance, distance * u.Mpc).value)
    assert host.redshift[0] == pytest.approx(z, rel=0.01)
    assert host.radius_arcsec[0] == pytest.approx(3.6 / COSMOLOGY.kpc_proper_per_arcmin(z).value * 60.0, rel=0.005)
    assert host.mags["g"][0] - host.mags["r"][0] == pytest.approx(0.65 + 2.2 * z, abs=4 * 0.09)
    assert coordinates(*FIELD).separation(coordinates(host.ra[0], host.dec[0])).arcsec < 5 * 0.072
    assert (host.axis_ratio[0], host.bulge[0]) == (0.75, 0.7)


def test_the_seed_alone_decides_on_the_galaxies(galaxies):
    again = make_galaxies(6, *FIELD, RADIUS, DENSITY)
    for name in ("ra", "dec", "redshift", "bulge", "position_angle_deg"):
        np.testing.assert_array_equal(getattr(galaxies, name), getattr(again, name))
    assert len(make_galaxies(7, *FIELD, RADIUS, DENSITY).ra) != len(again.ra)
