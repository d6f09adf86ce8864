"""The simulated camera per CCD: bias, flat, star flat, defects, linearity; independent of the seed of the sky."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from imaging.bits import BpmBit
from imaging.detector.ccds import AMPLIFIER_WIDTH, AMPLIFIERS, NX, AmplifierName, Ccd
from imaging.simulation.optics import focal_plane
from imaging.simulation.streams import random_stream

FloatImage = NDArray[np.float32]
FloatArray = NDArray[np.float64]

EDGE_COLUMNS, NEAR_EDGE_COLUMNS = 9, 30
"""Numbers of columns along the long sides with glow, and with distorted shapes."""

HOT_PIXELS, DEAD_PIXELS, BIAS_COLUMNS, FUNKY_COLUMNS, DEAD_COLUMNS, TAPE_BUMPS = 120, 60, 3, 2, 1, 4

RING_AMPLITUDE, RING_PIXELS, RING_SQUARED_PIXELS = 0.0015, 45.0, 3.0e5
"""Tree rings: relative area of the pixels, and the two scales of their phase r / a + r^2 / b."""

EDGE_TERMS = ((0.10, 3.0), (-0.03, 12.0))
"""Strength and reach in pixels of the changes of the pixels' area at the long edges."""

SHARED_BACKPLANE = "BKP4"
"""Backplane shared with the focus CCDs."""

NOISE_OVER_HEADER = {SHARED_BACKPLANE: 0.68}
TYPICAL_NOISE_OVER_HEADER = 1.045
"""Ratio of the read noise in the overscan to that in the header, measured on exposure 941420."""

LINEARITY_ADU = np.concatenate([np.arange(0.0, 2000.0, 50.0), np.arange(2000.0, 65001.0, 500.0)])


@dataclass(frozen=True, eq=False)
class Defects:
    """Columns whose level changes from exposure to exposure.

    Attributes
    ----------
    column, first_row, last_row
        (n,) affected pixels, rows inclusive.
    mean_adu
        (n,) mean offset, included in the bias.
    """

    column: NDArray[np.intp]
    first_row: NDArray[np.intp]
    last_row: NDArray[np.intp]
    mean_adu: FloatArray


def read_noise_electrons(ccd: Ccd, amplifier: AmplifierName) -> float:
    """Return the true read noise of an amplifier."""
    return ccd.amplifier(amplifier).read_noise_electrons * NOISE_OVER_HEADER.get(
        ccd.backplane, TYPICAL_NOISE_OVER_HEADER
    )


def register_below(ccd: Ccd) -> bool:
    """Whether the readout register is below row 0 (N CCDs) or above the last row (S CCDs)."""
    return ccd.a_is_left


def column_defects(camera_seed: int, ccd: Ccd) -> Defects:
    """Draw the columns with an offset beyond a hot pixel, away from the register, and entirely funky ones."""
    random = random_stream(camera_seed, "columns", ccd.ccdnum)
    n = BIAS_COLUMNS + FUNKY_COLUMNS
    column = random.choice(np.arange(60, NX - 60), n, replace=False)
    start = random.integers(300, ccd.ny - 300, n)
    first, last = (start, np.full(n, ccd.ny - 1)) if register_below(ccd) else (np.zeros(n, dtype=np.int64), start)
    first[BIAS_COLUMNS:], last[BIAS_COLUMNS:] = 0, ccd.ny - 1
    return Defects(column, first, last, random.uniform(8.0, 60.0, n))


def make_bias(camera_seed: int, ccd: Ccd) -> FloatImage:
    """Return the bias structure beyond the overscan: (ny, nx) float32, ADU."""
    random = random_stream(camera_seed, "bias", ccd.ccdnum)
    ny = ccd.ny
    columns = gaussian_filter1d(random.normal(0.0, 1.2, NX), 3.0) + random.normal(0.0, 0.25, NX)
    for amplifier in ccd.amplifiers:
        columns[amplifier.columns] += random.normal(0.0, 0.6) + random.normal(0.0, 0.6) * np.linspace(
            -1, 1, AMPLIFIER_WIDTH
        )
    edge = np.minimum(np.arange(NX), NX - 1 - np.arange(NX))
    columns += 3.0 * np.exp(-edge / 8.0)
    ramp = np.linspace(-1.0, 1.0, ny)
    rows = random.normal(0.0, 0.8) * ramp + random.normal(0.0, 0.5) * ramp**2
    image = (rows[:, None] + columns[None, :]).astype(np.float32)
    y, x = random.integers(0, ny, HOT_PIXELS), random.integers(0, NX, HOT_PIXELS)
    image[y, x] += np.clip(10.0 ** random.normal(2.0, 0.5, HOT_PIXELS), 15.0, 1500.0)
    defects = column_defects(camera_seed, ccd)
    for n, (column, first, last, mean) in enumerate(
        zip(defects.column, defects.first_row, defects.last_row, defects.mean_adu, strict=True)
    ):
        image[first : last + 1, column] += mean
        if n < BIAS_COLUMNS:
            image[first if register_below(ccd) else last, column] = 1500.0
    return image


