"""Nine real cut-outs of one field from the Community Pipeline: known properties, and their subtraction.

A variable star, three constant ones, a galaxy and two cosmic rays that the masks miss. The folder with the pixels is
beside a developer's checkout and not part of the project. ``python -m bench.real_epochs [--json]`` prints a table of
all pairs.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fitsio
import numpy as np
from rich.console import Console
from rich.table import Table

from imaging.difference.engine import ImageDifference, UserImage, difference_images
from imaging.difference.settings import SearchSettings
from imaging.image import LoadedImage
from imaging.io.calibrated import read_image
from imaging.schemas.difference import DetectionFlag

REAL_DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "decam_epochs"
"""Folder of the cut-outs, beside a developer's checkout."""

VARIABLE = 3960312480907107968
"""Gaia identifier of the variable star."""

SIGNIFICANCE = {
    ("2015-04-11", "2017-03-16"): 12.0,
    ("2018-02-12", "2015-04-11"): -18.0,
    ("2018-02-12", "2017-03-16"): -7.0,
    ("2017-05-22", "2018-01-28"): 10.0,
}
"""Change of the variable star (search minus template, sigma) in an independent subtraction."""

COSMIC_RAYS = {"2018-02-12": (213.0, 30.0), "2017-05-22": (62.0, 75.0)}
"""Pixels of cosmic rays that the masks miss."""

CONSTANT_STAR_MAG = {
    "2015-04-11": 16.68,
    "2017-03-16": 16.64,
    "2017-04-19": 16.66,
    "2018-02-12": 16.67,
    "2017-05-22": 18.29,
    "2018-01-28": 18.26,
    "2018-03-14": 18.22,
    "2017-03-29": 19.64,
    "2018-02-25": 19.65,
}
"""Magnitude of one constant star with the survey's zero points; its scatter is that of the zero points."""


@dataclass(frozen=True, eq=False)
class Epoch:
    """One cut-out.

    Attributes
    ----------
    date
        Date of the observation (UTC).
    band
        Band.
    loaded
        The image.
    zeropoint_mag
        The survey's zero point of one unit of the file.
    """

    date: str
    band: str
    loaded: LoadedImage
    zeropoint_mag: float


def read_epochs(folder: Path) -> list[Epoch]:
    """Read all cut-outs, in order of date."""
    table = fitsio.read(folder / "survey-ccds-1.fits.gz")
    rate = {int(r["expnum"]): float(r["ccdzpt"]) + 2.5 * np.log10(float(r["exptime"])) for r in table}
    epochs = []
    for path in sorted(folder.glob("images/**/*_ooi_*.fits")):
        loaded = read_image(path)
        stamp = path.name.split("_")[1]
        date = f"20{stamp[:2]}-{stamp[2:4]}-{stamp[4:6]}"
        epochs.append(Epoch(date, path.name.split("_")[4], loaded, rate[int(loaded.header["EXPNUM"])]))
    return sorted(epochs, key=lambda e: e.date)


def pairs(epochs: list[Epoch]) -> Iterator[tuple[Epoch, Epoch]]:
    """Yield all (search, template) pairs of one band."""
    for search, template in itertools.permutations(epochs, 2):
        if search.band == template.band:
            yield search, template


def subtract_epochs(search: Epoch, template: Epoch, settings: SearchSettings | None = None) -> ImageDifference:
    """Subtract one epoch from another with the survey's zero points."""
    return difference_images(
        UserImage(search.loaded, zeropoint_mag=search.zeropoint_mag),
        [UserImage(template.loaded, zeropoint_mag=template.zeropoint_mag)],
        settings,
    )


def gaia_stars(folder: Path) -> dict[int, tuple[float, float, float]]:
    """Return identifier to (RA, Dec, G) of the field's Gaia stars, degrees."""
    stars = {}
    for path in sorted((folder / "gaia").glob("*.fits")):
        try:
            rows = fitsio.read(path)
        except OSError:
            continue
        for row in rows:
            stars[int(row["source_id"])] = (float(row["ra"]), float(row["dec"]), float(row["phot_g_mean_mag"]))
    return stars


