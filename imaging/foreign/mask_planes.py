"""Translate mask planes of other programs: defects become mask bits, informative bits are dropped.

Bits are understood by the names in the header (MP_* of the LSST pipelines, BITnn of ZTF, MSKNAM of Pan-STARRS, the
names of the Legacy Surveys) or by a convention that the header shows (Community Pipeline, JWST, HST). A plane of zeros
and one other value without a convention is a plain mask.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imaging.bits import MaskBit
from imaging.errors import InputError
from imaging.image import MaskImage

MASK_NAMES = (
    *("MSK", "MASK", "DQ", "FLAGS", "BPM", "DQMASK", "MASKBITS", "BADPIX", "FLAG", "QUALITY", "DATA_QUALITY"),
    *("BADPIXELS", "BAD_PIXELS", "BADPIXELMASK", "BAD_PIXEL_MASK", "PIXELMASK", "PIXEL_MASK", "PIXMASK"),
)
OTHER_NAMES = re.compile(r"CTX|CON|SEG|EXP|N(?:EXP|IMAGES|IMG|SCI)|COV|COUNT")
LIKE_A_MASK = re.compile(r"MA?SK|BAD|FLAG|DQ|BPM|QUAL")
"""Names of the extensions of masks, the preferred first; how other planes of integers are called, and planes of floats
that may be masks."""

COMMUNITY_PIPELINE_CODES = {
    1: MaskBit.BPM,
    2: MaskBit.BPM,  # no value
    3: MaskBit.SATURATE,
    4: MaskBit.TRAIL,
    5: MaskBit.CRAY,
    6: MaskBit.BPM,  # low weight
    7: MaskBit.SUSPECT,  # differs from a stack of the same field
    8: MaskBit.STREAK,
}
"""Codes of the Community Pipeline's data-quality map from version 3.5 on (one code per pixel, not bits)."""

COMMUNITY_PIPELINE_BITS = {
    1: MaskBit.BPM,
    2: MaskBit.SATURATE,
    4: MaskBit.INTERP,
    16: MaskBit.CRAY,
    64: MaskBit.TRAIL,
    128: MaskBit.SUSPECT,  # differs from a stack of the same field
    256: MaskBit.EDGE,
    512: MaskBit.EDGE,
}
"""Bits of that map before version 3.5 (DECam data handbook; edges added by the Legacy Surveys)."""

CODES_SINCE = (3, 5)
"""First version of the Community Pipeline that writes codes."""

PLAIN_VALUES = (1, 255, -1)
"""The other value of a plain mask of zeros and ones."""

MEANINGS: tuple[tuple[str, int], ...] = (
    (r"^DETECTOR$", MaskBit.BPM),
    (r"GHOST", MaskBit.SUSPECT),
    (r"DETECT|SOURCE|OBJECT|DEBLEND|FAKE|INJECT|TARGET|PRIMARY|RESERVED|MARK", 0),
    (r"MEDIUM|^BRIGHT$|GALAXY|CLUSTER|WISE|BAILOUT|RESOLVED|HALO|BURNTOOL|STARCORE|POOR", 0),
    (r"INEXACT|REJECT|CLIPPED|HIGH_VARIANCE", 0),
    (r"RAD HIT|COSMIC|^CR$|_CR$|JUMP", MaskBit.CRAY),
    (r"SATELLITE|AIRCRAFT|STREAK|TRACK", MaskBit.STREAK),
    (r"BLEED|TRAIL", MaskBit.TRAIL),
    (r"CROSSTALK|XTALK", MaskBit.SSXTALK | MaskBit.BPM),
    (r"SAT", MaskBit.SATURATE),
    (r"SUSPECT|SPIKE", MaskBit.SUSPECT),
    (r"EDGE|VIGNET", MaskBit.EDGE),
    (
        r"BAD|DEAD|HOT|NO.?DATA|NAN|NOISY|RESPONSIV|INT?E?RP|FLAT|DARK|BLANK|CTE|LOW|DETECTOR|DEFECT|MASK|ALLM|DIP",
        MaskBit.BPM,
    ),
)
"""Meanings of names and comments of bits, the first match counts."""

