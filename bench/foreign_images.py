"""Images of other programs: small cases with right answers, real epochs of one field, and real transients in cut-outs.

Cases and images are beside a developer's checkout and not part of the project; without them the table says so.
``python -m bench.foreign_images [--quick] [--json]`` prints it; ``--quick`` leaves out epochs and cut-outs.
"""

import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.real_epochs import REAL_DATA, pairs, read_epochs, subtract_epochs
from bench.real_stamps import REAL_STAMPS, stamp_rows
from bench.report import Row, at_least, at_most, main
from imaging.errors import GWWorkflowError

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases" / "check.py"
ROOT = Path(__file__).resolve().parents[1]


def answers(check: Path) -> dict[str, bool]:
    """Run the cases with this checkout's command; return whether each was answered rightly."""
    with tempfile.TemporaryDirectory() as folder:
        command = Path(folder) / "gw-workflow"
        command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m deployments.cli.main "$@"\n')
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
        run = subprocess.run(
            [sys.executable, "-W", "ignore", check.name, "--gw", str(command)],
            cwd=check.parent,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )
    found = re.findall(r"^(ok  |FAIL) (\w+)", run.stdout, flags=re.MULTILINE)
    return {name: word.strip() == "ok" for word, name in found}


def epoch_rows(folder: Path) -> list[Row]:
    """Subtract every pair of the real epochs; return how many worked and how well their noise is known."""
    widths, lags, refused = [], [], 0
    for search, template in pairs(read_epochs(folder)):
        try:
            quality = subtract_epochs(search, template).searched.quality
        except GWWorkflowError:
            refused += 1
            continue
        widths.append(quality["difference_noise_width"])
        lags.append(quality["difference_lag1"])
    n = len(widths) + refused
    return [
        at_most("real epochs: pairs that were refused", float(refused), "", 0.0, n=n),
        at_most(
            "real epochs: noise width, worst distance from 1",
            float(np.max(np.abs(np.array(widths) - 1))),
            "",
            0.03,
            n=n,
        ),
        at_most("real epochs: correlation of neighbours, worst", float(np.max(np.abs(lags))), "", 0.03, n=n),
    ]


def measure(quick: bool) -> Sequence[Row]:
    """Measure the cases, the epochs and the cut-outs."""
    rows: list[Row] = []
    if CASES.is_file():
        rows += [at_least(f"case {name}: right", float(ok), "", 1.0) for name, ok in answers(CASES).items()]
    else:
        rows.append(Row("cases: absent", None, ""))
    for what, folder, measured in (
        ("real epochs", REAL_DATA, epoch_rows),
        ("real stamps", REAL_STAMPS, stamp_rows),
    ):
        here = folder.is_dir() and not quick
        rows += measured(folder) if here else [Row(f"{what}: absent or left out", None, "")]
    return rows


if __name__ == "__main__":
    main("Images of other programs", measure)
