"""RICE_1, the compression of FITS image tiles (Pence, White & Seaman 2010; FITS standard 4.0, section 10.4.1).

Of 32-bit integers in blocks of 32 pixels, as every FITS library reads it. CFITSIO needs three times the CPU time for
the same bytes, so that images would have to be compressed after the list is out instead of when they are written.
"""

import numba
import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

BLOCK = 32
"""Pixels with a common number of low bits."""

FS_BITS, FS_MAX = 5, 25
"""Bits that state this number; from FS_MAX on, differences are written whole."""

WHOLE = 32
"""Bits of a whole difference."""

LARGEST = 2**31 - 1
"""Largest pixel."""

ROOM = 2 * BLOCK * 8
"""Bytes that a damaged block may read beyond the end of its tile."""

_ZEROS = np.array([8 - number.bit_length() for number in range(256)], dtype=np.int64)
"""Leading zeros of each byte."""


def encode(pixels: NDArray[np.int32], tile_rows: int) -> tuple[Bytes, NDArray[np.int64]]:
    """Compress an image in tiles of whole rows.

    Parameters
    ----------
    pixels
        (ny, nx) integers.
    tile_rows
        Rows of a tile; the last tile has those that are left.

    Returns
    -------
    stream
        The compressed tiles, one after another.
    ends
        End of each tile in the stream.
    """
    ny, nx = pixels.shape
    n_tiles = -(-ny // tile_rows)
    room = pixels.size * 4 + (pixels.size // BLOCK + n_tiles) + n_tiles * 16
    stream, ends = np.empty(room, dtype=np.uint8), np.empty(n_tiles, dtype=np.int64)
    _encode(np.ascontiguousarray(pixels).reshape(-1), tile_rows * nx, stream, ends)
    return stream[: ends[-1]], ends


def decode(
    stream: Bytes,
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    shape: tuple[int, int],
    tile_rows: int,
    unit: float,
) -> NDArray[np.float32]:
    """Return the image of compressed tiles, times a unit.

    Parameters
    ----------
    stream, starts, ends
        Bytes that hold the tiles, and where each begins and ends in them.
    shape
        (ny, nx) of the image.
    tile_rows
        Rows of a tile.
    unit
        What the integers are multiples of.

    Returns
    -------
    image
        (ny, nx) float32.

    Raises
    ------
    ValueError
        If a tile ends before its last pixel.
    """
    image = np.empty(shape, dtype=np.float32)
    stream = np.concatenate([stream, np.zeros(ROOM, dtype=np.uint8)])
    bad = _decode(stream, starts, ends, tile_rows * shape[1], unit, image.reshape(-1))
    if bad >= 0:
        raise ValueError(f"tile {bad} of a compressed image ends before its last pixel")
    return image


@numba.njit(cache=True, nogil=True)
def multiples(plane: NDArray[np.float32], step: float, keep_positive: bool) -> tuple[NDArray[np.int32], bool]:
    """Return the integers whose multiples of a step are nearest to the pixels of an image, and whether all have one.

    Parameters
    ----------
    plane
        (ny, nx) float32.
    step
        The step.
    keep_positive
        Whether positive pixels below half a step become one step instead of 0, as for weights.

    Returns
    -------
    integers
        (ny, nx) int32.
    is_whole
        False if a pixel is not finite or has too large a multiple.
    """
    out = np.empty(plane.shape, dtype=np.int32)
    per_unit = np.float32(1.0) / np.float32(step)
    whole = True
    for j in range(plane.shape[0]):
        for i in range(plane.shape[1]):
            value = np.rint(plane[j, i] * per_unit)
            whole &= abs(value) < np.float32(LARGEST)  # false for NaN
            number = np.int32(value) if abs(value) < np.float32(LARGEST) else np.int32(0)
            if keep_positive and number == 0 and plane[j, i] > 0.0:
                number = np.int32(1)
            out[j, i] = number
    return out, whole


@numba.njit(cache=True, nogil=True, inline="always")
def _pushed(
    stream: Bytes, place: int, bits: np.uint64, held: int, value: np.uint64, length: int
) -> tuple[int, np.uint64, int]:
    """Append up to 32 bits to those that wait, and write a word if there is one; return place, bits, number waiting."""
    bits = (bits << np.uint64(length)) | value
    held += length
    if held >= 32:
        held -= 32
        word = bits >> np.uint64(held)
        stream[place] = np.uint8(word >> np.uint64(24))
        stream[place + 1] = np.uint8(word >> np.uint64(16))
        stream[place + 2] = np.uint8(word >> np.uint64(8))
        stream[place + 3] = np.uint8(word)
        place += 4
    return place, bits, held


@numba.njit(cache=True, nogil=True)
def _encode(pixels: NDArray[np.int32], tile: int, stream: Bytes, ends: NDArray[np.int64]) -> None:
    folded = np.empty(BLOCK, dtype=np.uint32)
    place = 0
    for number in range(ends.size):
        first, end = number * tile, min((number + 1) * tile, pixels.size)
        last, bits, held = pixels[first], np.uint64(0), 0
        place, bits, held = _pushed(stream, place, bits, held, np.uint64(np.uint32(last)), 32)
        for begin in range(first, end, BLOCK):
            n = min(BLOCK, end - begin)
            total = np.int64(0)
            for k in range(n):
                change = np.int32(np.int64(pixels[begin + k]) - np.int64(last))
                last = pixels[begin + k]
                folded[k] = np.uint32((change << np.int32(1)) ^ (change >> np.int32(31)))
                total += np.int64(folded[k])
            rest, fs = (total - n // 2 - 1) // n >> 1, 0
            while rest > 0:
                rest, fs = rest >> 1, fs + 1
            code = 0 if total == 0 else min(fs, FS_MAX) + 1
            place, bits, held = _pushed(stream, place, bits, held, np.uint64(code), FS_BITS)
            if total == 0:
                continue
            for k in range(n):
                value, length = np.uint64(folded[k]), WHOLE
                if fs < FS_MAX:
                    zeros = int(value >> np.uint64(fs))
                    value = (value & np.uint64((1 << fs) - 1)) | np.uint64(1 << fs)
                    length = zeros + 1 + fs
                    while length > WHOLE:
                        few = WHOLE if zeros > WHOLE else zeros
                        place, bits, held = _pushed(stream, place, bits, held, np.uint64(0), few)
                        zeros, length = zeros - few, length - few
                place, bits, held = _pushed(stream, place, bits, held, value, length)
        while held > 0:
            held -= 8
            stream[place] = np.uint8(bits >> np.uint64(held) if held >= 0 else bits << np.uint64(-held))
            place += 1
        ends[number] = place


@numba.njit(cache=True, nogil=True)
def _bits_at(stream: Bytes, at: np.uint64) -> np.uint64:
    """Return the bits from a place on, 57 at least, at the top of 64."""
    byte, word = at >> np.uint64(3), np.uint64(0)
    for n in range(8):
        word = (word << np.uint64(8)) | np.uint64(stream[byte + np.uint64(n)])
    return word << (at & np.uint64(7))


@numba.njit(cache=True, nogil=True)
def _zeros_at(stream: Bytes, at: np.uint64, end: np.uint64) -> np.uint64:
    """Return the number of zeros from a place on, at most up to the end."""
    zeros = np.uint64(0)
    while at + zeros < end:
        some = _ZEROS[_bits_at(stream, at + zeros) >> np.uint64(56)]
        zeros += np.uint64(some)
        if some < 8:
            break
    return zeros


@numba.njit(cache=True, nogil=True)
def _decode(
    stream: Bytes, starts: NDArray[np.int64], ends: NDArray[np.int64], tile: int, unit: float, out: NDArray[np.float32]
) -> int:
    """Decode all tiles; return the number of the first that ends too early, -1 if none does."""
    one, high = np.uint64(1), np.uint64(64)
    for number in range(starts.size):
        at, end = np.uint64(8 * starts[number]), np.uint64(8 * ends[number])
        after = min((number + 1) * tile, out.size)
        last = np.int32(_bits_at(stream, at) >> np.uint64(32))
        at += np.uint64(32)
        for begin in range(number * tile, after, BLOCK):
            if at >= end:
                return number
            code = _bits_at(stream, at) >> np.uint64(64 - FS_BITS)
            at += np.uint64(FS_BITS)
            fs, low = np.int64(code) - 1, code - one
            for k in range(begin, min(begin + BLOCK, after)):
                if fs >= FS_MAX:
                    value = _bits_at(stream, at) >> np.uint64(32)
                    at += np.uint64(WHOLE)
                elif fs >= 0:
                    word = _bits_at(stream, at)
                    zeros = np.uint64(_ZEROS[word >> np.uint64(56)])
                    if zeros == np.uint64(8):
                        zeros = _zeros_at(stream, at, end)
                        word = _bits_at(stream, at + zeros) << one
                    else:
                        word <<= zeros + one
                    value = (zeros << low) | (word >> one >> (high - one - low))
                    at += zeros + one + low
                else:
                    value = np.uint64(0)
                half = np.uint32(value) >> np.uint32(1)
                last = np.int32(last + np.int32(half ^ (np.uint32(0) - (np.uint32(value) & np.uint32(1)))))
                out[k] = np.float32(last * unit)
        if at > end:
            return number
    return -1
