"""The brighter-fatter correction: charge conserved, and the forward effect undone."""

import numpy as np
import pytest

from imaging.bits import MaskBit
from imaging.detrend.brighter_fatter import BrighterFatterKernel, correct_brighter_fatter
from imaging.errors import InputError


def kernel(n: int = 4) -> BrighterFatterKernel:
    j, i = np.mgrid[0:n, 0:n]
    right = 3e-8 * (i + 0.5) / ((i + 0.5) ** 2 + j**2) ** 1.5 * 0.25
    return BrighterFatterKernel(right, right.T.copy())


def shifts_by_hand(charge, k):
    """Sum the definition of the kernel over all charges."""
    n = k.right.shape[0]
    ny, nx = charge.shape
    excess = np.pad(charge - np.median(charge[::16, ::16]), n + 1)
    right, top = np.zeros((ny, nx)), np.zeros((ny, nx))
    for j in range(-n + 1, n):
        for i in range(n):
            for sign, step in ((1, 1 + i), (-1, -i)):
                y, x = n + 1 + j, n + 1 + step
                right += sign * k.right[abs(j), i] * excess[y : y + ny, x : x + nx]
                y, x = n + 1 + step, n + 1 + j
                top += sign * k.top[i, abs(j)] * excess[y : y + ny, x : x + nx]
    return right, top


def blur(charge, k):
    """Apply the effect: a border that moves takes charge along."""
    right, top = shifts_by_hand(charge, k)
    moved_x = 0.5 * (charge[:, :-1] + charge[:, 1:]) * right[:, :-1]
    moved_y = 0.5 * (charge[:-1] + charge[1:]) * top[:-1]
    out = charge.copy()
    out[:, :-1] += moved_x
    out[:, 1:] -= moved_x
    out[:-1] += moved_y
    out[1:] -= moved_y
    return out


def star(flux: float = 1.5e6) -> np.ndarray:
    y, x = np.mgrid[0:64, 0:96]
    return 2000.0 + flux / (2 * np.pi * 4) * np.exp(-0.5 * ((x - 40.3) ** 2 + (y - 31.6) ** 2) / 4)


def test_the_effect_is_undone_to_second_order():
    truth = star()
    science = blur(truth, kernel()).astype(np.float32)
    before = np.abs(science - truth).max()
    correct_brighter_fatter(science, np.zeros(truth.shape, np.int16), kernel(), 2000.0)
    assert before > 90.0
    assert np.abs(science - truth).max() < 0.05 * before


def test_bright_stars_are_wider_before():
    truth = star()
    science = blur(truth, kernel())
    assert science.max() < truth.max()


def test_charge_is_conserved():
    science = star().astype(np.float32)
    total = science.sum(dtype=float)
    moved = correct_brighter_fatter(science, np.zeros(science.shape, np.int16), kernel(), 2000.0)
    assert science.sum(dtype=float) == pytest.approx(total, rel=1e-7)
    assert moved > 40.0


def test_pixels_of_unknown_charge_move_nothing_and_make_their_neighbours_suspect():
    science, mask = star().astype(np.float32), np.zeros((64, 96), np.int16)
    science[10, 20], mask[10, 20] = 3e5, MaskBit.SATURATE
    correct_brighter_fatter(science, mask, kernel(), 2000.0)
    assert science[10, 20] == 3e5
    assert {tuple(p) for p in np.argwhere(mask == MaskBit.SUSPECT)} == {(9, 20), (11, 20), (10, 19), (10, 21)}


def test_kernels_must_match():
    with pytest.raises(InputError, match="differ in shape"):
        BrighterFatterKernel(np.zeros((3, 3)), np.zeros((2, 2)))
