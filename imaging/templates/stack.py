"""Resample and stack the templates of a search CCD on its pixel grid."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.difference.ghost_model import Ghost
from imaging.errors import NoWorkError
from imaging.image import CalibratedImage, CcdImage, no_error
from imaging.numerics.blocks import reduce_blocks
from imaging.numerics.source_field import node_places
from imaging.photometry.transparency import at_places
from imaging.psf.model import PsfModel
from imaging.templates.align import Alignment
from imaging.templates.combine import combine, psf_contrasts
from imaging.templates.levels import match_levels
from imaging.templates.psf import fine_samples, fit_psf_model, pixel_matrix, turned
from imaging.templates.relative import relative_zeropoints
from imaging.templates.resample import BLOCK, Resampled, resample
from imaging.templates.resampling_inputs import with_resampling_inputs
from imaging.templates.settings import StackSettings
from imaging.timing import StepTimes
from imaging.wcs.tpv import TpvWcs

FloatArray = NDArray[np.float64]

PSF_HALF_WIDTH = 20
PSF_DEGREE = 3
PSF_NODES = 5

MOST_BITS = 64
"""Number of inputs up to which a stack tells which of them each pixel has."""


@dataclass(frozen=True, slots=True)
class StackInput:
    """Contribution of one template.

    Attributes
    ----------
    label
        Name of the input image.
    share
        Fraction of the search CCD covered by its good pixels.
    weight
        Its mean fraction of the stack's weight.
    zeropoint_correction_mag
        Correction of its zero point by common stars.
    n_stars
        Number of stars used for that correction.
    clipped_pixels
        Number of pixels rejected as outliers.
    alignment
        Correction of its coordinates.
    axis
        x and y of its optical axis on the search image's pixel grid, if its coordinates tell it.
    ghosts
        Its known ghosts on that grid, in electrons of the stack.
    """

    label: str
    share: float
    weight: float
    zeropoint_correction_mag: float
    n_stars: int
    clipped_pixels: int
    alignment: Alignment
    axis: tuple[float, float] | None
    ghosts: tuple[Ghost, ...] = ()


@dataclass(frozen=True, eq=False)
class StackMakeup:
    """Weight fractions of the inputs as a function of position.

    Attributes
    ----------
    shares
        (n, m, k) fraction of each input in the stack's weight, in blocks of ``block`` pixels.
    block
        Side of the blocks, pixels.
    mean_shares
        (k,) the same for the whole image.
    psf_stamps
        (k, s, s) PSF of each input at the centre of the image.
    depth
        (n, m) weight of the inputs that are stacks themselves, in units of their most frequent one; where it is
        another, they have other inputs and another PSF, which is not known. None without such inputs.
    used
        (ny, nx) unsigned integers, bit k set where input k has data in the pixel, before outliers are rejected; None if
        it is not known.
    """

    shares: FloatArray
    block: int
    mean_shares: FloatArray
    psf_stamps: FloatArray
    depth: FloatArray | None = None
    used: NDArray[np.unsignedinteger[Any]] | None = None


@dataclass(frozen=True, eq=False)
class Template:
    """A template on the grid of a search CCD.

    Attributes
    ----------
    image
        The stack; ``pixels.header['GAIN']`` is the number of photo-electrons per unit of flux.
    correlation
        (n, m, k, k) float32, autocorrelation of the noise in tiles, lags 0 to k - 1 in y and x, one at lag zero.
    correlation_tile_pixels
        Side of those tiles.
    coverage
        Fraction of pixels with at least one good input pixel.
    inputs
        Contribution of each input.
    makeup
        Weight fractions of the inputs as a function of position.
    times
        Seconds per step.
    """

    image: CalibratedImage
    correlation: NDArray[np.float32]
    correlation_tile_pixels: int
    coverage: float
    inputs: tuple[StackInput, ...]
    makeup: StackMakeup
    times: StepTimes = field(default_factory=StepTimes)


def stack_templates(search: CalibratedImage, templates: Iterable[CalibratedImage], settings: StackSettings) -> Template:
    """Resample templates to a search image's grid and combine them.

    The mean is weighted with the inverse variance of the pixels. A pixel of one input is rejected if it differs from
    the median of all inputs by more than its noise, a fraction of the local contrast and a fraction of the brightness:
    the tolerance depends on the seeing, so that cosmic rays are removed and cores of stars kept (after Gruen et al.
    2014).

    Parameters
    ----------
    search
        The image that defines the grid.
    templates
        Calibrated images, best first. They are iterated once, and the pixels of each are released before the next. The
        stack has the zero point of the search image.
    settings
        See :class:`imaging.templates.settings.StackSettings`.

    Raises
    ------
    NoWorkError
        ``no_template_overlap`` if less than the smallest fraction of the search image is covered.
    """
    times = StepTimes()
    with times.step("resample"):
        planes, described = _resample_all(search, templates, settings)
    with times.step("zeropoints"):
        corrections, counts = relative_zeropoints(
            [p.science for p in planes],
            [p.weight for p in planes],
            [t.zeropoint_mag for t in described],
            [t.saturation_electrons for t in described],
            settings,
        )
    kept = [k for k in range(len(planes)) if abs(corrections[k]) <= settings.max_zeropoint_correction_mag] or [0]
    planes, described = [planes[k] for k in kept], [described[k] for k in kept]
    shares = [float(np.count_nonzero(p.weight)) / p.weight.size for p in planes]
    _check_coverage(sum(shares), settings)
    scales = 10 ** (-0.4 * (np.array([t.zeropoint_mag for t in described]) + corrections[kept] - search.zeropoint_mag))
    stamps = _psf_stamps(search, described)
    with times.step("combine"):
        match_levels([p.science for p in planes], [p.weight for p in planes], scales)
        science, mask, weight, clipped = combine(planes, scales, settings, psf_contrasts(stamps))
    coverage = float(np.count_nonzero(weight)) / weight.size
    _check_coverage(coverage, settings)
    with times.step("describe"):
        makeup = _makeup(planes, scales, stamps)
        tile = settings.correlation_tile(weight.shape)
        correlation = _stack_correlation(planes, makeup, tile)
        pixels = CcdImage(science, mask, weight, _header(search, makeup, scales, coverage))
        image = _stack_image(search, described, planes, pixels, makeup, scales)
    zipped = zip(described, planes, shares, makeup.mean_shares, kept, clipped, scales, strict=True)
    inputs = tuple(
        StackInput(
            *(t.label, share, float(f), float(corrections[k]), int(counts[k]), int(c), p.alignment),
            *(_optical_axis(search, t), _ghosts(search, t, float(scale))),
        )
        for t, p, share, f, k, c, scale in zipped
    )
    return Template(image, correlation, tile, coverage, inputs, makeup, times)


def _resample_all(
    search: CalibratedImage, templates: Iterable[CalibratedImage], settings: StackSettings
) -> tuple[list[Resampled], list[CalibratedImage]]:
    """Return the templates on the search image's grid, and their properties."""
    search = with_resampling_inputs(search, settings.resampling_inputs)
    planes, described = [], []
    for image in templates:
        planes.append(resample(image, search, settings))
        described.append(_without_pixels(image))
    return planes, described


