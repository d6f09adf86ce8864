"""Maps of pixel displacements from lists of stars: what is found, with which error, and what is refused."""

import numpy as np
import pytest

from imaging.astrometry.displacement import PixelDisplacement
from imaging.astrometry.turbulence import Turbulence
from imaging.detector.ccds import NX, NY
from imaging.errors import CcdError
from imaging.masters.displacement import StarOffsets, fit_displacement
from imaging.masters.rings import TreeRings
from imaging.masters.settings import DisplacementSettings

SETTINGS = DisplacementSettings()
TO_SKY = 0.2636 / 60.0 * np.array([[0.0, -1.0], [-1.0, 0.0]])
TURBULENCE = Turbulence(8.0, 2.0, stretch=(0.2, 0.1))
ERROR = 0.04
"""Error of a star per axis, pixels: a star of S/N 30 and its reference."""

RADII = np.arange(100.0, 5200.0, 4.0)
SHIFT = 0.035 * np.sin(RADII / 28.0 + 4e-6 * RADII**2)
RINGS = TreeRings((-250.0, -400.0), RADII, SHIFT, 0.9)
LEFT, RIGHT = [0.3, 0.15, 0.06, 0.02, 0.0], [-0.2, -0.1, -0.05, -0.02, 0.0]
TRUE = PixelDisplacement(
    name="true",
    ccd=27,
    band="i",
    centre=RINGS.centre,
    first_radius=RADII[0],
    radius_step=4.0,
    ring=(0.8 * SHIFT).tolist(),
    edges=[LEFT, RIGHT, [0.0] * 5, [0.0] * 5],
)


def observe(random, displacement, n_stars=140):
    """Return the residuals of one exposure: displacement, turbulence, a cubic, noise, three false matches."""
    x, y = random.uniform(10, NX - 10, n_stars), random.uniform(10, NY - 10, n_stars)
    place = np.stack([x, y], axis=-1) @ TO_SKY.T
    root = np.linalg.cholesky(TURBULENCE.covariance(place, place) + 1e-6 * np.eye(2 * n_stars))
    drawn = (root @ random.normal(size=2 * n_stars)).reshape(2, -1).T / 60000.0
    offsets = drawn @ np.linalg.inv(TO_SKY).T + random.normal(0.0, ERROR, (n_stars, 2))
    offsets += np.outer((2.0 * x / NX - 1.0) ** 3 + 0.5, random.normal(0.0, 0.2, 2))
    offsets[:3] += 1.5
    if displacement is not None:
        offsets += displacement.at(x, y).T
    error = np.full(n_stars, ERROR)
    return StarOffsets(x, y, offsets[:, 0], offsets[:, 1], error, error, TURBULENCE, TO_SKY)


def night(seed, displacement, n):
    random = np.random.default_rng(seed)
    return {number: observe(random, displacement) for number in range(n)}


def rest(model, seed=99):
    """Return the rms of the true displacement and of what a map leaves of it, per axis, mas."""
    x, y = np.random.default_rng(seed).uniform(0, 1, (2, 4000)) * np.array([[NX], [NY]])
    true = TRUE.at(x, y)
    return 263.6 * float(true.std()), 263.6 * float((true - model.at(x, y)).std())


def test_twelve_exposures_give_amplitude_and_edges_within_their_errors():
    fit = fit_displacement(night(1, TRUE, 12), RINGS, 27, SETTINGS)
    assert fit.parts == ("rings", "edges")
    assert fit.errors[0] < 0.06
    assert abs(fit.parameters[0] - 0.8) < 3.0 * fit.errors[0]
    pulls = (fit.parameters[1:11] - np.array(LEFT + RIGHT)) / fit.errors[1:11]
    assert np.abs(pulls).max() < 3.5
    before, after = rest(fit.model("new", 27, "i", RINGS))
    assert before > 6.0
    assert after < 0.4 * before


def test_the_least_number_of_exposures_makes_no_position_worse():
    """Priors draw what few stars do not determine to zero."""
    left = []
    for seed in (2, 3, 4):
        fit = fit_displacement(night(seed, TRUE, 4), RINGS, 27, SETTINGS)
        before, after = rest(fit.model("new", 27, "i", RINGS))
        left.append(after / before)
    assert max(left) < 0.9
    assert np.mean(left) < 0.6


def test_stars_without_displacement_give_no_map_in_most_nights_and_never_a_large_one():
    left = []
    for seed in range(10, 20):
        try:
            model = fit_displacement(night(seed, None, 6), RINGS, 27, SETTINGS).model("new", 27, "i", RINGS)
        except CcdError as refused:
            assert refused.reason == "no_displacement"
            assert "chi-square falls by" in str(refused)
            continue
        x, y = np.random.default_rng(0).uniform(0, 1, (2, 4000)) * np.array([[NX], [NY]])
        left.append(263.6 * float(model.at(x, y).std()))
    assert len(left) <= 2
    assert max(left, default=0.0) < 1.5


def test_rings_that_the_stars_contradict_get_no_amplitude():
    """The rings are chosen or not by chance; if they are, their amplitude is zero within its error."""
    other = TreeRings((2500.0, 4900.0), RADII, SHIFT, 0.9)
    for seed in (1, 2, 3):
        fit = fit_displacement(night(seed, TRUE, 12), other, 27, SETTINGS)
        assert "edges" in fit.parts
        assert fit.errors[0] < 0.06
        assert abs(fit.parameters[0]) <= 3.0 * fit.errors[0]


@pytest.mark.parametrize(("n", "stars"), [(3, 140), (12, 10)])
def test_too_few_exposures_or_stars_are_refused(n, stars):
    random = np.random.default_rng(5)
    exposures = {number: observe(random, TRUE, stars) for number in range(n)}
    with pytest.raises(CcdError, match=r"CCD 27.*too few stars.*at least 200 in 4"):
        fit_displacement(exposures, RINGS, 27, SETTINGS)


def test_a_map_takes_out_what_it_states():
    x, y = np.array([0.0, 40.0, 1000.0, 2040.0]), np.array([2000.0, 100.0, 3000.0, 4000.0])
    back = TRUE.undo(x + TRUE.at(x, y)[0], y + TRUE.at(x, y)[1])
    np.testing.assert_allclose(back, [x, y], atol=2e-3)
    assert TRUE.model_copy(update={"ring": []}).at(np.array([3.0]), np.array([2000.0]))[0, 0] == pytest.approx(0.3)
