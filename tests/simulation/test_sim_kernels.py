"""The compiled loops of the read-out, with tables that are parts of larger arrays: none reads beyond its own."""

import numpy as np
import pytest

from imaging.simulation.crosstalk import LARGEST_ADU, _leak
from imaging.simulation.detector import _convert


def test_true_adu_become_measured_ones_along_the_table_and_beyond_its_end():
    """Between 0 and 3 along the table, above along its last piece, below zero as they are."""
    measured = np.array([0.0, 0.5, 2.0, 2.2, 900.0, 70.0, -5000.0])[:4]
    gain = np.array([1.0, 4.0])
    adu = np.array([[-7.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.75, 3.0, 5.5]] * 2)
    expected = np.array([-7.0, 0.0, 0.25, 0.5, 1.25, 2.0, 2.15, 2.2, 2.2 + 2.5 * 0.2])
    noise = np.random.default_rng(1).normal(size=adu.shape).astype(np.float32)
    bias = np.random.default_rng(2).normal(100.0, 5.0, adu.shape).astype(np.float32)
    out = noise.copy()
    _convert(out, (adu * gain[:, None]).astype(np.float32), bias, gain, measured)
    assert out == pytest.approx(expected + bias + noise, rel=1e-6)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_leak_is_a_line_up_to_its_onset_and_a_cubic_beyond(mirrored):
    powers = np.array([2e-3, -3e-8, 4e-12, 7e3, -8e9, 5e7])[:3]
    source = np.array([[-50.0, 0.0, 100.0, 30_000.0, 30_001.0, 45_000.0, LARGEST_ADU, 9e4]], np.float32)
    victim = np.full(source.shape, 10.0, np.float32)
    _leak(victim, source, mirrored, 1e-3, 30_000.0, powers)
    sent = np.minimum(source[0].astype(float), 63_000.0)
    excess = np.maximum(sent - 30_000.0, 0.0)
    received = 1e-3 * np.minimum(sent, 30_000.0) + 2e-3 * excess - 3e-8 * excess**2 + 4e-12 * excess**3
    assert victim[0] == pytest.approx(10.0 + (received[::-1] if mirrored else received), rel=1e-6)
