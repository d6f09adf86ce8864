"""The physical point-spread function, against Fourier optics and rays traced by hand."""

import numpy as np
import pytest
from scipy.special import j0
from sky_judges import moments

from imaging.bands import BANDS
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.simulation.exposures import OpticsTruth, PsfTruth
from imaging.simulation.optical_psf import (
    KOLMOGOROV_SIGMA,
    KOLMOGOROV_WEIGHT,
    MIRROR_DIAMETER_M,
    OBSCURATION,
    VANE_LENGTH_M,
    VANE_WIDTH_M,
    component_weights,
    pupil,
    spots_of,
)
from imaging.simulation.psf import PsfMixture, blurred_psf, true_psf
from imaging.simulation.render import draw_points
from tests.simulated_exposures import an_exposure

NONE = (0.0,) * 6


def aberrated(**terms: float) -> tuple:
    """Return aberrations that are the same everywhere, arcseconds, by their place in the record."""
    return tuple((terms.get(f"a{k}", 0.0), *NONE[1:]) for k in range(8))


def stamp_of(psf: PsfMixture, size: int = 401, flux: float = 1e7) -> np.ndarray:
    image = np.zeros((size, size), dtype=np.float32)
    draw_points(image, np.array([size // 2 * 1.0]), np.array([size // 2 * 1.0]), np.array([flux]), psf)
    return image


def psf_with(optics: OpticsTruth, *, band: str = "i", colour: float | None = None, **changes) -> PsfMixture:
    exposure = an_exposure(optics=optics, psf=PsfTruth(fwhm_arcsec=0.9), band=band, **changes)
    return true_psf(exposure, 27, [1000.0], [2000.0], None if colour is None else [colour])


def test_the_atmosphere_is_the_transform_of_kolmogorovs_transfer_function():
    r = np.linspace(0.0, 3.0, 6001)
    transfer = np.exp(-3.44 * r ** (5 / 3)) * r
    fwhm = 0.97553
    t = np.concatenate([np.linspace(0.0, 2.0, 21), np.geomspace(2.5, 8.0, 8)])
    exact = np.array([np.sum(transfer * j0(2 * np.pi * r * value * fwhm)) for value in t])
    exact /= exact[0]
    peaks = KOLMOGOROV_WEIGHT / KOLMOGOROV_SIGMA**2
    ours = np.exp(-0.5 * (t[:, None] / KOLMOGOROV_SIGMA) ** 2) @ peaks / peaks.sum()
    assert np.abs(ours - exact).max() < 2e-4
    assert ours / exact == pytest.approx(np.ones(len(t)), rel=0.03)
    assert np.interp(0.5, t, ours) == pytest.approx(0.5, abs=0.002)


def test_the_rays_have_the_moments_of_the_annular_pupil():
    points = pupil()
    radius2 = (points**2).sum(axis=1)
    # mean of r^2 and r^4 over an annulus
    assert radius2.mean() == pytest.approx((1 + OBSCURATION**2) / 2)
    assert (radius2**2).mean() == pytest.approx((1 + OBSCURATION**2 + OBSCURATION**4) / 3)
    assert points.mean(axis=0) == pytest.approx([0.0, 0.0], abs=1e-12)


@pytest.mark.parametrize(
    ("term", "gradient"),
    [
        (0, lambda x, y: (x, y)),
        (1, lambda x, y: (x, -y)),
        (2, lambda x, y: (x * x + y * y / 3, 2 * x * y / 3)),
        (3, lambda x, y: (x * x - y * y, -2 * x * y)),
        (6, lambda x, y: (2 * x * y, x * x - y * y)),
    ],
    ids=["defocus", "astigmatism", "coma", "trefoil", "trefoil of the second direction"],
)
def test_each_aberration_spreads_light_as_rays_through_the_whole_pupil_do(term, gradient):
    random = np.random.default_rng(3)
    rays = random.uniform(-1, 1, (400_000, 2))
    r = np.hypot(*rays.T)
    rays = rays[(r < 1) & (r > OBSCURATION)]
    landed = np.array(gradient(*rays.T)) * 0.5 / PIXEL_SCALE_ARCSEC
    expected = np.cov(landed)
    spots = spots_of(OpticsTruth(aberrations=aberrated(**{f"a{term}": 0.5})), 27, np.zeros(1), np.zeros(1))
    xx, xy, yy = spots.covariance()[0]
    scale = expected[0, 0]
    assert xx / scale == pytest.approx(1.0, rel=0.04)
    assert yy / scale == pytest.approx(expected[1, 1] / scale, rel=0.06)
    assert xy / scale == pytest.approx(0.0, abs=0.02)


def test_the_image_conserves_light_its_centre_and_the_second_moments_of_faint_sources():
    optics = OpticsTruth(
        aberrations=aberrated(a0=0.3, a2=0.2, a3=0.15, a4=0.1), jump_share=0.3, jump_pixels=(3.0, -1.0)
    )
    exposure = an_exposure(optics=optics, psf=PsfTruth(fwhm_arcsec=0.9))
    full, blurred = (f(exposure, 27, [1000.0], [2000.0]) for f in (true_psf, blurred_psf))
    total, x, y, second = moments(stamp_of(full))
    total_faint, x_faint, y_faint, second_faint = moments(stamp_of(blurred))
    assert total == pytest.approx(1e7, rel=0.005)
    assert total_faint == pytest.approx(total, rel=1e-3)
    assert (x, y) == pytest.approx((200.0, 200.0), abs=2e-3)
    assert (x_faint, y_faint) == pytest.approx((200.0, 200.0), abs=2e-3)
    assert second_faint == pytest.approx(second, rel=0.02, abs=0.02)
    assert full.weight.sum() == pytest.approx(1.0)


def test_the_fraction_in_the_aperture_is_that_of_the_drawn_image():
    psf = psf_with(OpticsTruth(aberrations=aberrated(a0=0.25, a2=0.1), vane_angle_deg=45.0, wide_aureole=True))
    image = stamp_of(psf, 2401, 1e9)
    y, x = np.mgrid[:2401, :2401] - 1200.0
    inside = image[np.hypot(x, y) < 11.11].sum(dtype=float) / 1e9
    assert float(psf.aperture_fraction()[0]) == pytest.approx(inside, abs=0.003)


def test_spikes_lie_along_their_angle_fall_with_the_square_and_take_the_light_of_the_vanes():
    optics = OpticsTruth(vane_angle_deg=30.0)
    image = stamp_of(psf_with(optics), 801, 1e9) - stamp_of(psf_with(OpticsTruth()), 801, 1e9)
    y, x = np.mgrid[:801, :801] - 400.0
    r, angle = np.hypot(x, y), np.degrees(np.arctan2(y, x)) % 90.0
    ring = (r > 60) & (r < 390)
    profile, edges = np.histogram(angle[ring], bins=45, range=(0.0, 90.0), weights=image[ring])
    middle = (edges[:-1] + edges[1:]) / 2
    assert np.average(middle, weights=np.clip(profile, 0, None) ** 2) == pytest.approx(30.0, abs=0.5)
    near = image[(r > 30) & (np.abs(angle - 30) < 12)]
    assert near.sum() > 0.9 * image[r > 30].sum()
    # Babinet: the two lines of vanes hold the share of the pupil that they cover
    annulus = np.pi / 4 * MIRROR_DIAMETER_M**2 * (1 - OBSCURATION**2)
    assert 2 * component_weights(optics)[1].sum() == pytest.approx(4 * VANE_WIDTH_M * VANE_LENGTH_M / annulus)
    # sinc^2 has 1 / (pi^2 t) of its light beyond t units of wavelength over width
    unit = np.degrees(783.5e-9 / VANE_WIDTH_M) * 3600 / PIXEL_SCALE_ARCSEC
    line = component_weights(optics)[1].sum()
    beyond = image[(r > 3 * unit) & (r < 10 * unit)].sum() / 1e9 / (2 * line)
    assert beyond == pytest.approx((1 / 3 - 1 / 10) / np.pi**2, rel=0.3)


def test_no_source_has_no_function_and_draws_nothing():
    """A CCD without a bright transient, or without any galaxy, asks for the functions at no place."""
    optics = OpticsTruth(vane_angle_deg=30.0, wide_aureole=True, chromatic=True)
    exposure = an_exposure(optics=optics, psf=PsfTruth(fwhm_arcsec=0.9))
    for function in (true_psf, blurred_psf):
        psf = function(exposure, 27, np.zeros(0), np.zeros(0), np.zeros(0))
        assert psf.covariance.shape[0] == psf.offset.shape[0] == 0
        assert psf.aperture_fraction().shape == (0,)
        image = np.zeros((9, 9), dtype=np.float32)
        draw_points(image, np.zeros(0), np.zeros(0), np.zeros(0), psf)
        assert not image.any()


def test_spikes_are_longer_in_red_light():
    lengths = {}
    for band in ("g", "z"):
        psf = psf_with(OpticsTruth(vane_angle_deg=0.0), band=band)
        lengths[band] = np.sqrt(psf.covariance[0, -8:, 0].max())
    assert lengths["z"] / lengths["g"] == pytest.approx(BANDS["z"].wavelength_nm / BANDS["g"].wavelength_nm, rel=1e-3)


def test_the_aureole_falls_with_the_square_of_the_radius():
    psf = psf_with(OpticsTruth(wide_aureole=True))
    radius = np.array([15.0, 30.0, 60.0, 120.0]) / PIXEL_SCALE_ARCSEC
    value = psf.evaluate(0, radius, np.zeros(4))
    slope = np.polyfit(np.log(radius), np.log(value), 1)[0]
    assert slope == pytest.approx(-2.0, abs=0.25)


def test_a_jump_of_the_telescope_makes_two_images_at_its_distance():
    optics = OpticsTruth(jump_share=0.4, jump_pixels=(9.0, 0.0))
    image = stamp_of(psf_with(optics), 81)
    row = image[40].astype(float)
    peaks = [k for k in range(1, 80) if row[k] > row[k - 1] and row[k] > row[k + 1] and row[k] > 0.2 * row.max()]
    assert np.diff(peaks).tolist() == [9]
    assert row[peaks[1]] / row[peaks[0]] == pytest.approx(0.4 / 0.6, rel=0.1)


def test_dispersion_draws_the_image_towards_the_zenith():
    # x to the south, y to the east; the zenith is at position angle 60 degrees
    round_one = psf_with(OpticsTruth(), band="g", zenith_distance_deg=60.0, parallactic_deg=60.0)
    long_one = psf_with(OpticsTruth(chromatic=True), band="g", zenith_distance_deg=60.0, parallactic_deg=60.0)
    xx, xy, yy = (long_one.covariance - round_one.covariance)[0, 0]
    values, vectors = np.linalg.eigh([[xx, xy], [xy, yy]])
    assert values[0] == pytest.approx(0.0, abs=1e-9)
    assert np.sqrt(values[1]) * PIXEL_SCALE_ARCSEC == pytest.approx(0.38, abs=0.05)
    south, east = vectors[:, 1]
    assert np.degrees(np.arctan2(east, -south)) % 180.0 == pytest.approx(60.0, abs=0.1)


def test_a_red_star_is_narrower_than_a_blue_one():
    widths = [
        np.sqrt(psf_with(OpticsTruth(chromatic=True), band="r", colour=c).covariance[0, 0, 0]) for c in (0.0, 2.5)
    ]
    assert 0.98 < widths[1] / widths[0] < 0.998


def test_ccds_have_their_own_focus():
    optics = OpticsTruth(focus_step_arcsec=0.3)
    zero = np.zeros(1)
    sizes = [spots_of(optics, ccd, zero, zero).covariance()[0, 0] for ccd in range(1, 63)]
    # the second moment of a defocused annulus is f^2 (1 + e^2) / 4 per axis
    expected = (0.3 / PIXEL_SCALE_ARCSEC) ** 2 * (1 + OBSCURATION**2) / 4
    assert np.mean(sizes) == pytest.approx(expected, rel=4 * np.sqrt(2 / 62))
