"""Turbulence, refraction, refraction's colours, and where the true optics put light."""

import astropy.units as u
import galsim
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS
from detector_frames import exposure_of, rng

from imaging.simulation.atmosphere import DISPERSION_ARCSEC, refraction_arcsec, turbulence_arcsec, turbulence_grids
from imaging.simulation.exposures import CloudTruth, TurbulenceTruth, Wave
from imaging.simulation.optics import Misalignment, TrueGeometry, camera_misalignment, focal_plane, true_wcs

STILL = Misalignment((0.0, 0.0), ((), ()))


def nodes(truth):
    """Return the displacement at the grid's own nodes, arcseconds: east, north (rows to the north)."""
    line = (np.arange(320) - 160) * 0.01
    xi, eta = np.meshgrid(line, line)
    return turbulence_arcsec(truth, xi, eta)


def truth_of(seed, **changes):
    return TurbulenceTruth(**({"seed": (seed, 1), "rms_mas": 10.0, "correlation_arcmin": 6.0} | changes))


def test_the_displacement_has_the_rms_asked_for_over_its_square():
    east, north = nodes(truth_of(3, rms_mas=8.0))
    assert np.sqrt((east.var() + north.var()) / 2) == pytest.approx(0.008, rel=1e-6)
    assert not any(axis.any() for axis in turbulence_arcsec(truth_of(3, rms_mas=0.0), np.ones(4), np.ones(4)))


def test_the_displacement_has_no_curl_but_a_divergence():
    """As DES measured (Bernstein et al. 2017): the modes of the field by Fourier transform."""
    east, north = (np.fft.fft2(axis) for axis in nodes(truth_of(4, wind_deg=25.0)))
    k = np.fft.fftfreq(320)
    use = (np.abs(k)[None, :] < 0.49) & (np.abs(k)[:, None] < 0.49)  # derivatives at Nyquist's frequency have no sign
    curl = (k[None, :] * north - k[:, None] * east)[use]
    divergence = (k[None, :] * east + k[:, None] * north)[use]
    assert np.abs(curl).max() < 1e-6 * np.abs(divergence).max()


@pytest.mark.parametrize("correlation", [3.0, 12.0])
def test_the_power_falls_as_von_karman_turbulence(correlation):
    power = np.zeros((320, 320))
    for seed in range(8):
        for axis in nodes(truth_of(seed, correlation_arcmin=correlation, wind_deg=0.0)):
            power += np.abs(np.fft.fft2(axis)) ** 2
    k = 2 * np.pi * np.fft.fftfreq(320, 0.01)  # radians per degree
    along, across = np.meshgrid(k, k)
    k0 = 60.0 / correlation
    model = (1.3 * along**2 + 0.75 * across**2 + k0**2) ** (-11 / 6)
    radius = np.hypot(along, across)
    ratios = []
    for low, high in ((2.0, 8.0), (8.0, 20.0), (20.0, 60.0), (60.0, 200.0)):
        ring = (radius > low) & (radius < high)
        ratios.append((power[ring] / model[ring]).mean())
    np.testing.assert_allclose(np.array(ratios) / ratios[-1], 1.0, atol=0.35)  # the lowest ring holds 50 modes x 8
    np.testing.assert_allclose(np.array(ratios[1:]) / ratios[-1], 1.0, atol=0.1)
    turned = [
        (power / model)[sector & (radius > 60) & (radius < 200)].mean()
        for sector in (np.abs(along) > 2 * np.abs(across), np.abs(across) > 2 * np.abs(along))
    ]
    assert turned[0] / turned[1] == pytest.approx(1.0, abs=0.05)  # stretched along the wind


def test_the_wind_blows_from_east_to_north():
    """Displacements change more slowly along the wind than across it."""
    xi, eta = rng(1).uniform(-1.0, 1.0, (2, 4000))
    lag = 0.03
    change = {}
    for name, angle in (("along", 60.0), ("across", 150.0)):
        dx, dy = lag * np.cos(np.radians(angle)), lag * np.sin(np.radians(angle))
        change[name] = 0.0
        for seed in range(6):
            truth = truth_of(seed, wind_deg=60.0)
            here, there = turbulence_arcsec(truth, xi, eta), turbulence_arcsec(truth, xi + dx, eta + dy)
            change[name] += sum(np.mean((a - b) ** 2) for a, b in zip(here, there, strict=True))
    assert change["along"] < 0.93 * change["across"]


