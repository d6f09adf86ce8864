"""The kinds of file that are read, each with an example and its reader, for :mod:`bench.faults`."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa

from bench.fault_examples import (
    ALERT,
    FLAT,
    IMAGE,
    in_folder,
    read_cone,
    read_manifest,
    read_raw_file,
    table_of_schema,
    write_catalogue,
    write_curves,
    write_flat_map,
    write_list,
    write_manifest_file,
    write_map,
    write_modes,
    write_raw_file,
    write_shard,
)
from deployments.cli.options import read_settings
from deployments.events.alerts import parse_alert
from deployments.reports.reports import ReportSettings, read_report_settings
from imaging.astrometry.displacement import PixelDisplacement
from imaging.astrometry.turbulence import Turbulence
from imaging.detector.crosstalk import format_crosstalk, observatory_crosstalk
from imaging.detrend.settings import DetrendSettings
from imaging.difference.ghost_model import GhostFamily, GhostModel
from imaging.io.calibration_write import write_calibration_image, write_image_extensions
from imaging.io.calibrations import (
    read_bad_pixels,
    read_brighter_fatter,
    read_calibration_image,
    read_crosstalk,
    read_linearity,
    read_sky_modes,
    read_sky_templates,
)
from imaging.io.colour_terms import read_colour_terms, write_colour_terms
from imaging.io.displacement import read_displacement, write_displacement
from imaging.io.exposure_list import read_exposure_list
from imaging.io.ghosts import read_ghosts, write_ghosts
from imaging.io.lsst_calibrations import read_defects, read_linearizer
from imaging.io.pointings import read_pointings
from imaging.io.possible import LINEARITY_REACH_ADU
from imaging.io.raw import read_exposure
from imaging.io.raw_headers import read_raw_header
from imaging.io.reference import (
    catalogue_partitions,
    read_pieces,
    read_properties,
    write_pieces,
)
from imaging.io.sealed import write_sealed
from imaging.io.skymaps import read_skymap
from imaging.photometry.colours import published_colour_terms
from imaging.schemas.reference import REFERENCE_GALAXIES
from tasks.tie_astrometry import read_turbulence


def positions(table: pa.Table) -> object:
    """Return what must be possible in a catalogue: where its objects are; other columns may be empty."""
    return [table["ra"].to_numpy(), table["dec"].to_numpy()]


def write_rings(path: Path) -> None:
    """Write an example of the kind: pixel displacements."""
    found = PixelDisplacement(
        name=path.name, ccd=4, band="i", ring=[0.01, -0.02, 0.03], edges=[[0.1, 0.0, 0.0, 0.0, 0.0]] * 4
    )
    write_displacement(path, found)


def write_ghost_model(path: Path) -> None:
    """Write an example of the kind: ghosts of bright stars."""
    family = GhostFamily(displacement=0.017, outer_pixels=600.0, inner_pixels=210.0, level=2e-9, level_error=1e-10)
    write_ghosts(path, GhostModel(name=path.name, band="i", families=[family]))


def write_exposure_tie(path: Path) -> None:
    """Write an example of the kind: tie of an exposure."""
    stated = {"turbulence": asdict(Turbulence(8.0, 1.5))}
    write_sealed(path, json.dumps({"basis": {}, "astrometry": stated, "trails": []}))


def write_defects(path: Path) -> None:
    """Write an example of the kind: LSST defects."""
    columns = "".join(f"# - {{name: {name}, datatype: int32}}\n" for name in ("x0", "y0", "width", "height"))
    meta = "# meta: {OBSTYPE: defects, INSTRUME: decam, DETECTOR: 33, CALIBDATE: '2013-07-16T00:00:00'}\n"
    head = f"# %ECSV 1.0\n# ---\n# datatype:\n{columns}{meta}# schema: astropy-2.0\nx0 y0 width height\n"
    path.write_text(head + "".join(f"{9 * n} {n} 2 30\n" for n in range(20)))


def write_linearizer(path: Path) -> None:
    """Write an example of the kind: LSST linearizer."""
    amplifiers = {name: {"linearityType": "LookupTable", "linearityCoeffs": [row, 0]} for row, name in enumerate("AB")}
    metadata = {"INSTRUME": "DECam", "DETECTOR": 33, "CALIBDATE": "1970-01-01T00:00:00"}
    table = [[level] * round(LINEARITY_REACH_ADU + 1) for level in (2, -2)]
    path.write_text(json.dumps({"metadata": metadata, "amplifiers": amplifiers, "tableData": table}))


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes
    ----------
    name
        What it is.
    write
        Writes an example below a folder and returns the file that is to be damaged.
    read
        Reads that file.
    readers
        Names of the functions that read such files.
    form
        Key of :data:`bench.mutations.FORMS`.
    sealed
        Whether it carries checksums.
    absent
        Gives the value of a damaged file that counts as absent; None if damage is refused.
    names
        What an error names in place of the file.
    own
        Whether only this project writes such files, so that whoever writes nonsense into one makes its seal anew.
    numbers
        What must be possible of a value.
    """

    name: str
    write: Callable[[Path], Path]
    read: Callable[[Path], object]
    readers: tuple[str, ...]
    form: str
    sealed: bool = False
    absent: Callable[[], object] | None = None
    names: str = ""
    own: bool = False
    numbers: Callable[[Any], object] = lambda value: value