def score_near(result: ImageDifference, x: float, y: float, radius: int = 3) -> float:
    """Return the score of largest modulus near a pixel; NaN outside of the image."""
    score = result.searched.difference.score
    j, i = round(y), round(x)
    part = score[max(j - radius, 0) : max(j + radius + 1, 0), max(i - radius, 0) : max(i + radius + 1, 0)]
    return float(part.flat[np.argmax(np.abs(part))]) if part.size else float("nan")


def noise_significance_near(result: ImageDifference, x: float, y: float, radius: int = 3) -> float:
    """Return flux over noise at the most significant score near a pixel; NaN if it is masked.

    The error of the score also includes the uncertainties of the subtracted flux and position, which dominate for a
    star that changed by 10 %; an independent subtraction with only the noise in its error gives this number.
    """
    difference = result.searched.difference
    filtered, score = difference.filtered, difference.score
    j0, i0 = max(round(y) - radius, 0), max(round(x) - radius, 0)
    part = np.abs(score[j0 : round(y) + radius + 1, i0 : round(x) + radius + 1])
    j, i = np.unravel_index(int(np.argmax(part)), part.shape)
    place = (j0 + j, i0 + i)
    if filtered.norm[place] <= 0.0:
        return float("nan")
    width = difference.widths[difference.tiling.index(float(place[1]), float(place[0]))]
    return float(filtered.numerator[place] / np.sqrt(filtered.norm[place]) / width)


def known_kernel_sum(search: Epoch, template: Epoch) -> float:
    """Return the kernel sum expected from one constant star, that is, the error of the survey's zero points."""
    return float(10 ** (-0.4 * (CONSTANT_STAR_MAG[search.date] - CONSTANT_STAR_MAG[template.date])))


def describe_pair(search: Epoch, template: Epoch, variable: tuple[float, float]) -> dict[str, object]:
    """Subtract a pair and return a row of the table.

    Parameters
    ----------
    search, template
        The epochs.
    variable
        RA and Dec of the variable star, degrees.
    """
    result = subtract_epochs(search, template)
    quality, detections = result.searched.quality, result.searched.detections
    x, y = (float(v) for v in search.loaded.wcs.sky_to_pixel(*variable))
    found = []
    for a, b, score, flags in zip(
        detections.measured.x, detections.measured.y, detections.score, detections.flags, strict=True
    ):
        names = [f.name for f in DetectionFlag if flags & f and f.name and f is not DetectionFlag.NEGATIVE]
        what = "variable" if np.hypot(a - x, b - y) < 5.0 else "other"
        found.append({"what": what, "x": round(a, 1), "y": round(b, 1), "sigma": round(score, 1), "labels": names})
    return {
        "band": search.band,
        "search": search.date,
        "template": template.date,
        "noise_width": round(quality["difference_noise_width"], 4),
        "lag1_correlation": round(quality["difference_lag1"], 4),
        "stamps": int(quality["kernel_stamps"]),
        "kernel_sum": round(quality["kernel_sum"], 4),
        "kernel_sum_over_known": round(quality["kernel_sum"] / known_kernel_sum(search, template), 4),
        "variable_sigma": round(score_near(result, x, y), 1),
        "variable_noise_sigma": round(noise_significance_near(result, x, y), 1),
        "variable_expected": SIGNIFICANCE.get((search.date, template.date)),
        "detections": found,
    }


def main() -> None:
    """Print the table of all pairs."""
    parser = argparse.ArgumentParser(description="Real epochs, pair by pair")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if not REAL_DATA.is_dir():
        sys.exit(f"the folder of real data is absent: {REAL_DATA}")
    variable = gaia_stars(REAL_DATA)[VARIABLE][:2]
    rows = [describe_pair(search, template, variable) for search, template in pairs(read_epochs(REAL_DATA))]
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return
    table = Table(title="Real epochs")
    for heading in rows[0]:
        table.add_column(heading.replace("_", " "))
    for row in rows:
        found = [
            f"{d['what']} ({d['x']:.0f}, {d['y']:.0f}) {d['sigma']:+.1f} {' '.join(d['labels'])}".rstrip()
            for d in row["detections"]  # type: ignore[attr-defined]
        ]
        cells = [row[k] if k != "detections" else "\n".join(found) for k in row]
        table.add_row(*("" if c is None else str(c) for c in cells))
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
