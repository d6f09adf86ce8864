"""Cosmic rays and satellites: charge per length, straightness, widths and places on the sky."""

import astroscrappy
import galsim
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from detector_frames import exposure_of, rng
from scipy.stats import kstest

from imaging.simulation.cosmic_rays import add_cosmic_rays
from imaging.simulation.exposures import StreakTruth
from imaging.simulation.optics import TrueGeometry, camera_misalignment
from imaging.simulation.streaks import add_streaks

SIZE = 2000
THICKNESS = 250.0 / 15.0
"""Pixels of 15 micrometres in 250 micrometres of silicon."""
MINIMUM_IONISING = 75.0 * 15.0
"""Electrons per pixel of path: a most probable loss of 75 per micrometre."""


@pytest.fixture(scope="module")
def rays():
    """Return 4000 tracks in all: per track (charge, length, width across in pixels, number of pixels)."""
    image = np.zeros((SIZE, SIZE), dtype=np.float32)
    pixels = add_cosmic_rays(image, 4000.0, rng(4))
    y, x = np.divmod(pixels.index, SIZE)
    assert pixels.electrons.sum(dtype=float) == pytest.approx(image.sum(dtype=float), rel=1e-5)
    order = np.argsort(pixels.label, kind="stable")
    tracks = []
    for part in np.split(order, np.flatnonzero(np.diff(pixels.label[order])) + 1):
        place, charge = np.stack([x[part], y[part]]).astype(float), pixels.electrons[part].astype(float)
        if place.min() <= 3 or place.max() >= SIZE - 4:
            continue
        covariance = np.atleast_2d(np.cov(place, aweights=charge, ddof=0)) if len(part) > 1 else np.zeros((2, 2))
        across, along = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 0.0))
        tracks.append((charge.sum(), along, across, len(part)))
    return len(np.unique(pixels.label)), np.array(tracks)


def test_the_number_of_tracks_is_that_asked_for(rays):
    """Tracks begin up to 20 pixels outside, of which some do not reach the image."""
    assert rays[0] == pytest.approx(4000 * (SIZE / (SIZE + 40.0)) ** 2 + 40, abs=4 * np.sqrt(4000))


def test_a_fifth_are_compact_hits_with_charge_even_in_the_logarithm(rays):
    tracks = rays[1]
    compact = tracks[tracks[:, 0] < 13_000.0]  # the least of a worm: 8 pixels at 1.55 times 1125, less 3 sigma
    share = (np.log10(13_000.0) - 2.8) / 1.4 * 0.2
    assert len(compact) / len(tracks) == pytest.approx(share, abs=4 * np.sqrt(share / len(tracks)))
    log_charge = np.log10(compact[:, 0])
    assert kstest(log_charge, "uniform", args=(2.8, np.log10(13_000.0) - 2.8)).pvalue > 1e-3
    assert compact[:, 3].max() <= 25  # five by five pixels
    assert (compact[:, 1] < 0.6).all()  # a diffusion of 0.45 and the pixel's own width


def test_straight_muons_leave_the_charge_of_minimum_ionising_particles(rays):
    tracks = rays[1]
    # uniform brightness along a line: its rms is the length over sqrt(12); long ones are straight, worms are not
    long = tracks[(tracks[:, 1] > 12.0) & (tracks[:, 2] < 0.75)]
    path = np.hypot(long[:, 1] * np.sqrt(12.0), THICKNESS)
    loss = long[:, 0] / path / MINIMUM_IONISING
    assert len(long) > 400
    # 0.9 to 1.3 times a mean fluctuation of 1 + 0.15 / 1.8
    assert loss.mean() == pytest.approx(1.1 * 1.0833, abs=0.02)  # 4 sigma
    assert loss.min() > 0.9
    assert np.percentile(loss, [5, 95]) == pytest.approx([0.92 * 1.083, 1.28 * 1.083], abs=0.02)


