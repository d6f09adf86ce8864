"""Moon, clouds, trails, movers, hosts and structure of galaxies on the harder skies."""

import numpy as np
import pytest
from scipy.special import gammainc
from sky_judges import some_galaxies

from imaging.simulation.asteroids import make_asteroids
from imaging.simulation.background import moonlight, sky_image
from imaging.simulation.exposures import MoonTruth
from imaging.simulation.galaxy_structure import KNOT_SHARE, bulge_shape_pixels, knots_of, large_galaxies
from imaging.simulation.plan import plan_exposures
from imaging.simulation.settings import demo_settings
from imaging.simulation.skies import SkyEffects
from imaging.simulation.stars import make_stars, with_small_variables
from imaging.simulation.transients import _radii_by_profile
from tests.simulated_exposures import an_exposure


def test_moonlight_grows_towards_the_moon_as_krisciunas_and_schaefer_say():
    moon = MoonTruth(electrons=1000.0, separation_deg=40.0, direction_deg=90.0)
    degree = 3600 / 0.2626 / 14336.0
    values = moonlight(moon, np.zeros(3), np.array([-degree, 0.0, degree]))

    def published(rho):
        return 10**5.36 * (1.06 + np.cos(np.radians(rho)) ** 2) + 10 ** (6.15 - rho / 40)

    assert values == pytest.approx(1000.0 * np.array([published(r) for r in (41, 40, 39)]) / published(40), rel=1e-3)
    # position angle 0 is north, which is towards smaller x
    north = moonlight(moon.model_copy(update={"direction_deg": 0.0}), np.array([-degree, degree]), np.zeros(2))
    assert north[0] > 1000.0 > north[1]


def test_the_sky_holds_the_moons_light_and_the_changed_fringes():
    dark = an_exposure(band="z", sky_modes=(1.0, 0.0, 0.0, 0.0, 0.0, 0.004))
    moon = MoonTruth(electrons=500.0, separation_deg=60.0, direction_deg=30.0)
    lit = dark.model_copy(update={"moon": moon})
    added = sky_image(lit, 61, 34) - sky_image(dark, 61, 34)
    assert added.mean() == pytest.approx(500.0, rel=0.05)
    changed = dark.model_copy(update={"second_fringes": 0.002})
    pattern = sky_image(changed, 61, 34) - sky_image(dark, 61, 34)
    assert pattern.std() == pytest.approx(3000.0 * 0.002 / np.sqrt(2), rel=0.1)
    first = sky_image(dark, 61, 34)
    assert abs(np.corrcoef(pattern[::8, ::8].ravel(), first[::8, ::8].ravel())[0, 1]) < 0.5


def test_a_hard_night_has_jumps_wide_trails_glints_and_structured_cloud():
    exposures = [
        e for seed in range(8) for e in plan_exposures(demo_settings(sky="hard", seed=seed, n_template_epochs=6))
    ]
    jumps = sum(e.optics.jump_share > 0 for e in exposures)
    assert pytest.approx(jumps, abs=4 * np.sqrt(64 * 0.25 * 0.75)) == 0.25 * 64
    assert np.mean([len(e.glints) for e in exposures]) == pytest.approx(20.0, abs=4 * np.sqrt(20 / 64))
    widths = [s.sigma_pixels for e in exposures for s in e.streaks]
    assert 0.1 < np.mean(np.array(widths) > 5.0) < 0.5
    small = [w for w in exposures[0].clouds.waves if np.hypot(w.kx, w.ky) > 2 * np.pi / 0.51]
    assert np.sqrt(sum(w.amplitude**2 for w in small) / 2) == pytest.approx(0.6 * exposures[0].clouds.mean_mag)
    assert all(e.t_eff < 1.0 for e in exposures)


def test_some_trails_break_into_pieces_and_aircraft_are_two_wide_ones():
    effects = SkyEffects(tumbling=0.5, aircraft_per_exposure=0.5)
    settings = demo_settings(n_template_epochs=60, streaks_per_exposure=4.0, effects=effects)
    exposures = plan_exposures(settings)
    streaks = [s for e in exposures for s in e.streaks]
    wide = [s for s in streaks if s.sigma_pixels > 60.0]
    planes = len(wide) / 2
    assert planes == pytest.approx(0.5 * len(exposures), abs=4 * np.sqrt(0.5 * len(exposures)))
    for left, right in zip(wide[::2], wide[1::2], strict=True):
        along = np.radians(left.angle_deg)
        apart = right.xi_deg - left.xi_deg, right.eta_deg - left.eta_deg
        assert np.hypot(*apart) == pytest.approx(0.2)
        assert apart[0] * np.cos(along) + apart[1] * np.sin(along) == pytest.approx(0.0, abs=1e-12)
    others = [s for s in streaks if s.sigma_pixels <= 60.0]
    tumbling = np.mean([s.tumbling_amplitude == 1.0 for s in others])
    assert tumbling == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / len(others)))
    places = {(s.xi_deg, s.eta_deg) for e in plan_exposures(settings.with_values(effects={})) for s in e.streaks}
    assert {(s.xi_deg, s.eta_deg) for s in others} == places  # the same satellites