EXPOSURE_TIE = Kind(
    "tie of an exposure",
    in_folder("tie.json", write_exposure_tie),
    read_turbulence,
    ("read_turbulence",),
    "json",
    sealed=True,
    own=True,
)
"""What is written for a whole exposure."""

INPUTS: tuple[Kind, ...] = (
    Kind(
        "raw",
        in_folder("raw.fits.fz", write_raw_file),
        read_raw_file,
        ("index_raw", "read_raw_ccd"),
        "fits",
        sealed=True,
    ),
    Kind("raw header", in_folder("raw.fits.fz", write_raw_file), read_exposure, ("read_exposure",), "fits"),
    Kind("any raw file", in_folder("raw.fits.fz", write_raw_file), read_raw_header, ("read_raw_header",), "fits"),
    *(
        Kind(
            kind.replace("_", " "),
            in_folder(f"{kind}.fits", partial(write_calibration_image, image=image, header={})),
            partial(read_calibration_image, kind=cast("Any", kind)),
            ("read_calibration_image",),
            "fits",
            sealed=True,
        )
        for kind, image in (("bias", IMAGE - 100), ("flat", FLAT), ("star_flat", FLAT))
    ),
    Kind(
        "biases of several CCDs",
        in_folder("zci.fits", lambda p: write_image_extensions(p, {"S29": IMAGE - 90, "N4": IMAGE - 100}, {})),
        partial(read_calibration_image, ccd=35, kind="bias"),
        ("read_calibration_image",),
        "fits",
        sealed=True,
    ),
    Kind(
        "bad pixels",
        in_folder("bad.fits", partial(write_calibration_image, image=(IMAGE > 120).astype(np.int16), header={})),
        read_bad_pixels,
        ("read_bad_pixels",),
        "fits",
        sealed=True,
    ),
    Kind(
        "linearity",
        in_folder("linearity.fits", write_curves),
        partial(read_linearity, ccd=4),
        ("read_linearity",),
        "fits",
        True,
    ),
    Kind("LSST defects", in_folder("defects.ecsv", write_defects), read_defects, ("read_defects",), "text"),
    Kind("LSST linearizer", in_folder("n2.yaml", write_linearizer), read_linearizer, ("read_linearizer",), "text"),
    Kind(
        "crosstalk",
        in_folder("crosstalk.txt", lambda p: p.write_text(format_crosstalk(observatory_crosstalk().terms[:40]))),
        read_crosstalk,
        ("read_crosstalk",),
        "text",
    ),
    Kind(
        "brighter-fatter kernel",
        in_folder(
            "bf.fits", lambda p: write_image_extensions(p, {"N4R": np.eye(9) * 1e-6, "N4T": np.eye(9) * 1e-6}, {})
        ),
        partial(read_brighter_fatter, ccd=35),
        ("read_brighter_fatter",),
        "fits",
        sealed=True,
    ),
    Kind(
        "pixel displacements",
        in_folder("map.json", write_rings),
        partial(read_displacement, ccd=4, band="i"),
        ("read_displacement",),
        "json",
        sealed=True,
    ),
    Kind(
        "ghosts of bright stars",
        in_folder("ghosts.json", write_ghost_model),
        partial(read_ghosts, band="i"),
        ("read_ghosts",),
        "json",
        sealed=True,
    ),
    Kind("sky modes", in_folder("modes.fits", write_modes), read_sky_modes, ("read_sky_modes",), "fits", sealed=True),
    Kind(
        "sky templates",
        in_folder("template.fits", lambda p: write_calibration_image(p, np.stack([FLAT, 0.1 * FLAT]), {"CCDNUM": 4})),
        partial(read_sky_templates, ccd=4),
        ("read_sky_templates",),
        "fits",
        sealed=True,
    ),
    Kind(
        "colour terms",
        in_folder("terms.json", lambda p: write_colour_terms(p, published_colour_terms())),
        read_colour_terms,
        ("read_colour_terms",),
        "json",
    ),
    Kind("manifest", in_folder("manifest.json", write_manifest_file), read_manifest, ("CalibrationLibrary",), "json"),
    Kind(
        "reference shard",
        write_shard,
        lambda p: read_cone(p.parents[3]),
        ("read_reference_cone", "read_reference_polygon"),
        "parquet",
        numbers=positions,
    ),
    Kind(
        "partition table",
        lambda f: write_catalogue(f) / "partition_info.csv",
        lambda p: [catalogue_partitions(p.parent), read_cone(p.parent)],
        ("catalogue_partitions",),
        "text",
        names="-",
    ),
    Kind(
        "catalogue properties",
        lambda f: write_catalogue(f) / "hats.properties",
        lambda p: read_properties(p.parent),
        ("read_properties",),
        "bytes",
    ),
    Kind(
        "pieces",
        in_folder("pieces.parquet", lambda p: write_pieces(p, table_of_schema(REFERENCE_GALAXIES), 1)),
        partial(read_pieces, pixels=range(48)),
        ("read_pieces",),
        "parquet",
        own=True,
    ),
    Kind(
        "exposure list",
        in_folder("list.csv", write_list),
        read_exposure_list,
        ("read_exposure_list", "read_given_list"),
        "text",
    ),
    Kind(
        "plan CSV",
        in_folder("plan.csv", lambda p: p.write_text("RA,DEC,BAND\n" + "".join(f"{n},-{n}.5,i\n" for n in range(9)))),
        read_pointings,
        ("read_pointings",),
        "text",
    ),
    Kind(
        "plan JSON",
        in_folder(
            "plan.json", lambda p: p.write_text(json.dumps([{"RA": n, "dec": -n, "filter": "i"} for n in range(9)]))
        ),
        read_pointings,
        ("read_pointings",),
        "json",
    ),
    Kind("flat sky map", in_folder("flat.fits", write_flat_map), read_skymap, ("read_skymap",), "fits"),
    Kind("multi-order sky map", in_folder("map.fits", write_map), read_skymap, ("read_skymap",), "fits"),
    Kind(
        "alert",
        in_folder("alert.json", lambda p: p.write_text(json.dumps(ALERT))),
        lambda p: parse_alert(p.read_bytes()),
        ("parse_alert",),
        "json",
        names="alert",
        own=True,
    ),
    Kind(
        "settings",
        in_folder("settings.json", lambda p: p.write_text(DetrendSettings().model_dump_json())),
        partial(read_settings, model=DetrendSettings),
        ("read_settings",),
        "json",
        own=True,
    ),
    Kind(
        "report settings",
        in_folder("report.json", lambda p: p.write_text(ReportSettings().model_dump_json())),
        read_report_settings,
        ("read_report_settings",),
        "json",
        own=True,
    ),
)
"""Kinds of file that people and other programs write."""
