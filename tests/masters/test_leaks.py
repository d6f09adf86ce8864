"""Crosstalk coefficients from frames of stars and cosmic rays through which the simulator has sent known crosstalk."""

import numpy as np
import pytest

from imaging.detector.ccds import CCDS, NX
from imaging.detector.crosstalk import CrosstalkMatrix, CrosstalkTerm, format_crosstalk, parse_crosstalk
from imaging.detector.sections import POSTSCAN, RAW_NX, raw_sections
from imaging.detrend.settings import DetrendSettings
from imaging.image import RawCcd
from imaging.masters.adu_frames import adu_frame
from imaging.masters.leaks import contrast, find_leak, fit_leaks, updated_matrix
from imaging.masters.settings import LeakSettings
from imaging.simulation.crosstalk import add_crosstalk

VICTIM, NEIGHBOUR = 34, 33
SETTINGS = LeakSettings()
TERMS = (
    CrosstalkTerm((34, "A"), (34, "B"), 4.1e-4, 43000.0, (4.5e-4, -2.0e-7, 1.0e-11)),
    CrosstalkTerm((34, "B"), (34, "A"), -2.3e-4, 43000.0, (-2.6e-4, 1.0e-7, 0.0)),
    CrosstalkTerm((34, "A"), (33, "A"), 9.0e-5, 1e10, (9.0e-5, 0.0, 0.0)),
    CrosstalkTerm((34, "B"), (33, "A"), 0.0, 1e10, (0.0, 0.0, 0.0)),
)
TRUE = {(term.victim, term.source): term.coefficient for term in TERMS}


def analog(ccdnum, random):
    """Return stars, two of three of them saturated and bleeding, galaxies and cosmic rays over a sky: raw layout."""
    ccd = CCDS[ccdnum]
    light = np.full((ccd.ny, NX), 180.0, np.float32)
    light += 6.8 * random.standard_normal(light.shape, dtype=np.float32)
    y, x = np.mgrid[-24:25, -24:25]
    shape = 1.0 / (1.0 + (x**2 + y**2) / 4.0) ** 2.5
    for flux in np.concatenate([10.0 ** random.uniform(3.5, 5.7, 60), 10.0 ** random.uniform(0.5, 2.5, 1500)]):
        row, column = random.integers(30, ccd.ny - 30), random.integers(30, NX - 30)
        light[row - 24 : row + 25, column - 24 : column + 25] += (flux * shape).astype(np.float32)
        if flux > 1e5:
            light[max(row - 150, 0) : row + 150, column - 1 : column + 2] += 45000.0
    for _ in range(40):
        row, column = random.integers(0, ccd.ny), random.integers(0, NX - 20)
        light[row, column : column + random.integers(2, 12)] += random.uniform(2000.0, 20000.0)
    out = (1.6 * random.standard_normal((ccd.ny + POSTSCAN, RAW_NX), dtype=np.float32)).astype(np.float32)
    sections = raw_sections(ccd)
    for a in ccd.amplifiers:
        out[sections[f"DATASEC{a.name}"].slices] += np.minimum(light[:, a.columns], 46000.0)
    return out


def raw_of(ccdnum, image):
    ccd, sections = CCDS[ccdnum], raw_sections(CCDS[ccdnum])
    header = {key: str(section) for key, section in sections.items()}
    for a in ccd.amplifiers:
        header |= {f"GAIN{a.name}": a.gain, f"RDNOISE{a.name}": 6.0, f"SATURAT{a.name}": a.saturation_adu}
    return RawCcd(header, np.clip(np.rint(image + 2000.0), 0, 65535).astype(np.uint16))


def known(term):
    """Return what the matrix until now says of a pair: half the coefficient, and the right shape beyond the onset."""
    half = tuple(value / 2.0 for value in term.polynomial)
    return CrosstalkTerm(term.victim, term.source, term.coefficient / 2.0, term.onset_adu, half)


@pytest.fixture(scope="module")
def measured():
    """Return victim amplifier to coefficients and errors of its two sources, from three frames of two CCDs."""
    leaks = {"A": [], "B": []}
    for seed in range(3):
        random = np.random.default_rng(seed)
        images = {ccd: analog(ccd, random) for ccd in (VICTIM, NEIGHBOUR)}
        images[VICTIM] = add_crosstalk(images[VICTIM], VICTIM, TERMS, images)
        frames = {}
        for ccd, image in images.items():
            frames[ccd] = contrast(adu_frame(CCDS[ccd], {ccd: raw_of(ccd, image)}, 20240510, DetrendSettings()))
        for name, other in (("A", "B"), ("B", "A")):
            sources = [(frames[VICTIM], other, known(TERMS[name == "B"])), (frames[NEIGHBOUR], "A", None)]
            leaks[name].append(find_leak(frames[VICTIM], None, name, sources, SETTINGS))
    return {name: fit_leaks(found, np.zeros(2), SETTINGS) for name, found in leaks.items()}


def test_coefficients_are_within_2e_5_of_the_truth(measured):
    """Also from a guess of nothing, of either sign, between CCDs, and where there is none."""
    for name, other in (("A", "B"), ("B", "A")):
        values, errors = measured[name]
        true = [TRUE[(34, name), (34, other)], TRUE[(34, name), (33, "A")]]
        assert np.abs(values - true).max() < 2e-5
        assert (errors < SETTINGS.maximum_error).all()
        assert (np.abs(values - true) < 5 * errors).all()


def test_what_was_measured_replaces_the_old_and_the_rest_stays():
    base = CrosstalkMatrix((TERMS[0], TERMS[1]))
    found = {
        ((34, "A"), (34, "B")): (8.2e-4, 4e-6),
        ((34, "B"), (34, "A")): (5.0e-4, 8e-5),
        ((34, "A"), (33, "A")): (7.0e-5, 3e-6),
    }
    matrix, errors = updated_matrix(base, found, 1e-5)
    text = format_crosstalk(matrix.terms, errors)
    read = {(t.victim, t.source): t for t in parse_crosstalk(text).terms}
    assert read[(34, "A"), (34, "B")].coefficient == pytest.approx(8.2e-4)
    assert read[(34, "A"), (34, "B")].polynomial[0] == pytest.approx(9.0e-4), "scaled with the coefficient"
    assert read[(34, "B"), (34, "A")].coefficient == pytest.approx(-2.3e-4), "measured too badly"
    assert read[(34, "A"), (33, "A")].coefficient == pytest.approx(7.0e-5)
    assert "4.00e-06" in text
