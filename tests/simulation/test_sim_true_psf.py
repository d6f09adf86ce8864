"""The true point-spread function against galsim's profiles, shears and moments, and photutils' apertures."""

import galsim
import numpy as np
import pytest
from detector_frames import exposure_of
from photutils.aperture import CircularAperture

from imaging.simulation.exposures import PsfTruth, quadratic
from imaging.simulation.psf import AUREOLE_WEIGHT, MOFFAT_SIGMA, PsfMixture, true_psf

SCALE = 0.263
CCD, X, Y = 27, 1000.0, 2000.0
U, V = (X + 1 - 2151.2) / 14336.0, (Y + 1 - 6307.333) / 14336.0
"""Place on the focal plane from the header's reference pixel of CCD 27."""


def psf_of(ccdnum=CCD, x=X, y=Y, **psf):
    values = {"fwhm_arcsec": 1.052} | psf
    return true_psf(exposure_of(psf=PsfTruth(**values)), ccdnum, [x], [y])


def galsim_psf(fwhm_pixels):
    """Return a Moffat profile of exponent 3 with the aureole's one per cent."""
    moffat = galsim.Moffat(beta=3.0, fwhm=fwhm_pixels, flux=0.99)
    return moffat + galsim.Gaussian(sigma=4.0 / SCALE, flux=0.006) + galsim.Gaussian(sigma=12.0 / SCALE, flux=0.004)


@pytest.mark.parametrize("fwhm_arcsec", [0.8, 1.052, 1.6])
def test_encircled_energy_is_that_of_galsim_by_photutils(fwhm_arcsec):
    psf = psf_of(fwhm_arcsec=fwhm_arcsec)
    image = galsim_psf(fwhm_arcsec / SCALE).drawImage(nx=401, ny=401, scale=0.125, method="no_pixel").array
    for diameter in (4.0, 8.0, 22.22, 40.0):
        inside = CircularAperture((200.0, 200.0), r=diameter / 2 / 0.125).do_photometry(image)[0][0]
        assert psf.aperture_fraction(diameter)[0] == pytest.approx(inside, abs=0.001)  # the mixture's fit of the wings
    assert psf.aperture_fraction()[0] == psf.aperture_fraction(22.22)[0]


def test_the_profile_is_galsims_within_two_parts_in_ten_thousand_of_the_peak():
    psf, judge = psf_of(), galsim_psf(4.0)
    for r in (0.0, 1.0, 2.0, 4.0, 8.0, 15.0, 40.0):
        expected = judge.xValue(r, 0.0)
        assert psf.evaluate(0, r, 0.0) == pytest.approx(expected, abs=2e-4 * judge.xValue(0.0, 0.0))
        assert psf.evaluate(0, r, 0.0) == pytest.approx(expected, rel=0.25)


def test_the_mixture_is_normalised():
    image = galsim.ImageD(psf_of().evaluate(0, *np.meshgrid(*2 * [np.arange(-250.0, 251.0)])))
    assert image.array.sum() == pytest.approx(1.0, abs=1e-4)
    assert AUREOLE_WEIGHT.sum() == pytest.approx(0.01)


@pytest.mark.parametrize(("e1", "e2"), [(0.1, 0.0), (-0.05, 0.0), (0.0, 0.12), (0.06, -0.08)])
def test_ellipticity_is_galsims_distortion_and_keeps_the_area(e1, e2):
    psf = psf_of(e1=(e1, 0, 0, 0, 0, 0), e2=(e2, 0, 0, 0, 0, 0))
    matrix = galsim.Shear(e1=e1, e2=e2).getMatrix()
    shape = matrix @ matrix.T
    for k, sigma in enumerate(MOFFAT_SIGMA * 4.0):
        expected = sigma**2 * np.array([shape[0, 0], shape[0, 1], shape[1, 1]])
        np.testing.assert_allclose(psf.covariance[0, k], expected, rtol=1e-9, atol=1e-12)
    for k, sigma_arcsec in ((7, 4.0), (8, 12.0)):  # the aureole is round
        variance = (sigma_arcsec / SCALE) ** 2
        np.testing.assert_allclose(psf.covariance[0, k], [variance, 0.0, variance], rtol=1e-9)


def test_adaptive_moments_of_the_image_give_the_ellipticity_back():
    psf = psf_of(e1=(0.06, 0, 0, 0, 0, 0), e2=(-0.04, 0, 0, 0, 0, 0))
    y, x = np.mgrid[-30:31, -30:31].astype(float)
    moments = galsim.hsm.FindAdaptiveMom(galsim.ImageD(np.ascontiguousarray(psf.evaluate(0, x, y)), scale=1.0))
    assert moments.observed_shape.e1 == pytest.approx(0.06, abs=5e-4)
    assert moments.observed_shape.e2 == pytest.approx(-0.04, abs=5e-4)
    assert moments.moments_centroid.x == pytest.approx(31.0, abs=1e-6)