def test_between_nodes_the_field_is_interpolated_and_periodic():
    truth = truth_of(7)
    line = np.linspace(-0.1, 0.1, 401)
    east, _ = turbulence_arcsec(truth, line, np.zeros_like(line))
    assert np.abs(np.diff(east, 2)).max() < 0.02 * np.ptp(east)
    for axis, other in zip(
        turbulence_arcsec(truth, line, line), turbulence_arcsec(truth, line + 3.2, line), strict=True
    ):
        np.testing.assert_allclose(axis, other, atol=1e-12)
    assert turbulence_grids(truth)[0].shape == (320, 320)
    assert (
        turbulence_arcsec(truth, np.zeros(1), np.zeros(1))[0]
        != turbulence_arcsec(truth_of(8), np.zeros(1), np.zeros(1))[0]
    )


@pytest.mark.parametrize(("parallactic", "east", "north"), [(0.0, 0, 1), (90.0, 1, 0), (-90.0, -1, 0), (180.0, 0, -1)])
def test_refraction_lifts_blue_light_towards_the_zenith(parallactic, east, north):
    blue = np.array([0.61 - 1.0])
    at_45 = refraction_arcsec("g", 45.0, parallactic, blue)
    np.testing.assert_allclose(np.ravel(at_45), [0.045 * east, 0.045 * north], atol=1e-12)
    at_60 = refraction_arcsec("g", 60.0, parallactic, blue)
    np.testing.assert_allclose(np.ravel(at_60), np.sqrt(3.0) * np.ravel(at_45), atol=1e-12)
    assert not np.any(refraction_arcsec("g", 0.0, parallactic, blue))


PASSBANDS_NM = {"g": (400.0, 552.0), "r": (567.5, 715.5), "i": (710.0, 857.0), "z": (850.0, 1002.0)}


def blackbody_photons(wavelength_nm, kelvin):
    return wavelength_nm**-4.0 / np.expm1(1.4388e7 / (wavelength_nm * kelvin))


@pytest.mark.parametrize("band", ["g", "r", "i", "z"])
def test_dispersion_is_that_of_the_air_above_cerro_tololo(band):
    """Blackbodies of 4500 and 7500 K through box-shaped filters, refracted by galsim's air: within a factor of 1.6."""
    wavelength = np.arange(400.0, 1003.0)
    inside = {b: (wavelength >= lo) & (wavelength <= hi) for b, (lo, hi) in PASSBANDS_NM.items()}
    air = np.array(
        [
            galsim.dcr.get_refraction(w, 45 * galsim.degrees, pressure=78.0, temperature=285.0, H2O_pressure=0.7)
            for w in wavelength
        ]
    ) * (180 / np.pi * 3600)
    colour, place = [], []
    for kelvin in (4500.0, 7500.0):
        photons = blackbody_photons(wavelength, kelvin)
        magnitude = {b: -2.5 * np.log10(photons[m].sum() / (1 / wavelength[m]).sum()) for b, m in inside.items()}
        colour.append(magnitude["g"] - magnitude["i"])
        place.append((photons * air)[inside[band]].sum() / photons[inside[band]].sum())
    slope = (place[1] - place[0]) / (colour[0] - colour[1])
    assert slope > 0
    assert 1 / 1.6 < DISPERSION_ARCSEC[band] / slope < 1.6
    blue, red = (refraction_arcsec(band, 45.0, 0.0, np.array([c]))[1][0] for c in (colour[1], colour[0]))
    assert blue > red


@pytest.mark.parametrize(
    ("ccdnum", "crpix"), [(27, (2151.2, 6307.333)), (34, (-103.2001, 6307.333)), (1, (13423.2, 6307.333))]
)
def test_the_focal_plane_agrees_with_the_sky_by_astropy(ccdnum, crpix):
    u_axis, v_axis = focal_plane(ccdnum, [crpix[0] - 1.0, crpix[0] - 1.0 + 14336.0], [crpix[1] - 1.0, crpix[1] - 1.0])
    np.testing.assert_allclose(u_axis, [0.0, 1.0], atol=1e-12)
    np.testing.assert_allclose(v_axis, 0.0, atol=1e-12)
    wcs = WCS(fits.Header(list(true_wcs(exposure_of(), ccdnum, STILL).to_header().items())))
    x, y = np.array([10.0, 2000.0]), np.array([4000.0, 300.0])
    star = wcs.pixel_to_world(x, y)
    centre = SkyCoord(190.0, -10.0, unit="deg")
    radius = centre.separation(star).arcsec / 0.263 / 14336.0
    u_axis, v_axis = focal_plane(ccdnum, x, y)
    np.testing.assert_allclose(np.hypot(u_axis, v_axis), radius, rtol=0.012)  # the camera's distortion
    angle = centre.position_angle(star).rad  # x runs to the south, y to the east
    np.testing.assert_allclose(u_axis, -radius * np.cos(angle), atol=0.012)
    np.testing.assert_allclose(v_axis, radius * np.sin(angle), atol=0.012)


