"""All figures of the named skies in one table: ``python -m bench.skies [--quick] [--keep FOLDER] [--processes N]``.

Every night of the matrix (skies x bands x search usual or sharper than the templates) is simulated and processed once
and gives the figures of single epochs, calibration, differences, candidates and cost. The table has a column per sky,
pooled over bands and sharpness; it is Markdown, with ``--json`` all rows of all skies and nights. A figure of too few
objects is ``not measured``; a missed goal is bold; a failed night counts as one whose CCDs have no products. With
``--by band`` or ``--by sharpness`` the columns pool the skies with the same goals instead. With ``--keep`` an
interrupted run goes on where it ended, and the same command prints the table again, with ``--processes 0`` that of the
nights that are saved so far. ``--galsim g i --galsim-skies typical hard`` adds nights whose sources GalSim draws.

A rank of 9999 means that the kilonova is not among the candidates. A kilonova on masked pixels of every search exposure
has no rank; its night is named. The worst night is the worst of those nights that alone have enough objects. Crowded
fields have their own goals (:mod:`bench.sky_goals`). Times are CPU seconds, which a busy machine makes longer; their
limits are those of the easy sky.
"""

import argparse
import math
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from bench.report import Row, at_least, cells, machine, print_report
from bench.sky_candidates import UNSEARCHABLE
from bench.sky_difference import EXPECTED_OF_NOISE
from bench.sky_goals import goals_of
from bench.sky_matrix import BANDS, FAMILIES, SHARPNESS, SKIES, MeasuredNight, matrix, measured_nights, title_of
from bench.sky_night import SEED, SkyNight
from imaging.simulation.settings import DEMO_CCDS


@dataclass(frozen=True, slots=True)
class Figure:
    """A line of the table.

    Attributes
    ----------
    title
        What it is, with the unit.
    row
        Name of its row in the benches.
    least
        Whether more is better.
    own_goal
        Whether each column has its own goal, which stands in brackets.
    """

    title: str
    row: str
    least: bool = False
    own_goal: bool = False


_PER_CCD = "false detections per CCD, "
FIGURES = (
    Figure("nights processed (asked for)", "nights", least=True, own_goal=True),
    Figure("CCDs with a catalogue (of)", "CCDs with a catalogue", least=True, own_goal=True),
    Figure("CCDs with a difference (of)", "CCDs with a difference", least=True, own_goal=True),
    Figure(
        "coordinates, error per axis, mas (1.2 times the ideal process)",
        "coordinates without photon noise, rms per axis",
        own_goal=True,
    ),
    Figure("the same, worst CCD, mas", "the same, worst CCD"),
    Figure(
        "the same of stars of listed colour, mas",
        "coordinates of stars of listed colour without photon noise, rms per axis",
        own_goal=True,
    ),
    Figure("PSF, rms residual, %", "PSF, rms residual"),
    Figure("PSF, worst place, %", "PSF, rms residual, worst place"),
    Figure("flux of red against blue stars, %", "PSF flux of the reddest third of stars against the bluest"),
    Figure(
        "scatter of PSF magnitudes, 16 to 18 mag, beyond the stated, mmag",
        "scatter of PSF magnitudes of 16 to 18 mag beyond the stated",
    ),
    Figure("zero point, rms, mmag", "zero point, rms"),
    Figure("the same over its stated error", "errors of zero points over the stated ones, rms"),
    Figure("colour trend, mmag per mag of g - i", "trend with colour, per mag of g - i"),
    Figure("residual of stars of 16 to 18 mag over its stated error", "the same over its stated error"),
    Figure("false detections per CCD", f"{_PER_CCD}all"),
    Figure("peaks of noise among them to expect; half of them without a flag", EXPECTED_OF_NOISE),
    Figure("without a flag", f"{_PER_CCD}without a flag"),
    Figure("making a candidate", f"{_PER_CCD}that make a candidate"),
    Figure("of these, score above 0.5", f"{_PER_CCD}of these with a score above 0.5"),
    Figure("of these, score above 0.9", f"{_PER_CCD}of these with a score above 0.9"),
    Figure("pull of true transients, width from 1", "pull of true transients, |width - 1|"),
    Figure("the same, mean", "mean pull of true transients"),
    Figure("ratio of their flux from 1, S/N above 20, %", "their flux over the true one, S/N above 20, |ratio - 1|"),
    Figure("pull of fakes, width from 1", "pull of fakes above S/N 8, |width - 1|"),
    Figure("chi-square of the kernel fit from 1", "chi-square of the kernel fit, median distance from 1"),
    Figure("fakes found unflagged, S/N 8 to 12, %", "detected fakes of S/N 8 to 12 without a flag", least=True),
    Figure("fakes found unflagged, S/N 50 and more, %", "detected fakes of S/N 50 to inf without a flag", least=True),
    Figure("pixels masked by light of bright stars, %", "pixels masked by the light of bright stars alone"),
    Figure("searched share of the pixels, %", "searched share of the pixels", least=True),
    Figure("rank of the kilonova, worst night", "rank of the kilonova, worst night"),
    Figure("kilonovae under masks of every search exposure (no rank)", UNSEARCHABLE),
    Figure("false among the first 20, worst night", "false among the first 20, worst night"),
    Figure(
        "real ones of candidates with probability 0.9",
        "real ones of the candidates with a probability of 0.9 to be real",
        least=True,
    ),
    Figure("raw to catalogue, CPU s per CCD (limit of the easy sky)", "cost: single epoch, raw to catalogue, per CCD"),
    Figure("difference, CPU s per CCD (limit of the easy sky)", "cost: difference, per CCD"),
)
"""The lines of the table, in the order of the goals."""


