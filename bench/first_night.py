"""A first night: an empty site, files as an archive and others give them, and the commands of ``docs/first_night.md``.

``python -m bench.first_night [--json] [--quick]``: a simulated night is handed over under archive names: raw biases,
dome flats with a ramp, and exposures, half of its templates raw, the others as images of the Community Pipeline, Gaia
as CSV, galaxies in the layout of GLADE+, an alert in JSON. The commands of the page, which are printed, must end with
the kilonova among the first three candidates, and with the figures of the demonstration within their limits. Quick:
two CCDs, otherwise four.
"""

import base64
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from astropy.io import fits
from astropy.time import Time
from pyarrow.csv import write_csv
from pyarrow.dataset import dataset

from bench.demo import grade
from bench.foreign_files import Final, write_community_pipeline
from bench.report import Row, main
from blocks.site import Site
from deployments.products.compare_with_truth import ccd_figures, completeness, kilonova_rank
from deployments.reports.candidates import read_candidates
from imaging.io.colour_terms import COLOUR_TERMS, write_colour_terms
from imaging.simulation.night import SimulatedNight, simulate_night
from imaging.simulation.reference_catalogues import locus_colour_terms
from imaging.simulation.settings import demo_settings

PAGE = Path(__file__).parents[1] / "docs/first_night.md"

QUICK_CCDS = (27, 34)
"""Neighbours, on one of which the kilonova lies."""

GAIA = ("source_id", "ra", "dec", "ref_epoch", "pm", "parallax", "ruwe", "phot_")
"""What the names of the columns from the Gaia archive begin with."""

AFTERNOON: Mapping[str, object] = {
    "n_search_exposures": 0,
    "n_template_epochs": 0,
    "bands": ("i", "g"),
    "ramp_exptimes_s": (
        0.3,
        18.0,
        30.0,
        1.0,
        21.0,
        34.0,
        6.0,
        24.0,
        2.0,
        28.0,
        14.0,
        0.5,
        19.5,
        32.0,
        10.0,
        22.5,
        3.5,
        35.5,
        26.0,
    ),
}
"""Settings of the afternoon: a ramp takes a second band, and short and long exposures in turn."""

LETTERS = {"object": "o", "zero": "z", "dome flat": "f"}
"""First letter of the archive's names after the time, by kind of exposure."""


@dataclass(frozen=True)
class Received:
    """What a team has in hand.

    Attributes
    ----------
    folder
        Folder with ``received``, in which the commands of the page run.
    simulated
        The night with its truth.
    """

    folder: Path
    simulated: SimulatedNight

    @property
    def site(self) -> Site:
        """The site that the commands make."""
        return Site.at(self.folder / "SITE")


