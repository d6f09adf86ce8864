"""Accuracy and cost of difference imaging, also of other programs: ``python -m bench.difference [--quick] [--json]``.

Full-size synthetic pairs and stacks of three templates, three seeds, search image sharper and broader than the
templates, weak and strong turbulence; then the real epochs, if their folder is present. With ``--sky hard --band g``
(or another sky and band) a simulated night from raw pixels to differences instead: :mod:`bench.sky_difference`.
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.aperture_noise import noise_over_ideal
from bench.difference_peers import hotpants_seconds, sextractor_seconds, swarp_seconds
from bench.difference_runs import Scenario, Truth, is_true, run, take
from bench.real_epochs import (
    COSMIC_RAYS,
    REAL_DATA,
    SIGNIFICANCE,
    VARIABLE,
    gaia_stars,
    known_kernel_sum,
    noise_significance_near,
    pairs,
    read_epochs,
    score_near,
    subtract_epochs,
)
from bench.report import Row, at_least, at_most, main
from bench.sky_difference import ratio_of, rows_on_sky, width_of
from imaging.difference.chain import CcdSearchResult
from imaging.difference.detect import detect
from imaging.difference.fakes import add_sources
from imaging.difference.forced import measure_forced
from imaging.difference.settings import DetectionSettings, FakeSettings, SearchSettings, SubtractionSettings
from imaging.difference.star_images import cut_star_images
from imaging.difference.subtract import subtract
from imaging.numerics.robust import mad_sigma
from imaging.schemas.difference import DetectionFlag
from imaging.templates.resampling_inputs import with_resampling_inputs

FloatArray = NDArray[np.float64]

SCENARIOS = (
    Scenario(1, 1.15, 0.90, 10.0),
    Scenario(2, 0.90, 1.20, 3.0),
    Scenario(3, 1.30, 1.00, 30.0),
)
SCORE_CUT = 0.3
STAR_SNR = FakeSettings().star_snr

STACKING = ("resample", "zeropoints", "combine", "describe")
DETECTION = ("filter", "detect", "fakes")


@dataclass(frozen=True, eq=False)
class Outcome:
    """One scenario with the result of its search."""

    scenario: Scenario
    truth: Truth
    searched: CcdSearchResult


def measure(quick: bool) -> list[Row]:
    """Measure everything; one scenario if ``quick``."""
    scenarios = SCENARIOS[:1] if quick else SCENARIOS
    _warm_up()
    outcomes = []
    for scenario in scenarios:
        truth = take(scenario)
        outcomes.append(Outcome(scenario, truth, run(truth, scenario)))
    rows = _noise_rows(outcomes) + _flux_rows(outcomes) + star_image_rows(outcomes)
    rows += _search_rows(outcomes) + _cost_rows(outcomes)
    rows += _second_method_rows(outcomes[0]) + _peer_rows(outcomes[0])
    if REAL_DATA.is_dir():
        rows += _real_rows()
    else:
        sys.stderr.write(f"real epochs left out: {REAL_DATA} is absent\n")
    return rows


def _warm_up() -> None:
    """Compile and load everything on a small pair, so that no compilation is timed."""
    scenario = Scenario(99, shape=(600, 520), n_transients=20)
    truth = take(scenario)
    run(truth, scenario)


def _seeds(outcomes: Sequence[Outcome]) -> list[int]:
    return [o.scenario.seed for o in outcomes]


def _worst(values: Sequence[float]) -> float:
    return max(values, key=abs)


def _noise_rows(outcomes: Sequence[Outcome]) -> list[Row]:
    most = partial(at_most, n=len(outcomes), seeds=_seeds(outcomes))
    quality = [o.searched.quality for o in outcomes]

    def worst(key: str, ideal: float = 0.0) -> float:
        return max(abs(q[key] - ideal) for q in quality)

    return [
        most("noise width of blank sky, |width - 1|", worst("difference_noise_width", 1.0), "", 0.02),
        most("the same before normalisation", worst("noise_width_predicted", 1.0), "", 0.02),
        most("width of the score in blank sky, |width - 1|", worst("score_noise_width", 1.0), "", 0.02),
        most("lag-1 correlation", worst("difference_lag1"), "", 0.02),
        most("aperture noise over the ideal's (truth subtracted)", _aperture_noise(outcomes), "", 1.03),
        most("registration after correction", worst("registration_pixels"), "pixel", 0.05),
        most("masked by the subtraction", 100 * worst("masked_by_subtraction"), "%", 3.0),
    ]


def _aperture_noise(outcomes: Sequence[Outcome]) -> float:
    return max(noise_over_ideal(o.truth, o.searched) for o in outcomes)


def _flux_rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """Measure forced photometry of the simulated transients and of many added sources of known flux."""
    ratios, errors, pulls = [], [], []
    for o in outcomes:
        difference, settings = o.searched.difference, DetectionSettings()
        x, y, flux = _added_sources(o)
        copy = add_sources(difference, x, y, flux, np.random.default_rng((o.scenario.seed, 8)))
        alone = _alone(o.truth)
        true_x, true_y = o.truth.search.true_x[alone], o.truth.search.true_y[alone]
        for image, px, py, true in (
            (difference.as_image(), true_x, true_y, o.truth.transient_flux[alone]),
            (copy.as_image(), x, y, flux),
        ):
            forced = measure_forced(image, px, py, settings, difference.filtered.template_flux)
            good = ~forced.masked & np.isfinite(forced.flux)
            pulls.append((forced.flux[good] - true[good]) / forced.error[good])
            ratios.append(forced.flux[good] / true[good])
            errors.append(forced.error[good] / true[good])
    ratio, error, pull = np.concatenate(ratios), np.concatenate(errors), np.concatenate(pulls)
    bright = error < 0.1
    mean = float(np.sum(ratio[bright] / error[bright] ** 2) / np.sum(error[bright] ** -2))
    seeds, n = _seeds(outcomes), int(bright.sum())
    return [
        at_most("flux of transients over truth, |ratio - 1|", 100 * abs(mean - 1), "%", 0.3, n=n, seeds=seeds),
        Row("  its standard error", 100 * float(np.sum(error[bright] ** -2) ** -0.5), "%", n=n),
        at_most("pull of forced photometry, |width - 1|", abs(mad_sigma(pull) - 1), "", 0.05, n=pull.size, seeds=seeds),
        Row("  its standard error", float(1.17 / np.sqrt(pull.size)), "", n=pull.size),
    ]


def star_image_rows(outcomes: Sequence[Outcome]) -> list[Row]:
    """Measure added sources that images of stars draw, not the PSF model: they show an error of the model."""
    pulls, stars = [np.zeros(0)], [np.zeros((0, 3))]
    for o in outcomes:
        difference, images = o.searched.difference, cut_star_images(o.searched.difference.search, STAR_SNR)
        if not len(images):
            continue
        x, y, flux = _added_sources(o)
        x, y, number = images.nearest(x, y)
        rng, drawn = np.random.default_rng((o.scenario.seed, 9)), [images.images[k] for k in number]
        image = add_sources(difference, x, y, flux, rng, drawn).as_image()
        forced = measure_forced(image, x, y, DetectionSettings(), difference.filtered.template_flux)
        good = ~forced.masked & np.isfinite(forced.flux) & (flux > 5 * forced.error)
        error = np.hypot(forced.error, flux * images.error[number])
        pulls.append((forced.flux - flux)[good] / error[good])
        for k in range(len(images)):  # all sources of a star share its noise
            which = good & (number == k) & (flux > 20 * forced.error)
            weight = (flux[which] / forced.error[which]) ** 2
            if which.any():
                mean = np.average(forced.flux[which] / flux[which], weights=weight)
                stars.append(np.array([[0.0, mean, 1 / np.hypot(weight.sum() ** -0.5, images.error[k])]]))
    pull, star, seeds = np.concatenate(pulls), np.concatenate(stars), _seeds(outcomes)
    width, name = width_of(pull, 0.05), "sources drawn with images of stars"
    distance = None if width is None else abs(width - 1)
    ratio = ratio_of(star, 0.2)
    return [
        at_most(f"{name}: flux over truth, |ratio - 1|, by star", ratio, "%", 0.2, n=len(star), seeds=seeds),
        at_most(f"{name}: pull, |width - 1|", distance, "", 0.05, n=pull.size, seeds=seeds),
    ]


def _added_sources(outcome: Outcome, n: int = 1500) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw isolated positions, away from the simulated transients, and fluxes of magnitude 18 to 24."""
    rng = np.random.default_rng((outcome.scenario.seed, 7))
    ny, nx = outcome.searched.difference.image.shape
    side = int(np.sqrt(nx * ny / n))
    gx, gy = np.meshgrid(np.arange(side // 2, nx - side // 3, side), np.arange(side // 2, ny - side // 3, side))
    x, y = (g.ravel() + rng.uniform(-0.2, 0.2, g.size) * side for g in (gx, gy))
    truth = outcome.truth.search
    clear = np.hypot(x[:, None] - truth.true_x, y[:, None] - truth.true_y).min(axis=1) > 30
    flux = 10 ** (-0.4 * (rng.uniform(18.0, 24.0, x.size) - truth.image.zeropoint_mag))
    return x[clear], y[clear], flux[clear]


def _alone(truth: Truth) -> NDArray[np.bool_]:
    """Return which transients are isolated and below saturation."""
    x, y = truth.search.true_x, truth.search.true_y
    distance = np.hypot(x[:, None] - x, y[:, None] - y) + 1e9 * np.eye(x.size)
    return distance.min(axis=1) > 15


def _search_rows(outcomes: Sequence[Outcome]) -> list[Row]:
    seeds, n = _seeds(outcomes), len(outcomes)
    fakes = [o.searched.fakes for o in outcomes if o.searched.fakes is not None]
    clear = [f.on_good_pixels & (f.snr_expected > 10) for f in fakes]
    found = np.concatenate([f.detected[c] for f, c in zip(fakes, clear, strict=True)])
    raw, cut, scored, lost, above = [], [], [], 0, 0
    for o in outcomes:
        detections = o.searched.detections
        real, _ = is_true(detections, o.truth)
        score = np.array(o.searched.detections_table.column("real_score").to_pylist())
        positive = detections.score > 0
        raw.append(int((positive & ~real).sum()))
        cut.append(int((detections.passed & ~real).sum()))
        scored.append(int((detections.passed & ~real & (score >= SCORE_CUT)).sum()))
        strong = real & detections.passed & (detections.score > 7)
        above += int(strong.sum())
        lost += int((strong & (score < SCORE_CUT)).sum())
    most = partial(at_most, n=n, seeds=seeds)
    rays = outcomes[0].scenario.missed_cosmic_rays
    snr50 = max(o.searched.quality["snr50"] for o in outcomes)
    share = 100 * float(found.mean())
    loss = 100 * lost / max(above, 1)
    return [
        at_most("S/N of 50 % completeness", snr50, "", 5.5, n=sum(len(f) for f in fakes), seeds=seeds),
        at_least("completeness above S/N 10 on good pixels", share, "%", 99.0, n=found.size, seeds=seeds),
        Row(f"no transients among detections, per CCD ({rays} missed cosmic rays)", float(np.mean(raw)), "", n=n),
        most("false positives per CCD that pass the cuts", float(np.mean(cut)), "", 10.0),
        most(f"false positives per CCD with score {SCORE_CUT:g} or more", float(np.mean(scored)), "", 1.0),
        at_most("transients above S/N 7 that the score loses", loss, "%", 1.0, n=above, seeds=seeds),
    ]


def _cost_rows(outcomes: Sequence[Outcome]) -> list[Row]:
    times = [o.searched.times.cpu_s for o in outcomes]
    most = partial(at_most, n=len(outcomes), seeds=_seeds(outcomes))

    def total(steps: Sequence[str], *, others: bool = False) -> float:
        return min(sum(s for k, s in t.items() if (k in steps) != others) for t in times)

    subtraction = total((*STACKING, *DETECTION), others=True)
    return [
        most("stack of 3 templates", total(STACKING), "CPU s", 2.0),
        most("subtraction with backgrounds and masks", subtraction, "CPU s", 2.0),
        most("filter, detection and fakes", total(DETECTION), "CPU s", 2.5),
        Row("resampling inputs of a CCD, made once with its calibration", _resampling_seconds(outcomes[0]), "CPU s"),
        at_most("peak memory of the search, its input images included", _peak_memory_gb(outcomes[0]), "GB", 1.2),
    ]


def _resampling_seconds(outcome: Outcome, rounds: int = 3) -> float:
    """Return CPU seconds to compute the resampling inputs of one image, the minimum of several rounds."""
    image, settings = outcome.truth.search.image, SearchSettings().stack.resampling_inputs
    seconds = []
    for _ in range(rounds):
        begin = time.process_time()
        with_resampling_inputs(image, settings)
        seconds.append(time.process_time() - begin)
    return min(seconds)


def _peak_memory_gb(outcome: Outcome) -> float:
    """Run the search in a child process and return its peak memory, with inputs and results, GB."""
    images = [outcome.truth.search.image, *(frame.image for frame in outcome.truth.templates)]
    inputs = sum(p.nbytes for i in images for p in (i.pixels.science, i.pixels.mask, i.pixels.weight))
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_search_and_report, args=(outcome, sender))
    child.start()
    extra = receiver.recv()
    child.join()
    return float(extra + inputs) / 2**30


def _search_and_report(outcome: Outcome, sender: Connection) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    before = pages * resource.getpagesize()
    run(outcome.truth, outcome.scenario)
    sender.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)


