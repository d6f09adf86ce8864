"""Transient search of one CCD: stack templates, subtract, detect, score, and measure the efficiency with fakes."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.difference.detect import BrightStars, DifferenceDetections, detect
from imaging.difference.efficiency import Efficiency, measure_efficiency
from imaging.difference.fakes import Fakes, inject_fakes
from imaging.difference.records import Difference, Identity
from imaging.difference.score import judge, score_detections
from imaging.difference.settings import SearchSettings
from imaging.difference.subtract import subtract
from imaging.difference.tables import detections_table, fakes_table
from imaging.image import CalibratedImage
from imaging.numerics.noise_peaks import curvature_of, noise_peaks
from imaging.templates.resampling_inputs import with_resampling_inputs
from imaging.templates.stack import Template, stack_templates
from imaging.timing import StepTimes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CcdSearchResult:
    """All results of the search of one CCD.

    Attributes
    ----------
    template
        The stack.
    difference
        The difference.
    detections, detections_table
        Detections as a record and as the table DETECTIONS.
    fakes, fakes_table
        Fakes as a record and as the table FAKES; None if none were injected.
    efficiency
        Efficiency of the search; None if no fakes were injected.
    cut_flow
        Detections that each cut removes.
    quality
        Values for the quality table; NaN if unknown.
    times
        Seconds per step.
    """

    template: Template
    difference: Difference
    detections: DifferenceDetections
    detections_table: pa.Table
    fakes: Fakes | None
    fakes_table: pa.Table | None
    efficiency: Efficiency | None
    cut_flow: dict[str, int]
    quality: dict[str, float]
    times: StepTimes


def search_ccd(
    search: CalibratedImage,
    templates: Iterable[CalibratedImage],
    identity: Identity,
    settings: SearchSettings,
    *,
    stars: BrightStars | None = None,
    with_fakes: bool = True,
) -> CcdSearchResult:
    """Search one CCD for transients.

    Parameters
    ----------
    search
        Search image.
    templates
        Images of the same field, best first; iterated once, so that they need not all be in memory.
    identity
        Exposure and CCD; seeds the fakes.
    settings
        All settings.
    stars
        Bright stars from a catalogue; None takes those of the template.
    with_fakes
        Whether to measure the efficiency.

    Raises
    ------
    NoWorkError
        ``no_template_overlap``.
    CcdError
        The reasons of :func:`imaging.difference.subtract.subtract`.
    """
    times = StepTimes()
    with times.step("resampling_inputs"):
        search = with_resampling_inputs(search, settings.stack.resampling_inputs)
    template = stack_templates(search, templates, settings.stack)
    difference = subtract(search, template, settings.difference, stars)
    times.add(template.times, difference.times)
    with times.step("detect"):
        fwhm = difference.psf.fwhm_pixels
        detections, score = judge(detect(difference, settings.detection, stars), fwhm, settings.detection)
        table = detections_table(difference, detections, score, identity, settings.detection)
    fakes, efficiency, fake_rows = None, None, None
    if with_fakes:
        with times.step("fakes"):
            seed = (identity.expnum, identity.ccd)
            fakes = inject_fakes(difference, detections, seed, settings.fakes, settings.detection, stars)
            efficiency = measure_efficiency(fakes, settings.fakes.bin_mag) if len(fakes) else None
            fake_rows = fakes_table(difference, fakes, score_detections(fakes.detections, fwhm), identity)
    quality = _quality(template, difference, detections, efficiency)
    quality["poorly_covered"] = float(template.coverage < settings.stack.good_coverage)
    return CcdSearchResult(
        *(template, difference, detections, table, fakes, fake_rows, efficiency),
        *(detections.cut_flow(), quality, times),
    )


def _quality(
    template: Template, difference: Difference, detections: DifferenceDetections, efficiency: Efficiency | None
) -> dict[str, float]:
    nan, n_searched = float("nan"), int(np.count_nonzero(difference.weight))
    return difference.quality | {
        "n_templates": float(len(template.inputs)),
        "template_coverage": template.coverage,
        "n_detections": float(len(detections)),
        "n_passed": float(detections.passed.sum()),
        "noise_peaks": noise_peaks(n_searched, curvature_of(difference.filtered.psf_stamps.mean(axis=(0, 1)))),
        "m50_mag": efficiency.mag.half if efficiency else nan,
        "m50_error_mag": efficiency.mag.half_error if efficiency else nan,
        "efficiency_width_mag": efficiency.mag.width if efficiency else nan,
        "efficiency_max": efficiency.mag.efficiency_max if efficiency else nan,
        "snr50": efficiency.snr.half if efficiency else nan,
        "snr50_error": efficiency.snr.half_error if efficiency else nan,
    }
