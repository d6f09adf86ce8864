"""The sky of an exposure: recovered from many CCDs, never degenerate without saying so."""

import json

import numpy as np
import pytest

from imaging.detector.ccds import CCDS, SCIENCE_CCDS
from imaging.errors import CcdError, InputError
from imaging.sky.fit import SkyFit, fit_sky
from imaging.sky.image import sky_image, upsample
from imaging.sky.mini_sky import MiniSky
from imaging.sky.modes import SkyModes, SkyTemplates, templates_of_modes
from imaging.sky.settings import SkySettings

SETTINGS = SkySettings()
TRUTH = np.array([3000.0, 30.0, -20.0, 15.0, 25.0])
ERROR = 0.5


def modes_of(ccd: int, bins: int = 128) -> np.ndarray:
    """Level, two gradients, radius and a ghost at the centre, at the middle of bins."""
    x0, y0 = CCDS[ccd].focal_plane_centre
    u = (x0 - 1024 + (np.arange(2048 // bins) + 0.5) * bins)[None, :] / 14000.0
    v = (y0 - 2048 + (np.arange(4096 // bins) + 0.5) * bins)[:, None] / 14000.0
    u, v = u + 0 * v, v + 0 * u
    r = np.hypot(u, v)
    ghost = np.exp(-(((r - 0.3) / 0.12) ** 2))
    return np.stack([np.ones_like(u), u, v, r**2 - 0.45, ghost]).astype(np.float32)


MODES = SkyModes({ccd: modes_of(ccd) for ccd in SCIENCE_CCDS})


def skies(ccds, truth=TRUTH, seed=1, error=ERROR):
    random = np.random.default_rng(seed)
    found = {}
    for ccd in ccds:
        values = np.tensordot(truth, MODES.values[ccd].astype(float), axes=1)
        found[ccd] = MiniSky(ccd, (values + random.normal(0, error, values.shape)).astype(np.float32))
    return found


WITHOUT_61 = tuple(ccd for ccd in SCIENCE_CCDS if ccd != 61)


@pytest.mark.parametrize("ccds", [(28,), (27, 34), (60, 62), WITHOUT_61[::6], WITHOUT_61], ids=len)
def test_any_number_of_ccds_gives_a_sky_and_says_what_it_rests_on(ccds):
    """One CCD, two neighbours, two at the edge, ten, and all that work: never degenerate, never silent."""
    fit = fit_sky(skies(ccds), MODES, SETTINGS)
    assert np.isfinite(fit.coefficients).all()
    assert bool(fit.reason) == (fit.method == "mesh" or len(fit.modes_used) < 5)
    assert fit.method == "mesh" or fit.condition <= SETTINGS.maximum_condition
    header = fit.header()
    assert header["SKYMETH"] == fit.method and header["SKYBRITE"] == pytest.approx(3000.0, rel=0.05)
    assert sum(key.startswith("SKYPC") for key in header) == len(fit.coefficients)
    for ccd in ccds:
        true = np.tensordot(TRUTH, modes_of(ccd, 8).astype(float), axes=1)
        error = sky_image(fit, SkyTemplates(ccd, modes_of(ccd, 8)), ccd, (4096, 2048))[4::8, 4::8] - true
        assert np.ptp(error) < 0.001 * 3000.0, "residual gradient"


@pytest.mark.parametrize("ccds", [SCIENCE_CCDS, (26, 27, 33, 34), (3, 20, 31, 44, 60)], ids=["all", "four", "five"])
def test_the_sky_is_recovered_on_any_subset(ccds):
    fit = fit_sky(skies(ccds), MODES, SETTINGS)
    assert fit.method == "modes"
    assert fit.reason == ""
    assert fit.suspicious == ()
    assert fit.rms_fraction == pytest.approx(ERROR / 3000.0, rel=0.1)
    for ccd in ccds:
        true = np.tensordot(TRUTH, modes_of(ccd, 8).astype(float), axes=1)
        error = sky_image(fit, SkyTemplates(ccd, modes_of(ccd, 8)), ccd, (4096, 2048))[4::8, 4::8] - true
        assert np.abs(error).max() < 0.0005 * 3000.0


def test_coefficients_are_those_of_the_truth():
    fit = fit_sky(skies(SCIENCE_CCDS), MODES, SETTINGS)
    assert fit.condition < 10
    np.testing.assert_allclose(fit.coefficients, TRUTH, atol=0.1)


def test_bright_sources_are_clipped():
    mini = skies(SCIENCE_CCDS)
    random = np.random.default_rng(3)
    for sky in mini.values():
        hit = random.random(sky.values.shape) < 0.08
        sky.values[hit] += random.exponential(100.0, hit.sum()).astype(np.float32)
    fit = fit_sky(mini, MODES, SETTINGS)
    assert 0.88 < fit.used_fraction < 0.95
    np.testing.assert_allclose(fit.coefficients, TRUTH, atol=0.4)


def test_one_ccd_gives_up_modes_it_cannot_tell_apart_and_says_which():
    """Far from the centre the ghost is zero: its amplitude is unknown, and is not made up."""
    fit = fit_sky(skies([62]), MODES, SETTINGS)
    assert fit.method == "modes"
    assert 0 in fit.modes_used
    assert len(fit.modes_used) < 5
    assert "4 of 5 modes" in fit.reason
    assert fit.condition <= SETTINGS.maximum_condition
    assert [c for k, c in enumerate(fit.coefficients) if k not in fit.modes_used] == [0.0]
    true = np.tensordot(TRUTH, modes_of(62, 8).astype(float), axes=1)
    error = sky_image(fit, SkyTemplates(62, modes_of(62, 8)), 62, (4096, 2048))[4::8, 4::8] - true
    assert np.abs(error).max() < 0.001 * 3000.0


def test_a_sky_that_the_modes_do_not_describe_takes_the_mesh():
    mini = skies((26, 27, 33, 34))
    for sky in mini.values():
        sky.values[:] += (300.0 * np.sin(np.arange(32) / 4.0))[:, None].astype(np.float32)
    fit = fit_sky(mini, MODES, SETTINGS)
    assert fit.method == "mesh"
    assert "leave" in fit.reason
    assert set(fit.meshes) == {26, 27, 33, 34}
    image = sky_image(fit, None, 26, (4096, 2048))
    middle = image[64::128, 64::128][4:-4] - mini[26].values[4:-4]
    assert np.abs(middle).mean() < 15.0


def test_without_modes_every_ccd_takes_its_mesh():
    mini = skies((26, 60))
    mini[60].values[:, 8:] = np.nan
    fit = fit_sky(mini, None, SETTINGS)
    assert fit.method == "mesh"
    assert "no sky modes" in fit.reason
    for ccd in (26, 60):
        image = sky_image(fit, None, ccd, (4096, 2048))
        assert np.isfinite(image).all()
        assert np.abs(image[2000:2100, 500:600] - 3000.0).max() < 60.0


def test_a_ccd_without_modes_takes_a_mesh_beside_the_others():
    modes = SkyModes({ccd: v for ccd, v in MODES.values.items() if ccd != 27})
    fit = fit_sky(skies((26, 27, 33, 34)), modes, SETTINGS)
    assert fit.method == "modes"
    assert set(fit.meshes) == {27}
    assert np.abs(sky_image(fit, None, 27, (4096, 2048)).mean() - 3000.0) < 20.0


def test_a_wrong_gain_is_noticed():
    mini = skies(SCIENCE_CCDS)
    mini[33].values[:] *= 1.005
    fit = fit_sky(mini, MODES, SETTINGS)
    assert fit.suspicious == (33,)
    assert fit.residuals[33].offset == pytest.approx(0.005, abs=0.0005)


def test_no_sky_at_all_is_a_typed_refusal():
    empty = {5: MiniSky(5, np.full((32, 16), np.nan, np.float32))}
    with pytest.raises(CcdError) as caught:
        fit_sky(empty, MODES, SETTINGS)
    assert caught.value.reason == "no_sky"
    assert "0 superpixels" in str(caught.value.value)


@pytest.mark.parametrize("modes", [MODES, None], ids=["modes", "mesh"])
def test_the_fit_survives_json(modes):
    fit = fit_sky(skies((26, 33)), modes, SETTINGS)
    again = SkyFit.from_dict(json.loads(json.dumps(fit.to_dict(), allow_nan=False)))
    assert again.to_dict() == fit.to_dict()
    templates = templates_of_modes(MODES, 26)
    np.testing.assert_array_equal(
        sky_image(again, templates, 26, (4096, 2048)), sky_image(fit, templates, 26, (4096, 2048))
    )


def test_a_document_that_is_no_fit_is_refused():
    with pytest.raises(InputError, match="sky fit not understood"):
        SkyFit.from_dict({"method": "modes"})


def test_templates_must_belong_to_the_ccd_and_the_fit():
    fit = fit_sky(skies((26, 33)), MODES, SETTINGS)
    for templates in (None, SkyTemplates(33, modes_of(33, 8)), SkyTemplates(26, modes_of(26, 8)[:3])):
        with pytest.raises(InputError, match="templates"):
            sky_image(fit, templates, 26, (4096, 2048))


def test_modes_must_agree_in_number():
    with pytest.raises(InputError, match="do not match"):
        SkyModes({1: np.zeros((3, 32, 16), np.float32), 2: np.zeros((4, 32, 16), np.float32)})


@pytest.mark.parametrize("bins", [8, 128])
def test_interpolation_reproduces_a_smooth_sky(bins):
    y, x = np.mgrid[0:4096, 0:2048]
    true = 3000.0 + 20.0 * (x / 2048.0) + 15.0 * (y / 4096.0) ** 2 + 5.0 * np.sin(x / 600.0)
    binned = true.reshape(4096 // bins, bins, 2048 // bins, bins).mean(axis=(1, 3)).astype(np.float32)
    assert np.abs(upsample(binned, (4096, 2048)) - true).max() < 0.1
