"""Real candidates in cut-outs of 121 pixels: how many the shipped subtraction finds where few stars fix the kernel.

A pair that is refused counts as missed. The folder with the pixels is beside a developer's checkout and not part of the
project. ``python -m bench.real_stamps [--json]`` prints the table.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.report import Row, at_least, at_most, main
from imaging.bits import MaskBit
from imaging.difference.engine import ImageDifference, UserImage, difference_images
from imaging.difference.prepare import moffat_psf
from imaging.errors import GWWorkflowError
from imaging.image import FloatImage, LoadedImage
from imaging.wcs.foreign import wcs_of_header

REAL_STAMPS = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "s230922g"
"""Folder of the stamps, beside a developer's checkout."""

PIXEL_DEG, GAIN = 0.2632 / 3600.0, 4.0
"""Size of a pixel, and electrons per count."""

REAL_SNR, NEAR_PIXELS, FAR_PIXELS = 7.0, 3.0, 8.0
"""Signal to noise of a real transient; distances within which a detection is the transient, and beyond which not, at
least: within the FWHM of the broader image two sources are one."""


@dataclass(frozen=True, eq=False)
class StampPair:
    """One exposure of one candidate.

    Attributes
    ----------
    name, row
        Candidate and number of the exposure.
    science, template
        The two images, with PSF and zero point.
    x, y
        Place of the candidate on the science image, pixels.
    is_real
        Whether the source detected a real transient above S/N 7.
    """

    name: str
    row: int
    science: UserImage
    template: UserImage
    x: float
    y: float
    is_real: bool


