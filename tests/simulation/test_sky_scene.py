"""What is drawn of the sky: fluxes, places and shapes in the pixels against galsim, sep and astropy."""

import galsim
import numpy as np
import pytest
import sep
from astropy.io import fits
from astropy.wcs import WCS
from sky_judges import moments, project, some_galaxies, some_stars, some_transients

from imaging.bands import BANDS
from imaging.detector.distortion import seed_wcs
from imaging.simulation.asteroids import Asteroids
from imaging.simulation.chromatic import passband_slope_mag
from imaging.simulation.exposures import CloudTruth, PsfTruth, Wave
from imaging.simulation.galaxies import DE_VAUCOULEURS, EXPONENTIAL
from imaging.simulation.optics import Misalignment, true_wcs
from imaging.simulation.psf import MOFFAT_SIGMA, PsfMixture, true_psf
from imaging.simulation.render import (
    FAINTEST_GALAXY_ELECTRONS,
    FAINTEST_POINT_ELECTRONS,
    add_gaussian,
    draw_extended,
    draw_points,
)
from imaging.simulation.scene import SOURCE_KINDS, draw_scene
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.skies import NO_EFFECTS
from imaging.simulation.sky import SimulatedSky
from imaging.simulation.streams import random_stream
from imaging.simulation.truth import true_geometry, true_zeropoint_mag
from tests.simulated_exposures import MJD, an_exposure

CCD = 34
PERFECT = SimulationSettings(ccds=(CCD,), ccd_offset_arcsec=0.0, distortion_mas=0.0)
ZEROPOINT = 31.7


def electrons(mag):
    return 10.0 ** (-0.4 * (np.asarray(mag) - ZEROPOINT))


def astropy_wcs(exposure):
    header = seed_wcs(CCD, exposure.true_ra_deg, exposure.true_dec_deg).to_header()
    return WCS(fits.Header(list(header.items())))


def places(exposure, x, y):
    return astropy_wcs(exposure).all_pix2world(np.atleast_1d(x), np.atleast_1d(y), 0)


def scene_of(exposure, *, stars=None, galaxies=None, transients=None, asteroids=None):
    """Draw a sky that holds what is given, with one invisible transient so that no catalogue is empty."""
    nothing = some_transients(1, peak_mag=np.array([40.0]))
    far = some_stars(10.0, 40.0, 29.0)
    away = some_galaxies(10.0, 40.0, 29.0)
    sky = SimulatedSky(
        stars or far, galaxies or away, transients or nothing, {exposure.night: asteroids} if asteroids else {}
    )
    return draw_scene(exposure, CCD, true_geometry(PERFECT, exposure, CCD), sky)


def stamp(light, x, y, half=60):
    x0, y0 = round(float(x)), round(float(y))
    return light[y0 - half : y0 + half + 1, x0 - half : x0 + half + 1].astype(float)


def test_stars_fall_where_astropy_puts_them_with_the_flux_of_their_magnitude():
    exposure = an_exposure(true_ra_deg=190.003, true_dec_deg=-10.002)
    rng = np.random.default_rng(2)
    x, y = np.tile(np.arange(200.0, 2000.0, 350.0), 4) + rng.random(24), np.repeat(np.arange(300.0, 4000.0, 1000.0), 6)
    mag = rng.uniform(15.5, 18.5, 24)
    scene = scene_of(exposure, stars=some_stars(*places(exposure, x, y), mag))
    found = scene.sources
    order = np.argsort(found["source_id"])
    np.testing.assert_allclose(found["x"][order], x, atol=1e-5)
    np.testing.assert_allclose(found["y"][order], y, atol=1e-5)
    np.testing.assert_allclose(found["flux_electrons"][order], electrons(mag), rtol=1e-12)
    light = scene.light.astype(float)
    wx, wy, flag = sep.winpos(light, np.round(x), np.round(y), 2.0)
    assert not flag.any()
    np.testing.assert_allclose(wx, x, atol=2e-3)
    np.testing.assert_allclose(wy, y, atol=2e-3)
    flux, _, _ = sep.sum_circle(light, x, y, 11.11, subpix=0)
    # wings of the others in the field and the edge of the aperture
    np.testing.assert_allclose(flux, found["flux_aperture_electrons"][order], rtol=2e-3)
    for k in range(0, 24, 7):
        assert stamp(light, x[k], y[k], 130).sum() == pytest.approx(electrons(mag[k]), rel=2e-3)
    assert light.sum() == pytest.approx(electrons(mag).sum(), rel=2e-3)


