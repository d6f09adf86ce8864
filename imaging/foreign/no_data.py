"""Find pixels that hold no data: constants instead of NaN, and integers equal to BLANK."""

import math
from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_propagation, label

from imaging.errors import InputError
from imaging.numerics.robust import MAD_TO_SIGMA

BoolImage = NDArray[np.bool_]

SHORTEST_RUN, MAX_CHANCE = 5, 1e-3
"""Fewest equal neighbours along a row or column that are a constant, and the number of such runs by chance."""

SAMPLE_STRIDE, MAX_CLIPPED = 7, 0.01
"""Every so many pixels show how coarse the numbers are; largest fraction of an image that saturated cores take."""

LARGEST_VALUE, MOST_CODES = 1e20, 2
"""Largest pixel or weight, far beyond the flux of the brightest star in any unit; codes beyond it in one image."""

MIN_REPEATS, FAR_SIGMA, MIN_DARK = 5, 8.0, 500
"""Times that one value below the sky by so many sigma repeats exactly where it stands for no data, and connected pixels
that are so dark where no light fell on them: overscan, a vignetted edge, an amplifier without signal."""


def blank_pixels(pixels: NDArray[Any], header: Mapping[str, Any]) -> BoolImage | None:
    """Return which pixels of an integer image equal BLANK, None if the header has no BLANK.

    Parameters
    ----------
    pixels
        (ny, nx), after BSCALE and BZERO.
    header
        Keywords of the image's HDU; BLANK refers to the stored integers (FITS standard 4.0, section 4.4.2.5).

    Raises
    ------
    InputError
        If BLANK is not an integer.
    """
    value = header.get("BLANK", header.get("ZBLANK"))
    if value is None or float(header.get("ZBITPIX", header.get("BITPIX", -32))) < 0:
        return None
    try:
        blank = int(str(value).strip())
        scaled = blank * float(header.get("BSCALE", 1.0)) + float(header.get("BZERO", 0.0))
    except ValueError as error:
        raise InputError(
            "BLANK of the header is not an integer", value=repr(value), remedy="correct the card"
        ) from error
    return np.isclose(pixels, scaled, rtol=1e-6, atol=0.0) if pixels.dtype.kind == "f" else pixels == scaled


def require_possible_values(values: NDArray[Any], what: str, name: object) -> None:
    """Raise if pixels or weights are larger than any detector or unit makes them.

    Parameters
    ----------
    values
        (ny, nx); NaN is no data.
    what, name
        What they are, and their file, for the message.

    Raises
    ------
    InputError
        With the largest value.
    """
    largest = float(max(np.fmax.reduce(values, None, initial=0.0), -np.fmin.reduce(values, None, initial=0.0)))
    if largest > LARGEST_VALUE:
        value, limit = f"{largest:.3g} in {name}", f"{LARGEST_VALUE:g}"
        raise InputError(f"impossible {what}", value=value, limit=limit, remedy="export the image again")


def code_pixels(pixels: NDArray[np.float32]) -> BoolImage:
    """Return which pixels hold a code that no flux can be, such as 1e30 or -3.4e38.

    Parameters
    ----------
    pixels
        (ny, nx); NaN is no data already. If many different values are impossible, they are no codes.
    """
    with np.errstate(invalid="ignore"):
        beyond = np.isfinite(pixels) & (np.abs(pixels) > LARGEST_VALUE)
    return beyond if np.unique(pixels[beyond]).size <= MOST_CODES else np.zeros_like(beyond)


def dithered_pixels(pixels: NDArray[np.float32], steps: NDArray[np.float32]) -> BoolImage:
    """Find parts of an image that were constant before a compression with dither made noise of one step of them.

    Runs of pixels within one step of each other count if they are longer than the noise of the sky makes them, and
    what is within the same step beside them.

    Parameters
    ----------
    pixels
        (ny, nx) float32; NaN is no data already.
    steps
        (ny,) step of each row.
    """
    spread = steps * np.float32(1.001)
    with np.errstate(invalid="ignore"):
        equal = float(np.median(np.mean(np.abs(np.diff(pixels, axis=1)) <= spread[:, None], axis=1)))
    length = _shortest_run(equal, pixels.size)
    wide = np.full(pixels.shape[1], spread.max(initial=0.0), dtype=np.float32)
    runs = _runs(pixels, length, spread) | _runs(np.ascontiguousarray(pixels.T), length, wide).T
    found, left = np.zeros_like(runs), runs
    while left.any() and np.count_nonzero(left) >= length:
        level = np.median(pixels[left])
        same = left & (np.abs(pixels - level) <= wide[0])
        if not same.any():
            break
        level = 0.5 * (pixels[same].min() + pixels[same].max())
        with np.errstate(invalid="ignore"):
            near = np.abs(pixels - level) <= 0.51 * spread[:, None]
        found |= binary_propagation(same, mask=near | same, structure=np.ones((3, 3)))
        left = left & ~same
    return found


def _shortest_run(equal: float, n_pixels: int) -> int:
    """Return the length of runs that chance does not make where neighbours are equal with some probability."""
    equal = min(equal, 0.9)
    return (
        SHORTEST_RUN
        if equal <= 0
        else max(SHORTEST_RUN, 1 + math.ceil(math.log(MAX_CHANCE / n_pixels) / math.log(equal)))
    )


