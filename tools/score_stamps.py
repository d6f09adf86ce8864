"""Inputs of a network for the real/bogus score: the features of the present model and four stamps of a detection.

They are kept as one row per detection, so that both kinds of model are trained and judged on the same rows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.difference_runs import Scenario, is_true, run, take
from imaging.difference.detect import DifferenceDetections
from imaging.difference.labelled import detections_of_table
from imaging.difference.records import Difference
from imaging.difference.score import FEATURES, features_of
from imaging.difference.stamps import cut_stamp
from imaging.image import FloatImage
from imaging.io.images import read_planes
from imaging.io.psf import read_psf
from imaging.io.tables import read_table

Rows = NDArray[Any]
"""(n, width) float32: one row per detection."""

SIDE = 31
"""Pixels along a side of a stamp, 8 arcseconds."""

CHANNELS = 4
"""Difference, template and search image over noise, and masked pixels."""

STAMPS = (CHANNELS, SIDE, SIDE)

WIDTH = len(FEATURES) + CHANNELS * SIDE**2
"""Length of a row."""


def planes_of(difference: Difference) -> dict[str, FloatImage]:
    """Return the planes of a difference that the stamps are cut from."""
    search = difference.search.pixels
    return {
        "difference": difference.image,
        "weight": difference.weight,
        "template_flux": difference.filtered.template_flux,
        "search": search.science,
        "search_weight": search.weight,
    }


def stored_planes(detections: Path) -> dict[str, FloatImage]:
    """Return the same planes from the products beside a file of detections."""
    stem = detections.name.removesuffix("detections.parquet")
    image, _ = read_planes(detections.with_name(f"{stem}diff.fits"), ("SCI", "WGT"))
    template, _ = read_planes(detections.with_name(f"{stem}template.fits"), ("FLX",))
    search, _ = read_planes(detections.parents[2] / f"{stem}immask.fits", ("SCI", "WGT"))
    return {
        "difference": image["SCI"],
        "weight": image["WGT"],
        "template_flux": template["FLX"],
        "search": search["SCI"],
        "search_weight": search["WGT"],
    }


def cut_stamps(planes: Mapping[str, FloatImage], detections: DifferenceDetections) -> NDArray[np.float32]:
    """Cut the stamps of detections.

    Parameters
    ----------
    planes
        Planes of :func:`planes_of`.
    detections
        Detections of either sign.

    Returns
    -------
    stamps
        (n, 4, side, side) float32: arsinh of the difference over its noise, positive where the detection is; of the
        template's flux under the PSF over the error of the detection's flux; of the search image over its noise; and
        one where the difference is masked or beyond the image. Values without data are zero.
    """
    m, half = detections.measured, SIDE // 2
    stamps = np.zeros((len(detections), *STAMPS), dtype=np.float32)
    for k, (x, y) in enumerate(zip(np.rint(m.x).astype(int), np.rint(m.y).astype(int), strict=True)):
        cut = {name: cut_stamp(plane, x, y, half) for name, plane in planes.items()}
        weight, search_weight = (np.nan_to_num(cut[name]) for name in ("weight", "search_weight"))
        stamps[k, 0] = np.sign(detections.score[k]) * cut["difference"] * np.sqrt(weight)
        stamps[k, 1] = cut["template_flux"] / max(m.flux_error[k], 1e-6)
        stamps[k, 2] = cut["search"] * np.sqrt(search_weight)
        stamps[k, 3] = weight <= 0
    stamps[:, :3] = np.arcsinh(np.nan_to_num(stamps[:, :3], posinf=0.0, neginf=0.0))
    return stamps


def rows_of_detections(planes: Mapping[str, FloatImage], detections: DifferenceDetections, fwhm_pixels: float) -> Rows:
    """Return (n, k + 4 side side) float32 rows: the features of the present model, then the pixels of the stamps."""
    stamps = cut_stamps(planes, detections).reshape(len(detections), WIDTH - len(FEATURES))
    return np.concatenate([features_of(detections, fwhm_pixels).astype(np.float32), stamps], axis=1)


def split_rows(rows: Rows) -> tuple[Rows, Rows]:
    """Return features, (n, k), and stamps, (n, 4, side, side), of rows."""
    return rows[:, : len(FEATURES)], rows[:, len(FEATURES) :].reshape(-1, *STAMPS)


def stored_rows(detections: Path) -> Rows:
    """Return the rows of the detections of a searched CCD from its products."""
    psf = read_psf(detections.with_name(detections.name.replace("detections.parquet", "diffpsf.fits")))
    return rows_of_detections(stored_planes(detections), detections_of_table(read_table(detections)), psf.fwhm_pixels)


def labelled_pair_rows(scenario: Scenario, folder: Path) -> tuple[Rows, NDArray[np.bool_], NDArray[np.float64]]:
    """Return rows, labels and moduli of the signal to noise of the detections of a synthetic pair, without fakes.

    They are kept in a folder and used again.
    """
    path = folder / f"pair_stamps_{scenario.seed}.npz"
    if not path.is_file():
        truth = take(scenario)
        searched = run(truth, scenario, with_fakes=False)
        found = searched.detections
        rows = rows_of_detections(planes_of(searched.difference), found, searched.difference.psf.fwhm_pixels)
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(path, rows=rows, is_real=is_true(found, truth)[0], snr=np.abs(found.score))
    with np.load(path) as kept:
        return kept["rows"], kept["is_real"], kept["snr"]
