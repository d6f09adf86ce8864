"""Sky modes that are found in simulated skies describe skies that were not among them."""

import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.errors import InputError
from imaging.masters.settings import SkyModeSettings
from imaging.masters.sky_modes import bin_sky, find_sky_modes, fit_templates
from imaging.simulation.background import sky_templates
from imaging.sky.fit import fit_sky
from imaging.sky.mini_sky import MiniSky
from imaging.sky.settings import SkySettings

CCDS = (3, 12, 26, 33, 46, 60)
SETTINGS = SkyModeSettings()
TRUE = {ccd: sky_templates(61, ccd, "i", 128).astype(float) for ccd in CCDS}
NOISE = 0.7


def skies(n, seed=1, spoilt=0.03):
    """Draw the mini-skies of exposures of different level and gradients, some superpixels spoilt, some lost."""
    random = np.random.default_rng(seed)
    found = {}
    for expnum in range(1, n + 1):
        level = random.uniform(1500.0, 4000.0)
        amplitudes = level * np.array([1.0, *random.normal(0.0, 0.012, 4)])
        found[expnum] = {}
        for ccd in CCDS:
            values = np.tensordot(amplitudes, TRUE[ccd], axes=1)
            values = values + random.normal(0.0, NOISE, values.shape)
            values[random.random(values.shape) < spoilt] += 0.05 * level
            values[random.random(values.shape) < 0.02] = np.nan
            found[expnum][ccd] = MiniSky(ccd, values.astype(np.float32))
    return found


@pytest.fixture(scope="module")
def found():
    return find_sky_modes(skies(14), SETTINGS)


def test_found_modes_describe_a_sky_that_was_not_among_them(found):
    new = skies(1, seed=99)[1]
    fit = fit_sky(new, found.modes, SkySettings())
    assert fit.method == "modes"
    assert fit.reason == ""
    assert fit.rms_fraction < 2.0 * NOISE / fit.sky_electrons
    assert not fit.suspicious


def test_mode_zero_is_the_mean_sky_and_the_others_are_of_order_one(found):
    values = np.stack([found.modes.values[ccd] for ccd in CCDS], axis=1)
    assert values.shape[0] == SETTINGS.n_modes
    assert abs(np.median(values[0]) - 1.0) < 0.02
    assert np.sqrt(np.mean(values[1:] ** 2, axis=(1, 2, 3))) == pytest.approx(1.0, abs=1e-3)
    assert found.rms_fraction < 1e-3
    assert (found.shares < 0.05).all()


def test_a_ccd_that_one_exposure_lacks_is_left_out():
    given = skies(9)
    del given[4][46]
    assert set(find_sky_modes(given, SETTINGS).modes.values) == set(CCDS) - {46}


def test_too_few_exposures_are_refused():
    with pytest.raises(InputError, match="too few exposures for sky modes"):
        find_sky_modes(skies(5), SETTINGS)


def test_fringes_are_found_bin_by_bin():
    random = np.random.default_rng(4)
    y, x = np.mgrid[0:64, 0:32]
    truth = np.stack([1.0 + 0.001 * x, np.sin(0.9 * x + 0.3 * y)])
    amplitudes = [np.array([level, level * random.normal(0.0, 0.01)]) for level in random.uniform(2000, 8000, 20)]
    binned = []
    for a in amplitudes:
        image = np.tensordot(a, truth, axes=1) + random.normal(0.0, 5.0, (64, 32))
        image[random.random((64, 32)) < 0.05] += 3000.0
        image[10, 10] = np.nan
        binned.append(image.astype(np.float32))
    templates = fit_templates(binned, amplitudes, SETTINGS)
    good = np.ones((64, 32), bool)
    good[10, 10] = False
    sky = np.tensordot([5000.0, 60.0], templates - truth, axes=1)[good]
    assert np.sqrt(np.mean(sky**2)) < 6.0  # the noise of a bin of one exposure is 5
    assert np.isfinite(templates).all()


def test_bins_pass_over_masked_pixels():
    science = np.full((16, 16), 100.0, np.float32)
    mask = np.zeros((16, 16), np.int16)
    science[2, 3], mask[2, 3] = 9999.0, MaskBit.CRAY
    mask[8:, 8:] = MaskBit.STAR
    binned = bin_sky(science, mask, 8)
    assert binned[0].tolist() == [100.0, 100.0]
    assert np.isnan(binned[1, 1])
