"""Stamps around sources and their normal equations for the fit of the matching kernel."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from imaging.difference.basis import KernelBasis
from imaging.difference.pair import Side
from imaging.difference.settings import KernelSettings
from imaging.image import FloatImage

FloatArray = NDArray[np.float64]

USUAL_NOISE_SHARE = 0.3
"""Fraction of the convolved image's noise variance that remains where the settings give none."""


@dataclass(frozen=True, eq=False)
class Stamps:
    """Stamps and their normal equations.

    Attributes
    ----------
    x, y
        (n,) centres, pixels.
    side
        Pixels along a stamp's side.
    data
        (n, p) float32, target image in each stamp.
    weight
        (n, p) float32, inverse variance of target minus model; zero for bad pixels.
    patches
        (n, t, t) float32, reference image in each stamp with a margin of the kernel's half width.
    basis
        Kernel functions; the columns of the design are the reference convolved with them.
    normal
        (n, m + 1, m + 1) weighted products of the columns and a constant.
    right
        (n, m + 1) weighted products with the data.
    square
        (n,) weighted square of the data.
    n_pixels
        (n,) good pixels.
    noise_bias
        (n,) sum of weight times noise variance of the reference: bias of the products by its noise.
    """

    x: FloatArray
    y: FloatArray
    side: int
    data: FloatImage
    weight: FloatImage
    patches: FloatImage
    basis: KernelBasis
    normal: FloatArray
    right: FloatArray
    square: FloatArray
    n_pixels: FloatArray
    noise_bias: FloatArray

    def take(self, chosen: NDArray[np.bool_] | slice) -> "Stamps":
        """Return the chosen stamps."""
        arrays = ("x", "y", "data", "weight", "patches", "normal", "right", "square", "n_pixels", "noise_bias")
        return replace(self, **{name: getattr(self, name)[chosen] for name in arrays})

    def convolved(self, kernels: FloatArray) -> FloatImage:
        """Return (n, p) float32, the reference convolved with one kernel (n, k, k) per stamp."""
        size = self.patches.shape[1]
        spectrum = self._spectra(self.patches) * self._spectra(kernels.astype(np.float32))
        inner = slice(kernels.shape[1] - 1, size)
        return fft.irfft2(spectrum, s=self._transform)[:, inner, inner].reshape(self.data.shape)

    @property
    def _transform(self) -> tuple[int, int]:
        """Shape of the transforms of the patches."""
        size = fft.next_fast_len(self.patches.shape[1], real=True)
        return size, size

    def _spectra(self, images: FloatImage) -> NDArray[np.complex64]:
        return fft.rfft2(images, s=self._transform)

    def moved(self, change: FloatImage) -> "Stamps":
        """Return the stamps with a small change (n, p) added to the target image, with the same weights."""
        weighted = (self.weight * change).reshape(-1, self.side, self.side)
        spectrum = self._spectra(self.patches) * self._spectra(weighted).conj()
        size = self.patches.shape[1] - self.side + 1
        lags = fft.irfft2(spectrum, s=self._transform)[:, :size, :size]
        flat = self.basis.images[:, ::-1, ::-1].reshape(len(self.basis.pairs), -1)
        right = self.right.copy()
        right[:, :-1] += lags.reshape(len(self.x), size * size).astype(float) @ flat.T
        right[:, -1] += weighted.sum(axis=(1, 2), dtype=float)
        data = self.data + change
        square = np.einsum("np,np,np->n", self.weight, data, data, dtype=float)
        return replace(self, data=data, right=right, square=square)