def test_movers_of_all_rates_are_uniform_in_the_logarithm():
    movers = make_asteroids(1, 20240510, 60441.0, 190.0, -10.0, 1.4, 4000.0, all_rates=True)
    speed = np.log10(np.hypot(movers.rate_east, movers.rate_north))
    counts = np.histogram(speed, bins=3, range=(0.0, np.log10(2000.0)))[0]
    assert counts.sum() == len(speed)
    assert counts == pytest.approx(np.full(3, len(speed) / 3), abs=4 * np.sqrt(len(speed) / 3))


def test_supernovae_follow_the_light_of_their_hosts():
    for bulge, inside in (
        (0.0, lambda r: gammainc(2, 1.678 * r)),
        (1.0, lambda r: gammainc(8, 7.669 * r**0.25)),
    ):
        radii = _radii_by_profile(3, np.full(20000, bulge))
        for r in (0.1, 0.5, 1.0, 2.0):
            assert np.mean(radii < r) == pytest.approx(inside(r), abs=4 * np.sqrt(0.25 / 20000))
        assert np.mean(radii < 1.0) == pytest.approx(0.5, abs=0.015)  # half of the light


def test_some_stars_vary_a_little():
    stars = make_stars(1, 190.0, -10.0, 0.5, 1.0, 0.0, 60441.0)
    varied = with_small_variables(stars, 1, 0.05)
    chosen = varied.variability == 1
    bright = stars.g < 21.0
    assert not chosen[~bright].any()
    assert chosen[bright].mean() == pytest.approx(0.05, abs=4 * np.sqrt(0.05 / bright.sum()))
    change = np.ptp([varied.magnitude("i", 60441.0 + day) for day in np.linspace(0, 200, 60)], axis=0)
    assert change[chosen].min() > 0.005
    assert change[chosen].max() < 0.35
    assert change[~chosen].max() == 0.0


def test_only_the_stars_near_the_ccds_of_a_crowded_field_are_drawn():
    everything = make_stars(1, 190.0, -10.0, 0.3, 1.0, 50.0, 60441.0)
    some = make_stars(1, 190.0, -10.0, 0.3, 1.0, 50.0, 60441.0, near=lambda ra, dec: dec > -10.0)
    north = everything.dec > -10.0
    assert set(some.source_id) == set(everything.source_id[north])
    assert some.dec.tolist() == everything.dec[north].tolist()


def test_a_crowded_field_has_many_faint_stars_and_few_more_bright_ones():
    usual, crowded = (make_stars(1, 190.0, -10.0, 0.5, density, 0.0, 60441.0) for density in (1.0, 40.0))
    for low, high, ratio in ((20.0, 23.0, 40.0), (15.5, 16.5, 40.0**0.75), (11.0, 13.0, 40.0**0.5)):
        n, more = (((stars.g > low) & (stars.g < high)).sum() for stars in (usual, crowded))
        assert abs(more / n / ratio - 1.0) < 3.0 / np.sqrt(n) + 0.05
    assert (crowded.g < 9.0).sum() < 5 * max((usual.g < 9.0).sum(), 3)


def test_knots_take_their_share_of_the_disc_and_lie_within_it():
    galaxies = some_galaxies([190.0] * 3, [-10.0] * 3, [17.0, 17.5, 21.0], radius_arcsec=np.full(3, 5.0))
    knots = knots_of(galaxies, np.arange(3))
    assert set(knots.galaxy) == {0, 1}  # the third is too faint
    for k in (0, 1):
        assert knots.share[knots.galaxy == k].sum() == pytest.approx(KNOT_SHARE)
    distance = np.hypot(knots.dx, knots.dy) * 0.2626 / 5.0
    assert distance.min() > 0.25
    assert distance.max() < 2.5
    assert len(knots_of(galaxies, np.array([2])).share) == 0


def test_bulges_are_rounder_and_smaller_than_their_discs():
    galaxies = some_galaxies([190.0], [-10.0], [17.0], axis_ratio=np.array([0.3]), bulge=np.array([0.3]))
    disc, bulge = galaxies.shape_pixels(np.arange(1))[0], bulge_shape_pixels(galaxies, np.arange(1))[0]
    ratios = []
    for xx, xy, yy in (disc, bulge):
        low, high = np.linalg.eigvalsh([[xx, xy], [xy, yy]])
        ratios.append(np.sqrt(low / high))
    assert ratios[0] == pytest.approx(0.3)
    assert ratios[1] > 0.7
    assert bulge[0] + bulge[2] < disc[0] + disc[2]


def test_large_galaxies_fill_arcminutes_with_ordinary_to_low_surface_brightness():
    large = large_galaxies(1, 190.0, -10.0, 1.25, 300.0)
    surface = large.mags["i"] + 2.5 * np.log10(2 * np.pi * large.radius_arcsec**2 * large.axis_ratio)
    assert large.radius_arcsec.min() > 6.9
    assert large.radius_arcsec.max() < 45.1
    assert 20.4 < surface.min() < 21.0
    assert 24.0 < surface.max() < 24.6