def _second_method_rows(outcome: Outcome) -> list[Row]:
    """Compare the two methods on one pair: noise, false positives, and whether they find the same transients."""
    first = outcome.searched
    settings = SearchSettings(difference=SubtractionSettings(method="zogy"))
    difference = subtract(outcome.truth.search.image, first.template, settings.difference)
    detections = detect(difference, settings.detection)
    real, nearest = is_true(detections, outcome.truth)
    real_first, nearest_first = is_true(first.detections, outcome.truth)
    strong = set(nearest_first[real_first & (first.detections.score > 7)].tolist())
    both = strong & set(nearest[real].tolist())
    cost = sum(s for k, s in difference.times.cpu_s.items() if k not in DETECTION)
    quality, false = difference.quality, float((detections.passed & ~real).sum())
    agreed = 100 * len(both) / max(len(strong), 1)
    return [
        at_most("second method: |noise width - 1|", abs(quality["difference_noise_width"] - 1), "", 0.02),
        at_most("second method: lag-1 correlation", abs(quality["difference_lag1"]), "", 0.02),
        Row("second method: false positives that pass the cuts", false, ""),
        at_least("transients above S/N 7 that both methods find", agreed, "%", 98.0, n=len(strong)),
        Row("second method: subtraction", cost, "CPU s"),
    ]