PER_BAND = re.compile(r"^(?:SATUR|ALLM(?:ASK)?)_([A-Z])$")
"""Bits of the Legacy Surveys that concern the images of one band."""

LEGACY = re.compile(
    r"^(?:NPRIMARY|BRIGHT|(?:SATUR|ALLM(?:ASK)?)_[A-Z]|WISEM\d|BAILOUT|MEDIUM|GALAXY|CLUSTER|RESOLVED)$"
)


@dataclass(frozen=True, slots=True)
class Convention:
    """Meaning of the values of a mask plane.

    Attributes
    ----------
    kinds
        Mask bits of each bit's value or each code; zero if informative, None if named and not understood.
    are_codes
        Whether a pixel has one code, not a sum of bits. An unknown code counts as bad.
    """

    kinds: Mapping[int, int | None]
    are_codes: bool = False

    def translate(self, value: int) -> int | None:
        """Return the mask bits of a pixel's value, None if a part of it is not understood."""
        if self.are_codes:
            return self.kinds.get(value, int(MaskBit.BPM))
        if value < 0:
            return None
        total = 0
        for k in range(value.bit_length()):
            if value >> k & 1:
                kind = self.kinds.get(1 << k)
                if kind is None:
                    return None
                total |= kind
        return total


JWST = Convention({1 << k: {0: MaskBit.BPM, 1: MaskBit.SATURATE, 9: MaskBit.BPM}.get(k, 0) for k in range(32)})
"""DO_NOT_USE, SATURATED and NON_SCIENCE; all other bits say what was done to a usable pixel (JWST pipeline, DQ)."""

HST = Convention({1 << k: 0 if k in (6, 10) else MaskBit.BPM for k in range(16)})
"""Warm pixels and charge traps are corrected by the calibration; the others are defects (ACS data handbook)."""


@dataclass(frozen=True, slots=True)
class HeaderCard:
    """A card of a header with its comment."""

    key: str
    value: Any
    comment: str


def mask_of_plane(
    plane: NDArray[Any],
    cards: tuple[HeaderCard, ...],
    image_header: Mapping[str, Any],
    *,
    name: str,
    defects: int | None = None,
) -> MaskImage:
    """Return the mask bits of a mask plane.

    Parameters
    ----------
    plane
        (ny, nx) values; a value that is not a number is bad.
    cards
        Header of the plane.
    image_header
        Keywords of the image, for camera, band and version of the pipeline.
    name
        File and extension, for messages and as a hint of the convention.
    defects
        Sum of the bits that are defects, from the user; zero if any value but zero is bad; None to recognise them.

    Raises
    ------
    InputError
        If a bit that is set has no known meaning.
    """
    numbers, bad = _integers(plane, name)
    if defects is not None:
        chosen = (numbers != 0) if defects == 0 else (numbers & defects) != 0
        return np.where(chosen | bad, np.int16(MaskBit.BPM), np.int16(0))
    header = dict(image_header) | {card.key: card.value for card in cards}
    values = _distinct(numbers)
    convention = _convention(header, cards, values, name)
    if convention is None:
        if not (values.size == 0 or (values.size == 1 and int(values[0]) in PLAIN_VALUES)):
            raise _unknown(name, _bits_of(values))
        convention = Convention(dict.fromkeys(PLAIN_VALUES, int(MaskBit.BPM)), are_codes=True)
    mask = np.where(bad, np.int16(MaskBit.BPM), np.int16(0))
    for value in values:
        bits = convention.translate(int(value))
        if bits is None:
            raise _unknown(name, [int(value)])
        if bits:
            mask[numbers == value] |= np.int16(bits)
    return mask


def mask_of_codes(codes: NDArray[np.integer]) -> MaskImage:
    """Translate the Community Pipeline's data-quality codes into mask bits; unknown codes count as bad."""
    mask = np.zeros(codes.shape, dtype=np.int16)
    for code in np.unique(codes):
        if code != 0:
            mask[codes == code] = np.int16(COMMUNITY_PIPELINE_CODES.get(int(code), MaskBit.BPM))
    return mask


