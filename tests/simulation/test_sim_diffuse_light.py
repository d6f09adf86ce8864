"""Cirrus, twilight and dust lanes: their power, gradient and place, by other means than they are drawn."""

import numpy as np
import pytest
from scipy.signal import fftconvolve
from sky_judges import some_galaxies

from imaging.simulation.background import sky_image, twilight_glow
from imaging.simulation.exposures import PsfTruth, TwilightTruth
from imaging.simulation.galaxy_structure import DUST_DEPTH, absorb_by_dust, has_dust_lanes, knots_of
from imaging.simulation.nebulosity import CONTRAST, add_nebulosity, relative_brightness
from imaging.simulation.optics import Misalignment, TrueGeometry
from imaging.simulation.plan import plan_exposures
from imaging.simulation.scene import Painter, SceneSources
from imaging.simulation.settings import demo_settings
from imaging.simulation.skies import SkyEffects
from tests.simulated_exposures import an_exposure


def geometry_of(exposure, ccd=34):
    return TrueGeometry(exposure, ccd, Misalignment((0.0, 0.0), ((), ())))


def test_the_brightness_of_cirrus_has_its_mean_contrast_and_power():
    power, logs = [], []
    step_deg, n = 0.5 / 60.0, 256  # half an arcminute, so that the shortest waves are sampled
    x, y = np.meshgrid(np.arange(n) * step_deg, np.arange(n) * step_deg)
    for seed in range(30):
        field = np.log(relative_brightness(seed, 190.0 + x, y))
        logs.append((field.mean(), field.std()))
        spectrum = np.abs(np.fft.fft2((field - field.mean()) * np.outer(np.hanning(n), np.hanning(n)))) ** 2
        k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n, step_deg)] * 2))
        power.append([spectrum[(k > low) & (k < 1.5 * low)].mean() for low in (1.5, 3.0, 6.0, 12.0)])
    slope = np.polyfit(np.log([1.5, 3.0, 6.0, 12.0]), np.log(np.mean(power, axis=0)), 1)[0]
    assert slope == pytest.approx(-2.9, abs=0.3)
    mean, scatter = np.mean(logs, axis=0)
    assert mean == pytest.approx(-(CONTRAST**2) / 2, abs=0.2)  # so that the mean brightness is one
    assert 0.5 * CONTRAST < scatter <= 1.05 * CONTRAST  # waves longer than the field are not in it


def test_cirrus_is_fixed_to_the_sky_and_has_its_surface_brightness():
    first = an_exposure(ra_deg=190.0, true_ra_deg=190.0)
    moved = an_exposure(true_ra_deg=190.0 + 0.05 / np.cos(np.radians(10.0)), true_dec_deg=-9.97)
    places = [(200.0, 300.0), (1000.0, 2000.0), (1500.0, 3500.0)]
    images = {}
    for name, exposure in (("first", first), ("moved", moved)):
        images[name] = np.zeros((4096, 2048), dtype=np.float32)
        add_nebulosity(images[name], geometry_of(exposure), 25.0)
    for x, y in places:
        ra, dec = geometry_of(first).wcs.pixel_to_sky(x, y)
        x2, y2 = (float(v) for v in geometry_of(moved).wcs.sky_to_pixel(ra, dec))
        if 0 <= x2 < 2048 and 0 <= y2 < 4096:
            assert images["moved"][round(y2), round(x2)] == pytest.approx(images["first"][int(y), int(x)], rel=0.02)
        share = relative_brightness(first.seed, *(np.atleast_1d(v) for v in (ra, dec)))[0]
        per_pixel = 0.2626**2 * 10 ** (-0.4 * (25.0 - first.zeropoint_mag)) * share
        assert images["first"][int(y), int(x)] == pytest.approx(per_pixel, rel=0.02)
    red = np.zeros((4096, 2048), dtype=np.float32)
    add_nebulosity(red, geometry_of(an_exposure(band="g")), 25.0)
    assert red / images["first"] == pytest.approx(10 ** (-0.4 * 0.8), rel=1e-3)


def test_twilight_grows_by_its_share_per_radius_towards_the_sun():
    glow = TwilightTruth(electrons=4000.0, per_radius=0.1, direction_deg=90.0)
    west, centre, east = twilight_glow(glow, np.zeros(3), np.array([-1.0, 0.0, 1.0]))
    assert (west, centre, east) == pytest.approx((4000.0 / np.e**0.1, 4000.0, 4000.0 * np.e**0.1))
    north, south = twilight_glow(glow.model_copy(update={"direction_deg": 0.0}), np.array([-1.0, 1.0]), np.zeros(2))
    assert north / south == pytest.approx(np.e**0.2)
    dark = an_exposure()
    added = sky_image(dark.model_copy(update={"twilight": glow}), 61, 34) - sky_image(dark, 61, 34)
    assert added.mean() == pytest.approx(4000.0, rel=0.1)
    assert np.ptp(added) > 10.0