def test_fluxes_in_the_aperture_give_the_true_zero_point_through_clouds():
    wave = Wave(amplitude=0.3, kx=2.0, ky=-1.0, phase=0.4)
    exposure = an_exposure(clouds=CloudTruth(mean_mag=0.5, waves=(wave,)))
    x, y, mag = np.array([300.0, 1500.0]), np.array([700.0, 3300.0]), np.array([16.0, 17.0])
    place = places(exposure, x, y)
    scene = scene_of(exposure, stars=some_stars(*place, mag))
    xi, eta = project(*place, 190.0, -10.0)
    extinction = 0.5 + 0.3 * np.cos(2.0 * xi - eta + 0.4)
    np.testing.assert_allclose(scene.sources["flux_electrons"], electrons(mag + extinction), rtol=1e-6)
    flux, _, _ = sep.sum_circle(scene.light.astype(float), x, y, 11.11, subpix=0)
    zeropoint = mag + 2.5 * np.log10(flux)
    assert true_zeropoint_mag(PERFECT, exposure, CCD, x, y) == pytest.approx(zeropoint, abs=0.002)
    clear = CloudTruth(mean_mag=0.1, waves=(Wave(amplitude=0.5, kx=0.0, ky=0.0, phase=np.pi),))
    np.testing.assert_array_equal(clear.extinction_mag(np.zeros(2), np.zeros(2)), 0.0)  # clouds never brighten


def test_colours_displace_stars_along_the_vertical():
    exposure = an_exposure(band="g", zenith_distance_deg=45.0, parallactic_deg=90.0)
    x, y = np.array([500.0, 500.0]), np.array([1000.0, 1500.0])
    mags = {band: np.full(2, 17.0) for band in BANDS} | {"g": np.array([17.0, 18.61])}
    stars = some_stars(*places(exposure, x, y), 17.0, mags=mags)
    dx, dy = (
        np.array([a[0] - b[0], a[1] - b[1]])
        for a, b in ((scene_of(exposure, stars=stars).sources[c], v) for c, v in (("x", x), ("y", y)))
    )
    # 45 mas per magnitude of g - i against 0.61, times tan 45; y runs to the east, where the zenith is
    assert dy * 263.0 == pytest.approx([45.0 * 0.61, -45.0 * 1.0], rel=0.01)
    assert np.abs(dx).max() * 263.0 < 0.2


def test_stars_of_other_colours_have_other_zero_points_on_each_ccd():
    slopes = [passband_slope_mag(0, ccd, "i", 3.0) for ccd in range(1, 63)]
    assert np.std(slopes) == pytest.approx(0.003, rel=0.3)
    exposure = an_exposure(band="i")
    mags = {band: np.full(2, 17.0) for band in BANDS} | {"g": np.array([17.61, 19.61])}
    stars = some_stars(*places(exposure, np.array([500.0, 500.0]), np.array([1000.0, 1500.0])), 17.0, mags=mags)
    sky = SimulatedSky(stars, some_galaxies(10.0, 40.0, 29.0), some_transients(1, peak_mag=np.array([40.0])), {})
    effects = NO_EFFECTS.with_values(passband_steps_mmag=3.0)
    seen = draw_scene(exposure, CCD, true_geometry(PERFECT, exposure, CCD), sky, effects).sources["flux_electrons"]
    changes = 2.5 * np.log10(seen[:2] / electrons(17.0))
    assert changes == pytest.approx([0.0, 2.0 * slopes[CCD - 1]], abs=1e-6)


