"""The kinds of file that this project writes and reads again, for :mod:`bench.faults`."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.fault_examples import (
    IMAGE,
    NIGHT,
    in_folder,
    read_raw_index,
    site_above,
    small_psf,
    table_of_schema,
    write_alert,
    write_difference_files,
    write_fingerprint,
    write_labels,
    write_ledger,
    write_likelihood,
    write_night,
    write_night_run,
    write_plan,
    write_planes_file,
    write_ranked,
    write_ranking_file,
    write_raw_file,
    write_raw_index,
    write_record,
    write_sky_fit,
    write_stamps_file,
    write_summary,
    write_tie,
)
from bench.fault_kinds import EXPOSURE_TIE, Kind
from blocks.gw_events import read_alert
from blocks.imports import import_path
from blocks.night_runs import read_runs
from blocks.nights import read_night
from blocks.plans import read_plan
from blocks.raw_index import INDEX, index_files, read_raw_files
from blocks.site import Site
from deployments.events.decisions import read_ranked
from deployments.reports.ledger import read_records
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io import truth
from imaging.io.calibrated import read_image
from imaging.io.candidates import read_candidates, read_labels, write_candidates
from imaging.io.differences import read_difference
from imaging.io.images import read_cutout, read_header, read_planes
from imaging.io.lightcurve_likelihood import read_lightcurve_likelihood
from imaging.io.orbits import ORBITS_FILE, read_mpcorb, read_orbits, write_orbits
from imaging.io.packets import packets_bytes, read_packets
from imaging.io.psf import read_psf, write_psf
from imaging.io.source_tables import source_batches
from imaging.io.stamps import read_stamps
from imaging.io.tables import read_table, read_tables, write_table
from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.catalogue import CATALOGUE
from imaging.schemas.hosts import GALAXIES
from imaging.schemas.reference import ORBITS
from tasks.engine.cache import fingerprint, read_record
from tasks.engine.jobs import FileRecord
from tasks.engine.tidied import read_note, write_note
from tasks.fit_sky import read_sky_fit
from tasks.imported import ImportedImage, ImportRecord, read_import, write_import
from tasks.products import read_quality, read_summary, write_quality
from tasks.ranked_tables import read_ranking
from tasks.tie_astrometry import read_ccd_tie


def write_tidied(folder: Path) -> Path:
    """Write an example of the kind: note of tidying."""
    site = Site.at(folder)
    original = FileRecord(path="products/gw/a.fits", size=10, mtime_ns=5, content_hash="a" * 32)
    write_note(site, original, original.model_copy(update={"size": 4, "content_hash": "b" * 32}))
    return next((site.state / "tidied").iterdir())


IMPORTED = ExposureId(1284401, "i", 20240319)
"""The exposure of the example of the kind: record of an imported exposure."""


def write_imported(folder: Path) -> Path:
    """Write an example of the kind: record of an imported exposure."""
    site, e = Site.at(folder), IMPORTED
    exposure = Exposure(e.expnum, e.band, e.night, 60389.2, 90.0, 190.2, -9.9, math.nan, "object", "field", "2024A-1")
    files = {"form": "Community Pipeline V4.8.2", "image": "ooi.fits", "mask": "ood.fits", "weight": "oow.fits"}
    images = tuple(ImportedImage(ccd=ccd, extension=f"S{ccd}", **files) for ccd in (27, 34))
    write_import(site, e, ImportRecord(role="template", exposure=exposure, images=images))
    return import_path(site, e)


def write_raw_files(folder: Path) -> Path:
    """Write an example of the kind: index of raw files."""
    site = Site.at(folder)
    names = ("c4d_240511_005233_ori.fits.fz", "DECam_01300001.fits.fz")
    for name in names:
        write_raw_file(site.raw / name)
    index_files(site, [site.raw / name for name in names])
    return site.state / INDEX


def write_mpcorb(path: Path) -> None:
    """Write an example of the kind: MPCORB."""
    columns = (
        f"0.15 K2669 {274.41935:9.5f}   73.29420   80.24863   10.58803  0.0796923  0.21430445   2.7655526  0 MPO980521"
    )
    lines = (f"{n:05d}   {n:5.2f}  {columns}{'':49}({n}) Name\n" for n in range(1, 30))
    path.write_text("INTRODUCTION\n" + "-" * 160 + "\n" + "".join(lines))


def elements_of(orbits: pa.Table) -> object:
    """Return what must be possible in a table of orbits; magnitudes may be unknown."""
    return orbits.drop_columns(["absolute_mag"])


PRODUCTS: tuple[Kind, ...] = (
    Kind(
        "immask",
        in_folder("immask.fits", write_planes_file),
        read_planes,
        ("read_planes",),
        "fits",
        sealed=True,
        own=True,
    ),
    Kind(
        "header and cut-out",
        in_folder("immask.fits", write_planes_file),
        lambda p: [read_header(p), read_cutout(p, "SCI", slice(2, 9), slice(3, 7))],
        ("read_header", "read_cutout"),
        "fits",
        own=True,
    ),
    Kind(
        "foreign image",
        in_folder("foreign.fits", write_planes_file),
        read_image,
        ("read_image",),
        "fits",
        # What is believed of the header is in the other fields; a pixel without data is NaN.
        numbers=lambda image: replace(image, header={}, science=np.nan_to_num(image.science)),
    ),
    Kind(
        "difference image",
        write_difference_files,
        lambda p: read_difference(p, p.with_name("psf.fits")),
        ("read_difference",),
        "fits",
        sealed=True,
        own=True,
    ),
    Kind(
        "alert packets",
        in_folder("packets.avro", lambda p: p.write_bytes(packets_bytes([]))),
        read_packets,
        ("read_packets",),
        "bytes",
        own=True,
    ),
    Kind(
        "PSF", in_folder("psf.fits", lambda p: write_psf(p, small_psf())), read_psf, ("read_psf",), "fits", sealed=True
    ),
    Kind(
        "stamps",
        in_folder("stamps.fits", write_stamps_file),
        read_stamps,
        ("read_stamps",),
        "fits",
        sealed=True,
        own=True,
    ),
    Kind(
        "catalogue",
        in_folder("cat.parquet", lambda p: write_table(p, table_of_schema(CATALOGUE))),
        read_table,
        ("read_table",),
        "parquet",
        True,
        own=True,
    ),
    Kind(
        "tables of one schema",
        in_folder("cat.parquet", lambda p: write_table(p, table_of_schema(GALAXIES))),
        lambda p: read_tables([p, p], GALAXIES),
        ("read_tables",),
        "parquet",
        sealed=True,
        own=True,
    ),
    Kind(
        "candidates",
        in_folder("candidates.parquet", lambda p: write_candidates(p, table_of_schema(CANDIDATES))),
        read_candidates,
        ("read_candidates",),
        "parquet",
        sealed=True,
        own=True,
    ),
    Kind(
        "orbits",
        in_folder(ORBITS_FILE, lambda p: write_orbits(p.parent, table_of_schema(ORBITS))),
        lambda p: read_orbits(p.parent),
        ("read_orbits",),
        "parquet",
        sealed=True,
        own=True,
    ),
    Kind("MPCORB", in_folder("MPCORB.DAT", write_mpcorb), read_mpcorb, ("read_mpcorb",), "text", numbers=elements_of),
    Kind("labels", in_folder("labels.json", write_labels), read_labels, ("read_labels",), "json"),
    Kind(
        "light-curve likelihood",
        in_folder("judged.arrow", write_likelihood),
        lambda p: read_lightcurve_likelihood(p, "k"),
        ("read_lightcurve_likelihood",),
        "bytes",
        absent=lambda: None,
        own=True,
    ),
    EXPOSURE_TIE,
    Kind("tie", in_folder("tie.json", write_tie), read_ccd_tie, ("read_ccd_tie",), "json", sealed=True, own=True),
    Kind(
        "summary",
        in_folder("summary.json", write_summary),
        read_summary,
        ("read_summary",),
        "json",
        sealed=True,
        own=True,
    ),
    Kind(
        "measure",
        in_folder(
            "measure.json", lambda p: write_quality(p, {"sky": 1.5, "n_stars": 90, "method": "modes", "none": None})
        ),
        read_quality,
        ("read_quality",),
        "json",
        sealed=True,
        own=True,
    ),
    Kind(
        "sky fit",
        in_folder("skyfit.json", write_sky_fit),
        read_sky_fit,
        ("read_sky_fit",),
        "json",
        sealed=True,
        own=True,
    ),
    Kind(
        "ranking",
        in_folder("ranking.json", write_ranking_file),
        read_ranking,
        ("read_ranking",),
        "json",
        sealed=True,
        own=True,
    ),
    Kind(
        "map of a ranking",
        write_ranked,
        lambda p: read_ranked(site_above(p, 3), NIGHT),
        ("read_ranked",),
        "json",
        sealed=True,
        absent=lambda: None,
        own=True,
    ),
    Kind(
        "night",
        write_night,
        lambda p: read_night(site_above(p, 3), NIGHT).record,
        ("read_night",),
        "json",
        sealed=True,
        own=True,
    ),
    Kind(
        "run of a night",
        write_night_run,
        lambda p: read_runs(read_night(site_above(p, 4), NIGHT)),
        ("read_runs",),
        "json",
        sealed=True,
        absent=tuple,
        own=True,
    ),
    Kind(
        "plan of a night",
        write_plan,
        lambda p: read_plan(site_above(p, 2), NIGHT),
        ("read_plan",),
        "json",
        sealed=True,
        own=True,
    ),
    Kind("stored alert", write_alert, read_alert, ("read_alert", "read_event"), "json", absent=lambda: None, own=True),
    Kind(
        "fingerprint",
        write_fingerprint,
        lambda p: fingerprint(site_above(p, 2), site_above(p, 2).raw / "file.bin"),
        ("fingerprint",),
        "json",
        sealed=True,
        own=True,
    ),
    Kind(
        "record of an imported exposure",
        write_imported,
        lambda p: read_import(site_above(p, 5), IMPORTED),
        ("read_import",),
        "json",
        sealed=True,
        own=True,
    ),
    Kind(
        "note of tidying",
        write_tidied,
        lambda p: read_note(site_above(p, 2), "products/gw/a.fits"),
        ("read_note",),
        "json",
        sealed=True,
        absent=lambda: None,
        own=True,
    ),
    Kind(
        "index of raw files",
        write_raw_files,
        lambda p: list(read_raw_files(site_above(p, 1)).by_path.values()),
        ("read_raw_files",),
        "parquet",
        sealed=True,
        own=True,
    ),
    Kind(
        "raw index",
        write_raw_index,
        read_raw_index,
        ("find_raw",),
        "json",
        sealed=True,
        own=True,
        names="DECam_01300001.fits.fz",
    ),
    Kind(
        "record",
        in_folder("record.json", write_record),
        read_record,
        ("read_record",),
        "json",
        sealed=True,
        absent=lambda: None,
        own=True,
    ),
    Kind("ledger", in_folder("tns.jsonl", write_ledger), read_records, ("read_records",), "bytes", own=True),
    Kind(
        "table of sources",
        in_folder("stars.csv", lambda p: p.write_text("ra,dec\n" + "".join(f"{n}.5,-{n}.5\n" for n in range(60)))),
        lambda p: list(source_batches(p, {"ra": pa.float64(), "dec": pa.float64()})),
        ("source_batches",),
        "text",
        own=True,
    ),
    Kind(
        "truth arrays",
        in_folder("truth.npz", lambda p: truth.write_pixel_truth(p, {"a": np.arange(900), "b": IMAGE})),
        truth.read_pixel_truth,
        ("read_pixel_truth",),
        "bytes",
        sealed=True,
        own=True,
    ),
    Kind(
        "truth array",
        in_folder("a.npy", lambda p: truth.write_array(p, IMAGE)),
        lambda p: np.array(truth.read_array(p)),
        ("read_array",),
        "bytes",
        own=True,
    ),
    Kind(
        "truth text",
        in_folder("settings.json", lambda p: p.write_text('{"a": 1}' * 20)),
        truth.read_truth_text,
        ("read_truth_text",),
        "bytes",
        own=True,
    ),
)
"""Products, state and truth."""