def make_flat(camera_seed: int, ccd: Ccd, band_number: int) -> FloatImage:
    """Return the dome flat, normalised over the focal plane: (ny, nx) float32.

    It includes the throughput of CCD and amplifiers, vignetting, pixel response, tree rings, glowing edges, tape bumps,
    dead pixels and columns. All but the large-scale illumination is common to the bands.
    """
    ny = ccd.ny
    common = random_stream(camera_seed, "flat", ccd.ccdnum)
    own = random_stream(camera_seed, "flat of the band", ccd.ccdnum, band_number)
    image = np.float32(1.0) + np.float32(0.006) * common.standard_normal((ny, NX), dtype=np.float32)
    centre = common.uniform(-400.0, -100.0, 2)
    squared = (np.arange(NX)[None, :] - centre[0]) ** 2 + (np.arange(ny)[:, None] - centre[1]) ** 2
    phase = (np.sqrt(squared) / RING_PIXELS + squared / RING_SQUARED_PIXELS).astype(np.float32)
    image += np.float32(RING_AMPLITUDE) * np.sin(phase)
    image *= _illumination(own, ccd)
    for amplifier in ccd.amplifiers:
        image[:, amplifier.columns] *= 1.0 + common.normal(0.0, 0.004)
    image *= edge_profile()
    _add_defects(camera_seed, ccd, image)
    return image


def edge_profile() -> FloatImage:
    """Return the relative area of the pixels of a row, larger and then smaller towards the long edges: (2048,)."""
    edge = np.minimum(np.arange(NX), NX - 1 - np.arange(NX))
    (glow, near), (dip, far) = EDGE_TERMS
    return (1.0 + glow * np.exp(-edge / near) + dip * np.exp(-edge / far)).astype(np.float32)


def ring_centre(camera_seed: int, ccd: Ccd) -> FloatArray:
    """Return the centre of a CCD's tree rings: x and y in pixels; it follows the pixels' response in the stream."""
    random = random_stream(camera_seed, "flat", ccd.ccdnum)
    random.standard_normal((ccd.ny, NX), dtype=np.float32)
    return random.uniform(-400.0, -100.0, 2)


def _illumination(random: np.random.Generator, ccd: Ccd) -> FloatImage:
    x, y = np.arange(0, NX + 1, 64), np.arange(0, ccd.ny + 1, 64)
    u, v = focal_plane(ccd.ccdnum, *np.meshgrid(x, y))
    r2 = u**2 + v**2
    coarse = (1.0 + random.normal(0.0, 0.03)) * (1.0 - 0.035 * r2**2)
    coarse = coarse * (1.0 + 0.006 * np.sin(3.1 * u + 0.7) * np.cos(2.3 * v))
    return upsample(coarse, 64, (ccd.ny, NX))


def upsample(coarse: FloatArray, step: int, shape: tuple[int, int]) -> FloatImage:
    """Interpolate a grid bilinearly to pixels.

    Parameters
    ----------
    coarse
        Values at pixels 0, step, 2 step, ..., one more than the image needs.
    step
        Pixels between grid points.
    shape
        (ny, nx) of the result.
    """
    ny, nx = shape
    rows, columns = np.arange(ny) / step, np.arange(nx) / step
    i, j = rows.astype(int), columns.astype(int)
    fi, fj = (rows - i).astype(np.float32)[:, None], (columns - j).astype(np.float32)[None, :]
    grid = coarse.astype(np.float32)
    lines = grid[:, j] * (1 - fj) + grid[:, j + 1] * fj
    return lines[i] * (1 - fi) + lines[i + 1] * fi