def test_the_record_holds_what_lies_on_the_ccd_or_20_pixels_outside():
    exposure = an_exposure()
    x = np.array([-21.0, -19.0, 2047.0 + 20.5, 2047.0 + 21.5, 1000.0, 1000.0, 1000.0])
    y = np.array([500.0, 500.0, 500.0, 500.0, 4095.0 + 20.5, 4095.0 + 21.5, 2000.0])
    mag = np.array([18.0, 18.0, 18.0, 18.0, 18.0, 18.0, 28.5])
    scene = scene_of(exposure, stars=some_stars(*places(exposure, x, y), mag))
    assert scene.sources["source_id"].tolist() == [1001, 1002, 1004]
    assert scene.light[500, 0] > 1.0  # the wing of a star beyond the edge
    assert scene.light[1950:2050, 950:1050].max() == 0.0  # fainter than magnitude 28


def test_every_kind_is_recorded_under_its_name():
    exposure = an_exposure()
    x, y = np.arange(200.0, 2000.0, 220.0), np.full(9, 2000.0)
    ra, dec = places(exposure, x[:4], y[:4])
    start = np.array([MJD - 2.0, MJD - 20.0, MJD - 20.0, MJD - 20.0])
    transients = some_transients([0, 1, 2, 3], ra=ra, dec=dec, start_mjd=start, stretch=np.array([1.0, 1.0, 1.0, 0.2]))
    stars = some_stars(*places(exposure, x[4:6], y[4:6]), 19.0, variability=np.int8([0, 2]))
    galaxies = some_galaxies(*places(exposure, x[6:7], y[6:7]), 19.0)
    scene = scene_of(exposure, stars=stars, galaxies=galaxies, transients=transients)
    names = {int(i): SOURCE_KINDS[k] for i, k in zip(scene.sources["source_id"], scene.sources["kind"], strict=True)}
    assert names == {
        1000: "star", 1001: "variable_star", 2000: "galaxy",
        3000: "kilonova", 3001: "supernova_ia", 3002: "supernova_ii", 3003: "active_nucleus",
    }  # fmt: skip
    flux, _, _ = sep.sum_circle(scene.light.astype(float), x[:4], y[:4], 11.11, subpix=0)
    expected = electrons(transients.magnitude("i", exposure.mjd_mid)) * scene.sources["flux_aperture_electrons"][0]
    assert flux == pytest.approx(expected / scene.sources["flux_electrons"][0], rel=0.01)
    before = an_exposure(mjd=MJD - 30.0)
    assert scene_of(before, transients=transients).light[1900:2100, 100:700].max() == 0.0


def test_an_asteroid_leaves_a_trail_of_its_length_and_light():
    exposure = an_exposure(exptime_s=300.0)
    ra, dec = places(exposure, 1000.0, 2000.0)
    xi, eta = project(ra, dec, 190.0, -10.0)
    values = {"rate_east": np.array([300.0]), "rate_north": np.array([0.0]), "mag_i": np.array([18.0])}
    asteroids = Asteroids(np.array([4000]), exposure.night, 190.0, -10.0, exposure.mjd_mid, xi, eta, **values)
    scene = scene_of(exposure, asteroids=asteroids)
    assert scene.sources["x"][0] == pytest.approx(1000.0, abs=1e-3)
    assert scene.sources["y"][0] == pytest.approx(2000.0, abs=1e-3)
    assert SOURCE_KINDS[scene.sources["kind"][0]] == "asteroid"
    cut = stamp(scene.light, 1000.0, 2000.0, 250)
    total, cx, cy, (xx, _, yy) = moments(cut)
    assert total == pytest.approx(electrons(18.0), rel=2e-3)
    assert (cx, cy) == pytest.approx((250.0, 250.0), abs=0.05)
    length = 300.0 * 300.0 / 3600.0 / 0.2622
    core = stamp(scene.light, 1000.0, 2000.0, 80)  # without the wings, trail and cross-section share their widths
    _, _, _, (xx, _, yy) = moments(core)
    assert yy - xx == pytest.approx(length**2 / 12.0, rel=0.02)
    still = Asteroids(
        np.array([4000]), exposure.night, 190.0, -10.0, MJD, xi, eta, np.zeros(1), np.zeros(1), values["mag_i"]
    )
    far = Asteroids(np.array([4000]), 20240511, 190.0, -10.0, MJD, xi, eta, np.zeros(1), np.zeros(1), values["mag_i"])
    assert moments(stamp(scene_of(exposure, asteroids=still).light, 1000.0, 2000.0))[3][[0, 2]] == pytest.approx(
        moments(stamp(scene_of(exposure, stars=some_stars(ra, dec, 18.0)).light, 1000.0, 2000.0))[3][[0, 2]], rel=1e-3
    )
    assert (
        scene_of(exposure, asteroids=far).sources["source_id"].size == 1
    )  # of the night after: the record of itself only