def test_an_elliptical_psf_loses_no_light_in_the_aperture_formula():
    psf = psf_of(e1=(0.25, 0, 0, 0, 0, 0), e2=(0.1, 0, 0, 0, 0, 0))
    step = 0.05
    y, x = np.mgrid[-120:121, -120:121] * step
    for diameter in (6.0, 10.0):
        total = psf.evaluate(0, x, y)[np.hypot(x, y) < diameter / 2].sum() * step**2
        assert psf.aperture_fraction(diameter)[0] == pytest.approx(total, abs=0.001)  # cells at the rim


def test_coma_displaces_the_wide_components_and_not_the_centroid():
    psf = psf_of(coma=(0.3, -0.2))
    width = 4.0
    lever = psf.offset[0, 6] - psf.offset[0, 0]  # the widest against the narrowest
    spread = (MOFFAT_SIGMA[6] - MOFFAT_SIGMA[0]) * width
    np.testing.assert_allclose(lever, [0.3 * U * spread, -0.2 * V * spread], rtol=1e-9)
    np.testing.assert_allclose(psf.weight @ psf.offset[0], 0.0, atol=1e-12)
    assert not psf.offset[0, 7:].any()


def test_width_and_ellipticity_follow_quadratics_over_the_focal_plane():
    size, e1 = (0.01, 0.02, -0.03, 0.04, 0.05, -0.06), (0.02, -0.01, 0.03, 0.05, -0.04, 0.02)
    for ccdnum, x, y, crpix in ((27, 1000.0, 2000.0, (2151.2, 6307.333)), (1, 10.0, 4000.0, (13423.2, 6307.333))):
        u, v = (x + 1 - crpix[0]) / 14336.0, (y + 1 - crpix[1]) / 14336.0
        terms = np.array([1.0, u, v, u * u, u * v, v * v])
        assert quadratic(size, u, v) == pytest.approx(np.dot(size, terms), rel=1e-12)
        psf = psf_of(ccdnum, x, y, size=size, e1=e1)
        xx, xy, yy = psf.covariance[0, 2]
        assert xy == 0.0
        assert (xx - yy) / (xx + yy) == pytest.approx(np.dot(e1, terms), rel=1e-9)
        width = 4.0 * (1.0 + np.dot(size, terms)) * MOFFAT_SIGMA[2]
        assert (xx * yy) ** 0.25 == pytest.approx(width, rel=1e-9)


def test_ccds_differ_by_the_scatter_asked_for_and_each_is_the_same_throughout():
    scatter = 0.02
    exposure = exposure_of(psf=PsfTruth(fwhm_arcsec=1.052, ccd_scatter=scatter))
    sizes, e1, e2 = [], [], []
    for ccdnum in range(1, 63):
        xx, xy, yy = true_psf(exposure, ccdnum, [100.0, 1900.0], [100.0, 4000.0]).covariance[:, 3].T
        assert xx[0] == xx[1]
        sizes.append((xx[0] * yy[0] - xy[0] ** 2) ** 0.25 / (4.0 * MOFFAT_SIGMA[3]) - 1.0)
        e1.append(((xx - yy) / (xx + yy))[0])
        e2.append((2 * xy / (xx + yy))[0])
    for values in (sizes, e1, e2):
        assert np.std(values) == pytest.approx(scatter, rel=4 / np.sqrt(2 * 62))
        assert np.mean(values) == pytest.approx(0.0, abs=4 * scatter / np.sqrt(62))
    assert np.abs(np.corrcoef([sizes, e1, e2]) - np.eye(3)).max() < 4 / np.sqrt(62)


def test_a_single_gaussian_has_the_textbook_aperture_and_value():
    one = PsfMixture(np.array([1.0]), np.array([[[4.0, 0.0, 4.0]]]), np.array([[[0.5, -0.25]]]))
    assert one.aperture_fraction(4.0)[0] == pytest.approx(1 - np.exp(-0.5), rel=1e-9)  # radius of one sigma
    judge = galsim.Gaussian(sigma=2.0).shift(0.5, -0.25)
    for dx, dy in ((0.0, 0.0), (0.5, -0.25), (3.0, -2.0)):
        assert one.evaluate(0, dx, dy) == pytest.approx(judge.xValue(dx, dy), rel=1e-6)
