"""The README states the figures of docs/figures.md, docs/architecture.md the steps of tasks/steps.py."""

import re
from pathlib import Path

import pytest

from tasks.steps import NIGHT_STAGES, STEPS, steps_of

ROOT = Path(__file__).resolve().parents[2]
SINGLE, PHOTOMETRY = "bench.single_epoch", "bench.calibration"
DIFFERENCE, CANDIDATES = "bench.difference", "bench.candidates"
STAMPS, SKIES = "bench.real_stamps", "bench.skies"
ROWS_OF_A_SKY = (
    "false detections per CCD",
    "without a flag",
    "coordinates, error per axis, mas (1.2 times the ideal process)",
    "PSF, rms residual, %",
)
GRIZ = tuple(f"from pixels, {band}: zero point of a CCD, rms" for band in "griz")

# Figure by figure of a row's second column: the bench, rows of its table (the largest counts) and a factor.
SOURCES = {
    "real cut-outs of": [
        (STAMPS, ("real stamps: transients above S/N 7 found",), 1),
        (STAMPS, ("real stamps: and no flag",), 1),
    ],
    "real cut-outs, other": [(STAMPS, ("real stamps: unflagged others with score above 0.5",), 1)],
    **{
        words: [(SKIES, (f"{sky}: {row}",), 1) for row in ROWS_OF_A_SKY]
        for sky, words in {
            "typical": "typical sky",
            "hard": "hard sky",
            "crowded": "crowded sky",
            "bright": "bright sky",
            "GalSim, typical": "sky drawn by GalSim",
        }.items()
    },
    "`make demo`": [("bench.demo", ("wall time with installation (make demo, seed 1)",), 1)],
    "raw to catalogue": [(SINGLE, ("chain: single epoch, raw to catalogue, per CCD",), 1)],
    "CPU time of SExtractor": [(SINGLE, ("measure: their cost over ours",), 1)],
    "difference (template stack": [(SINGLE, ("chain: difference, per CCD",), 1)],
    "coordinates of stars": [
        (SINGLE, ("measure: coordinates at stars above S/N 30, tied over the exposure, rms per axis",), 1)
    ],
    "measured positions": [
        (SINGLE, ("measure: measured positions of those stars, photon noise included, tied over the exposure, rms",), 1)
    ],
    "zero point of a CCD": [(PHOTOMETRY, GRIZ, 1)],
    "PSF model": [(SINGLE, ("measure: PSF, rms error",), 1)],
    "width of the noise": [None, (DIFFERENCE, (r"noise width of blank sky, \|width - 1\|",), 1)],
    "S/N at which half": [(DIFFERENCE, ("S/N of 50 % completeness",), 1)],
    "false positives": [
        (DIFFERENCE, ("false positives per CCD that pass the cuts",), 1),
        (DIFFERENCE, ("false positives per CCD with score 0.3 or more",), 1),
    ],
    "nights with the kilonova": [
        (CANDIDATES, ("nights with the kilonova at rank 1",), 1),
        (CANDIDATES, ("kilonova ranked first on further nights, never looked at before",), 40),
    ],
    "a million candidates": [
        (CANDIDATES, ("gw-workflow rank on a new map, 1000000 candidates, 25 exposures, all files, wall clock",), 1)
    ],
    "orchestration": [("bench.scaling", ("share of the science",), 1)],
    "one exposure of 61": [("bench.exposure", ("kept of the search exposure",), 1)],
    "the same, orchestration": [("bench.exposure", ("orchestration, share of all CPU",), 1)],
    "kills of workers": [
        ("bench.chaos", ("night: kills",), 1),
        ("bench.chaos", ("night: products that differ from those in calm",), 1),
        ("bench.chaos", ("night: finished steps done again",), 1),
    ],
    "nights whose server": [
        ("bench.faulty_server", ("one request of five fails: nights",), 1),
        ("bench.faulty_server", ("one request of five fails: products that differ from those in calm",), 1),
    ],
}


def rows(text: str, tables: int = 1) -> list[list[str]]:
    """Return the cells of the first tables in a text, their headings left out."""
    found = [lines.splitlines()[2:] for lines in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)[:tables]]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for lines in found for line in lines]