def test_muons_cross_the_whole_thickness(rays):
    tracks = rays[1]
    least = 0.9 * MINIMUM_IONISING * THICKNESS
    # compact hits (a fifth) and the shortest worms alone leave less: 8 to 60 pixels at 1.55 times 1125 electrons
    share = 0.2 + 0.2 * (least / 1.55 / MINIMUM_IONISING - 8.0) / 52.0
    assert (tracks[:, 0] < least).mean() == pytest.approx(share, abs=4 * np.sqrt(share / len(tracks)))
    lengths = tracks[tracks[:, 2] < 0.75, 1] * np.sqrt(12.0)
    assert lengths.max() == pytest.approx(15.0 * THICKNESS, rel=0.02)  # the most slanting tangent is 15
    # cos(theta) has the distribution of a cube root, tan(theta) is stretched by 0.5 to 3
    cosine = rng(1).random(200_000) ** (1 / 3)
    tangent = np.minimum(np.sqrt(1 / cosine**2 - 1) * rng(2).uniform(0.5, 3.0, 200_000), 15.0)
    expected = np.mean(tangent * THICKNESS > 40.0) * 0.6
    assert (lengths > 40.0).sum() / len(tracks) == pytest.approx(
        expected, abs=4 * np.sqrt(expected / len(tracks)) + 0.005
    )


def test_muons_are_widest_where_charge_crosses_the_whole_thickness(rays):
    tracks = rays[1]
    long = tracks[(tracks[:, 1] > 12.0) & (tracks[:, 2] < 0.75)]
    # half of 0.45^2 on average, as variance grows linearly with depth; where it is small, some of the pixel's 1/12
    assert 0.45 / np.sqrt(2.0) < np.median(long[:, 2]) < np.sqrt(0.45**2 / 2 + 1 / 12)


def test_a_fifth_are_worms_that_turn(rays):
    tracks = rays[1]
    worms = tracks[(tracks[:, 2] > 0.9) & (tracks[:, 1] > 1.5)]
    assert 0.1 < len(worms) / len(tracks) < 0.21
    # 8 to 60 pixels of path at 1.55 times the loss of a minimum-ionising particle
    assert worms[:, 0].max() < 60 * 1.55 * MINIMUM_IONISING * 1.05
    assert worms[:, 0].min() > 8 * 1.55 * MINIMUM_IONISING * 0.9


def test_no_cosmic_rays_give_no_pixels():
    image = np.zeros((50, 50), dtype=np.float32)
    pixels = add_cosmic_rays(image, 0.0, rng())
    assert len(pixels.index) == len(pixels.electrons) == len(pixels.label) == 0
    assert pixels.index.dtype == np.int32
    assert not image.any()


def test_an_image_that_is_not_square_keeps_rows_and_columns():
    image = np.zeros((80, 300), dtype=np.float32)
    pixels = add_cosmic_rays(image, 60.0, rng(5))
    y, x = np.divmod(pixels.index, 300)
    light = np.zeros_like(image)
    np.add.at(light, (y, x), pixels.electrons)
    np.testing.assert_allclose(light, image, atol=0.02)
    assert x.max() > 250
    assert pixels.electrons.min() >= 1.0


def test_lacosmic_tells_the_tracks_from_stars():
    image = np.full((500, 500), 3000.0)
    noise = np.sqrt(3000.0)
    psf = galsim.Moffat(beta=3.0, fwhm=4.0, flux=60_000.0)
    stars = rng(6).uniform(20, 480, (40, 2))
    for x, y in stars:
        stamp = psf.drawImage(nx=41, ny=41, scale=1.0, method="no_pixel").array
        image[round(y) - 20 : round(y) + 21, round(x) - 20 : round(x) + 21] += stamp[
            : 500 - round(y) + 20, : 520 - round(x)
        ]
    image = (image + noise * rng(7).standard_normal(image.shape)).astype(np.float32)
    pixels = add_cosmic_rays(image, 60.0, rng(8))
    true = np.zeros(image.size)
    np.add.at(true, pixels.index, pixels.electrons)
    found, _ = astroscrappy.detect_cosmics(image, gain=1.0, readnoise=6.0, sigclip=5.0, objlim=3.0, psffwhm=4.0)
    strong = true.reshape(image.shape) > 15 * noise
    assert strong.sum() > 500
    assert found[strong].mean() > 0.97
    assert (found & (true.reshape(image.shape) == 0)).sum() < 0.05 * found.sum()


