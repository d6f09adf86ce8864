"""Goals of the figures of the named skies, and how the nights of a sky are pooled into figures.

Crowded fields have their own goals. What is measured per object keeps its goal, because a stated error must hold
wherever it is stated, and completeness counts pixels that are searched, whose share is a row of its own. False
detections are counted per CCD and lie at stars: where 24 times as many stars of 16 to 18 mag are, three times as many
false detections are allowed.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from bench.report import Row
    from bench.sky_night import SkyNight

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Goals:
    """Goals of a sky.

    Attributes
    ----------
    ideal_factor
        Largest error of the coordinates in units of that of the ideal Gaussian process.
    psf_percent, psf_worst_percent
        Rms residual of the PSF, of all places and of the worst one.
    red_blue_percent, colour_mmag
        PSF flux of red against blue stars, and trend of magnitudes per magnitude of g - i.
    scatter_mmag, zeropoint_mmag, stated_error
        Scatter of bright stars beyond the stated one; rms error of zero points, and the same over its stated one.
    stars_over_error
        Residual of stars of 16 to 18 mag in units of its stated error.
    false
        False detections per CCD: all, without a flag, that make a candidate, of these with a score above 0.5 and 0.9.
    kernel_chi2, pull_width
        Distances from one.
    pull_mean, ratio_percent
        Mean pull of true transients, and distance of the ratio of their fluxes from one.
    faint_percent, bright_percent
        Fakes of S/N 8 to 12, and from 50 on, that are found without a flag.
    masked_percent
        Pixels that halos, ghosts and spikes mask, beyond those that are saturated, bad or without a template.
    rank, false_first, real_share
        Rank of the kilonova, false ones among the first candidates, real ones of the sure candidates.
    """

    ideal_factor: float = 1.2
    psf_percent: float = 0.3
    psf_worst_percent: float = 1.0
    red_blue_percent: float = 0.05
    colour_mmag: float = 0.3
    scatter_mmag: float = 1.0
    zeropoint_mmag: float = 2.0
    stated_error: float = 1.2
    stars_over_error: float = 1.1
    false: tuple[float, float, float, float, float] = (5.0, 2.0, 0.5, 0.2, 0.02)
    kernel_chi2: float = 0.05
    pull_width: float = 0.05
    pull_mean: float = 0.1
    ratio_percent: float = 0.2
    faint_percent: float = 99.0
    bright_percent: float = 99.9
    masked_percent: float = 2.0
    rank: float = 3.0
    false_first: float = 1.0
    real_share: float = 0.9


GOALS = Goals()
CROWDED = replace(GOALS, false=(15.0, 6.0, 1.5, 0.6, 0.06))


def goals_of(sky: str) -> Goals:
    """Return the goals of a named sky."""
    return CROWDED if sky == "crowded" else GOALS


@dataclass(frozen=True, slots=True)
class Family(Generic[T]):
    """Figures of one kind.

    Attributes
    ----------
    kind
        Class of what a night gives: a dataclass of lists and numbers that are empty and zero by default.
    collect
        Function that compares a processed night with the truth.
    absent
        Function that returns what a night gives that could not be processed: what it should have had.
    rows
        Function of what nights give, the beginning of the rows' names, the seeds and the goals.
    """

    kind: type[T]
    collect: "Callable[[SkyNight], T]"
    absent: "Callable[[SkyNight], T]"
    rows: "Callable[[T, str, Sequence[int], Goals], list[Row]]"

    def pooled(self, parts: Iterable[T]) -> T:
        """Return what several nights give together; figures saved by earlier code lack what it did not measure."""
        total = self.kind()
        for part in parts:
            for item in fields(self.kind):  # type: ignore[arg-type]
                known = getattr(total, item.name)
                setattr(total, item.name, known + getattr(part, item.name, type(known)()))
        return total

    def on_sky(self, nights: "Iterable[SkyNight]") -> "list[Row]":
        """Return the rows of processed nights of one sky, with its goals as limits."""
        return rows_of_families((self,), nights)


def rows_of_families(families: "Sequence[Family[Any]]", nights: "Iterable[SkyNight]") -> "list[Row]":
    """Return the rows of several families of figures of processed nights of one sky, with its goals as limits."""
    parts: list[list[Any]] = [[] for _ in families]
    seeds, label, goals = [], "", GOALS
    for night in nights:
        for family, found in zip(families, parts, strict=True):
            found.append(family.collect(night))
        seeds.append(night.seed)
        label, goals = night.label, goals_of(night.sky)
    rows = (
        family.rows(family.pooled(found), label, seeds, goals) for family, found in zip(families, parts, strict=True)
    )
    return [row for of_family in rows for row in of_family]