def figures(page: str) -> dict[tuple[str, str], float]:
    """Return bench and row of every figure of the text of docs/figures.md to its value.

    A table with a column of goals has a column per sky: its figures are named ``sky: figure``.
    """
    found = {}
    for text in page.split("\n## ")[1:]:
        bench = re.search(r"`python -m (\S+)`", text)[1]
        heading = re.search(r"^\| *\| goal \|(.*)\|[^|]*\|$", text, re.MULTILINE)
        skies = [cell.strip() for cell in heading[1].split("|")] if heading else []
        for name, *cells in rows(text):
            named = {f"{sky}: {name}": cell for sky, cell in zip(skies, cells[1:-1], strict=True)} if skies else {}
            for row, cell in (named or {name: cells[0]}).items():
                if cell not in ("not measured", "-"):
                    found[bench, row] = float(cell.strip("*").partition("** (")[0].partition(" (")[0])
    return found


README = rows((ROOT / "README.md").read_text(encoding="utf-8").partition("## How good, how fast")[2], tables=2)
FIGURES = figures((ROOT / "docs" / "figures.md").read_text(encoding="utf-8"))


def test_a_table_with_a_column_per_sky_gives_a_figure_of_each():
    page = """# Figures

## All skies

`python -m bench.skies` with two nights

| | goal | hard | crowded | worst night |
|---|--:|--:|--:|---|
| CCDs with a difference (of) | in brackets | **3** (4) | 4 (4) | **3** (4): hard, g, seed 2 |
| false detections per CCD | 5 (crowded 15) | **9.5** | not measured | **9.5**: hard, g, seed 2 |
"""
    assert figures(page) == {
        ("bench.skies", "hard: CCDs with a difference (of)"): 3.0,
        ("bench.skies", "crowded: CCDs with a difference (of)"): 4.0,
        ("bench.skies", "hard: false detections per CCD"): 9.5,
    }


def test_every_row_of_the_readme_has_a_source():
    assert [[start for start in SOURCES if what.startswith(start)] for what, *_ in README] == [[s] for s in SOURCES]


@pytest.mark.parametrize("what, reached", [(row[0], row[1]) for row in README])
def test_the_readme_states_the_figures_of_the_benches(what, reached):
    (sources,) = (found for start, found in SOURCES.items() if what.startswith(start))
    stated = re.findall(r"\d+(?:\.\d+)?", reached)
    assert len(stated) == len(sources)
    for text, source in zip(stated, sources, strict=True):
        if source is not None:
            bench, names, factor = source
            digits = len(text.partition(".")[2])
            measured = factor * max(FIGURES[bench, name] for name in names)
            assert abs(float(text) - measured) <= 0.5001 * 10.0**-digits, f"{what}: {text}, measured {measured}"


def test_the_bound_of_the_positions_is_that_of_the_figures():
    (what,) = (row[0] for row in README if row[0].startswith("measured positions"))
    bound = FIGURES[SINGLE, "measure: photon noise of those stars, the least possible error (Cramer-Rao), rms"]
    assert re.search(r"bound: ([\d.]+) mas", what)[1] == f"{bound:.1f}"


ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Steps")[2]
STEP_ROWS = {row[0].strip("`"): row for row in rows(ARCHITECTURE)}


def test_the_table_of_steps_is_complete_and_in_order():
    assert list(STEP_ROWS) == [info.name for info in steps_of(*NIGHT_STAGES)]


@pytest.mark.parametrize("name", STEP_ROWS)
def test_a_row_of_the_table_is_what_the_step_states(name):
    _, mapped_over, _, products, science = STEP_ROWS[name]
    outside_brackets = re.sub(r"\([^)]*\)", "", products)
    assert mapped_over == STEPS[name].mapped_over
    assert set(re.findall(r"`(.+?)`", outside_brackets)) == set(STEPS[name].products.values())
    assert all((ROOT / folder).is_dir() for folder in re.findall(r"`(.+?)`", science))
    assert (ROOT / "tasks" / f"{name}.py").is_file()
