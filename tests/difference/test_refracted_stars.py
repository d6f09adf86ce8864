"""A pair in g at airmasses of 1.1 and 1.9, of red and blue stars, whose places refraction changes by their colours."""

from dataclasses import replace

import numpy as np
import pytest

from imaging.astrometry.solution import Chromatic, colour_powers
from imaging.detector.distortion import seed_wcs
from imaging.difference.chain import search_ccd
from imaging.difference.forced import measure_forced
from imaging.difference.records import Identity
from imaging.difference.settings import DetectionSettings, SearchSettings
from imaging.schemas.reference import REFERENCE_STARS
from imaging.simulation.chromatic import refraction_shift_arcsec
from imaging.simulation.pairs import CCD, POINTING, ExposureSpec, PairSky, expose
from imaging.simulation.stars import stellar_locus
from imaging.tables import make_table
from imaging.templates.motions import ShownStars
from imaging.wcs.tpv import plane_to_sky
from tests.difference.known_pairs import lattice

SHAPE, N, MJD = (520, 520), 81, 59000.0
TEMPLATE_AIR, SEARCH_AIR = (58.2, -50.0), (24.6, 60.0)
"""Zenith distance, degrees (airmass 1.9 and 1.1), and parallactic angle."""

RNG = np.random.default_rng(8)
X, Y = lattice(N, SHAPE, margin=30)
COLOUR = RNG.permutation(np.where(np.arange(N) < N // 3, 2.4, RNG.uniform(0.5, 1.1, N)))
MAG = RNG.uniform(16.3, 18.5, N)
RED = COLOUR > 2.0
BESIDE = int(np.flatnonzero(RED)[np.argmin(MAG[RED])])
TRANSIENT = X[BESIDE] + 7.0, Y[BESIDE] + 4.0, 19.5
HEADER = {"MJD-OBS": MJD, "EXPTIME": 1.0, "OBSTYPE": "object", "FILTER": "g", "TELRA": 150.0, "TELDEC": -20.0}


def shifts_mas(colour, air):
    """Return the (n, 2) displacements to the east and north in g."""
    locus = stellar_locus(colour)
    return 1000.0 * np.stack(refraction_shift_arcsec("g", *air, locus["g"] - locus["i"]), axis=-1)


def chromatic(air):
    """Return what the tie of an exposure knows: a cubic in the colour, added to the coordinates that are seen."""
    colour = np.linspace(0.3, 2.6, 40)
    shift = shifts_mas(np.append(colour, 1.0), air)
    terms = np.linalg.lstsq(colour_powers(colour - 1.0), shift[-1] - shift[:-1], rcond=None)[0]
    return Chromatic(typical_mag=1.0, range_mag=(0.3, 2.6), terms_mas=terms.T.tolist())


def exposed(air, seed, fwhm_arcsec, *, transients):
    """Return an image with stars where the air shows them; those of typical colour are at their coordinates."""
    wcs = seed_wcs(CCD, *POINTING)
    shift = (shifts_mas(COLOUR, air) - shifts_mas(np.ones(1), air)) / 3.6e6
    xi, eta = wcs.pixel_to_plane(X, Y)
    x, y = wcs.plane_to_pixel(xi + shift[:, 0], eta + shift[:, 1])
    none, one = np.zeros(0), (np.array([value]) for value in TRANSIENT)
    sky = PairSky(x, y, MAG, *[none] * 6, *one)
    spec = ExposureSpec(fwhm_arcsec, seed, turbulence_mas=0.0, cosmic_rays=0, astrometry_error_mas=0.0)
    image = expose(sky, replace(spec, transients=transients), SHAPE).image
    return replace(image, pixels=replace(image.pixels, header=image.pixels.header | HEADER | {"GAIN": 1.0}))


def reference():
    wcs = seed_wcs(CCD, *POINTING)
    ra, dec = plane_to_sky(*wcs.pixel_to_plane(X, Y), *wcs.crval)
    columns = {name: np.zeros(N) for name in REFERENCE_STARS.names} | {"ra": ra, "dec": dec}
    columns |= {"source_id": np.arange(N), "variable": np.zeros(N, bool), "ref_epoch": np.full(N, 2020.0)}
    return make_table(columns | {"phot_g_mean_mag": MAG, "phot_bp_mean_mag": COLOUR}, REFERENCE_STARS)


@pytest.fixture(scope="module", params=[(1.15, 0.95), (0.95, 1.15)], ids=["template convolved", "search convolved"])
def differences(request):
    """The differences without and with the refraction of the stars, and by how much it moved them."""
    search, template = (
        exposed(air, seed, fwhm, transients=air is SEARCH_AIR)
        for air, seed, fwhm in zip((SEARCH_AIR, TEMPLATE_AIR), (1, 2), request.param, strict=True)
    )
    found, settings = [], SearchSettings()
    for known in (False, True):
        shown = ShownStars(reference(), MJD, chromatic(SEARCH_AIR) if known else None)
        pixels = replace(template.pixels, science=template.pixels.science.copy())
        moved = shown.as_in_search(replace(template, pixels=pixels), chromatic(TEMPLATE_AIR))
        result = search_ccd(search, [moved], Identity(1, "g", 20200601, CCD, MJD), settings, with_fakes=False)
        found.append(result.difference)
    return *found, shown


def chi2(difference, stars):
    """Return the mean squared residual of the cores of stars over the noise of pixels, with the stars' photons."""
    values = []
    for a, b in np.rint(np.stack([X, Y], axis=1)[stars & (np.arange(N) != BESIDE)]).astype(int):
        core = slice(b - 3, b + 4), slice(a - 3, a + 4)
        weight, photons = difference.weight[core], np.maximum(difference.model[core], 0.0) / difference.photon_gain
        values.append(np.mean(difference.image[core] ** 2 * weight / (1.0 + photons * weight)))  # bad pixels have none
    return float(np.mean(values))


def test_red_stars_leave_as_little_as_others(differences):
    """The kernel follows the many blue stars; the others are 110 mas per magnitude from where the template has them."""
    without, known, shown = differences
    assert chi2(without, RED) > 5.0
    assert chi2(known, RED) == pytest.approx(chi2(known, ~RED), rel=0.25)  # 27 cores of 49 pixels: 0.04
    assert max(chi2(known, RED), chi2(known, ~RED)) < 1.15
    assert known.shift_error < 0.4 * without.shift_error
    assert shown.n_moved == N
    assert shown.colour_shift_mas == pytest.approx(109.0, abs=2.0)


def test_a_transient_beside_a_red_star_keeps_its_flux(differences):
    known, flux = differences[1], 10 ** (-0.4 * (TRANSIENT[2] - 31.4))
    place = (np.array([value]) for value in TRANSIENT[:2])
    found = measure_forced(known.as_image(), *place, DetectionSettings(), known.filtered.template_flux)
    assert found.error[0] < 0.03 * flux
    assert found.flux[0] == pytest.approx(flux, abs=3.0 * found.error[0])
