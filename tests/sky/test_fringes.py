"""Fringes of the red bands go with the other modes of the sky, at the resolution of the templates."""

import numpy as np
import pytest

from imaging.simulation.background import fringes, sky_templates, smooth_modes
from imaging.sky.fit import fit_sky
from imaging.sky.image import sky_image
from imaging.sky.mini_sky import make_mini_sky
from imaging.sky.modes import SkyModes, SkyTemplates
from imaging.sky.settings import SkySettings

CAMERA, SHAPE, LEVEL = 61, (4096, 2048), 6000.0
CCDS = (12, 27, 46)
SMOOTH = LEVEL * np.array([1.0, 0.01, -0.008, 0.006, 0.004])


def true_sky(ccd, band, amplitude):
    x, y = np.meshgrid(np.arange(0, 2048, 8) + 3.5, np.arange(0, 4096, 8) + 3.5)
    smooth = np.tensordot(SMOOTH, smooth_modes(ccd, x, y), axes=1)
    return np.repeat(np.repeat(smooth, 8, axis=0), 8, axis=1) + LEVEL * amplitude * fringes(CAMERA, ccd, band)


@pytest.mark.parametrize(("band", "amplitude"), [("z", 0.005), ("Y", 0.02)])
def test_fringes_are_subtracted_to_a_tenth_and_noise(band, amplitude):
    skies, truth = {}, {}
    modes = SkyModes({ccd: sky_templates(CAMERA, ccd, band, 128) for ccd in CCDS})
    for ccd in CCDS:
        truth[ccd] = true_sky(ccd, band, amplitude)
        noise = np.random.default_rng(ccd).standard_normal(SHAPE, dtype=np.float32) * np.float32(np.sqrt(LEVEL))
        skies[ccd] = make_mini_sky((truth[ccd] + noise).astype(np.float32), np.zeros(SHAPE, np.int16), ccd)
    fit = fit_sky(skies, modes, SkySettings())
    assert fit.modes_used == (0, 1, 2, 3, 4, 5)
    assert fit.coefficients[5] == pytest.approx(LEVEL * amplitude, rel=0.1)
    ccd = CCDS[1]
    found = sky_image(fit, SkyTemplates(ccd, sky_templates(CAMERA, ccd, band)), ccd, SHAPE)
    left = (found - truth[ccd]).reshape(512, 8, 256, 8).mean(axis=(1, 3))
    assert left.std() < 0.1 * LEVEL * amplitude / np.sqrt(2.0)
    assert abs(left.mean()) < 1e-4 * LEVEL