def _without_pixels(image: CalibratedImage) -> CalibratedImage:
    """Return the properties of an image, without its pixels."""
    none = np.zeros((0, 0))
    pixels = CcdImage(none.astype(np.float32), none.astype(np.int16), none.astype(np.float32), image.pixels.header)
    return replace(image, pixels=pixels, resampling_inputs=None)


def _stack_image(
    search: CalibratedImage,
    templates: Sequence[CalibratedImage],
    planes: Sequence[Resampled],
    pixels: CcdImage,
    makeup: StackMakeup,
    scales: FloatArray,
) -> CalibratedImage:
    sky = np.array([t.sky_electrons for t in templates])
    saturation = np.array([t.saturation_electrons for t in templates])
    return CalibratedImage(
        pixels=pixels,
        wcs=search.wcs,
        psf=_stack_psf(search, templates, makeup.mean_shares),
        zeropoint_mag=search.zeropoint_mag,
        sky_electrons=float(np.sum(makeup.mean_shares * scales * sky)),
        saturation_electrons=float(np.min(scales * saturation)),
        label=f"template of {search.label}",
        transparency_error=_transparency_error(planes, templates, makeup),
    )


def _check_coverage(coverage: float, settings: StackSettings) -> None:
    if coverage < settings.min_coverage:
        raise NoWorkError(
            "the templates cover too little of the CCD",
            reason="no_template_overlap",
            step="stack",
            value=f"{100 * coverage:.1f} %",
            limit=f"at least {100 * settings.min_coverage:g} %",
            remedy="allow more templates (time window, t_eff) or observe the field again",
        )


