"""Detections on nights of the named skies with their true labels, from raw pixels, to train the real/bogus score.

Every night has two search exposures with many supernovae and three template epochs. Spikes, ghosts, aureoles,
trails, crowding, colours and the PSF model are as the chain sees them, unlike on synthetic pairs.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bench.plain_night import PlainNight
from bench.sky_night import EXPLODING, STEADY, SkyNight
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.difference.labelled import detections_of_table
from imaging.difference.score import FEATURES, features_of
from imaging.io.psf import read_psf
from imaging.io.tables import read_table
from imaging.io.truth import source_truth_path
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.skies import SkyName
from imaging.tables import column
from imaging.wcs.sphere import separation_deg
from tools.own_labels import Labelled

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

SUPERNOVAE_PER_CCD = 90.0
"""Many more than in nature, so that both classes are large."""

MATCH_PIXELS, CLEAR_PIXELS = 2.5, 8.0
"""Distance within which a detection is a true one, and beyond which it has nothing to do with a source."""

FLUX_RATIO = (0.5, 2.0)
"""Measured over true flux of a true detection: the residual of a host is not labelled by its faint supernova."""


@dataclass(frozen=True, slots=True)
class TrainingNight(SkyNight):
    """A night of a named sky with many supernovae."""

    @property
    def settings(self) -> SimulationSettings:
        """Settings of the simulation."""
        return super(TrainingNight, self).settings.with_values(supernovae_per_ccd=SUPERNOVAE_PER_CCD)

    def run(self, night: PlainNight) -> None:
        """Run the steps to the differences."""
        night.search(self.settings.night)


SKIES: tuple[tuple[SkyName, str, bool, tuple[int, ...]], ...] = (
    ("typical", "i", False, (26, 27)),
    ("hard", "i", False, (33, 34)),
    ("typical", "g", False, (10, 17)),
    ("bright", "i", False, (21, 40)),
    ("hard", "g", True, (13, 50)),
    ("typical", "r", True, (35, 44)),
    ("hard", "z", False, (4, 56)),
    ("bright", "g", False, (28, 37)),
    ("hard", "r", True, (19, 42)),
    ("bright", "i", True, (15, 48)),
    ("typical", "z", False, (6, 60)),
    ("hard", "i", True, (23, 38)),
)
"""Sky, band, whether the search is sharper, and CCDs of the nights, in the order in which they are taken."""


def training_nights(folder: Path, first_seed: int, n: int) -> Iterator[TrainingNight]:
    """Yield n nights processed to their differences; those that the folder holds are used again.

    Parameters
    ----------
    folder
        Folder of all nights.
    first_seed
        Seed of the first one.
    n
        Number of nights.
    """
    for number in range(n):
        sky, band, sharp, ccds = SKIES[number % len(SKIES)]
        seed = first_seed + number
        night = TrainingNight(folder / f"{seed}_{sky}_{band}", sky, band, sharp, seed, ccds)
        night.process()
        yield night


def detection_files(root: Path) -> list[Path]:
    """Return the tables of detections of a searched night."""
    return sorted(root.glob("products/*/exp/*/*/dp*/*/*_detections.parquet"))


def truth_of(root: Path, detections: Path) -> pa.Table:
    """Return the true sources of the image of a table of detections."""
    expnum, ccd = (int(part) for part in detections.name.lstrip("D").split("_")[:3:2])
    return read_table(source_truth_path(root, expnum, ccd))


def labelled_night(root: Path) -> Labelled:
    """Return features, labels and scores of the detections of a searched night.

    Parameters
    ----------
    root
        Folder of the night.

    Returns
    -------
    features, is_real, score
        (n, k) float, (n,) bool and (n,) float.
    """
    return labelled_rows(root, stored_features, len(FEATURES))


def stored_features(path: Path) -> FloatArray:
    """Return the (n, k) features of a table of detections."""
    psf = read_psf(path.with_name(path.name.replace("detections.parquet", "diffpsf.fits")))
    return features_of(detections_of_table(read_table(path)), psf.fwhm_pixels)


def labelled_rows(root: Path, rows_of: Callable[[Path], FloatArray], width: int) -> Labelled:
    """Return the inputs of a model, labels and scores of the detections of a searched night.

    Parameters
    ----------
    root
        Folder of the night.
    rows_of
        Reads (n, width) inputs of the detections of a table.
    width
        Number of inputs of a detection.

    Returns
    -------
    rows, is_real, score
        (n, width) float, (n,) bool and (n,) float.
    """
    parts = [(np.zeros((0, width)), np.zeros(0, dtype=bool), np.zeros(0))]
    changing = changing_places(root)
    for path in detection_files(root):
        table = read_table(path)
        if not table.num_rows:
            continue
        is_real, is_clear = labels_of(table, truth_of(root, path), changing)
        kept = is_real | is_clear
        parts.append((rows_of(path)[kept], is_real[kept], np.abs(column(table, "snr")[kept])))
    return tuple(np.concatenate([part[k] for part in parts]) for k in range(3))  # type: ignore[return-value]


def changing_places(root: Path) -> tuple[FloatArray, FloatArray]:
    """Return RA and Dec, degrees, of all sources that change or move in any exposure of a night or its templates.

    An asteroid or a supernova of a template leaves a negative point source that is no artefact.
    """
    tables = [read_table(path) for path in sorted((root / "truth" / "sources").glob("*/*.parquet"))]
    steady = [np.isin(column(table, "kind"), STEADY) for table in tables]
    ra, dec = (
        np.concatenate([column(table, name)[~which] for table, which in zip(tables, steady, strict=True)])
        for name in ("ra", "dec")
    )
    return ra, dec


def labels_of(
    table: pa.Table, truth: pa.Table, changing: tuple[FloatArray, FloatArray] | None = None
) -> tuple[BoolArray, BoolArray]:
    """Return which detections are of new sources, and which are far from every source that changes or moves.

    Parameters
    ----------
    table
        Detections.
    truth
        True sources of the same image.
    changing
        RA and Dec of :func:`changing_places`; None if only the same image counts.

    Returns
    -------
    is_real, is_clear
        (n,) bool each; no detection is both.
    """
    kind = column(truth, "kind")
    places = np.stack([column(truth, name) for name in ("x", "y")], axis=1)
    found = np.stack([column(table, name) for name in ("x", "y")], axis=1)

    def apart(which: BoolArray) -> NDArray[np.float64]:
        offset = found[:, None] - places[which][None]
        return np.hypot(offset[..., 0], offset[..., 1])

    ratio = column(table, "flux")[:, None] / column(truth, "flux_electrons")[None, np.isin(kind, EXPLODING)]
    is_like = (ratio > FLUX_RATIO[0]) & (ratio < FLUX_RATIO[1])
    is_real = ((apart(np.isin(kind, EXPLODING)) < MATCH_PIXELS) & is_like).any(axis=1)
    is_clear = apart(~np.isin(kind, STEADY)).min(axis=1, initial=np.inf) > CLEAR_PIXELS
    if changing is not None:
        ra, dec = (column(table, name)[:, None] for name in ("ra", "dec"))
        distance = separation_deg(ra, dec, *changing).min(axis=1, initial=np.inf)
        is_clear &= distance * 3600.0 > CLEAR_PIXELS * PIXEL_SCALE_ARCSEC
    return is_real, is_clear & ~is_real