@pytest.mark.parametrize("angle", [0.0, 40.0])
@pytest.mark.parametrize("bulge", [0.0, 1.0])
def test_galaxies_look_as_galsim_draws_them(angle, bulge):
    """An elliptical galaxy under the round PSF, galsim's with the axes of the sky: x to the south, y to the east."""
    exposure = an_exposure(psf=PsfTruth(fwhm_arcsec=1.052))
    x, y, mag = 1000.3, 2000.6, 17.0
    shape = {"radius_arcsec": np.array([2.104]), "axis_ratio": np.array([0.5]), "bulge": np.array([bulge])}
    galaxy = some_galaxies(*places(exposure, x, y), mag, position_angle_deg=np.array([angle]), **shape)
    scene = scene_of(exposure, galaxies=galaxy)
    profile = galsim.DeVaucouleurs if bulge else galsim.Exponential
    light = profile(half_light_radius=8.0 * np.sqrt(0.5), flux=electrons(mag))
    light = light.shear(q=0.5, beta=(180.0 - angle) * galsim.degrees)
    moffat = galsim.Moffat(beta=3.0, fwhm=4.0, flux=0.99)
    wings = [galsim.Gaussian(sigma=s / 0.263, flux=f) for s, f in ((4.0, 0.006), (12.0, 0.004))]
    drawn = galsim.Convolve(light, galsim.Add([moffat, *wings])).drawImage(
        nx=121, ny=121, scale=1.0, method="no_pixel", offset=(x - 1000.0, y - 2001.0)
    )
    ours = stamp(scene.light, x, y)
    # four and seven Gaussians stand for the profiles, the narrowest ones of Hogg and Lang merged
    assert np.abs(ours - drawn.array).max() < (0.04 if bulge else 0.02) * drawn.array.max()
    # theirs end at four and eight half-light radii, with all of the light inside
    assert ours.sum() == pytest.approx(drawn.array.sum(), rel=0.05 if bulge else 0.01)
    core = np.s_[30:91, 30:91]
    (_, x1, y1, one), (_, x2, y2, other) = moments(ours[core]), moments(drawn.array[core])
    assert (x1, y1) == pytest.approx((x2, y2), abs=0.02)
    assert one[0] + one[2] == pytest.approx(other[0] + other[2], rel=0.09)
    # shape and orientation; the camera is turned by 0.15 degrees
    for k in ((1, 0, -1), (0, 2, 0)):
        assert k @ one / (one[0] + one[2]) == pytest.approx(k @ other / (other[0] + other[2]), abs=0.03)


def one_gaussian(xx, xy, yy):
    return PsfMixture(np.ones(1), np.array([[[xx, xy, yy]]]), np.zeros((1, 1, 2)))


def test_a_gaussian_equals_its_formula_where_it_is_drawn():
    image = np.zeros((80, 90), dtype=np.float32)
    add_gaussian(image, 41.3, 38.8, 1e5, 9.0, 3.0, 5.0, 0.01)
    yy, xx = np.mgrid[:80, :90]
    offset = np.stack([xx - 41.3, yy - 38.8], axis=-1)
    inverse = np.linalg.inv([[9.0, 3.0], [3.0, 5.0]])
    formula = 1e5 / (2 * np.pi * np.sqrt(36.0)) * np.exp(-0.5 * np.einsum("...i,ij,...j", offset, inverse, offset))
    assert np.abs(image - formula).max() < 0.0101  # where it ends, it has fallen to 0.01
    assert np.abs(image - formula)[formula > 0.02].max() < 2e-3  # float32
    clear = np.abs(formula - 0.01) > 1e-5
    np.testing.assert_array_equal((image > 0.0)[clear], (formula > 0.01)[clear])