def _header(search: CalibratedImage, makeup: StackMakeup, scales: FloatArray, coverage: float) -> dict[str, Any]:
    header: dict[str, Any] = {key: search.pixels.header[key] for key in ("BAND",) if key in search.pixels.header}
    return header | {"GAIN": 1.0 / float(np.sum(makeup.mean_shares**2 * scales)), "COVERAGE": coverage}


def _transparency_error(
    planes: Sequence[Resampled], templates: Sequence[CalibratedImage], makeup: StackMakeup
) -> FloatArray:
    """Return the error of the stack's transparency at every 64th pixel; the errors of its inputs are independent."""
    if not any(t.transparency_error.any() for t in templates):
        return no_error()
    x, y = node_places(planes[0].grid.shape)
    last = np.array(makeup.shares.shape[:2]) - 1
    rows, columns = (np.minimum(a.astype(int) // makeup.block, n) for a, n in zip((y, x), last, strict=True))
    square = np.zeros(x.shape)
    for number, (plane, template) in enumerate(zip(planes, templates, strict=True)):
        places = (a.ravel() for a in plane.grid.at(x, y))
        own = at_places(template.transparency_error, *places).reshape(x.shape)
        square += (makeup.shares[rows, columns, number] * own) ** 2
    return np.asarray(np.sqrt(square))


def _makeup(planes: Sequence[Resampled], scales: FloatArray, stamps: FloatArray) -> StackMakeup:
    sums = (reduce_blocks(np.add, plane.weight, BLOCK).astype(float) for plane in planes)
    blocks = np.stack([part / scale**2 for part, scale in zip(sums, scales, strict=True)], axis=2)
    mean = blocks.sum(axis=(0, 1)) / blocks.sum()
    total = blocks.sum(axis=2, keepdims=True)
    shares = np.where(total > 0, blocks / np.where(total > 0, total, 1.0), mean)
    depth = None
    if any(p.depth is not None for p in planes):
        depths = [np.ones(shares.shape[:2]) if p.depth is None else p.depth for p in planes]
        depth = (shares * np.stack(depths, axis=2)).sum(axis=2)
    return StackMakeup(shares, BLOCK, mean, stamps, depth, _used(planes))


def _used(planes: Sequence[Resampled]) -> NDArray[np.unsignedinteger[Any]] | None:
    """Return (ny, nx) unsigned integers a bit for every input with weight in the pixel; None if too many."""
    if len(planes) > MOST_BITS:
        return None
    kind = np.min_scalar_type((1 << len(planes)) - 1)
    used = np.zeros(planes[0].weight.shape, dtype=kind)
    for number, plane in enumerate(planes):
        used |= np.where(plane.weight > 0, kind.type(1 << number), kind.type(0))
    return used


def _psf_stamps(search: CalibratedImage, templates: Sequence[CalibratedImage]) -> FloatArray:
    """Return (k, s, s) the PSFs of the templates at the middle of the search image, on its pixel axes."""
    ny, nx = search.pixels.shape
    ra, dec = search.wcs.pixel_to_sky(np.array([nx / 2]), np.array([ny / 2]))
    offsets = np.arange(-float(PSF_HALF_WIDTH), PSF_HALF_WIDTH + 1)
    stamps = []
    for template in templates:
        x, y = template.wcs.sky_to_pixel(ra, dec)
        stamp = template.psf.at_offsets(float(x[0]), float(y[0]), offsets, offsets)
        stamps.append(turned(stamp, pixel_matrix(search.wcs, template.wcs, nx / 2, ny / 2)))
    return np.array(stamps)


def _on_grid(search: CalibratedImage, template: CalibratedImage, place: tuple[float, float]) -> tuple[float, float]:
    """Return where a place in a template is on the grid of the search image, continued linearly from its middle."""
    middle = np.array([search.pixels.shape[1] / 2, search.pixels.shape[0] / 2])
    seen = np.concatenate(template.wcs.sky_to_pixel(*search.wcs.pixel_to_sky(*middle[:, None])))
    x, y = middle + np.linalg.solve(pixel_matrix(search.wcs, template.wcs, *middle), np.array(place) - seen)
    return float(x), float(y)


def _optical_axis(search: CalibratedImage, template: CalibratedImage) -> tuple[float, float] | None:
    """Return the optical axis of a template on the grid of the search image."""
    if not isinstance(template.wcs, TpvWcs):
        return None
    return _on_grid(search, template, (template.wcs.crpix[0] - 1.0, template.wcs.crpix[1] - 1.0))


def _ghosts(search: CalibratedImage, template: CalibratedImage, scale: float) -> tuple[Ghost, ...]:
    """Return the ghosts of a template, its fluxes times a factor, on the grid of the search image."""
    found = []
    for ghost in template.ghosts:
        x, y = _on_grid(search, template, (ghost.x, ghost.y))
        found.append(replace(ghost, x=x, y=y, level=scale * ghost.level, level_error=scale * ghost.level_error))
    return tuple(found)


def _stack_correlation(planes: Sequence[Resampled], makeup: StackMakeup, tile: int) -> NDArray[np.float32]:
    """Return the stack's noise correlation per tile."""
    rows, columns = planes[0].correlation.shape[:2]
    per_tile = tile // makeup.block
    most = max(plane.correlation.shape[-1] for plane in planes)
    correlation = np.zeros((rows, columns, most, most))
    for row in range(rows):
        for column in range(columns):
            part = makeup.shares[row * per_tile : (row + 1) * per_tile, column * per_tile : (column + 1) * per_tile]
            for share, plane in zip(part.mean(axis=(0, 1)), planes, strict=True):
                lags = plane.correlation[row, column]
                correlation[row, column, : len(lags), : len(lags)] += share * lags / lags[0, 0]
    return correlation.astype(np.float32)


def _stack_psf(search: CalibratedImage, templates: Sequence[CalibratedImage], fractions: FloatArray) -> PsfModel:
    """Average the inputs' PSF models with their weights, each on the search image's pixel axes."""

    def samples(x: float, y: float) -> FloatArray:
        ra, dec = search.wcs.pixel_to_sky(np.array([x]), np.array([y]))
        total = np.zeros((4 * PSF_HALF_WIDTH + 1, 4 * PSF_HALF_WIDTH + 1))
        for template, fraction in zip(templates, fractions, strict=True):
            xs, ys = template.wcs.sky_to_pixel(ra, dec)
            seen = fine_samples(template.psf, float(xs[0]), float(ys[0]), PSF_HALF_WIDTH)
            total += fraction * turned(seen, pixel_matrix(search.wcs, template.wcs, x, y))
        return total

    n_stars = min(t.psf.n_stars for t in templates)
    return fit_psf_model(samples, search.pixels.shape, degree=PSF_DEGREE, nodes=PSF_NODES, n_stars=n_stars)