def tape_bumps(camera_seed: int, ccd: Ccd) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return x, y and radius of the places where tape below a CCD has changed its response, pixels."""
    random = random_stream(camera_seed, "tape bumps", ccd.ccdnum)
    side = random.integers(0, 2, TAPE_BUMPS)
    x = np.where(side == 0, random.uniform(30, 180, TAPE_BUMPS), random.uniform(NX - 180, NX - 30, TAPE_BUMPS))
    return x, random.uniform(200, ccd.ny - 200, TAPE_BUMPS), random.uniform(25.0, 45.0, TAPE_BUMPS)


def _flat_defects(
    camera_seed: int, ccd: Ccd
) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray, NDArray[np.intp]]:
    random = random_stream(camera_seed, "dead pixels", ccd.ccdnum)
    y, x = random.integers(0, ccd.ny, DEAD_PIXELS), random.integers(0, NX, DEAD_PIXELS)
    response = np.where(random.random(DEAD_PIXELS) < 0.3, 0.0, random.uniform(0.05, 0.5, DEAD_PIXELS))
    return y, x, response, random.integers(60, NX - 60, DEAD_COLUMNS)


def _add_defects(camera_seed: int, ccd: Ccd, image: FloatImage) -> None:
    for x, y, size in zip(*tape_bumps(camera_seed, ccd), strict=True):
        rows, columns = slice(int(y - 3 * size), int(y + 3 * size)), slice(max(int(x - 3 * size), 0), int(x + 3 * size))
        dy, dx = np.ogrid[rows, columns.start : min(columns.stop, NX)]
        image[rows, columns] *= 1.0 - 0.03 * np.exp(-0.5 * ((dx - x) ** 2 + (dy - y) ** 2) / (size / 2) ** 2)
    y, x, response, dead_columns = _flat_defects(camera_seed, ccd)
    image[y, x] *= response
    image[:, dead_columns] *= 0.3


def make_star_flat(camera_seed: int, ccd: Ccd, band_number: int) -> FloatImage:
    """Return the true response to stars over the dome flat: (ny, nx) float32, smooth.

    The flat lamp illuminates pixels in proportion to their area and includes scattered light; stars do not.
    """
    random = random_stream(camera_seed, "star flat", ccd.ccdnum, band_number)
    x, y = np.arange(0, NX + 1, 64), np.arange(0, ccd.ny + 1, 64)
    u, v = focal_plane(ccd.ccdnum, *np.meshgrid(x, y))
    r2 = u**2 + v**2
    coarse = (1.0 + random.normal(0.0, 0.003)) * (
        1.0 + 0.012 * (r2 - 0.4) + 0.008 * np.exp(-(((np.sqrt(r2) - 0.35) / 0.2) ** 2))
    )
    return upsample(coarse, 64, (ccd.ny, NX))


def make_bad_pixels(camera_seed: int, ccd: Ccd, bias: FloatImage, flat: FloatImage) -> NDArray[np.int16]:
    """Return the bad-pixel map: (ny, nx) int16 with the bits of :class:`imaging.bits.BpmBit`."""
    bpm = np.zeros((ccd.ny, NX), dtype=np.int16)
    bpm[flat < 0.1] |= np.int16(BpmBit.FLAT_MIN)
    y, x, _, dead_columns = _flat_defects(camera_seed, ccd)
    bpm[y, x] |= np.int16(BpmBit.FLAT_MASK)
    bpm[:, dead_columns] |= np.int16(BpmBit.FLAT_MASK)
    defects = column_defects(camera_seed, ccd)
    for n, (column, first, last) in enumerate(zip(defects.column, defects.first_row, defects.last_row, strict=True)):
        bpm[first : last + 1, column] |= np.int16(BpmBit.BIAS_COL if n < BIAS_COLUMNS else BpmBit.FUNKY_COL)
        if n < BIAS_COLUMNS:
            bpm[first if register_below(ccd) else last, column] |= np.int16(BpmBit.BIAS_HOT)
    column_bits = int(BpmBit.BIAS_COL | BpmBit.FUNKY_COL)
    regular = (bpm & column_bits) == 0
    bpm[(bias > 60.0) & regular] |= np.int16(BpmBit.BIAS_HOT)
    bpm[(bias > 12.0) & (bias <= 60.0) & regular] |= np.int16(BpmBit.BIAS_WARM)
    for side in (slice(0, NEAR_EDGE_COLUMNS), slice(NX - NEAR_EDGE_COLUMNS, NX)):
        bpm[:, side] |= np.int16(BpmBit.NEAREDGE)
    for side in (slice(0, EDGE_COLUMNS), slice(NX - EDGE_COLUMNS, NX)):
        bpm[:, side] |= np.int16(BpmBit.EDGE)
    for x0, y0, size in zip(*tape_bumps(camera_seed, ccd), strict=True):
        dy, dx = np.ogrid[: ccd.ny, :NX]
        bpm[(dx - x0) ** 2 + (dy - y0) ** 2 < size**2] |= np.int16(BpmBit.TAPEBUMP)
    return bpm


def linearity_table(camera_seed: int, ccd: Ccd) -> dict[AmplifierName, FloatArray]:
    """Return the linear ADU at the measured :data:`LINEARITY_ADU`: deviations of half a per cent at both ends."""
    random = random_stream(camera_seed, "linearity", ccd.ccdnum)
    table = {}
    for name in AMPLIFIERS:
        low, high = random.normal(0.004, 0.002), random.normal(0.004, 0.002)
        factor = 1.0 + low * np.exp(-LINEARITY_ADU / 600.0) + high * (LINEARITY_ADU / 40000.0) ** 2
        table[name] = LINEARITY_ADU * factor
    return table