def build_stamps(
    target: Side,
    reference: Side,
    x: FloatArray,
    y: FloatArray,
    basis: KernelBasis,
    settings: KernelSettings,
    noise_share: FloatArray | None = None,
) -> Stamps:
    """Cut stamps and compute their normal equations.

    Parameters
    ----------
    target, reference
        The kernel matches the reference to the target.
    x, y
        (n,) centres; pixels of a stamp outside the image or near its edge have no weight.
    basis
        Kernel functions.
    settings
        Size of the stamps, error of the model.
    noise_share
        (n,) fraction of the reference's noise variance that the convolution leaves; None takes that of the settings.
    """
    half, reach = settings.stamp_half_width, basis.half_width
    side = 2 * half + 1
    ny, nx = target.science.shape
    ix, iy = np.asarray(x, dtype=np.int64), np.asarray(y, dtype=np.int64)
    rows, columns = _indices(iy, half, ny), _indices(ix, half, nx)
    window = (rows[:, :, None], columns[:, None, :])
    data, reference_data = target.science[window], reference.science[window]
    weight, reference_weight = target.weight[window], reference.weight[window]
    bad = (weight == 0) | (reference_weight == 0)
    for index, centre, axis, size in ((rows, iy, 1, ny), (columns, ix, 2, nx)):
        true = centre[:, None] + np.arange(-half, half + 1)
        outside = (true != index) | (index < reach // 2) | (index >= size - reach // 2)
        bad |= np.expand_dims(outside, 3 - axis)
    brightness = np.maximum(0.5 * (data + reference_data), 0.0)
    weight, reference_weight = np.where(bad, 1.0, weight), np.where(bad, 1.0, reference_weight)
    reference_variance = 1.0 / reference_weight + brightness / reference.gain
    usual = settings.template_noise_share or USUAL_NOISE_SHARE
    share = np.full(ix.size, usual, dtype=np.float32) if noise_share is None else noise_share.astype(np.float32)
    variance = 1.0 / weight + brightness / target.gain + share[:, None, None] * reference_variance
    variance += (settings.error_floor * brightness) ** 2
    weight = np.where(bad, 0.0, 1.0 / variance).astype(np.float32).reshape(ix.size, side * side)
    data = data.reshape(ix.size, side * side)
    tall, wide = _indices(iy, half + reach, ny), _indices(ix, half + reach, nx)
    patches = reference.science[tall[:, :, None], wide[:, None, :]]
    return Stamps(
        *(x, y, side, data, weight, patches, basis),
        *_normal_equations(patches, data, weight, basis),
        np.count_nonzero(weight, axis=1).astype(float),
        np.einsum("np,np->n", weight, reference_variance.reshape(weight.shape), dtype=float),
    )


def _indices(centre: NDArray[np.int64], reach: int, size: int) -> NDArray[np.int64]:
    """Return (n, 2 reach + 1) indices about centres, clipped to the image."""
    return np.clip(centre[:, None] + np.arange(-reach, reach + 1), 0, size - 1)


def _normal_equations(
    patches: FloatImage, data: FloatImage, weight: FloatImage, basis: KernelBasis
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return products of the columns, with the data, and of the data; one stamp at a time, to stay in the cache.

    They are summed in double precision, because some functions are nearly degenerate for few stamps.
    """
    n, p = data.shape
    m = len(basis.pairs)
    side = round(p**0.5)
    rows = _convolutions(basis.factors, side)
    wide = rows.transpose(1, 0, 2).reshape(patches.shape[1], -1)
    partners = [np.flatnonzero(basis.pairs[:, 0] == f) for f in range(len(rows))]
    tall = [rows[basis.pairs[members, 1]].transpose(0, 2, 1).reshape(-1, patches.shape[1]) for members in partners]
    columns = np.empty((m + 2, p))
    products = np.empty((n, m + 2, m + 2))
    for k in range(n):
        along = (patches[k] @ wide).reshape(-1, len(rows), side)
        for f, members in enumerate(partners):
            columns[members] = (tall[f] @ along[:, f]).reshape(-1, p)
        columns[m] = 1.0
        columns[m + 1] = data[k]
        columns *= np.sqrt(weight[k].astype(float))
        products[k] = columns @ columns.T
    transform = np.eye(m + 1)
    transform[:m, :m] = basis.transform
    normal = transform @ products[:, : m + 1, : m + 1] @ transform.T
    right = products[:, : m + 1, m + 1] @ transform.T
    return normal, right, products[:, m + 1, m + 1]


def _convolutions(factors: FloatArray, side: int) -> NDArray[np.float32]:
    """Return (f, side + k - 1, side) matrices that convolve a line with factors (f, k): line @ matrix."""
    n, size = factors.shape
    matrices = np.zeros((n, side + size - 1, side), dtype=np.float32)
    for i in range(side):
        matrices[:, i : i + size, i] = factors[:, ::-1]
    return matrices
