"""Compare models of the real/bogus score on searched nights of named skies: ``python -m tools.judge_score NIGHT ...``.

A night is a folder that ``python -m bench.difference --sky hard --keep FOLDER`` or ``python -m tools.train_score --keep
FOLDER`` left; take nights on which no model was trained. Flags are those of the products: a flag of shape that the
score of then lifted stays lifted.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.report import Row, at_least, at_most, print_report
from bench.sky_difference import NEAR_PIXELS
from bench.sky_night import STEADY
from imaging.candidates.settings import AssociateSettings
from imaging.difference.score import FLAGS_OF_FEATURES, ScoreModel, read_model, shipped_model
from imaging.difference.settings import DetectionSettings
from imaging.io.tables import read_table
from imaging.tables import column
from tools.sky_nights import detection_files, labels_of, stored_features, truth_of

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

SNR_RANGES = ((5.0, 6.0), (6.0, 8.0), (7.0, np.inf))
"""Ranges of signal to noise of the real detections that are counted."""

SURE = (0.85, 0.95)
"""Range of scores of which nine in ten should be real."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections of a CCD with the truth.

    Attributes
    ----------
    features
        (n, k) features.
    snr
        (n,) signal to noise, signed.
    flags
        (n,) flags.
    is_false, is_real
        (n,) which are at no source that changes, and which are new sources with their flux.
    """

    features: FloatArray
    snr: FloatArray
    flags: NDArray[np.int32]
    is_false: BoolArray
    is_real: BoolArray


class Verdicts(NamedTuple):
    """What a model says about the detections of some CCDs, (n,) each.

    Attributes
    ----------
    probability, used
        Probability to be real; whether the sign is positive and no flag rejects the detection.
    snr, false, real
        Signal to noise; which are used and at no source that changes, and which are new sources.
    """

    probability: FloatArray
    used: BoolArray
    snr: FloatArray
    false: BoolArray
    real: BoolArray


class Model(Protocol):
    """What says how probable it is that detections are real."""

    def probability(self, features: FloatArray) -> FloatArray:
        """Return the (n,) probabilities to be real of (n, k) inputs."""


def judged_ccds(root: Path, rows_of: Callable[[Path], FloatArray] = stored_features) -> Iterator[Judged]:
    """Yield the detections of all CCDs of a searched night.

    Parameters
    ----------
    root
        Folder of the night.
    rows_of
        Reads the (n, k) inputs of the models from a table of detections.
    """
    for path in detection_files(root):
        table, truth = read_table(path), truth_of(root, path)
        changing = ~np.isin(column(truth, "kind"), STEADY)
        apart = np.hypot(*(column(table, c)[:, None] - column(truth, c)[changing] for c in ("x", "y")))
        false = apart.min(axis=1, initial=np.inf) >= NEAR_PIXELS
        real = labels_of(table, truth)[0]
        yield Judged(rows_of(path), column(table, "snr").astype(float), column(table, "flags"), false, real)


def judged_by(ccds: Sequence[Judged], model: Model) -> Verdicts:
    """Return what a model says about the detections of CCDs."""
    settings, rejected = DetectionSettings(), AssociateSettings().rejected_flags
    lifted = int(FLAGS_OF_FEATURES)
    score = [model.probability(ccd.features) for ccd in ccds]
    kept = [
        ((ccd.flags & ~np.where(p >= settings.vouching_score, lifted, 0) & rejected) == 0) & (ccd.snr > 0)
        for ccd, p in zip(ccds, score, strict=True)
    ]
    p, used = np.concatenate([np.zeros(0), *score]), np.concatenate([np.zeros(0, bool), *kept])
    snr, false, real = (
        np.concatenate([np.zeros(0), *(getattr(ccd, name) for ccd in ccds)]) for name in ("snr", "is_false", "is_real")
    )
    return Verdicts(p, used, snr, used & false.astype(bool), real.astype(bool))


def rows_of(ccds: Sequence[Judged], model: Model, label: str) -> list[Row]:
    """Return the figures of a model for the detections of CCDs.

    Parameters
    ----------
    ccds
        Detections.
    model
        Model.
    label
        Beginning of the names of the rows.
    """
    (p, used, snr, false, real), n = judged_by(ccds, model), len(ccds)
    rows = [
        at_most(f"{label}: false per CCD, score above {limit}", float((false & (p > limit)).sum()) / n, "", goal, n=n)
        for limit, goal in ((0.5, 0.2), (0.9, 0.02))
    ]
    for low, high in SNR_RANGES:
        of = real & (snr >= low) & (snr < high)
        share = 100 * float((used & (p > 0.5))[of].mean()) if of.any() else None
        rows.append(Row(f"{label}: real of S/N {low:g} to {high:g}, score above 0.5", share, "%", n=int(of.sum())))
    sure = used & (p > SURE[0]) & (p < SURE[1])
    share = 100 * float((~false[sure]).mean()) if sure.any() else None
    return [*rows, at_least(f"{label}: real of score 0.9", share, "%", 90.0, n=int(sure.sum()))]


def main() -> None:
    """Print the figures of every model for every night and for all together."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nights", nargs="+", type=Path, metavar="NIGHT", help="folder of a searched night")
    parser.add_argument("--models", nargs="*", type=Path, default=(), metavar="FILE", help="instead of the shipped one")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    nights = {root.name: list(judged_ccds(root)) for root in options.nights}
    nights |= {"all": [ccd for ccds in nights.values() for ccd in ccds]}
    models: Mapping[str, ScoreModel] = {path.name: read_model(path.read_text("utf-8")) for path in options.models}
    rows = [
        row
        for name, model in (models or {"shipped": shipped_model()}).items()
        for night, ccds in nights.items()
        for row in rows_of(ccds, model, f"{name}, {night}")
    ]
    print_report(rows, as_json=options.json, title="Real/bogus score")


if __name__ == "__main__":
    main()