def rows_of(nights: Sequence[MeasuredNight], label: str) -> list[Row]:
    """Return all rows of nights pooled; their goals are those of the first one's sky."""
    seeds, goals = [item.night.seed for item in nights], goals_of(nights[0].night.sky)
    done = sum(not item.failure for item in nights)
    rows = [at_least(f"{label}: nights", done, "", len(nights), n=len(nights), seeds=seeds)]
    for name, family in FAMILIES.items():
        rows += family.rows(family.pooled(item.parts[name] for item in nights), label, seeds, goals)
    return rows


def columns_of(nights: Sequence[MeasuredNight], by: str) -> dict[str, list[MeasuredNight]]:
    """Return the nights of each column, in the order of the skies or bands; those of one goal are also pooled."""
    drawn = [item for item in nights if type(item.night) is not SkyNight]
    own = [item for item in nights if type(item.night) is SkyNight]
    same = [item for item in own if item.night.sky not in ("easy", "crowded")]
    if by == "sky":
        found = {sky: [item for item in own if item.night.sky == sky] for sky in SKIES}
        found |= {"all but crowded": same if len({item.night.sky for item in same}) > 1 else []}
        found |= {f"GalSim, {sky}": [item for item in drawn if item.night.sky == sky] for sky in SKIES}
    elif by == "band":
        found = {band: [item for item in same if item.night.band == band] for band in BANDS}
    else:
        found = {name: [item for item in same if item.night.sharp == (name == "sharper")] for name in SHARPNESS[2:]}
    return {name: items for name, items in found.items() if items}


def table(columns: dict[str, list[Row]], single: dict[str, list[Row]]) -> list[str]:
    """Return the lines of the Markdown table.

    Parameters
    ----------
    columns
        Rows of each column; their names begin with that of the column.
    single
        Rows of each night alone, their names begin with that of the night.
    """
    pooled = {name: {row.name.removeprefix(f"{name}: "): row for row in rows} for name, rows in columns.items()}
    alone = {name: {row.name.removeprefix(f"{name}: "): row for row in rows} for name, rows in single.items()}
    lines = [f"| | goal | {' | '.join(columns)} | worst night |", f"|---|--:|{'--:|' * len(columns)}---|"]
    for figure in FIGURES:
        rows = {name: found[figure.row] for name, found in pooled.items()}
        texts = [_cell(row, figure) for row in rows.values()]
        worst = _worst({name: found[figure.row] for name, found in alone.items()}, figure)
        lines.append(f"| {figure.title} | {_goal(rows, figure)} | {' | '.join(texts)} | {worst} |")
    return lines


def _cell(row: Row, figure: Figure) -> str:
    value = cells(row)[1]
    text = f"**{value}**" if row.ok is False else value
    return f"{text} ({row.limit:.4g})" if figure.own_goal and row.limit and math.isfinite(row.limit) else text


def _goal(rows: dict[str, Row], figure: Figure) -> str:
    """Return the goal, and that of columns where it is another one."""
    limits = {name: row.limit for name, row in rows.items() if row.limit is not None}
    if figure.own_goal or not limits:
        return "in brackets" if figure.own_goal else ""
    usual = next((limit for name, limit in limits.items() if name != "crowded"), limits.get("crowded"))
    others = {limit for limit in limits.values() if limit != usual}
    return f"{usual:g}" + "".join(f" (crowded {limit:g})" for limit in sorted(others))


def _worst(rows: dict[str, Row], figure: Figure) -> str:
    """Return the worst value of a single night that counts, and the night; nothing if there is none."""
    share = figure.own_goal and figure.least
    known = {
        name: row.value / (row.limit or 1.0) if share else row.value
        for name, row in rows.items()
        if row.value is not None and not (share and row.ok)
    }
    if not known:
        return ""
    name = (min if figure.least else max)(known, key=lambda night: known[night])
    return f"{_cell(rows[name], figure)}: {name}"


