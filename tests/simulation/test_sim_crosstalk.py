"""Crosstalk of the simulated electronics against the observatory's published coefficients."""

import numpy as np
import pytest
from detector_frames import rng

from imaging.detector.crosstalk import CrosstalkTerm, observatory_crosstalk
from imaging.simulation.crosstalk import LARGEST_ADU, add_crosstalk

ONSET = 40_381.28
B_TO_A = CrosstalkTerm((25, "A"), (25, "B"), 3.16e-4, ONSET, (8.826313e-4, -1.619436e-7, 9.457412e-12))
"""What amplifier B of CCD 25 sends into A, as published on 2013-06-06."""


def polynomial(signal: float) -> float:
    """Evaluate the published response: a line up to the onset, a cubic beyond it."""
    excess = max(signal - ONSET, 0.0)
    return 3.16e-4 * min(signal, ONSET) + np.polyval([9.457412e-12, -1.619436e-7, 8.826313e-4, 0.0], excess)


def test_the_matrix_holds_the_published_term():
    assert B_TO_A in observatory_crosstalk().into(25)


@pytest.mark.parametrize("signal", [-300.0, 0.0, 1.0, 20_000.0, ONSET, 40_500.0, 52_000.0, 62_999.0])
def test_a_victim_receives_what_the_published_response_says(signal):
    source = np.zeros((2, 2160), dtype=np.float32)
    source[0, 300] = signal  # CCD 25 is S1: amplifier B reads the left half
    received = add_crosstalk(np.zeros_like(source), 25, (B_TO_A,), {25: source})
    assert received[0, 2159 - 300] == pytest.approx(polynomial(float(source[0, 300])), rel=1e-5, abs=1e-7)
    assert np.count_nonzero(received) == (signal != 0.0)


def test_an_amplifier_sends_no_more_than_it_can_deliver():
    source = np.zeros((1, 2160), dtype=np.float32)
    source[0, 10], source[0, 20] = LARGEST_ADU, 2e5
    received = add_crosstalk(np.zeros_like(source), 25, (B_TO_A,), {25: source})
    assert received[0, 2149] == received[0, 2139] == pytest.approx(polynomial(63_000.0), rel=1e-5)


@pytest.mark.parametrize(
    ("victim", "source", "column"),
    [  # A is the left half of N CCDs and the right half of S CCDs; both halves are read from their outer side
        ((33, "A"), (32, "A"), 5),
        ((33, "B"), (32, "B"), 1085),
        ((33, "B"), (32, "A"), 2154),
        ((33, "A"), (32, "B"), 1074),
        ((26, "A"), (25, "A"), 1085),
        ((26, "B"), (25, "A"), 1074),
    ],
)
def test_ghosts_lie_where_the_victim_reads_at_the_same_moment(victim, source, column):
    place = 5 if (source[1] == "A") == (source[0] == 32) else 1085
    image = np.zeros((3, 2160), dtype=np.float32)
    image[1, place] = 10_000.0
    term = CrosstalkTerm(victim, source, 2e-4, 1e10, ())
    ghost = add_crosstalk(np.zeros_like(image), victim[0], (term,), {source[0]: image})
    assert np.argwhere(ghost).tolist() == [[1, column]]
    assert ghost[1, column] == pytest.approx(2.0, rel=1e-6)


def test_overscan_pixels_leak_like_the_others():
    image = rng(1).normal(0.0, 100.0, (4, 2160)).astype(np.float32)
    term = CrosstalkTerm((33, "B"), (33, "A"), 1e-2, 1e10, ())
    result = add_crosstalk(image, 33, (term,), {33: image}) - image
    np.testing.assert_allclose(result[:, 1080:], 1e-2 * image[:, 1079::-1], atol=2e-4)
    assert not result[:, :1080].any()


def test_all_terms_into_a_ccd_add_up_and_no_ghost_makes_ghosts():
    """The sum over all published terms, by matrix algebra on the signals before crosstalk."""
    terms = observatory_crosstalk().into(26)
    assert {term.source[0] for term in terms} == {25, 26, 27}
    signals = {n: rng(n).uniform(0.0, 30_000.0, (5, 2160)).astype(np.float32) for n in (25, 26)}  # below all onsets
    before = {n: s.copy() for n, s in signals.items()}
    result = add_crosstalk(signals[26], 26, terms, signals)
    expected = signals[26].astype(float)
    for term in terms:
        if term.source[0] == 27:  # not simulated: leaks nothing
            continue
        halves = {"A": np.s_[:, 1080:], "B": np.s_[:, :1080]}
        part = before[term.source[0]][halves[term.source[1]]].astype(float)
        if term.source[1] != term.victim[1]:
            part = part[:, ::-1]
        expected[halves[term.victim[1]]] += term.coefficient * part
    np.testing.assert_allclose(result - signals[26], expected - before[26], atol=5e-3)  # float32 at 30,000
    assert np.abs(expected - before[26]).max() > 5.0
    for n in (25, 26):
        np.testing.assert_array_equal(signals[n], before[n])
