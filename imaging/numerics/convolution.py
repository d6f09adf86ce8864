"""Convolution of small images by Fourier transforms, as :func:`scipy.signal.fftconvolve`, whose import costs 0.5 s."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft


def convolve(image: NDArray[Any], kernel: NDArray[Any], mode: Literal["full", "same", "valid"]) -> NDArray[Any]:
    """Return the convolution of two images.

    Parameters
    ----------
    image
        (ny, nx).
    kernel
        (ky, kx), not larger than the image.
    mode
        ``full``: (ny + ky - 1, nx + kx - 1); ``same``: the middle (ny, nx) of it; ``valid``: what no border affects,
        (ny - ky + 1, nx - kx + 1).
    """
    reach = np.array(kernel.shape) - 1
    whole = np.array(image.shape) + (0 if mode == "valid" else reach)  # wrapped around, only the border is wrong
    size = [fft.next_fast_len(int(n), real=True) for n in whole]
    full = fft.irfft2(fft.rfft2(image, s=size) * fft.rfft2(kernel, s=size), s=size)
    first = {"full": 0 * reach, "same": reach // 2, "valid": reach}[mode]
    ny, nx = whole if mode != "same" else first + image.shape
    return np.asarray(full[first[0] : ny, first[1] : nx])