def test_scale_and_shear_act_on_the_plane():
    x, y = np.array([100.0, 1900.0, 700.0]), np.array([50.0, 2000.0, 4000.0])
    xi, eta = true_wcs(exposure_of(), 27, STILL).pixel_to_plane(x, y)
    changed = exposure_of(scale=1.001, shear=(0.002, -0.003))
    xi1, eta1 = true_wcs(changed, 27, STILL).pixel_to_plane(x, y)
    np.testing.assert_allclose(xi1, 1.001 * (1.002 * xi - 0.003 * eta), atol=1e-12)
    np.testing.assert_allclose(eta1, 1.001 * (-0.003 * xi + 0.998 * eta), atol=1e-12)


def test_a_displaced_ccd_moves_its_stars_by_the_shift():
    ra, dec = TrueGeometry(exposure_of(), 27, STILL).pixel_to_sky([500.0], [600.0])
    shifted = TrueGeometry(exposure_of(), 27, Misalignment((1.5, -0.75), ((), ())))
    x, y = shifted.sky_to_pixel(ra, dec)
    assert (x[0], y[0]) == pytest.approx((501.5, 599.25), abs=1e-8)


def test_displaced_light_falls_where_an_undisplaced_star_beside_it_would():
    """Half an arcsecond to the east and 0.3 to the north, by astropy's tangent plane and positions."""
    waves = ((Wave(amplitude=0.5, kx=0.0, ky=0.0, phase=0.0),), (Wave(amplitude=0.3, kx=0.0, ky=0.0, phase=0.0),))
    geometry = TrueGeometry(exposure_of(), 27, Misalignment((0.0, 0.0), waves))
    wcs = WCS(fits.Header(list(geometry.wcs.to_header().items())))
    star = wcs.pixel_to_world(800.0, 3000.0)
    beside = star.spherical_offsets_by(0.5 * u.arcsec, 0.3 * u.arcsec)
    x, y = geometry.sky_to_pixel([star.ra.deg], [star.dec.deg])
    assert (x[0], y[0]) == pytest.approx([float(v) for v in wcs.world_to_pixel(beside)], abs=3e-3)  # curvature
    back = geometry.pixel_to_sky(x, y)
    assert SkyCoord(*back, unit="deg").separation(star).max().to_value(u.mas) < 0.01
    coloured = exposure_of(band="g", zenith_distance_deg=45.0, parallactic_deg=90.0)
    red = TrueGeometry(coloured, 27, STILL).sky_to_pixel([star.ra.deg], [star.dec.deg], [1.61])
    west = wcs.world_to_pixel(star.spherical_offsets_by(-0.045 * u.arcsec, 0 * u.arcsec))
    assert (red[0][0], red[1][0]) == pytest.approx([float(v) for v in west], abs=1e-3)


def test_the_cameras_misalignment_has_the_rms_asked_for():
    offsets = np.array([camera_misalignment(61, n, 0.1, 10.0).shift_pixels for n in range(1, 63)]) * 0.263
    assert offsets.std() == pytest.approx(0.1, rel=4 / np.sqrt(2 * 124))
    one, other = camera_misalignment(61, 1, 0.1, 10.0), camera_misalignment(61, 50, 0.1, 10.0)
    assert one.waves == other.waves
    for waves in one.waves:
        assert np.sqrt(sum(wave.amplitude**2 for wave in waves) / 2) == pytest.approx(0.010, rel=1e-9)
        lengths = [2 * np.pi / np.hypot(w.kx, w.ky) for w in waves]
        assert min(lengths) >= 0.4
        assert max(lengths) <= 2.0


def test_a_wave_is_a_cosine_along_its_direction_and_clouds_never_brighten():
    wave = Wave(amplitude=0.2, kx=np.pi, ky=2 * np.pi, phase=0.5)
    assert wave.at(0.25, 0.5) == pytest.approx(0.2 * np.cos(1.25 * np.pi + 0.5))
    clouds = CloudTruth(mean_mag=0.1, waves=(wave,))
    xi = np.linspace(-1, 1, 201)
    extinction = clouds.extinction_mag(xi, np.zeros_like(xi))
    np.testing.assert_allclose(extinction, np.clip(0.1 + 0.2 * np.cos(np.pi * xi + 0.5), 0.0, None), atol=1e-12)
    assert extinction.min() == 0.0
    np.testing.assert_array_equal(CloudTruth(mean_mag=0.03).extinction_mag(xi, xi), np.full(201, 0.03))