def test_faint_gaussians_reach_three_and_a_half_sigma_or_are_left_out():
    for peak, reach in ((0.01 * np.exp(0.5 * 5.0**2), 5.0), (0.02, 3.5), (0.00101, 3.5), (0.00099, None)):
        image = np.zeros((61, 61), dtype=np.float32)
        add_gaussian(image, 30.0, 30.0, peak * 2 * np.pi * 16.0, 16.0, 0.0, 16.0, 0.01)
        expected = -1 if reach is None else int(np.floor(4.0 * reach + 1e-9))
        assert np.flatnonzero(image[30]).size == 2 * expected + 1 if reach else not image.any()
        assert np.flatnonzero(image[:, 30]).size == 2 * expected + 1 if reach else True
        if reach == 3.5:
            assert np.flatnonzero(image[30 + expected]).tolist() == [30]  # the tip of the ellipse
    assert (FAINTEST_POINT_ELECTRONS, FAINTEST_GALAXY_ELECTRONS) == (0.003, 0.01)


@pytest.mark.parametrize(
    ("x", "y"), [(-2.0, 20.0), (41.5, 20.0), (20.0, -1.0), (20.0, 41.0), (39.0, 0.0), (80.0, 80.0)]
)
def test_sources_at_and_beyond_the_edges_are_cut_out_of_a_larger_image(x, y):
    psf = one_gaussian(6.0, 1.0, 4.0)
    small, large = np.zeros((40, 40), dtype=np.float32), np.zeros((240, 240), dtype=np.float32)
    draw_points(small, np.array([x]), np.array([y]), np.array([1e4]), psf)
    draw_points(large, np.array([x + 100]), np.array([y + 100]), np.array([1e4]), psf)
    np.testing.assert_allclose(small, large[100:140, 100:140], rtol=1e-5, atol=1e-7)
    assert small.any() == (x < 80.0)


@pytest.mark.parametrize("profile", [EXPONENTIAL, DE_VAUCOULEURS])
def test_covariances_of_profile_and_psf_add(profile):
    psf = PsfMixture(
        np.array([0.7, 0.3]), np.array([[[4.0, 1.0, 5.0], [9.0, 0.0, 9.0]]]), np.array([[[0.3, -0.1], [-0.7, 7 / 30]]])
    )
    image = np.zeros((401, 401), dtype=np.float32)
    shape = np.array([[6.0, -2.0, 3.0]])
    draw_extended(image, np.array([200.2]), np.array([199.9]), np.array([1e7]), shape, profile, psf)
    total, cx, cy, second = moments(image)
    weight, variance = profile
    spread = (weight @ variance) / weight.sum()
    offsets = np.array([0.7 * a + 0.3 * b for a, b in ((0.09, 0.49), (-0.03, -0.7 * 7 / 30), (0.01, (7 / 30) ** 2))])
    expected = 0.7 * np.array([4.0, 1.0, 5.0]) + 0.3 * np.array([9.0, 0.0, 9.0]) + offsets + spread * shape[0]
    assert total == pytest.approx(1e7, rel=1e-4)
    assert (cx, cy) == pytest.approx((200.2, 199.9), abs=1e-3)
    assert second == pytest.approx(expected, rel=2e-3)


def test_the_core_of_the_psf_is_galsims_moffat():
    psf = true_psf(
        an_exposure(psf=PsfTruth(fwhm_arcsec=1.315, e1=(0.06, 0, 0, 0, 0, 0), e2=(-0.03, 0, 0, 0, 0, 0))),
        CCD,
        [1000.0],
        [2000.0],
    )
    moffat = galsim.Moffat(beta=3.0, fwhm=5.0, flux=0.99).shear(galsim.Shear(e1=0.06, e2=-0.03))
    drawn = moffat.drawImage(nx=41, ny=41, scale=1.0, method="no_pixel").array
    yy, xx = np.mgrid[-20:21, -20:21]
    ours = psf.evaluate(0, xx, yy)
    assert np.abs(ours - drawn)[np.hypot(xx, yy) < 12].max() < 2e-3 * drawn.max()
    assert (ours > drawn)[np.hypot(xx, yy) > 18].mean() > 0.9  # the aureole
    assert psf.covariance[0, 0, 0] == pytest.approx((5.0 * MOFFAT_SIGMA[0]) ** 2 * 1.06 / np.sqrt(1 - 0.0045), rel=1e-9)


