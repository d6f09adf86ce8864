"""Residuals along the masks of saturated stars become noise; transients beside them and clean edges stay."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from imaging.bits import MaskBit
from imaging.difference.filter import significance
from imaging.difference.mask_edges import add_halos, add_mask_edges
from imaging.difference.residual_noise import ResidualNoise
from tests.difference.drawn import FWHM, ROUND, SIGMA, difference_of, draw

SIDE = 401
GY, GX = np.indices((SIDE, SIDE))
AWAY = np.abs(GX - 200.0) - 15.0  # pixels from a wide bleed trail along y
HALO = np.hypot(GX - 200, GY - 520) - 300.0  # from the edge of a halo whose star is outside
POINT_SIGMA = SIGMA / np.sqrt(np.sum(ROUND.drawImage(nx=41, ny=41, scale=1.0).array ** 2))


def scores(distance, pattern, *, bit=MaskBit.SATURATE, transient=None):
    """Return the score before and after, and which pixels have more noise; masked where the distance is negative."""
    image = np.random.default_rng(7).normal(0.0, SIGMA, (SIDE, SIDE))
    image += gaussian_filter(pattern, FWHM / 2.3548)
    if transient is not None:
        image += draw((SIDE, SIDE), [transient[0]], [transient[1]], [transient[2] * POINT_SIGMA])
    mask = np.where(distance < 0, int(bit), 0).astype(np.int16)
    difference = difference_of(image, mask=mask)
    norm, weight = difference.filtered.norm, difference.weight
    norm[distance < -0.5 * FWHM] = 0.0
    unit = np.ones(difference.tiling.grid)
    before = significance(difference.filtered, 0.0, 0.0, unit, difference.tiling)
    kept = norm.copy()
    raised = add_mask_edges(ResidualNoise(difference.filtered, weight, (0.0, 0.0), FWHM, 0.27), mask)
    assert raised == np.count_nonzero(norm != kept)
    return before, significance(difference.filtered, 0.0, 0.0, unit, difference.tiling), norm != kept


@pytest.mark.parametrize("distance", [AWAY, HALO])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_residual_along_a_part_of_the_edge_is_not_significant(distance, sign):
    seen = (np.abs(distance - 3.0) < 2.5) & (GX > 100) & (GY < 260)
    before, after, changed = scores(distance, sign * np.where(seen, 12.0, 0.0))
    assert (np.abs(before) > 5.0).sum() > 200
    assert (np.abs(after) > 5.0).sum() < 0.02 * (np.abs(before) > 5.0).sum()
    assert not changed[distance > 4 * FWHM].any()  # the sky farther out is searched as before


def test_the_same_residual_without_a_saturated_star_keeps_its_significance():
    """Counter-example: what lies along a hole of another kind is not explained by a star."""
    seen = (np.abs(AWAY - 3.0) < 2.5) & (GY < 260)
    before, after, changed = scores(AWAY, np.where(seen, 12.0, 0.0), bit=MaskBit.BPM)
    assert (before > 5.0).sum() > 200 and np.array_equal(before, after) and not changed.any()


@pytest.mark.parametrize("distance", [AWAY, HALO])
@pytest.mark.parametrize("snr", [0.0, 8.0, 100.0])
def test_noise_and_a_transient_at_the_edge_stay_as_they_are(distance, snr):
    place = (222.0, 150.0) if distance is AWAY else (200.0, 214.0)
    before, after, changed = scores(distance, np.zeros((SIDE, SIDE)), transient=(*place, snr))
    assert changed.mean() < 1e-3
    at = (round(place[1]), round(place[0]))
    assert 2.0 < distance[at] < 8.0
    assert after[at] == pytest.approx(before[at], abs=0.02 * snr + 1e-6)
    assert snr == 0.0 or before[at] > 0.8 * snr


def test_a_fraction_of_the_light_of_a_halo_is_an_error_of_fluxes_there():
    """The template's flux is a hundred times the error: 3 % of it make the error 3.2 times as large."""
    mask = np.zeros((SIDE, SIDE), np.int16)
    mask[:, :200] = MaskBit.STAR
    difference = difference_of(draw((SIDE, SIDE), [120.0], [200.0], [8.0 * POINT_SIGMA]), mask=mask)
    filtered = difference.filtered
    filtered.template_flux[:] = 100.0 / np.sqrt(filtered.norm[200, 120])
    norm, flux = filtered.norm.copy(), filtered.numerator[200, 120] / filtered.norm[200, 120]
    add_halos(ResidualNoise(filtered, difference.weight, (0.0, 0.0), FWHM, 0.27), mask, 0.03)
    assert norm[200, 120] / filtered.norm[200, 120] == pytest.approx(1.0 + 3.0**2, rel=1e-4)
    assert filtered.numerator[200, 120] / filtered.norm[200, 120] == pytest.approx(flux, rel=1e-4)
    assert np.array_equal(norm[:, 200:], filtered.norm[:, 200:])
