"""Draw one picture per candidate of a night: stamps of its best detection and light curve."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from blocks.nights import is_registered, read_night
from blocks.site import Site
from deployments.reports.candidates import candidate_table, read_candidates
from imaging.detector.ccds import PIXEL_SCALE_ARCSEC
from imaging.io.atomic import write_bytes
from imaging.io.sheets import sheet
from imaging.io.skymaps import read_skymap
from imaging.io.stamps import StoredStamps, read_stamps
from imaging.io.tables import read_table
from imaging.pictures.compass import Compass
from imaging.pictures.curves import lightcurve_picture
from imaging.pictures.stamps import candidate_picture

PER_CCD, PER_EXPOSURE = 100_000, 100
"""A detection's number is (exposure number x 100 + CCD) x 100000 + running number."""


def write_candidate_pictures(site: Site, night: int, folder: Path, limit: int) -> list[Path]:
    """Draw the best candidates of a night.

    Parameters
    ----------
    site, night
        Site and night.
    folder
        Folder for one PNG per candidate, named by rank and candidate.
    limit
        Number of candidates, the best first.

    Raises
    ------
    InputError
        If the night has no candidates.
    """
    best = read_candidates(site, night)[:limit]
    forced = read_table(candidate_table(site, night).with_name("lightcurves.parquet"))
    event = read_skymap(read_night(site, night).skymap).mjd if is_registered(site, night) else None
    paths = []
    for row in best:
        mine = forced.filter(pc.equal(forced.column("candidate_id"), row["candidate_id"]))
        path = folder / f"{row['rank']:04d}_{row['candidate_id']}.png"
        write_bytes(path, _picture(site, row, mine, row["mjd_first"] if event is None else event))
        paths.append(path)
    return paths


def _picture(site: Site, row: Mapping[str, Any], forced: pa.Table, mjd_event: float) -> bytes:
    title = f"{row['rank']}: {row['candidate_id']}   S/N {row['snr_best']:.1f}   score {row['real_score']:.2f}"
    pictures = []
    stamps = _stamps(site, row["detection_ids"])
    if stamps is not None:
        label, stamp = stamps
        picture = candidate_picture(
            stamp.triplet.search,
            stamp.triplet.template,
            stamp.triplet.difference,
            title=f"{title}   {label}",
            pixel_scale_arcsec=PIXEL_SCALE_ARCSEC,
            compass=Compass.of(stamp.coordinates),
        )
        pictures = [picture]
    mags = " to ".join(f"{row[name]:.2f}" for name in ("mag_first", "mag_last") if row[name] is not None)
    curve = title if stamps is None else f"{row['bands']}   {mags} mag   RA {row['ra']:.5f}  Dec {row['dec']:+.5f}"
    return sheet([*pictures, lightcurve_picture(forced, mjd_event, title=curve, distance_mpc=row["host_distance_mpc"])])


def _stamps(site: Site, detection_ids: list[int]) -> tuple[str, StoredStamps] | None:
    """Find the stamps of the first detection that has some; its number gives exposure and CCD."""
    for detection in detection_ids:
        expnum, ccd = divmod(detection // PER_CCD, PER_EXPOSURE)
        for path in sorted(site.store.glob(f"*/exp/*/{expnum}/dp*/*_{ccd:02d}/*_stamps.fits")):
            for stamp in read_stamps(path)[0]:
                if stamp.detection_id == detection:
                    return f"exposure {expnum}, CCD {ccd}", stamp
    return None
