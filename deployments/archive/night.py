"""What a registered night lacks, as files of the archive: raw exposures, frames for calibrations, templates."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import httpx

from blocks.nights import RegisteredNight
from blocks.raw_index import raw_files
from blocks.site import Site
from deployments.archive.search import ArchiveFile, ArchiveQuery, Cone, search
from imaging.detector.ccds import FIELD_RADIUS_DEG
from imaging.errors import GWWorkflowError
from imaging.exposure import Exposure
from imaging.io.calibrations import CalibrationLibrary
from imaging.io.detrend_calibrations import detrend_calibration_paths
from imaging.io.exposure_list import ListedExposure
from imaging.io.manifest import date_of_night
from imaging.templates.select import TemplateTarget, select_templates
from imaging.templates.settings import TemplateSettings
from tasks.exposure_requests import candidate_of_listed, nominal_footprints
from tasks.imported import imported_list
from tasks.prepare_templates import mjd_of_night
from tasks.requests import Version

CALIBRATION_DAYS = 10
"""Nights before and after a night among which its bias and flat frames are sought."""

FRAMES = 10
"""Frames of bias, and of the flats of each band, that make a night complete; more are not fetched."""


@dataclass(slots=True)
class Lack:
    """Files of the archive that a night lacks.

    Attributes
    ----------
    files
        The files.
    notes
        What the archive does not have either, in words.
    """

    files: list[ArchiveFile] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def lacking(client: httpx.Client, site: Site, night: RegisteredNight) -> Lack:
    """Return what a night lacks and the archive has; raw files and imported images at hand count, listed or not.

    Raises
    ------
    InputError
        If the archive cannot be searched.
    """
    listed = night.listed()
    known = raw_files(site).exposures()
    imported = {item.exposure.expnum: item for item in imported_list(site, Version())}
    raw = {n: ListedExposure(exposure) for n, exposure in known.items() if exposure.obstype.lower() == "object"}
    offered = raw | imported | {item.exposure.expnum: item for item in listed}
    templates = [item for item in offered.values() if item.exposure.night != night.record.night]
    lack = Lack()
    _add_raw(client, sorted({item.exposure.expnum for item in listed} - set(known) - set(imported)), lack)
    _add_calibrations(client, site, [item.exposure for item in listed], lack)
    _add_templates(client, [item for item in listed if item.exposure.night == night.record.night], templates, lack)
    unique = {file.md5: file for file in lack.files if file.expnum not in known}
    lack.files = list(unique.values())
    return lack


def _add_raw(client: httpx.Client, missing: Sequence[int], lack: Lack) -> None:
    """Add the raw files of exposures."""
    if not missing:
        return
    files = search(client, [ArchiveQuery("raw", expnums=tuple(missing))]).files
    lack.files += files
    absent = sorted(set(missing) - {file.expnum for file in files})
    if absent:
        lack.notes.append(f"not in the archive: raw exposures {', '.join(map(str, absent))}")


def _add_calibrations(client: httpx.Client, site: Site, exposures: Sequence[Exposure], lack: Lack) -> None:
    """Add bias and flat frames for the nights that the library does not cover."""
    bands: dict[int, set[str]] = {}
    for exposure in exposures:
        if not _is_calibrated(site, exposure):
            bands.setdefault(exposure.night, set()).add(exposure.band)
    for night, needed in sorted(bands.items()):
        around = _days_from(night, -CALIBRATION_DAYS), _days_from(night, CALIBRATION_DAYS)
        queries = [
            ArchiveQuery("bias", nights=around),
            ArchiveQuery("flat", nights=around, bands=tuple(sorted(needed))),
        ]
        frames = nearest_frames(search(client, queries).files, night, sorted(needed))
        lack.files += frames
        if not frames:
            lack.notes.append(
                f"no night within {CALIBRATION_DAYS} days of {night} has {FRAMES} bias frames and as many flats of "
                f"{', '.join(sorted(needed))}"
            )


def _is_calibrated(site: Site, exposure: Exposure) -> bool:
    """Whether the library has what at least one CCD of an exposure needs."""
    try:
        library = CalibrationLibrary(site.calibrations)
    except GWWorkflowError:
        return False
    for ccd in nominal_footprints(exposure):
        try:
            detrend_calibration_paths(library, exposure, ccd)
        except GWWorkflowError:
            continue
        return True
    return False


def nearest_frames(files: Sequence[ArchiveFile], night: int, bands: Sequence[str]) -> list[ArchiveFile]:
    """Return the frames of the nearest night that has enough of every kind; an empty list if none has.

    Parameters
    ----------
    files
        Bias and flat frames.
    night
        The night to calibrate, YYYYMMDD.
    bands
        Bands that need flats.
    """
    for near in sorted(
        {file.night for file in files}, key=lambda other: (abs(date_of_night(other) - date_of_night(night)), other)
    ):
        of_night = [file for file in files if file.night == near]
        groups = [[file for file in of_night if file.kind == "bias"]]
        groups += [[file for file in of_night if file.kind == "flat" and file.band == band] for band in bands]
        if all(len(group) >= FRAMES for group in groups):
            return [file for group in groups for file in group[:FRAMES]]
    return []


def _add_templates(
    client: httpx.Client, exposures: Sequence[ListedExposure], templates: Sequence[ListedExposure], lack: Lack
) -> None:
    """Add exposures that serve as templates, by the rules of the choice, where those at hand leave CCDs without."""
    rules = TemplateSettings(spare_t_eff_share=1.0)  # the archive may have better ones than those for want of any
    for item in exposures:
        exposure = item.exposure
        target = TemplateTarget(exposure, nominal_footprints(exposure))
        own = [candidate_of_listed(template) for template in templates]
        if _n_served(select_templates(target, own, rules).to_pylist()) == len(target.footprints):
            continue
        query = ArchiveQuery(
            "raw",
            nights=template_nights(exposure.night, rules),
            bands=(exposure.band,),
            cone=Cone(exposure.ra_deg, exposure.dec_deg, 2.0 * FIELD_RADIUS_DEG),
            min_exptime_s=rules.min_exptime_s,
        )
        files = {file.expnum: file for file in search(client, [query]).files if file.expnum is not None}
        candidates = [candidate_of_listed(listed_of(file)) for file in files.values()]
        rows = select_templates(target, [*own, *candidates], rules).to_pylist()
        taken = {row["template_expnum"] for row in rows if row["rank"] is not None}
        lack.files += [files[expnum] for expnum in sorted(taken & set(files))]
        without = len(target.footprints) - _n_served(rows)
        if without:
            lack.notes.append(f"no template anywhere for {without} CCDs of {exposure.expnum}")


def _n_served(rows: Sequence[dict[str, object]]) -> int:
    """Return the number of CCDs with at least one template."""
    return len({row["ccd"] for row in rows if row["rank"] is not None})


def template_nights(night: int, rules: TemplateSettings) -> tuple[int, int]:
    """Return the first and the last night whose exposures may be templates of a night."""
    return rules.first_night, _days_from(night, -round(rules.min_days))


def listed_of(file: ArchiveFile) -> ListedExposure:
    """Return what the archive knows of an exposure; its time is good to some hours."""
    exposure = Exposure(
        expnum=file.expnum or 0,
        band=file.band,
        night=file.night,
        mjd=mjd_of_night(file.night),
        exptime_s=file.exptime_s,
        ra_deg=file.ra_deg,
        dec_deg=file.dec_deg,
        airmass=float("nan"),
        propid=file.proposal,
    )
    return ListedExposure(exposure)


def _days_from(night: int, days: int) -> int:
    return int((date_of_night(night) + timedelta(days=days)).strftime("%Y%m%d"))