NOWHERE = camera_misalignment(61, 27, 0.0, 0.0)


def trail(**changes):
    values = {"xi_deg": 0.0, "eta_deg": 0.0, "angle_deg": 0.0, "peak_electrons": 500.0, "sigma_pixels": 3.0}
    return StreakTruth(**(values | changes))


def centre_of(ccdnum, x, y):
    """Return where a pixel lies on the tangent plane, by astropy's projection."""
    geometry = TrueGeometry(exposure_of(), ccdnum, camera_misalignment(61, ccdnum, 0.0, 0.0))
    wcs = WCS(fits.Header(list(geometry.wcs.to_header().items())))
    star = wcs.pixel_to_world(x, y)
    return geometry, wcs, SkyCoord(190.0, -10.0, unit="deg").skyoffset_frame(), star


@pytest.mark.parametrize("angle", [0.0, 35.0, 90.0, 145.0])
def test_a_trail_has_its_brightness_width_and_direction(angle):
    geometry, wcs, frame, star = centre_of(27, 150.0, 170.0)
    offset = star.transform_to(frame)
    xi, eta = np.tan(offset.lon.rad), np.tan(offset.lat.rad) / np.cos(offset.lon.rad)  # gnomonic
    streak = trail(xi_deg=np.degrees(xi), eta_deg=np.degrees(eta), angle_deg=angle)
    image = np.zeros((340, 300), dtype=np.float32)
    pixels = add_streaks(image, exposure_of(streaks=(streak,)), geometry)
    step, turn = np.radians(20.0 / 3600.0), np.radians(angle)  # a second point of the line, 20 arcsec on
    lon = np.arctan(xi + step * np.cos(turn))
    lat = np.arctan((eta + step * np.sin(turn)) * np.cos(lon))
    x1, y1 = wcs.world_to_pixel(SkyCoord(lon, lat, unit="rad", frame=frame).icrs)
    direction = np.array([x1 - 150.0, y1 - 170.0]) / np.hypot(x1 - 150.0, y1 - 170.0)
    y, x = np.mgrid[:340, :300]
    across = (x - 150.0) * direction[1] - (y - 170.0) * direction[0]
    expected = 500.0 * np.exp(-0.5 * (across / 3.0) ** 2) * (np.abs(across) <= 4.5 * 3.0)
    near = np.hypot(x - 150.0, y - 170.0) < 140
    assert np.abs(image - expected)[near].max() < 4.0  # 0.01 pixel of the steepest slope, and the cut at 4.5 sigma
    flux = image[near].sum(dtype=float) / expected[near].sum()
    assert flux == pytest.approx(1.0, abs=1e-3)
    np.testing.assert_array_equal(pixels.index, np.flatnonzero(image.ravel() >= 1.0))
    np.testing.assert_array_equal(pixels.electrons, image.ravel()[pixels.index])
    assert set(pixels.label) == {1}


