"""Train the real/bogus score on simulations and write it into the package: ``python -m tools.train_score``.

Fakes and simulated transients are separated from all other detections, on pairs of different seeing, turbulence and
number of templates, and on nights of the named skies from raw pixels. A quarter of the pairs and of the nights is held
out for testing; the results on these are printed.

The shipped model is what the command writes without options; it takes about an hour and a half of one core.

Labels of a team, saved from the page of a night, are added to the training with ``--labels labels_*.json --site SITE``;
with ``--pairs 0`` only these are used. Labels real and bogus are used, interesting is ignored.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import imaging.difference
from bench.difference_runs import Scenario, labelled_features, run, take
from blocks.site import Site
from imaging.difference.score import FEATURES
from imaging.difference.train import confusion, model_content, reliability, train_score
from imaging.io.atomic import write_text
from tools.own_labels import Labelled, own_labels
from tools.sky_nights import labelled_night, training_nights

SEEINGS = ((1.15, 0.90), (0.95, 1.15), (1.30, 1.00), (1.05, 1.00), (0.90, 1.20), (1.20, 1.10))
FIRST_PAIR, FIRST_NIGHT = 1000, 61001
"""Seeds of the first pair and of the first night of the named skies."""

PARTS = 4
"""Number of parts into which a team's labels are split; one of them is held out."""

TURBULENCE = (3.0, 10.0, 30.0)
MISSED_RAYS = (15, 40, 15, 25)
"""Numbers of unmasked cosmic rays in the search image."""

PSF_WIDTHS = (0.9, 1.1, 0.95, 1.05, 1.0)
"""Widths of the PSF models of the last third of the pairs over the true ones."""


def scenarios(n: int, first_seed: int) -> list[Scenario]:
    """Return n scenarios of varying seeing, turbulence, number of templates and errors of the PSF."""
    return [
        Scenario(
            seed=first_seed + k,
            search_fwhm=SEEINGS[k % len(SEEINGS)][0],
            template_fwhm=SEEINGS[k % len(SEEINGS)][1],
            turbulence_mas=TURBULENCE[k % len(TURBULENCE)],
            n_templates=1 + (k // 3) % 3,
            missed_cosmic_rays=MISSED_RAYS[k % len(MISSED_RAYS)],
            psf_width=PSF_WIDTHS[k % len(PSF_WIDTHS)] if 3 * k >= 2 * n else 1.0,
        )
        for k in range(n)
    ]


def labelled_pair(scenario: Scenario, folder: Path) -> Labelled:
    """Return features, labels and scores of the detections of a pair; they are kept in a folder and used again."""
    path = folder / f"pair_{scenario.seed}.npz"
    if path.is_file():
        with np.load(path) as kept:
            if tuple(kept["names"]) == FEATURES:
                return kept["features"], kept["is_real"], kept["score"]
    truth = take(scenario)
    features, is_real, score = labelled_features(run(truth, scenario), truth)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(path, names=np.array(FEATURES), features=features, is_real=is_real, score=score)
    return features, is_real, score


def in_parts(labelled: Labelled) -> list[Labelled]:
    """Split labelled detections evenly into :data:`PARTS`."""
    return [tuple(column[part::PARTS] for column in labelled) for part in range(PARTS)]  # type: ignore[misc]


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line, whose defaults are those of the shipped model."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--pairs", type=int, default=48, help="number of full-size pairs to simulate")
    made.add_argument("--first-seed", type=int, default=FIRST_PAIR)
    made.add_argument("--nights", type=int, default=8, help="number of nights of the named skies")
    made.add_argument("--keep", type=Path, metavar="FOLDER", help="keep pairs and nights there, and reuse them")
    made.add_argument("--version", default="skies-2")
    made.add_argument("--output", type=Path, default=Path(imaging.difference.__path__[0]) / "data" / "score.json")
    made.add_argument("--labels", type=Path, nargs="*", default=(), help="label files saved from the pages of nights")
    made.add_argument("--site", type=Path, default=Path("gw-data"), help="site with the labelled detections")
    return made


def recipe_of(options: argparse.Namespace) -> str:
    """Return the command that trains the same model again, and what it trains on."""
    labels = "".join(f" {path.name}" for path in options.labels)
    return (
        f"python -m tools.train_score --pairs {options.pairs} --first-seed {options.first_seed} "
        f"--nights {options.nights} --version {options.version}{' --labels' if labels else ''}{labels}; "
        f"the first night has seed {FIRST_NIGHT}; every fourth pair and night is held out"
    )


def main() -> None:
    """Train, evaluate on held-out pairs, and write the model."""
    options = parser().parse_args()
    console = Console(stderr=True)
    sources: dict[str, list[Labelled]] = {"pairs": [], "nights": [], "labels": []}
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gw-workflow-train-")))
        for scenario in scenarios(options.pairs, options.first_seed):
            sources["pairs"].append(labelled_pair(scenario, folder))
            console.print(f"{scenario}: {told(sources['pairs'][-1])}")
        for night in training_nights(folder, FIRST_NIGHT, options.nights):
            sources["nights"].append(labelled_night(night.root))
            console.print(f"{night.root.name}: {told(sources['nights'][-1])}")
    if options.labels:
        sources["labels"] = in_parts(own_labels(Site.at(options.site), options.labels))
        console.print(f"{sum(len(part[1]) for part in sources['labels'])} labelled detections")
    content = train_and_judge([sets for sets in sources.values() if sets], options.version, recipe_of(options), console)
    write_text(options.output, json.dumps(content, indent=1) + "\n")


def told(labelled: Labelled) -> str:
    """Return the numbers of both classes."""
    return f"{int(labelled[1].sum())} real, {int((~labelled[1]).sum())} bogus"


def together(
    sources: Sequence[Sequence[Labelled]], *, held: bool, quarter: int = 3
) -> tuple[Labelled, NDArray[np.int64]]:
    """Return a quarter of the sets of every source, or the others, as one, and the (n,) numbers of their sources."""
    sets = [(number, s) for number, of in enumerate(sources) for n, s in enumerate(of) if (n % 4 == quarter) == held]
    labelled = tuple(np.concatenate([s[k] for _, s in sets]) for k in range(3))
    return labelled, np.repeat([number for number, _ in sets], [len(s[1]) for _, s in sets])  # type: ignore[return-value]


def train_and_judge(
    sources: Sequence[Sequence[Labelled]], version: str, recipe: str, console: Console
) -> dict[str, object]:
    """Train on three of every four sets, print the results on the others, and return the content of the model file."""
    (train, of_train), (test, of_test) = (together(sources, held=held) for held in (False, True))
    model = train_score(train[0], train[1], version, of_train)
    for number in range(len(sources)):
        for threshold in (0.1, 0.3, 0.5, 0.9):
            for snr in (0.0, 7.0):
                which = (of_test == number) & (test[2] > snr)
                found = confusion(model, test[0][which], test[1][which], threshold)
                console.print(f"source {number}, held out, S/N > {snr:g}, score >= {threshold}: {found}")
    judged = reliability(model, test[0], test[1], of_test)
    for row in judged:
        console.print(f"score {row['score']:.2f}: {100 * row['share_real']:.0f} % of {row['n']} are real")
    return model_content(model, recipe, judged)


if __name__ == "__main__":
    main()
