"""Rank of the kilonova on nights of the named skies: ``python -m bench.candidates --sky hard``."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bench.demo import NOT_FOUND
from bench.report import Row, at_least, at_most
from bench.sky_difference import rate_of
from bench.sky_goals import GOALS, Family, Goals
from bench.sky_night import STEADY, SkyNight
from blocks.site import Site
from deployments.products.compare_with_truth import kilonova_rank
from deployments.reports.candidates import candidate_table, read_candidates
from imaging.bits import NOT_SEARCHED
from imaging.io.images import read_planes
from imaging.io.tables import read_table
from imaging.io.truth import source_truth_path
from imaging.tables import column
from imaging.wcs.sphere import separation_deg

FloatArray = NDArray[np.float64]

FIRST, NEAR_ARCSEC = 20, 1.5
"""Number of best candidates compared with the truth, and largest distance from their sources."""

SURE, MIN_SURE = 0.9, 80
"""Probability to be real from which on nine in ten must be, and fewest such candidates for an error of 0.033."""


UNSEARCHABLE = "kilonovae on masked pixels of every search exposure, not searchable"
"""Name of the row that counts nights without a rank, whose seeds are theirs."""


@dataclass
class Ranked:
    """What the ranked lists of nights give.

    Attributes
    ----------
    ranks
        Per night, rank of the kilonova; none where no search exposure could show it.
    false, numbers
        Per night that has a list, false candidates among the first, and number of candidates.
    sure
        Which of the candidates with a high probability to be real are real.
    unsearchable
        Seeds of the nights whose kilonova lies on masked pixels of every search exposure.
    """

    ranks: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    sure: list[bool] = field(default_factory=list)
    unsearchable: list[int] = field(default_factory=list)


def rows_on_sky(nights: Iterable[SkyNight]) -> list[Row]:
    """Return the worst rank of the kilonova, the most false ones among the first, and the reliability."""
    return CANDIDATES.on_sky(nights)


def collect(night: SkyNight) -> Ranked:
    """Compare the ranked list of a processed night with the truth."""
    site, number = Site.at(night.root), night.settings.night
    if not candidate_table(site, number).is_file():
        return absent(night)
    listed = read_candidates(site, number)
    wrong = are_false(night, listed)
    sure = [not bad for bad, row in zip(wrong, listed, strict=True) if (row["probability_real"] or 0.0) >= SURE]
    rank = kilonova_rank(site, listed)
    hidden = rank is None and not kilonova_searchable(night)
    ranks = [] if hidden else [rank or NOT_FOUND]
    return Ranked(ranks, [int(wrong[:FIRST].sum())], [len(listed)], sure, [night.seed] if hidden else [])


def kilonova_searchable(night: SkyNight) -> bool:
    """Return whether the mask of any search image leaves the kilonova's pixel to be searched.

    So it is, too, where an image has no product or is not on any of the CCDs: that is no mask.
    """
    masked = []
    for expnum in night.expnums(search=True):
        for ccd in night.ccds:
            truth = read_table(source_truth_path(night.root, expnum, ccd))
            truth = truth.filter(pc.equal(truth.column("kind"), "kilonova"))
            for x, y in zip(column(truth, "x"), column(truth, "y"), strict=True):
                path = night.product(expnum, ccd, "immask.fits")
                if path is None:
                    return True
                mask = read_planes(path, ("MSK",))[0]["MSK"]
                masked.append(bool(mask[int(np.rint(y)), int(np.rint(x))] & int(NOT_SEARCHED)))
    return not masked or not all(masked)


def absent(night: SkyNight) -> Ranked:  # noqa: ARG001
    """Return what a night without a ranked list gives: the kilonova is not found."""
    return Ranked(ranks=[NOT_FOUND])


def rows_of(ranked: Ranked, label: str, seeds: Sequence[int], goals: Goals = GOALS) -> list[Row]:
    """Return the rows; a figure of too few nights to meet or miss its goal has no value.

    Parameters
    ----------
    ranked
        What the nights give.
    label
        Sky and band, the beginning of every row's name.
    seeds
        Seeds of the nights.
    goals
        Goals of the sky.
    """
    n, n_lists, sure = len(ranked.ranks), len(ranked.numbers), ranked.sure
    worst_rank = max(ranked.ranks) if rate_of(sum(ranked.ranks) - n, n, goals.rank - 1.0) is not None else None
    most_false = max(ranked.false) if rate_of(sum(ranked.false), n_lists, goals.false_first) is not None else None
    first = f"{label}: false among the first {FIRST}, worst night"
    return [
        at_most(f"{label}: rank of the kilonova, worst night", worst_rank, "", goals.rank, n=n, seeds=seeds),
        at_most(first, most_false, "", goals.false_first, n=n_lists, seeds=seeds),
        at_least(
            f"{label}: real ones of the candidates with a probability of {SURE} to be real",
            float(np.mean(sure)) if len(sure) >= MIN_SURE else None,
            "share",
            goals.real_share,
            n=len(sure),
            seeds=seeds,
        ),
        Row(
            f"{label}: candidates per night",
            float(np.mean(ranked.numbers)) if n_lists else None,
            "",
            n=n_lists,
            seeds=tuple(seeds),
        ),
        Row(
            f"{label}: {UNSEARCHABLE}",
            len(ranked.unsearchable),
            "",
            n=n + len(ranked.unsearchable),
            seeds=tuple(ranked.unsearchable),
        ),
    ]


def are_false(night: SkyNight, candidates: Sequence[Mapping[str, Any]]) -> NDArray[np.bool_]:
    """Return (n,) which candidates have no true source near them that changes in some exposure.

    The place of a moving candidate is the mean of its detections: any on the track of its source counts.
    """
    places = [np.zeros((0, 2))]
    tracks: dict[tuple[str, int], list[FloatArray]] = {}
    for search in (True, False):
        for expnum in night.expnums(search=search):
            for ccd in night.ccds:
                truth = read_table(source_truth_path(night.root, expnum, ccd))
                truth = truth.filter(pc.invert(pc.is_in(truth.column("kind"), value_set=pa.array(STEADY))))
                places.append(np.stack([column(truth, name) for name in ("ra", "dec")], axis=1))
                if search:
                    names = (truth.column(name).to_pylist() for name in ("kind", "source_id"))
                    for name, place in zip(zip(*names, strict=True), places[-1], strict=True):
                        tracks.setdefault(name, []).append(place)
    for track in tracks.values():
        length = 3600 * float(separation_deg(*track[0], *track[-1]))
        places.append(np.linspace(track[0], track[-1], 2 + int(length / NEAR_ARCSEC)))
    ra, dec = np.concatenate(places).T
    distance = [separation_deg(row["ra"], row["dec"], ra, dec).min(initial=np.inf) * 3600 for row in candidates]
    return np.array(distance) > NEAR_ARCSEC


CANDIDATES = Family(Ranked, collect, absent, rows_of)
