"""Train the real/bogus score on synthetic pairs and write it into the package: ``python -m tools.train_score``.

Fakes and simulated transients are separated from all other detections, on pairs of different seeing, turbulence and
number of templates. A quarter of the pairs is held out for testing; the results on these are printed.

Labels of a team, saved from the page of a night, are added to the training with ``--labels labels_*.json --site SITE``;
with ``--pairs 0`` only these are used. Labels real and bogus are used, interesting is ignored.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

import imaging.difference
from bench.difference_runs import Scenario, labelled_features, run, take
from blocks.site import Site
from imaging.difference.train import confusion, model_content, reliability, train_score
from imaging.io.atomic import write_text
from tools.own_labels import Labelled, own_labels

SEEINGS = ((1.15, 0.90), (0.95, 1.15), (1.30, 1.00), (1.05, 1.00), (0.90, 1.20), (1.20, 1.10))
PARTS = 4
"""Number of parts into which a team's labels are split; one of them is held out."""

TURBULENCE = (3.0, 10.0, 30.0)
MISSED_RAYS = (15, 40, 15, 25)
"""Numbers of unmasked cosmic rays in the search image."""


def scenarios(n: int, first_seed: int) -> list[Scenario]:
    """Return n scenarios of varying seeing, turbulence and number of templates."""
    return [
        Scenario(
            seed=first_seed + k,
            search_fwhm=SEEINGS[k % len(SEEINGS)][0],
            template_fwhm=SEEINGS[k % len(SEEINGS)][1],
            turbulence_mas=TURBULENCE[k % len(TURBULENCE)],
            n_templates=1 + (k // 3) % 3,
            missed_cosmic_rays=MISSED_RAYS[k % len(MISSED_RAYS)],
        )
        for k in range(n)
    ]


def in_parts(labelled: Labelled) -> list[Labelled]:
    """Split labelled detections evenly into :data:`PARTS`."""
    return [tuple(column[part::PARTS] for column in labelled) for part in range(PARTS)]  # type: ignore[misc]


def main() -> None:
    """Train, evaluate on held-out pairs, and write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=32, help="number of full-size pairs to simulate")
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--version", default="synthetic-2")
    parser.add_argument("--output", type=Path, default=Path(imaging.difference.__path__[0]) / "data" / "score.json")
    parser.add_argument("--labels", type=Path, nargs="*", default=(), help="label files saved from the pages of nights")
    parser.add_argument("--site", type=Path, default=Path("gw-data"), help="site with the labelled detections")
    options = parser.parse_args()
    console = Console(stderr=True)
    sets = []
    for scenario in scenarios(options.pairs, options.first_seed):
        truth = take(scenario)
        sets.append(labelled_features(run(truth, scenario), truth))
        console.print(f"{scenario}: {int(sets[-1][1].sum())} real, {int((~sets[-1][1]).sum())} bogus")
    if options.labels:
        sets += in_parts(own_labels(Site.at(options.site), options.labels))
        console.print(f"{sum(len(part[1]) for part in sets[-PARTS:])} labelled detections")
    recipe = f"{options.pairs} pairs from seed {options.first_seed}, every fourth held out; python -m tools.train_score"
    write_text(options.output, json.dumps(train_and_judge(sets, options.version, recipe, console), indent=1) + "\n")


def train_and_judge(sets: Sequence[Labelled], version: str, recipe: str, console: Console) -> dict[str, object]:
    """Train on three of every four sets, print the results on the others, and return the content of the model file."""
    held = np.arange(len(sets)) % 4 == 3
    train = [np.concatenate([s[k] for s, h in zip(sets, held, strict=True) if not h]) for k in range(3)]
    test = [np.concatenate([s[k] for s, h in zip(sets, held, strict=True) if h]) for k in range(3)]
    model = train_score(train[0], train[1], version)
    for threshold in (0.1, 0.3, 0.5):
        everything = confusion(model, test[0], test[1], threshold)
        bright = test[2] > 7.0
        console.print(f"held out, score >= {threshold}: {everything}")
        console.print(f"  above S/N 7: {confusion(model, test[0][bright], test[1][bright], threshold)}")
    judged = reliability(model, test[0], test[1])
    for row in judged:
        console.print(f"score {row['score']:.2f}: {100 * row['share_real']:.0f} % of {row['n']} are real")
    return model_content(model, recipe, judged)


if __name__ == "__main__":
    main()
