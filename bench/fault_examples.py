"""Small examples of every kind of file that is read, for :mod:`bench.fault_kinds`."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.io import fits

from blocks.gw_events import event_folder
from blocks.night_runs import PROCESS, run_of, write_run
from blocks.nights import NightRecord, night_folder, read_night
from blocks.plans import PointingPlan, plan_path, store_plan
from blocks.site import Site
from deployments.events.alerts import parse_alert
from deployments.reports.ledger import LedgerRecord
from imaging.astrometry.solution import TiedCcd
from imaging.candidates.lightcurve import LightcurveLikelihood
from imaging.detector.ccds import CCDS
from imaging.detector.distortion import seed_wcs
from imaging.difference.triplet import StampTriplet
from imaging.errors import CcdError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.calibration_write import write_image_extensions, write_table_extensions
from imaging.io.calibrations import (
    CalibrationLibrary,
    write_manifest,
)
from imaging.io.exposure_list import ListedExposure, write_exposure_list
from imaging.io.images import write_planes
from imaging.io.lightcurve_likelihood import write_lightcurve_likelihood
from imaging.io.manifest import CalibrationEntry
from imaging.io.pointings import Pointing
from imaging.io.psf import write_psf
from imaging.io.raw import index_raw, read_raw_ccd
from imaging.io.raw_write import encode_extension, encode_primary, write_raw
from imaging.io.reference import (
    catalogue_partitions,
    partition_path,
    read_reference_cone,
    write_reference_catalogue,
)
from imaging.io.sealed import write_sealed
from imaging.io.skymaps import write_skymap
from imaging.io.stamps import StoredStamps, write_stamps
from imaging.masks.streak_model import Streak
from imaging.psf.model import PsfModel
from imaging.psf.shape import normalised
from imaging.schemas.reference import REFERENCE_GALAXIES
from imaging.simulation.plan import plan_exposures
from imaging.simulation.raw_headers import extension_cards, primary_cards
from imaging.simulation.settings import SimulationSettings
from imaging.sky.fit import CcdSkyResidual, SkyFit
from imaging.skymap.build import gaussian_skymap
from imaging.tables import make_table
from tasks.engine.cache import fingerprint
from tasks.engine.jobs import FileRecord, StepResult
from tasks.engine.records import record_bytes
from tasks.raw_files import find_raw

EXPOSURE = Exposure(1300001, "i", 20240510, 60440.0, 90.0, 150.0, 2.0, 1.2)
RNG = np.random.default_rng(4)
IMAGE = RNG.normal(100.0, 10.0, (48, 40)).astype(np.float32)
FLAT = RNG.normal(1.0, 0.01, (48, 40)).astype(np.float32)
NIGHT = 20240510


def in_folder(name: str, write: Callable[[Path], Any]) -> Callable[[Path], Path]:
    """Return a function that writes a file of a name into a folder."""

    def write_there(folder: Path) -> Path:
        write(folder / name)
        return folder / name

    return write_there


def table_of_schema(schema: pa.Schema, n: int = 30) -> pa.Table:
    """Return a table of a schema with plausible numbers."""
    columns: dict[str, Any] = {}
    for field in schema:
        kind = field.type
        if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
            size = kind.list_size if pa.types.is_fixed_size_list(kind) else 2
            inner = "text" if pa.types.is_string(kind.value_type) else 1
            columns[field.name] = pa.array([[inner] * size] * n, kind)
        elif pa.types.is_string(kind):
            columns[field.name] = pa.array([f"name{i}" for i in range(n)], kind)
        elif pa.types.is_boolean(kind):
            columns[field.name] = pa.array([True] * n, kind)
        elif pa.types.is_floating(kind):
            columns[field.name] = pa.array(np.linspace(10.0, 20.0, n), pa.float64()).cast(kind)
        else:
            columns[field.name] = pa.array(np.arange(1, n + 1), pa.int64()).cast(kind)
    return pa.table(columns, schema=schema)


def write_raw_file(path: Path) -> None:
    """Write a raw exposure of three small CCDs."""
    plan = plan_exposures(SimulationSettings(ccds=(27,), n_search_exposures=1, n_template_epochs=0))[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for ccd in (25, 3, 61):
        parts.append(path.parent / f"{ccd}.part")
        pixels = np.random.default_rng(ccd).integers(900, 3000, (24, 24)).astype(np.uint16)
        parts[-1].write_bytes(encode_extension(extension_cards(plan, CCDS[ccd]), pixels, "2024-05-10T00:00:00"))
    write_raw(path, encode_primary(primary_cards(plan, len(parts)), "2024-05-10T00:00:00"), parts)


def read_raw_file(path: Path) -> object:
    """Read a raw exposure as the pipeline does; a CCD that cannot be read, or that is lost, costs this CCD by name."""
    index = index_raw(path)
    if index.lost or len(index.extensions) < 3:
        raise CcdError("lost extensions", reason="unreadable_extension", value=path, remedy="fetch the raw file again")
    found = {}
    for ccd, extension in index.extensions.items():
        try:
            found[ccd] = read_raw_ccd(path, extension, index.exposure.expnum).pixels
        except CcdError as error:
            raise type(error)(error.problem, **(error.details() | {"value": path})) from error
    return [asdict(index.exposure), found]


def small_psf() -> PsfModel:
    """Return an example of the kind: psf."""
    offsets = (np.arange(31) - 15) * 1.0
    core = (1 + (offsets[:, None] ** 2 + offsets[None, :] ** 2) / 3.5**2) ** -3.0
    model = PsfModel(
        np.array([core, 0.02 * core, -0.01 * core], np.float32), 1, 1.0, (19.5, 23.5), (20.0, 24.0), 3.6, 88, 1.02
    )
    return normalised(model)


def write_planes_file(path: Path, extra: tuple[str, ...] = ()) -> None:
    """Write an example of the kind: planes file."""
    planes: dict[str, Any] = {
        "SCI": IMAGE,
        "MSK": (IMAGE > 120).astype(np.int16),
        "WGT": (0.01 * FLAT),
    } | dict.fromkeys(extra, IMAGE)
    write_planes(
        path, planes, seed_wcs(1, 9.0, 0.0).to_header() | {"CCDNUM": 1, "MAGZERO": 30.0, "GAIN": 1.0, "EXPTIME": 90.0}
    )


def write_difference_files(folder: Path) -> Path:
    """Write an example of the kind: difference files."""
    write_psf(folder / "psf.fits", small_psf())
    write_planes_file(folder / "difference.fits", ("SCORE",))
    return folder / "difference.fits"


def write_curves(path: Path) -> None:
    """Write an example of the kind: curves."""
    adu = np.linspace(0.0, 65000.0, 60)
    curves = {"ADU": adu, "ADU_LINEAR_A": adu * 1.01, "ADU_LINEAR_B": adu * 0.99}
    write_table_extensions(path, {"CCD03": curves, "CCD04": curves})


def write_modes(path: Path) -> None:
    """Write an example of the kind: modes."""
    modes = np.random.default_rng(3).normal(1.0, 0.1, size=(3, 32, 16)).astype(np.float32)
    write_image_extensions(path, {f"CCD{ccd:02d}": modes for ccd in (1, 2)}, {})


def write_manifest_file(path: Path) -> None:
    """Write an example of the kind: manifest file."""
    entry = CalibrationEntry(epoch="e1", kind="bias", files="bias_{ccd:02d}.fits", made_night=20240501)
    flat = CalibrationEntry(
        epoch="e1", kind="flat", files="flat_{band}_{ccd:02d}.fits", made_night=20240501, ccds=(1, 2)
    )
    write_manifest(path.parent, (entry, flat))


def read_manifest(path: Path) -> object:
    """Read a manifest and ask it for a calibration, as planning does."""
    library = CalibrationLibrary(path.parent)
    return [library.manifest, library.age_warnings(EXPOSURE), library.holds("flat", EXPOSURE, 1)]


def write_catalogue(folder: Path) -> Path:
    """Write an example of the kind: catalogue."""
    columns: dict[str, Any] = {field.name: np.linspace(1.0, 2.0, 300) for field in REFERENCE_GALAXIES}
    columns |= {"source_id": np.arange(300), "ra": np.linspace(44.0, 46.0, 300), "dec": np.linspace(9.0, 10.0, 300)}
    columns |= {"distance_method": np.ones(300, dtype=int)}
    write_reference_catalogue(folder, make_table(columns, REFERENCE_GALAXIES), name="galaxies", order=1)
    return folder


def write_shard(folder: Path) -> Path:
    """Write an example of the kind: shard."""
    (pixel,) = catalogue_partitions(write_catalogue(folder))[1]
    return partition_path(folder, 1, pixel)


def read_cone(root: Path) -> object:
    """Read the kind: cone."""
    return read_reference_cone(root, 45.0, 9.5, 0.7, REFERENCE_GALAXIES)


def write_flat_map(path: Path) -> None:
    """Write an example of the kind: flat map."""
    nside = 8
    p = np.exp(-np.linspace(0, 6, 12 * nside**2))
    table = fits.BinTableHDU.from_columns([fits.Column("PROB", "D", array=p / p.sum())])
    table.header.update({"ORDERING": "NESTED", "NSIDE": nside, "COORDSYS": "C", "MJD-OBS": 60440.0})
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)


def write_map(path: Path) -> None:
    """Write an example of the kind: map."""
    write_skymap(path, gaussian_skymap(9.0, 9.0, 6.0, distance_mpc=90.0, distance_sigma_mpc=9.0, order=4))


ALERT = {
    "superevent_id": "S240510a",
    "alert_type": "INITIAL",
    "time_created": "2024-05-10T12:00:00Z",
    "urls": {"gracedb": "https://gracedb.ligo.org/superevents/S240510a/view/"},
    "event": {"time": "2024-05-10T11:59:00Z", "far": 1e-9, "significant": True, "instruments": ["H1", "L1"]}
    | {"classification": {"BNS": 0.9}, "properties": {"HasNS": 1.0}, "skymap": None},
}


def write_likelihood(path: Path) -> None:
    """Write an example of the kind: likelihood."""
    flat, wide = np.ones(40), np.ones((40, 4), np.float32)
    write_lightcurve_likelihood(
        path, LightcurveLikelihood(np.ones(4), wide, wide, flat, flat, np.ones(40, np.int64), flat, flat > 0), "k"
    )


def write_tie(path: Path) -> None:
    """Write an example of the kind: tie."""
    solution = TiedCcd(
        header={"CRVAL1": 9.0, "CTYPE1": "RA---TPV"},
        n_stars=90,
        source="own",
        rms_mas=(9.0, 8.0),
        left_out_rms_mas=None,
        correction_mas=[[[0.0, 1.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]],
    )
    streak = Streak(1.0, 2.0, 300.0, 400.0, 0.5, 3.0, 6.0, 10.0, 2.0, 0.0)
    write_sealed(path, json.dumps({"solution": solution.model_dump(), "predicted_streaks": [asdict(streak)]}))


def write_summary(path: Path) -> None:
    """Write an example of the kind: summary."""
    about = {"status": "good", "zeropoint_mag": 30.0, "depth_mag": 23.0, "fwhm_arcsec": 1.0, "corners": [[1.0, 2.0]]}
    document = {"exposure": asdict(EXPOSURE), "numbers": {"t_eff": 0.9}, "ccds": {"1": about, "2": about}}
    write_sealed(path, json.dumps(document))


def write_sky_fit(path: Path) -> None:
    """Write an example of the kind: sky fit."""
    residual = CcdSkyResidual(0.0, 0.001, 0.002, 0.001, 500)
    fit = SkyFit("modes", "", (1000.0, 1.0), (0, 1), 1000.0, 0.002, 0.9, 30000, 2.0, {1: residual, 2: residual})
    write_sealed(path, json.dumps({"basis": {}, "fit": fit.to_dict()}))


def write_ranking_file(path: Path) -> None:
    """Write an example of the kind: ranking file."""
    content = {
        "parameters": {"event": "S240510a", "mjd_event": 60440.0, "searched": [[1300001, 1]]},
        "settings": {},
        "skymap": {"path": "state/nights/20240510/map.fits", "content_hash": "a" * 32},
        "stamps": {"stamps_1": "products/gw/stamps.fits"},
    }
    write_sealed(path, json.dumps(content))


def site_above(path: Path, above: int) -> Site:
    """Return the above."""
    return Site.at(path.parents[above])


def write_ranked(folder: Path) -> Path:
    """Write an example of the kind: ranked."""
    path = folder / "products" / "nights" / str(NIGHT) / "ranking.json"
    write_ranking_file(path)
    return path


def write_night(folder: Path) -> Path:
    """Write an example of the kind: night."""
    site = Site.at(folder)
    record = NightRecord(
        night=NIGHT,
        event="S240510a",
        revision=1,
        skymap="map.fits",
        skymap_hash="a" * 32,
        exposure_list="list.csv",
        exposures=(1300001, 1300002),
        templates=(),
        exposure_list_hash="b" * 32,
        registration="r",
    )
    path = night_folder(site, NIGHT) / "night.json"
    write_sealed(path, record.model_dump_json())
    return path


def write_night_run(folder: Path) -> Path:
    """Write an example of the kind: night run."""
    night = read_night(Site.at(folder), int(write_night(folder).parent.name))
    write_run(night, run_of(night.record, PROCESS, "run1", exposures=(1300001,)), end="completed")
    return night.folder / "runs" / "run1.json"


def write_plan(folder: Path) -> Path:
    """Write an example of the kind: plan."""
    site = Site.at(folder)
    store_plan(site, PointingPlan(night=NIGHT, pointings=(Pointing(ra_deg=10.0, dec_deg=-30.0, band="i"),) * 3))
    return plan_path(site, NIGHT)


def write_alert(folder: Path) -> Path:
    """Write an example of the kind: alert."""
    record, _ = parse_alert(json.dumps(ALERT).encode())
    path = event_folder(Site.at(folder), record.superevent) / f"{record.name}.json"
    path.parent.mkdir(parents=True)
    path.write_text(record.model_dump_json(indent=1))
    return path


def write_fingerprint(folder: Path) -> Path:
    """Write an example of the kind: fingerprint."""
    site = Site.at(folder)
    path = site.raw / "file.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 1000)
    os.utime(path, (1e9, 1e9))
    fingerprint(site, path)
    return next((site.state / "fingerprints").iterdir())


def write_raw_index(folder: Path) -> Path:
    """Write an example of the kind: raw index."""
    plan = plan_exposures(SimulationSettings(ccds=(27,), n_search_exposures=1, n_template_epochs=0))[0]
    site = Site.at(folder)
    write_raw_file(site.raw / str(plan.night) / f"DECam_{plan.expnum:08d}.fits.fz")
    find_raw(site, ExposureId(plan.expnum, plan.band, plan.night))
    return next((site.state / "raw").iterdir())


def read_raw_index(path: Path) -> object:
    """Read the kind: raw index."""
    plan = plan_exposures(SimulationSettings(ccds=(27,), n_search_exposures=1, n_template_epochs=0))[0]
    return asdict(find_raw(site_above(path, 2), ExposureId(plan.expnum, plan.band, plan.night)).index)


def write_record(path: Path) -> None:
    """Write an example of the kind: record."""
    product = FileRecord(path="products/gw/a.fits", size=10, mtime_ns=5, content_hash="a" * 32)
    result = StepResult(step="detrend", products={"image": product}, quality={"sky": 1.5, "n": 3}, notes=("a note",))
    path.write_bytes(record_bytes(result, path.name))


def write_ledger(path: Path) -> None:
    """Write an example of the kind: ledger."""
    lines = [
        LedgerRecord(address="https://tns", candidate_id=f"c{n}", ra=1.0, dec=2.0, what="report", state="taken")
        for n in range(8)
    ]
    path.write_text("".join(line.model_dump_json() + "\n" for line in lines))


def write_stamps_file(path: Path) -> None:
    """Write an example of the kind: stamps file."""
    stamp = StampTriplet(*(RNG.normal(size=(3, 15, 15)).astype(np.float32)))
    write_stamps(path, [StoredStamps(n, stamp, {"CRVAL1": 9.0}) for n in (1, 2)], {"EXPNUM": 1300001})


def write_labels(path: Path) -> None:
    """Write an example of the kind: labels."""
    row = {"candidate_id": "c1", "label": "real", "marked_at": "2024-05-10", "detection_ids": [1, 2]}
    path.write_text(
        json.dumps({"kind": "gw-workflow labels", "night": NIGHT, "event": "S240510a", "labels": [row] * 3})
    )


def write_list(path: Path) -> None:
    """Write an example of the kind: list."""
    write_exposure_list(
        path,
        [
            ListedExposure(Exposure(1300001 + n, "i", NIGHT, 60440.0 + 0.01 * n, 90.0, 150.0, 2.0, 1.2))
            for n in range(12)
        ],
    )