@pytest.mark.parametrize("ccd", [1, 27, 58])
def test_the_psf_varies_over_the_focal_plane_as_its_record_says(ccd):
    size, e1, e2 = (
        (0.10, 0.05, -0.03, 0.02, 0.01, -0.04),
        (0.05, -0.03, 0.02, 0.01, 0.04, -0.02),
        (-0.02, 0.03, 0.01, 0.05, -0.01, 0.02),
    )
    truth = PsfTruth(fwhm_arcsec=1.052, size=size, e1=e1, e2=e2, coma=(0.3, -0.2), ccd_scatter=0.02)
    x, y = np.array([10.0, 2000.0]), np.array([4000.0, 100.0])
    psf = true_psf(an_exposure(seed=4, psf=truth), ccd, x, y)
    own = random_stream(4, "psf of the ccd", 7, ccd).normal(0.0, 0.02, 3)
    crpix = seed_wcs(ccd).to_header()["CRPIX1"], seed_wcs(ccd).to_header()["CRPIX2"]
    u, v = (x + 1 - crpix[0]) / 14336.0, (y + 1 - crpix[1]) / 14336.0
    terms = np.stack([np.ones(2), u, v, u**2, u * v, v**2])
    width, first, second = 4.0 * (1.0 + size @ terms + own[0]), e1 @ terms + own[1], e2 @ terms + own[2]
    for k in range(2):
        core = psf.covariance[k, :7]
        np.testing.assert_allclose((core[:, 0] - core[:, 2]) / (core[:, 0] + core[:, 2]), first[k], rtol=1e-9)
        np.testing.assert_allclose(2 * core[:, 1] / (core[:, 0] + core[:, 2]), second[k], rtol=1e-9)
        # the area is that of the round one
        np.testing.assert_allclose(np.sqrt(core[:, 0] * core[:, 2] - core[:, 1] ** 2), (width[k] * MOFFAT_SIGMA) ** 2)
        wings = psf.covariance[k, 7:]
        np.testing.assert_allclose(np.sqrt(wings[:, (0, 2)]) * 0.263, [[4.0, 4.0], [12.0, 12.0]])
        assert not wings[:, 1].any()
        assert psf.weight @ psf.offset[k] == pytest.approx([0.0, 0.0], abs=1e-12)
        apart = (psf.offset[k, 6] - psf.offset[k, 0]) / (width[k] * (2.74802 - 0.26248))
        assert apart == pytest.approx([0.3 * u[k], -0.2 * v[k]], rel=1e-9)
    assert psf.weight.sum() == pytest.approx(1.0, abs=1e-12)
    assert psf.weight[7:].tolist() == [0.006, 0.004]


def test_scale_shear_and_rotation_act_on_the_plane_of_the_header():
    changes = {"rotation_deg": 0.5, "scale": 1.01, "shear": (0.02, 0.005), "true_ra_deg": 189.5, "true_dec_deg": -11.0}
    wcs = true_wcs(an_exposure(**changes), CCD, Misalignment((3.0, -2.0), ((), ())))
    x, y = np.array([100.0, 1900.0, 700.0]), np.array([200.0, 2500.0, 4000.0])
    header = WCS(fits.Header(list(seed_wcs(CCD, 0.0, 0.0).to_header().items())))
    # the content is shifted by (3, -2) pixels
    nominal = np.array(project(*header.all_pix2world(x - 3.0, y + 2.0, 0), 0.0, 0.0))
    squeezed = np.array([1.02 * nominal[0] + 0.005 * nominal[1], 0.005 * nominal[0] + 0.98 * nominal[1]])
    c, s = np.cos(np.radians(0.5)), np.sin(np.radians(0.5))
    turned = 1.01 * np.array([c * squeezed[0] + s * squeezed[1], -s * squeezed[0] + c * squeezed[1]])
    true_header = WCS(fits.Header(list(wcs.to_header().items())))
    found = np.array(project(*true_header.all_pix2world(x, y, 0), 189.5, -11.0))
    assert np.abs(found - turned).max() * 3.6e6 < 0.01  # mas