def _peer_rows(outcome: Outcome) -> list[Row]:
    times = outcome.searched.times.cpu_s
    own_stack = sum(times[k] for k in STACKING)
    own_subtraction = sum(s for k, s in times.items() if k not in (*STACKING, *DETECTION))
    own_detection = times["filter"] + times["detect"]
    compared = (
        ("SWarp's stack over ours", swarp_seconds(outcome.truth), own_stack),
        (
            "SExtractor's catalogue of the difference over our detection",
            sextractor_seconds(outcome.searched),
            own_detection,
        ),
    )
    rows = [Row(name, theirs / own, "times the CPU") for name, theirs, own in compared if theirs is not None]
    hotpants = hotpants_seconds(outcome.truth, outcome.searched)
    if hotpants is not None:
        rows.append(at_least("HOTPANTS over our subtraction", hotpants / own_subtraction, "times the CPU", 10.0))
    if len(rows) < 3:
        sys.stderr.write("left out, not installed: some of SWarp, SExtractor and HOTPANTS\n")
    return rows


def _real_rows() -> list[Row]:
    stars = gaia_stars(REAL_DATA)
    widths, predicted, sums, changes, constant, rays = [], [], [], [], [], []
    for search, template in pairs(read_epochs(REAL_DATA)):
        result = subtract_epochs(search, template)
        quality = result.searched.quality
        widths.append(quality["difference_noise_width"] - 1)
        predicted.append(quality["noise_width_predicted"] - 1)
        known = known_kernel_sum(search, template)
        sums.append((quality["kernel_sum"] - 1, quality["kernel_sum"] / known - 1, known - 1))
        ny, nx = search.loaded.science.shape
        for star, (ra, dec, _) in stars.items():
            x, y = (float(v) for v in search.loaded.wcs.sky_to_pixel(ra, dec))
            if star == VARIABLE or not (5 < x < nx - 5 and 5 < y < ny - 5):
                continue
            if all(np.hypot(x - a, y - b) >= 15 for a, b in COSMIC_RAYS.values()):
                constant.append(abs(score_near(result, x, y)))
        expected = SIGNIFICANCE.get((search.date, template.date))
        if expected is not None:
            x, y = (float(v) for v in search.loaded.wcs.sky_to_pixel(*stars[VARIABLE][:2]))
            found = score_near(result, x, y), noise_significance_near(result, x, y)
            changes.append((search.date, template.date, expected, *found))
        if search.date in COSMIC_RAYS:
            m = result.searched.detections.measured
            near = np.hypot(m.x - COSMIC_RAYS[search.date][0], m.y - COSMIC_RAYS[search.date][1]) < 5
            rays += [bool(f & DetectionFlag.COSMIC_RAY) for f in result.searched.detections.flags[near]]
    most = partial(at_most, n=len(widths))
    plain, corrected, disagreement = (100 * abs(_worst(list(column))) for column in zip(*sums, strict=True))
    labelled = 100 * float(np.mean(rays))
    rows = [
        most("real epochs: |noise width - 1|", abs(_worst(widths)), "", 0.03),
        most("real epochs: the same before normalisation", abs(_worst(predicted)), "", 0.03),
        most("real epochs: kernel sum against the zero points", plain, "%", 4.0),
        Row("real epochs: disagreement of the zero points on the constant star", disagreement, "%"),
        most("real epochs: kernel sum against the zero points, corrected by the constant star", corrected, "%", 4.0),
        at_most("real epochs: residual of constant stars", max(constant), "sigma", 5.0, n=len(constant)),
        at_least("real epochs: detected cosmic rays that are labelled", labelled, "%", 100.0, n=len(rays)),
    ]
    for search_date, template_date, expected, score, noise in changes:
        name = f"real epochs: variable, {search_date} minus {template_date}"
        rows.append(Row(f"{name}, score", score, "sigma", None, bool(expected * score > 0 and abs(score) > 5.0)))
        agrees = 0.6 < noise / expected < 1.5
        rows.append(Row(f"{name}, flux over noise alone (about {expected:+.0f})", noise, "sigma", None, agrees))
    return rows


if __name__ == "__main__":
    main("Difference imaging", measure, rows_on_sky)