def report(nights: Sequence[MeasuredNight], by: str, n_wanted: int) -> str:
    """Return the page: the table, and below it nights, commits and failures."""
    columns = {name: rows_of(items, name) for name, items in columns_of(nights, by).items()}
    single = {title_of(item.night): rows_of([item], title_of(item.night)) for item in nights if not item.failure}
    commits = sorted({item.commit for item in nights if item.commit})
    n_ccds = sorted({len(item.night.ccds) for item in nights})
    cpu = sum(item.cpu_s for item in nights) / max(len(single), 1)
    what = f"{len(single)} of {n_wanted} nights of {'/'.join(map(str, n_ccds))} CCDs, commit {', '.join(commits)}"
    lines = [
        f"{what}, {machine()['processor']}; {cpu:.0f} CPU s per night, simulation included.",
        "",
        *table(columns, single),
        "",
        "Nights: " + "; ".join(title_of(item.night) for item in nights if not item.failure) + ".",
    ]
    lines += [f"Failed: {title_of(item.night)}: {item.failure}" for item in nights if item.failure]
    hidden = [title_of(item.night) for item in nights if getattr(item.parts.get("candidates"), "unsearchable", ())]
    lines += [f"The kilonova is not searchable, under masks of every search exposure: {'; '.join(hidden)}."] * bool(
        hidden
    )
    partly = [f"{title_of(item.night)}: {item.n_failed}" for item in nights if item.n_failed]
    return "\n".join([*lines, *(["Failures of CCDs and exposures: " + "; ".join(partly) + "."] if partly else [])])


def measure(nights: Iterable[SkyNight], keep: Path, processes: int) -> tuple[list[MeasuredNight], bool]:
    """Measure nights and tell the progress; returns those that ended, in their order, and whether none was stopped."""
    wanted, found, complete = list(nights), [], True
    try:
        for item in measured_nights(wanted, keep, processes):
            found.append(item)
            end = item.failure or f"{item.cpu_s:.0f} CPU s, {item.n_failed} failed CCDs or exposures"
            sys.stderr.write(f"{len(found)} of {len(wanted)}: {title_of(item.night)}: {end}\n")
    except KeyboardInterrupt:
        complete = False
        sys.stderr.write(f"interrupted after {len(found)} of {len(wanted)} nights; --keep goes on there\n")
    return sorted(found, key=lambda item: wanted.index(item.night)), complete


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="All figures of the named skies")
    parser.add_argument("--json", action="store_true", help="print all rows as one JSON document")
    parser.add_argument("--quick", action="store_true", help="nights of two CCDs instead of four")
    parser.add_argument("--skies", nargs="+", choices=SKIES, default=SKIES[1:], help="skies")
    parser.add_argument("--bands", nargs="+", choices=BANDS, default=list("griz"), help="bands")
    parser.add_argument("--sharpness", choices=SHARPNESS, default="both", help="search against templates")
    parser.add_argument("--galsim", nargs="+", choices=BANDS, default=[], help="bands of nights that GalSim draws")
    parser.add_argument("--galsim-skies", nargs="+", choices=SKIES, default=["typical"], help="skies of these nights")
    parser.add_argument("--seed", type=int, default=SEED, help="seed to which every night adds its number")
    parser.add_argument("--nights", type=int, default=1, help="nights of each combination")
    parser.add_argument("--processes", type=int, default=1, help="nights at a time; 0: only saved ones")
    parser.add_argument("--by", choices=("sky", "band", "sharpness"), default="sky", help="columns of the table")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep figures in this folder, and reuse them")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run from the command line; exit code 130 after Ctrl-C, with the table of the nights that are done."""
    options = options_of(arguments)
    ccds = DEMO_CCDS[: 2 if options.quick else 4]
    nights = matrix(options.skies, options.bands, options.sharpness, ccds, options.seed, options.nights)
    if options.galsim:
        from bench.hard_sky import GalsimNight

        drawn = matrix(options.galsim_skies, options.galsim, "usual", ccds, options.seed, options.nights)
        nights += [GalsimNight(*astuple(night)) for night in drawn]
    with tempfile.TemporaryDirectory(prefix="gw-workflow-bench-") as folder:
        found, complete = measure(nights, options.keep or Path(folder), options.processes)
    if options.json:
        rows = [row for name, items in columns_of(found, options.by).items() for row in rows_of(items, name)]
        rows += [row for item in found for row in rows_of([item], title_of(item.night))]
        print_report(rows, as_json=True, title="All skies")
    elif found:
        sys.stdout.write(report(found, options.by, len(nights)) + "\n")
    sys.exit(0 if complete else 130)


if __name__ == "__main__":
    main()