def _distinct(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the different values of a mask but zero, in order; small ones are counted instead of sorted."""
    if numbers.min(initial=0) >= 0 and numbers.max(initial=0) < 1 << 20:
        values = np.flatnonzero(np.bincount(numbers.ravel()))
    else:
        values = np.unique(numbers)
    return values[values != 0]


def _integers(plane: NDArray[Any], name: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    if plane.dtype.kind in "iub":
        return plane.astype(np.int64), np.zeros(plane.shape, dtype=np.bool_)
    bad = ~np.isfinite(plane)
    numbers = np.where(bad, 0.0, plane)
    if not np.array_equal(numbers, np.rint(numbers)):
        raise InputError(
            "the mask holds values that are no integers",
            value=name,
            remedy="give a mask; weights are given with --weight",
        )
    return numbers.astype(np.int64), bad


def _bits_of(values: NDArray[np.int64]) -> list[int]:
    together = int(np.bitwise_or.reduce(values)) if values.size else 0
    return [1 << k for k in range(63) if together >> k & 1]


def _unknown(name: str, values: list[int]) -> InputError:
    return InputError(
        f"the bits of the mask {name} have no known meaning",
        value=", ".join(str(v) for v in values[:12]),
        limit="bits named in the header, or a known convention",
        remedy="say which are defects with --mask-bits or --template-mask-bits (such as 1,2,16, or all)",
    )


def _convention(
    header: Mapping[str, Any], cards: tuple[HeaderCard, ...], values: NDArray[np.int64], name: str
) -> Convention | None:
    """Return what the values mean, None if the header shows no convention."""
    band = str(header.get("BAND") or header.get("FILTERX") or header.get("FILTER") or "").strip()[:1].upper()
    named = {value: _meaning(words, band) for value, words in _named_bits(cards)}
    if named:
        return Convention(named)
    version = _version(header)
    if version is not None or "_ood_" in name or str(header.get("PRODTYPE", "")).lower().startswith("dqmask"):
        bits = Convention(COMMUNITY_PIPELINE_BITS)
        are_bits = version is not None and version < CODES_SINCE
        if version is None and int(values.max(initial=0)) > max(COMMUNITY_PIPELINE_CODES):
            are_bits = all(bits.translate(int(value)) is not None for value in values)
        return bits if are_bits else Convention(COMMUNITY_PIPELINE_CODES, are_codes=True)
    return {"JWST": JWST, "HST": HST}.get(str(header.get("TELESCOP", "")).strip().upper())


def _named_bits(cards: tuple[HeaderCard, ...]) -> Iterator[tuple[int, str]]:
    """Yield value and name of every bit that a header names."""
    texts = {card.key: card.value for card in cards}
    for card in cards:
        key = card.key.upper().removeprefix("HIERARCH ").strip()
        number = card.value if isinstance(card.value, int) and not isinstance(card.value, bool) else None
        if key.startswith("MP_") and number is not None and 0 <= number < 63:
            yield 1 << number, key[3:]
        elif match := re.fullmatch(r"(?:BIT|BITNM)_?0*(\d{1,2})", key):
            words = card.comment if number is not None else str(card.value)
            if words.strip():
                yield 1 << int(match[1]), words.strip().upper()
        elif match := re.fullmatch(r"MSKNAM(\d\d)", key):
            value = texts.get(f"MSKVAL{match[1]}")
            if isinstance(value, int) and value > 0:
                yield value, str(card.value).strip().upper()
        elif LEGACY.match(key) and number is not None and number > 0 and number & (number - 1) == 0:
            yield number, key


def _meaning(words: str, band: str) -> int | None:
    """Return the mask bits of a bit's name or comment, zero if it is informative, None if it is not understood."""
    one_band = PER_BAND.match(words)
    if one_band and band and one_band[1] != band:
        return 0
    return next((int(bits) for pattern, bits in MEANINGS if re.search(pattern, words)), None)


def _version(header: Mapping[str, Any]) -> tuple[int, int] | None:
    match = re.match(r"\s*[Vv]?(\d+)(?:\.(\d+))?", str(header.get("PLVER", "")))
    return (int(match[1]), int(match[2] or 0)) if match else None
