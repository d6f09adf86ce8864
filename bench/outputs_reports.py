"""Reports and lists of a processed night, against its tables and stamps."""

import gzip
import importlib
import importlib.util
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.time import Time
from astropy.wcs import WCS

from bench.outputs_night import ProcessedNight
from bench.report import Row, at_most, none_wrong
from deployments.reports.candidates import ranked_table, write_selection
from deployments.reports.reports import Form, make_report
from imaging.candidates.packets import CUTOUTS
from imaging.candidates.reports import ReportSettings
from imaging.io.astropy_tables import FORMATS
from imaging.io.packets import read_packets, write_packets
from imaging.io.stamps import read_stamps
from imaging.io.tables import read_table
from imaging.schemas.candidates import CandidateFlag
from imaging.tables import column

WHO = ReportSettings(
    reporter="bench", tns_group_id=1, skyportal_filter_ids=(1,), skyportal_group_ids=(1,), skyportal_instrument_id=1
)

SECOND_D = 1.0 / 86400.0


def report_rows(night: ProcessedNight) -> list[Row]:
    """Check the reports of every form, the lists in every format, and the searched area."""
    table = ranked_table(night.site, night.night)
    return [*_tns_rows(night, table), *_packet_rows(night, table), *_list_rows(night, table), _area_row(night)]


def _made(night: ProcessedNight, table: pa.Table, form: Form) -> list[Any]:
    return [item.content for item in make_report(night.site, night.night, table, form, WHO).entries]


def _tns_rows(night: ProcessedNight, table: pa.Table) -> list[Row]:
    """Check discoveries and limits against the forced photometry."""
    points = read_table(night.folder / "lightcurves.parquet").to_pylist()
    early, unseen, brighter = [], [], []
    for entry in _made(night, table, "tns"):
        mine = [p for p in points if p["candidate_id"] == entry["internal_name"] and not p["masked"]]
        seen = [p["mjd"] for p in mine if p["night"] == night.night and p["flux"] > 5 * p["flux_error"]]
        told = entry["photometry"]["photometry_group"].values()
        early.append(abs(Time(entry["discovery_datetime"]).mjd - min(seen)) > SECOND_D)
        unseen += [min(abs(Time(p["obsdate"]).mjd - mjd) for mjd in seen) > SECOND_D for p in told]
        limit = entry["non_detection"].get("limiting_flux")
        brighter += [] if limit is None else [float(limit) <= float(next(iter(told))["flux"])]
    return [
        none_wrong("TNS: discoveries that are not the first detection of the night", early),
        none_wrong("TNS: points that are no detections in a search difference", unseen),
        none_wrong("TNS: last non-detections brighter than the discovery", brighter),
    ]


def _packet_rows(night: ProcessedNight, table: pa.Table) -> list[Row]:
    """Check alert packets of both forms against the stamps and the list."""
    stored = {stamp.detection_id: stamp for path in night.files("*_stamps.fits") for stamp in read_stamps(path)[0]}
    rows = {row["candidate_id"]: row for row in table.to_pylist()}
    different, distance_arcsec, wrong = [], [], []
    for form in ("avro", "ztf"):
        path = night.scratch / f"{form}.avro"
        write_packets(path, _made(night, table, form), form)
        for packet in read_packets(path):
            row = rows[packet["objectId"]]
            wrong.append(packet["candid"] not in row["detection_ids"])
            wrong += [packet["candidate"] != row] if form == "avro" else []
            for name, plane in CUTOUTS.items():
                if packet[name] is None:
                    continue
                image = fits.HDUList.fromstring(gzip.decompress(packet[name]["stampData"]))[0]
                different.append(not np.array_equal(image.data, stored[packet["candid"]].planes[plane], equal_nan=True))
                if row["flags"] & CandidateFlag.MOVER:
                    continue  # its position is the mean over hours
                middle = WCS(image.header).pixel_to_world(*(side // 2 for side in image.shape))
                distance_arcsec.append(middle.separation(SkyCoord(row["ra"], row["dec"], unit="deg")).arcsec)
    return [
        none_wrong("packets that differ from the list", wrong),
        none_wrong("cut-outs that differ from the stamps", different),
        at_most(
            "candidate to the middle of its cut-out, by the cut-out's coordinates",
            max(distance_arcsec, default=None),
            "arcsec",
            0.5,
            n=len(distance_arcsec),
        ),
    ]


def _list_rows(night: ProcessedNight, table: pa.Table) -> Iterator[Row]:
    """Check the numbers, units and descriptions of the lists in astropy's formats."""
    for suffix in FORMATS:
        path = night.scratch / f"candidates{suffix}"
        write_selection(path, table)
        found = Table.read(path)
        wrong = []
        for field in table.schema:
            read = found[field.name]
            wrong.append(not read.description or bool((field.metadata or {}).get(b"unit")) != bool(read.unit))
            if not pa.types.is_string(field.type) and not pa.types.is_list(field.type):
                right = column(table, field.name)
                same = np.array_equal(np.asarray(read).astype(right.dtype), right, equal_nan=right.dtype.kind == "f")
                wrong.append(not same)
        yield none_wrong(f"columns of candidates{suffix} that astropy reads differently", wrong)


def _area_row(night: ProcessedNight) -> Row:
    name = "area of the MOC against the summary, relative"
    if importlib.util.find_spec("mocpy") is None:
        return Row(f"{name}: mocpy is absent", None, "")
    moc = importlib.import_module("mocpy").MOC
    area = moc.load(night.folder / "searched.moc.fits", "fits").sky_fraction * 129600.0 / np.pi
    stated = json.loads((night.folder / "summary.json").read_text(encoding="utf-8"))["area_searched_deg2"]
    return at_most(name, abs(area / stated - 1.0), "", 1e-6)