def stamp_pairs(folder: Path) -> Iterator[StampPair]:
    """Yield all pairs."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as opened:
            z = dict(opened)
        for k in range(len(z["mjd"])):
            images = [
                UserImage(
                    _loaded(z[f"{part}"][k], z, k, float(z[f"zp_{part}"][k])), moffat_psf(float(z[f"fwhm_{part}"][k]))
                )
                for part in ("sci", "tem")
            ]
            x, y = float(z["x"][k]), float(z["y"][k])
            if z["dif_follows"][k] == "TEM":  # measured in the template's frame
                x, y = x + float(z["shift_x"][k]), y + float(z["shift_y"][k])
            real = bool(z["status"][k] == "p" and z["snr"][k] > REAL_SNR)
            yield StampPair(str(z["name"]), k, images[0], images[1], x, y, real)


def _loaded(pixels: FloatImage, z: dict[str, np.ndarray], k: int, zeropoint: float) -> LoadedImage:
    header = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CUNIT1": "deg",
        "CUNIT2": "deg",
        "CRVAL1": float(z["ra"]),
        "CRVAL2": float(z["dec"]),
        "CRPIX1": 61.0,
        "CRPIX2": 61.0,
        "CD1_1": 0.0,
        "CD1_2": PIXEL_DEG,
        "CD2_1": -PIXEL_DEG,
        "CD2_2": 0.0,
        "BAND": str(z["band"][k]),
        "EXPNUM": 1,
        "CCDNUM": 1,
        "MJD-OBS": float(z["mjd"][k]),
    }
    mask = np.where(np.isfinite(pixels), 0, int(MaskBit.BPM)).astype(np.int16)
    wcs = wcs_of_header(header, (pixels.shape[0], pixels.shape[1]))
    return LoadedImage(np.ascontiguousarray(pixels), mask, None, wcs, header, GAIN, zeropoint, np.inf, False, "stamp")


@dataclass(frozen=True)
class StampAnswer:
    """What the search says about one pair.

    Attributes
    ----------
    refused
        Reason of the refusal; empty if the pair was subtracted.
    snr, score, flags
        Significance, real/bogus score and flags of the transient; NaN and zero if it was not found.
    others, others_passed
        Detections elsewhere; positive ones without a flag and with a score above one half.
    kernel
        Sources of the kernel's scale and shape.
    """

    refused: str = ""
    snr: float = float("nan")
    score: float = float("nan")
    flags: int = 0
    others: int = 0
    others_passed: int = 0
    kernel: str = ""


def subtract_stamp(pair: StampPair) -> ImageDifference:
    """Subtract a pair with the shipped settings."""
    with np.errstate(all="ignore"):
        return difference_images(pair.science, [pair.template])


def is_elsewhere(away: NDArray[np.float64], pair: StampPair) -> NDArray[np.bool_]:
    """Return which detections are other sources than the candidate.

    Parameters
    ----------
    away
        (n,) distances of detections from the candidate, pixels.
    pair
        The pair.
    """
    widths = [image.psf.fwhm_pixels for image in (pair.science, pair.template) if image.psf is not None]
    return away >= max(FAR_PIXELS, *widths)


def answer(pair: StampPair) -> StampAnswer:
    """Subtract a pair and look for the transient."""
    try:
        result = subtract_stamp(pair)
    except GWWorkflowError as error:
        return StampAnswer(str(getattr(error, "reason", "") or type(error).__name__))
    table = result.searched.detections_table
    return answer_of(pair, result, table.column("real_score").to_numpy(), table.column("flags").to_numpy())


def answer_of(
    pair: StampPair, result: ImageDifference, score: NDArray[np.floating], flags: NDArray[np.integer]
) -> StampAnswer:
    """Look for the transient among the detections of a subtracted pair.

    Parameters
    ----------
    pair, result
        The pair and its difference.
    score, flags
        (n,) real/bogus scores and flags of the detections.
    """
    found = result.searched.detections
    away = np.hypot(found.measured.x - pair.x, found.measured.y - pair.y)
    far = is_elsewhere(away, pair)
    passed = far & (found.score > 0) & (flags == 0) & (score > 0.5)
    kernel = result.searched.difference.kernel.fallback or "fitted"
    counts = int(far.sum()), int(passed.sum()), kernel
    near = np.flatnonzero((away < NEAR_PIXELS) & (found.score > 0))
    if near.size == 0:
        return StampAnswer("", float("nan"), float("nan"), 0, *counts)
    j = near[np.argmax(found.score[near])]
    return StampAnswer("", float(found.score[j]), float(score[j]), int(flags[j]), *counts)


def stamp_rows(folder: Path) -> list[Row]:
    """Search all pairs; return how many real transients were found, and what else was."""
    pairs = list(stamp_pairs(folder))
    return answer_rows(pairs, [answer(pair) for pair in pairs])


def answer_rows(pairs: Sequence[StampPair], answers: Sequence[StampAnswer]) -> list[Row]:
    """Return the rows of the answers to pairs."""
    real = [a for a, pair in zip(answers, pairs, strict=True) if pair.is_real]
    n, found = len(real), [a for a in real if np.isfinite(a.snr)]
    scored = [a for a in found if a.score > 0.5]
    refused = Counter(a.refused for a in answers if a.refused)
    kernels = Counter(a.kernel for a in answers if not a.refused)
    return [
        at_least("real stamps: transients above S/N 7 found", float(len(found)), "", 139.0, n=n),
        at_least("real stamps: with score above 0.5", float(len(scored)), "", 137.0, n=n),
        at_least("real stamps: and no flag", float(sum(a.flags == 0 for a in scored)), "", 133.0, n=n),
        at_most(
            "real stamps: unflagged others with score above 0.5", float(sum(a.others_passed for a in answers)), "", 1.0
        ),
        Row("real stamps: other detections", float(sum(a.others for a in answers)), ""),
        *(Row(f"real stamps: refused, {why}", float(count), "", n=len(pairs)) for why, count in refused.items()),
        *(Row(f"real stamps: kernel {name}", float(count), "", n=len(pairs)) for name, count in kernels.items()),
    ]


def measure(quick: bool) -> Sequence[Row]:
    """Measure the stamps."""
    del quick
    return stamp_rows(REAL_STAMPS) if REAL_STAMPS.is_dir() else [Row("real stamps: absent", None, "")]


if __name__ == "__main__":
    main("Real stamps", measure)