def page_commands() -> list[str]:
    """Return the commands of the page, from an empty folder to the ranked list."""
    (block,) = re.findall(r"^```\n(gw-workflow .*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return block.splitlines()


def receive(folder: Path, **changes: object) -> Received:
    """Simulate a night and hand it over, every other template as images of the Community Pipeline.

    Parameters
    ----------
    folder
        Empty folder.
    changes
        Settings that differ from those of the demonstration.
    """
    settings = demo_settings(n_template_epochs=4, **changes)
    lender, afternoon = folder / "lender", folder / "afternoon"
    simulated = simulate_night(lender, settings)
    frames = simulate_night(afternoon, demo_settings(n_bias_exposures=5, n_flat_exposures=5, **changes, **AFTERNOON))
    epochs = [exposure for exposure in simulated.exposures if exposure.night != settings.night]
    finals: list[Path] = []
    for exposure in epochs[::2]:
        words = ["-E", exposure.expnum, "-b", exposure.band, "-n", exposure.night, "-r", 1, "-p", 1, "-S", 1, "-C"]
        run("gw-workflow single-epoch " + " ".join(map(str, words)) + f" --site {lender}", folder)
        finals += sorted((lender / "products").rglob(f"D{exposure.expnum:08d}_*_immask.fits"))
    others = {simulated.raw_path(exposure) for exposure in epochs[::2]}
    raw = {*simulated.raw.rglob("*.fits.fz"), *frames.raw.rglob("*.fits.fz")} - others
    return hand_over(folder, simulated, sorted(raw), finals)


def hand_over(folder: Path, simulated: SimulatedNight, raw: Iterable[Path], finals: Iterable[Path]) -> Received:
    """Write the files of a simulated night as a team gets them.

    Parameters
    ----------
    folder
        Folder of ``received`` and of the site.
    simulated
        The night.
    raw
        Its raw files: exposures, biases and dome flats.
    finals
        Final images of templates, written as those of the Community Pipeline.
    """
    received = folder / "received"
    for name in ("raw", "templates"):
        (received / name).mkdir(parents=True)
    for path in raw:
        (received / "raw" / archive_name(path)).symlink_to(path)
    for path in finals:
        write_community_pipeline(Final.read(path), received / "templates")
    write_stars(simulated.stars, received / "gaia.csv")
    write_galaxies(simulated.galaxies, received / "glade.txt")
    write_alert(simulated, received / "alert.json")
    # Simulated stars have colours of their own; a real night takes the published terms.
    write_colour_terms(folder / "SITE/calibrations" / COLOUR_TERMS, locus_colour_terms())
    shutil.copytree(simulated.root / "truth", folder / "SITE/truth")
    return Received(folder, simulated)


def archive_name(path: Path) -> str:
    """Return the name that the archive gives to a raw file."""
    header = fits.getheader(path)
    moment = Time(header["DATE-OBS"], scale="utc").strftime("%y%m%d_%H%M%S")
    return f"c4d_{moment}_{LETTERS[header['OBSTYPE']]}ri.fits.fz"


def write_stars(catalogue: Path, path: Path) -> None:
    """Write the columns of a catalogue as a query of the Gaia archive returns them."""
    stars = dataset(catalogue / "dataset", format="parquet", partitioning=None).to_table()
    columns = {name: stars[name] for name in stars.column_names if name.startswith(GAIA) and "_mag_error" not in name}
    for band in ("g", "bp", "rp"):
        error = stars[f"phot_{band}_mean_mag_error"]
        columns[f"phot_{band}_mean_flux_over_error"] = pc.divide(2.5 / math.log(10.0), error)
    columns["phot_variable_flag"] = pc.if_else(stars["variable"], "VARIABLE", "NOT_AVAILABLE")
    write_csv(pa.table(columns), path)


def write_galaxies(catalogue: Path, path: Path) -> None:
    """Write a catalogue of galaxies in the layout of GLADE+: 40 columns, blanks between them, ``null`` for unknown."""
    rows = dataset(catalogue / "dataset", format="parquet", partitioning=None).to_table().to_pylist()
    lines = []
    for number, row in enumerate(rows, 1):
        line = ["null"] * 40
        line[0], line[7], line[8], line[9] = str(number), "G", repr(row["ra"]), repr(row["dec"])
        for place, name in ((10, "mag_b"), (27, "redshift"), (32, "distance_mpc"), (33, "distance_error_mpc")):
            if row[name] is not None:
                line[place] = f"{row[name]:.6g}"
        line[34] = "3" if row["distance_mpc"] is not None else "0"
        lines.append(" ".join(line))
    path.write_text("\n".join(lines) + "\n")


def write_alert(simulated: SimulatedNight, path: Path) -> None:
    """Write the alert of the night's event, with its sky map, as it is sent."""
    night = simulated.settings.night
    first = min(e.mjd for e in simulated.exposures if e.night == night and e.obstype == "object")
    merger = Time(first - simulated.settings.merger_age_h / 24.0, format="mjd")
    event = {
        "time": f"{merger.isot}Z",
        "far": 1e-10,
        "significant": True,
        "instruments": ["H1", "L1"],
        "skymap": base64.b64encode(simulated.skymap.read_bytes()).decode(),
    }
    document = {
        "superevent_id": simulated.settings.event,
        "alert_type": "INITIAL",
        "time_created": f"{(merger + timedelta(minutes=5)).isot}Z",
        "event": event,
    }
    path.write_text(json.dumps(document))


def run(command: str, folder: Path) -> float:
    """Run a command of the page in a folder; return its wall-clock time, seconds.

    Raises
    ------
    RuntimeError
        If it does not complete.
    """
    began = time.monotonic()
    words = [sys.executable, "-m", "deployments.cli.main", *shlex.split(command)[1:]]
    environment = os.environ | {"PYTHONPATH": str(PAGE.parents[1])}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{command}: exit code {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    return time.monotonic() - began


def rows_of(received: Received, seconds: dict[str, float]) -> list[Row]:
    """Return the rows of the report: the time of each command, and the figures of the demonstration.

    Parameters
    ----------
    received
        The night; its site has been processed.
    seconds
        Command to its wall-clock time, seconds.
    """
    site, settings = received.site, received.simulated.settings
    search = [exposure.expnum for exposure in received.simulated.exposures if exposure.night == settings.night]
    document = {
        "ccds": ccd_figures(site, search),
        "completeness": completeness(site, search),
        "kilonova_rank": kilonova_rank(site, read_candidates(site, settings.night)),
    }
    times = [Row(command.removesuffix(" --site SITE"), wall_s, "s") for command, wall_s in seconds.items()]
    return [Row("commands", len(seconds), ""), *times, *grade([document], (settings.seed,))]


def play(folder: Path, **changes: object) -> list[Row]:
    """Hand a night over and process it by the commands of the page.

    Parameters
    ----------
    folder
        Empty folder.
    changes
        Settings that differ from those of the demonstration.
    """
    received = receive(folder, **changes)
    return rows_of(received, {command: run(command, folder) for command in page_commands()})


def measure(quick: bool) -> list[Row]:
    """Play the night in a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="gw-workflow-first-night-") as folder:
        return play(Path(folder), **({"ccds": QUICK_CCDS} if quick else {}))


if __name__ == "__main__":
    main("A first night", measure)