def test_the_share_of_exposures_in_twilight_and_their_effective_time():
    settings = demo_settings(effects=SkyEffects(twilight=0.5), n_template_epochs=38)
    exposures = plan_exposures(settings)
    dark = {e.expnum: e for e in plan_exposures(demo_settings(n_template_epochs=38))}
    lit = [e for e in exposures if e.twilight is not None]
    assert len(lit) == pytest.approx(0.5 * len(exposures), abs=4 * np.sqrt(0.25 * len(exposures)))
    for e in lit:
        assert 1.0 <= e.twilight.electrons / e.sky_electrons <= 3.0
        assert e.t_eff * (1.0 + e.twilight.electrons / e.sky_electrons) == pytest.approx(dark[e.expnum].t_eff)


def test_dust_lies_inside_of_the_arms_absorbs_as_said_and_leaves_other_light():
    galaxies = some_galaxies(
        [190.0, 190.0, 190.0], [-10.0] * 3, [13.0, 13.0, 19.0], radius_arcsec=np.array([30.0, 30.0, 2.0]),
        bulge=np.array([0.1, 0.9, 0.1]), axis_ratio=np.array([0.6, 0.6, 0.6]),
        position_angle_deg=np.array([30.0, 30.0, 30.0]),
    )  # fmt: skip
    assert has_dust_lanes(galaxies, np.arange(3)).tolist() == [0]  # a spheroid and an unresolved one have none
    light = np.ones((900, 900), dtype=np.float32)
    absorb_by_dust(light, galaxies, 0, 450.0, 450.0)
    assert light.min() == pytest.approx(1.0 - DUST_DEPTH, abs=0.1)
    assert light.max() <= 1.0
    assert light[:80].min() > 0.97
    knots = knots_of(galaxies, np.array([0]))
    inner = np.hypot(knots.dx, knots.dy) < 160.0
    at_knots = light[np.rint(450 + knots.dy[inner]).astype(int), np.rint(450 + knots.dx[inner]).astype(int)]
    # the same arms turned by a third of the distance between them
    assert at_knots.min() > light.min() + 0.05
    off = np.zeros((900, 900), dtype=np.float32)
    for outside in (-5000.0, 5000.0):  # nothing to absorb
        absorb_by_dust(off, galaxies, 0, outside, outside)
    assert not off.any()


def test_dust_lanes_are_seen_through_the_point_spread_function():
    """What two seeings show of the lanes is one sky: each convolved with the other's function gives the same."""
    absorbed, functions = [], []
    for seeing in (0.7, 1.8):
        exposure = an_exposure(psf=PsfTruth(fwhm_arcsec=seeing))
        geometry = geometry_of(exposure)
        (ra,), (dec,) = geometry.wcs.pixel_to_sky(np.array([900.3]), np.array([1500.7]))
        galaxy = some_galaxies(
            ra, dec, 13.0, radius_arcsec=np.array([12.0]), bulge=np.array([0.3]), axis_ratio=np.array([0.7])
        )
        lights = []
        for lanes in (False, True):
            painter = Painter(exposure, 34, geometry, SkyEffects(galaxy_structure=True, dust_lanes=lanes))
            painter.galaxies(galaxy)
            lights.append(painter.light[1380:1621, 780:1021].astype(float))
        absorbed.append(lights[0] - lights[1])
        kind, mag, colour = np.zeros(1, int), galaxy.mags["i"], np.full(1, 0.61)
        psf = painter.place(SceneSources(galaxy.source_id, kind, galaxy.ra, galaxy.dec, mag, colour))[3]
        painter.light[:] = 0.0
        painter.paint_points(np.array([900.0]), np.array([1500.0]), np.array([1e6]), psf, None)
        function = painter.light[1460:1541, 860:941].astype(float)
        functions.append(function / function.sum())
    assert 0.03 < absorbed[0].sum() / lights[0].sum() < 0.3
    assert absorbed[0].sum() == pytest.approx(absorbed[1].sum(), rel=0.003)
    seen = [fftconvolve(light, function, "valid") for light, function in zip(absorbed, functions[::-1], strict=True)]
    assert np.abs(seen[0] - seen[1]).max() < 0.01 * seen[0].max()