def constant_pixels(pixels: NDArray[np.float32]) -> tuple[BoolImage, BoolImage]:
    """Find exactly constant parts of an image, which no sky with noise has, and large ones far below the sky.

    Runs of equal pixels along rows and columns count if they are longer than chance makes them; in an image of
    integers chance makes longer ones. A value of such runs, and one far below the sky that repeats, stands for no data
    wherever it occurs.

    Parameters
    ----------
    pixels
        (ny, nx) float32; NaN is no data already.

    Returns
    -------
    no_data
        (ny, nx) pixels without data; dark parts are grown by two pixels.
    clipped
        (ny, nx) constant pixels at the highest value of the image: saturated cores.
    """
    finite = np.isfinite(pixels)
    none = np.zeros(pixels.shape, dtype=np.bool_)
    if not finite.any():
        return none, none.copy()
    good = pixels[finite]
    equal = np.median(np.mean(pixels[:, 1:] == pixels[:, :-1], axis=1))
    sample, counts = np.unique(good[::SAMPLE_STRIDE], return_counts=True)
    if sample.size < 0.5 * counts.sum():  # coarse numbers: a run of the most common value is the longest
        equal = max(equal, counts.max() / counts.sum())
    equal = min(float(equal), 0.9)
    length = _shortest_run(equal, pixels.size)
    exact = [np.zeros(n, dtype=np.float32) for n in pixels.shape]
    runs = _runs(pixels, length, exact[0]) | _runs(np.ascontiguousarray(pixels.T), length, exact[1]).T
    values, counts = np.unique(pixels[runs], return_counts=True)
    values = values[counts >= length]
    highest = good.max()
    sample = (pixels[finite & ~runs] if runs.any() else good)[::7]
    if sample.size > 100:
        middle = float(np.median(sample))
        step = float(np.diff(np.unique(sample)).min(initial=np.inf))
        sigma = max(MAD_TO_SIGMA * float(np.median(np.abs(sample - middle))), step if np.isfinite(step) else 0.0)
        low, repeats = np.unique(pixels[finite & (pixels < middle - FAR_SIGMA * sigma)], return_counts=True)
        values = np.union1d(values, low[repeats >= MIN_REPEATS])
        runs |= _dark_parts(finite & ~runs & (pixels < middle - FAR_SIGMA * sigma))
    everywhere = equal < 1.0 / pixels.shape[1]
    if np.count_nonzero(pixels == 0) >= MIN_REPEATS + 10.0 * equal * pixels.size:
        values = np.union1d(values, [np.float32(0.0)])
    clipped = runs & (pixels == highest) & (highest > 0)
    if clipped.mean() > MAX_CLIPPED:
        clipped[:] = False
        highest = np.inf
    far = values[values < highest]
    if not everywhere and sample.size > 100:
        far = far[np.abs(far - middle) > FAR_SIGMA * sigma]
    return (runs & ~clipped) | np.isin(pixels, far), clipped


def _dark_parts(dark: BoolImage) -> BoolImage:
    """Return the large connected parts of dark pixels."""
    if np.count_nonzero(dark) < MIN_DARK:
        return np.zeros_like(dark)
    labels, _ = label(dark)
    large = np.bincount(labels.ravel()) >= MIN_DARK
    large[0] = False
    return binary_dilation(large[labels], iterations=2)


@numba.njit(cache=True)
def _runs(pixels: NDArray[np.float32], length: int, spread: NDArray[np.float32]) -> BoolImage:
    """Return which pixels are in a run of at least ``length`` values along their row within its ``spread``."""
    ny, nx = pixels.shape
    out = np.zeros((ny, nx), dtype=np.bool_)
    for j in range(ny):
        first = 0
        low = high = pixels[j, 0]
        for i in range(1, nx + 1):
            if i < nx:
                low, high = min(low, pixels[j, i]), max(high, pixels[j, i])
                if high - low <= spread[j] and pixels[j, i] == pixels[j, i]:
                    continue
                low = high = pixels[j, i]
            if i - first >= length and pixels[j, first] == pixels[j, first]:
                out[j, first:i] = True
            first = i
    return out


def linear_pixels(pixels: NDArray[Any], header: Mapping[str, Any]) -> NDArray[Any]:
    """Return pixels on a linear scale where the header states the asinh scale of Pan-STARRS.

    Parameters
    ----------
    pixels
        (ny, nx) values v.
    header
        BSOFTEN and BOFFSET, in any case and below any prefix such as ``HIERARCH CELL.``: flux = BOFFSET + 2 BSOFTEN
        sinh(v / (2.5 log10 e)) (Waters et al. 2020, ApJS 251, 4).

    Raises
    ------
    InputError
        If only one of the two cards is present, or one is not a number.
    """
    last_words = {key.upper().rpartition(".")[2]: value for key, value in header.items()}
    cards = [last_words.get(key) for key in ("BSOFTEN", "BOFFSET")]
    if cards == [None, None]:
        return pixels
    try:
        soften, offset = (float(str(card)) for card in cards)
    except ValueError:
        soften = math.nan
    if not (soften > 0 and math.isfinite(offset)):
        raise InputError(
            "the asinh scale of the pixels is not understood",
            value=f"BSOFTEN {cards[0]!r}, BOFFSET {cards[1]!r}",
            limit="two numbers, BSOFTEN above zero",
            remedy="give an image with a linear scale",
        )
    return (offset + 2.0 * soften * np.sinh(np.asarray(pixels, dtype=float) * (0.4 * math.log(10.0)))).astype(
        np.float32
    )