def test_a_trail_crosses_the_whole_ccd():
    geometry = TrueGeometry(exposure_of(), 27, NOWHERE)
    xi, eta = (float(value) for value in geometry.wcs.pixel_to_plane(1000.0, 2000.0))
    turn = np.radians(20.0)
    streak = trail(xi_deg=xi + 0.5 * np.cos(turn), eta_deg=eta + 0.5 * np.sin(turn), angle_deg=20.0)
    image = np.zeros((4096, 2048), dtype=np.float32)
    add_streaks(image, exposure_of(streaks=(streak,)), geometry)
    rows = np.flatnonzero(image.any(axis=1))  # x runs to the south, y to the east: the trail is steep
    assert (rows[0], rows[-1], len(rows)) == (0, 4095, 4096)
    ridge = image.argmax(axis=1)
    assert ridge[2000] == pytest.approx(1000, abs=1)
    slope = np.polyfit(np.arange(4096), ridge, 1)[0]
    assert np.degrees(np.arctan(slope)) == pytest.approx(-20.0, abs=0.3)  # distortion of the camera


def test_a_tumbling_satellite_brightens_and_fades_along_its_trail():
    period = 0.04
    geometry, _, frame, star = centre_of(27, 20.0, 1000.0)
    offset = star.transform_to(frame)
    xi, eta = np.tan(offset.lon.rad), np.tan(offset.lat.rad) / np.cos(offset.lon.rad)
    streak = trail(
        xi_deg=np.degrees(xi),
        eta_deg=np.degrees(eta),
        angle_deg=90.0,
        tumbling_amplitude=0.3,
        tumbling_period_deg=period,
    )
    image = np.zeros((2000, 2048), dtype=np.float32)
    add_streaks(image, exposure_of(streaks=(streak,)), geometry)
    x = np.arange(2048)
    ridge = image.sum(axis=0, dtype=float) / (3.0 * np.sqrt(2 * np.pi))
    _, eta_here = geometry.wcs.pixel_to_plane(x, 1000.0)
    expected = 500.0 * (1.0 + 0.3 * np.cos(2 * np.pi * (eta_here - np.degrees(eta)) / period))
    assert np.ptp(eta_here) > 3 * period
    assert np.abs(ridge / expected - 1.0).max() < 0.02  # brightness is tabulated in 1024 steps


def test_satellites_that_miss_leave_nothing_and_others_keep_their_numbers():
    geometry = TrueGeometry(exposure_of(), 27, NOWHERE)
    xi, eta = (float(value) for value in geometry.wcs.pixel_to_plane(100.0, 100.0))
    missing = trail(xi_deg=xi + 1.0, eta_deg=eta, angle_deg=90.0)
    crossing = [trail(xi_deg=xi, eta_deg=eta, angle_deg=a) for a in (10.0, 100.0)]
    image = np.zeros((200, 200), dtype=np.float32)
    pixels = add_streaks(image, exposure_of(streaks=(missing, *crossing)), geometry)
    assert set(pixels.label) == {2, 3}
    light = np.zeros(image.size)
    np.add.at(light, pixels.index, pixels.electrons)
    np.testing.assert_allclose(
        light.reshape(image.shape), image, atol=2.01
    )  # less than one electron of each is left out
    before = image.copy()
    assert len(add_streaks(image, exposure_of(streaks=(missing,)), geometry).index) == 0
    np.testing.assert_array_equal(image, before)


def test_the_wing_of_a_wide_trail_that_passes_beside_the_ccd_is_drawn():
    geometry = TrueGeometry(exposure_of(), 27, NOWHERE)
    plane = [geometry.wcs.pixel_to_plane(-150.0, y) for y in (0.0, 400.0)]
    (xi, eta), (xi1, eta1) = ((float(a), float(b)) for a, b in plane)
    angle = float(np.degrees(np.arctan2(eta1 - eta, xi1 - xi)))
    image = np.zeros((400, 300), dtype=np.float32)
    add_streaks(
        image, exposure_of(streaks=(trail(xi_deg=xi, eta_deg=eta, angle_deg=angle, sigma_pixels=75.0),)), geometry
    )
    expected = 500.0 * np.exp(-0.5 * ((np.arange(300) + 150.0) / 75.0) ** 2)
    np.testing.assert_allclose(image[200, :180], expected[:180], rtol=0.05)  # cut at 4.5 widths
