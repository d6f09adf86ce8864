"""Compare a detrended and cleaned CCD with the simulated truth."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from imaging.bits import NO_WEIGHT, NOT_SKY, MaskBit
from imaging.detector.ccds import AMPLIFIER_WIDTH, CCDS, NX, NY, Ccd
from imaging.detector.crosstalk import CrosstalkMatrix
from imaging.io.truth import pixel_truth_path, read_pixel_truth
from imaging.masks.cosmic_rays import CosmicRays
from imaging.masks.streak_model import Streak, mask_streak
from imaging.simulation.background import sky_image as true_sky_image
from imaging.simulation.night import SimulatedNight
from imaging.simulation.scene import draw_scene
from imaging.simulation.truth import read_exposure_truth, read_sky, true_geometry

FloatImage = NDArray[np.float32]
MILLIMAG = 1085.7
VISIBLE_PIXELS = 2000
"""True streaks with fewer bright pixels than this on good pixels of a CCD (200 pixels of length) are not counted."""


@dataclass(frozen=True, eq=False)
class Truth:
    """The truth about one CCD of one exposure.

    Attributes
    ----------
    sources
        (ny, nx) float32, light of the sources at response one, electrons.
    sky
        (ny, nx) float32, sky where the flat is one, electrons.
    pixels
        Indices and electrons of cosmic rays and streaks, indices of full wells.
    x, y, flux
        Sources: pixels, electrons.
    """

    sources: FloatImage
    sky: FloatImage
    pixels: dict[str, NDArray]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]


@dataclass
class Scores:
    """Results of all CCDs; lists have one entry per CCD unless their name says otherwise."""

    mean_error_electrons: list[float] = field(default_factory=list)
    flat_millimag: list[float] = field(default_factory=list)
    light_millimag: list[float] = field(default_factory=list)
    crosstalk_sum: float = 0.0
    crosstalk_weight: float = 0.0
    crosstalk_variance: float = 0.0
    outliers: int = 0
    good_pixels: int = 0
    sky_range: list[float] = field(default_factory=list)
    noise_ratio: list[float] = field(default_factory=list)
    tracks: list[bool] = field(default_factory=list)
    track_pixels: list[float] = field(default_factory=list)
    false_pixels: int = 0
    star_cores: int = 0
    streaks_true: int = 0
    streaks_found: int = 0
    streaks_false: int = 0
    streak_pixels: list[float] = field(default_factory=list)


def read_truth(night: SimulatedNight, expnum: int, ccdnum: int) -> Truth:
    """Recreate the simulated light on a CCD."""
    exposure = read_exposure_truth(night.root, expnum)
    geometry = true_geometry(night.settings, exposure, ccdnum)
    scene = draw_scene(exposure, ccdnum, geometry, read_sky(night.root), night.settings.effects)
    sky = true_sky_image(exposure, night.settings.camera_seed, ccdnum)
    pixels = read_pixel_truth(pixel_truth_path(night.root, expnum, ccdnum))
    sources = scene.sources
    return Truth(scene.light, sky, pixels, sources["x"], sources["y"], sources["flux_electrons"])


def score_detrended(
    scores: Scores, science: FloatImage, mask: NDArray[np.int16], star_flat: FloatImage, truth: Truth, ccd: Ccd
) -> FloatImage:
    """Compare a detrended image with the truth before noise; return the difference, NaN in cosmic rays and streaks."""
    expected = truth.sources * star_flat + truth.sky
    error = science - expected
    skip = np.zeros(error.size, dtype=bool)
    skip[truth.pixels["cosmic_ray_index"]] = True
    skip[truth.pixels["streak_index"]] = True
    error[skip.reshape(error.shape)] = np.nan
    good = (mask & np.int16(NOT_SKY | MaskBit.SUSPECT)) == 0
    blank = good & (truth.sources < 200.0)
    for amplifier in ccd.amplifiers:
        half = (slice(None), amplifier.columns)
        values = error[half][blank[half]]
        values = values[np.isfinite(values)]
        if values.size > 1000:
            scores.mean_error_electrons.append(float(values.mean()))
            scores.flat_millimag.append(MILLIMAG * float(values.mean() / truth.sky[half].mean()))
    bright = good & (truth.sources > 2000.0) & (truth.sources < 1e5) & np.isfinite(error)
    scores.light_millimag.append(MILLIMAG * float(error[bright].sum() / (truth.sources * star_flat)[bright].sum()))
    usable = ((mask & np.int16(NO_WEIGHT)) == 0) & np.isfinite(error)
    scores.outliers += int(np.count_nonzero(np.abs(error[usable]) > 6.0 * np.sqrt(expected[usable] + 50.0)))
    scores.good_pixels += int(usable.sum())
    return error


def score_crosstalk(
    scores: Scores,
    errors: dict[int, FloatImage],
    masks: dict[int, NDArray[np.int16]],
    full: dict[int, NDArray[np.int32]],
    matrix: CrosstalkMatrix,
) -> None:
    """Average the residual crosstalk of full wells, in units of their signal, by the sign of the coefficient."""
    for ccdnum, error in errors.items():
        allowed = (masks[ccdnum] & np.int16((NO_WEIGHT | MaskBit.STAR) & ~MaskBit.SSXTALK)) == 0
        for term in matrix.into(ccdnum):
            if term.source[0] not in full:
                continue
            source = CCDS[term.source[0]].amplifier(term.source[1])
            victim = CCDS[ccdnum].amplifier(term.victim[1])
            y, x = np.divmod(full[term.source[0]], NX)
            own = (x >= source.columns.start) & (x < source.columns.stop)
            y, x = y[own], x[own] - source.columns.start
            x = (AMPLIFIER_WIDTH - 1 - x if source.is_left != victim.is_left else x) + victim.columns.start
            values = error[y, x][allowed[y, x]]
            values = values[np.isfinite(values) & (np.abs(values) < 400.0)]
            signal = source.saturation_adu * source.gain
            scores.crosstalk_sum += float(np.sign(term.coefficient) * values.sum())
            scores.crosstalk_weight += signal * values.size
            scores.crosstalk_variance += float(np.sum(values**2))


def score_cosmic_rays(
    scores: Scores, rays: CosmicRays, mask: NDArray[np.int16], truth: Truth, sigma_electrons: float
) -> None:
    """Count detected tracks and pixels, false pixels, and masked star cores.

    ``mask`` is the one before the search. A track counts if one of its pixels on good ground exceeds five sigma, a
    pixel if it exceeds one; a masked pixel is false if no true one touches it. A star core is hit if it is masked and
    no true pixel lies within three.
    """
    index, electrons = truth.pixels["cosmic_ray_index"], truth.pixels["cosmic_ray_electrons"]
    track = truth.pixels["cosmic_ray_track"]
    good = ((mask & np.int16(NO_WEIGHT)) == 0).ravel()[index]
    hit = rays.pixels.ravel()[index]
    for number in np.unique(track[good & (electrons > 5 * sigma_electrons)]):
        scores.tracks.append(bool(hit[track == number].any()))
    scores.track_pixels.extend(hit[good & (electrons > sigma_electrons)].astype(float).tolist())
    true = np.zeros(mask.size, dtype=bool)
    true[index] = True
    touched = binary_dilation(true.reshape(mask.shape), np.ones((3, 3)))
    scores.false_pixels += int((rays.pixels & ~touched).sum())
    x, y = np.rint(truth.x).astype(int), np.rint(truth.y).astype(int)
    near = binary_dilation(touched, np.ones((3, 3)), iterations=2)
    stars = (truth.flux > 2e4) & (x >= 3) & (x < NX - 3) & (y >= 3) & (y < NY - 3)
    scores.star_cores += int((rays.pixels & ~near)[y[stars], x[stars]].sum())


def score_streaks(
    scores: Scores,
    found: list[Streak],
    predicted: list[Streak],
    mask: NDArray[np.int16],
    pixels: dict[str, NDArray],
    sigma: float,
) -> None:
    """Count the true streaks above one sigma per pixel that are masked, and the false streaks.

    ``mask`` is the one before the search.
    """
    good = ((mask & np.int16(NO_WEIGHT)) == 0).ravel()
    covered = np.zeros(mask.shape, dtype=np.int16)
    for streak in [*found, *predicted]:
        mask_streak(covered, streak)
    index, electrons, number = (pixels[k] for k in ("streak_index", "streak_electrons", "streak"))
    for label in np.unique(number):
        core = (number == label) & (electrons > 0.5 * sigma) & good[index]
        if core.sum() >= VISIBLE_PIXELS and np.quantile(electrons[core], 0.9) >= sigma:
            share = float((covered.ravel()[index[core]] != 0).mean())
            scores.streaks_true += 1
            scores.streaks_found += share > 0.9
            scores.streak_pixels.append(share)
    true = np.zeros(mask.size, dtype=bool)
    true[index] = True
    for streak in found:
        own = np.zeros(mask.shape, dtype=np.int16)
        n = mask_streak(own, streak)
        scores.streaks_false += bool(n and true[np.flatnonzero(own)].mean() < 0.3)
