"""What the reports on candidates to other systems share: settings, photometry, times.

Reports are built in :mod:`imaging.candidates.packets`, :mod:`imaging.candidates.skyportal` and
:mod:`imaging.candidates.tns`, which send nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from pydantic import Field, field_validator

from imaging.bands import BANDS
from imaging.errors import InputError
from imaging.exposure import MJD_EPOCH
from imaging.settings import Settings

Row = Mapping[str, Any]

MIN_SNR = 5.0
"""Lowest signal to noise of a detection in a report."""

SEARCH, TEMPLATE = "search", "template"
"""Sides of a photometric point: in a search difference, or of a template relative to the mean of the templates."""

REQUIRED = {
    "tns": ("reporter", "tns_group_id"),
    "skyportal": ("skyportal_filter_ids", "skyportal_group_ids", "skyportal_instrument_id"),
}
"""Required settings of each report."""

SKYPORTAL_BANDPASSES = {"u": "desu", "g": "desg", "r": "desr", "i": "desi", "z": "desz", "Y": "desy", "VR": "desr"}
"""Band to the name of a bandpass of sncosmo, which SkyPortal uses; VR has none there, r has the nearest wavelength."""


class ReportSettings(Settings):
    """Reporter, groups and identifiers in SkyPortal and the TNS."""

    reporter: str = ""
    """Authors of a TNS report, as cited."""

    tns_group_id: int | None = None
    """Number of the reporting group at the TNS."""

    tns_data_source_id: int | None = None
    """Number of the group that owns the data; None for the reporting group."""

    tns_fields: Literal["1.0", "2.0"] = "1.0"
    """Names of the fields of a bulk report: those of the first manual, or those of the manual of TNS 2.0."""

    tns_limit_days: float = Field(default=120.0, gt=0)
    """Days before the discovery in which the deepest limit is the last non-detection."""

    skyportal_filter_ids: tuple[int, ...] = ()
    """Numbers of the SkyPortal filters that the candidates passed."""

    skyportal_group_ids: tuple[int, ...] = ()
    """Numbers of the SkyPortal groups with access to photometry and annotations."""

    skyportal_instrument_id: int = Field(default=0, ge=0)
    """Number of the instrument DECam in the SkyPortal instance; 0 if not set."""

    skyportal_bandpasses: dict[str, str] = SKYPORTAL_BANDPASSES
    """Band to the name of its bandpass in the SkyPortal instance; bands not named have the default."""

    @field_validator("skyportal_bandpasses")
    @classmethod
    def _with_defaults(cls, named: dict[str, str]) -> dict[str, str]:
        unknown = sorted(set(named) - set(BANDS))
        if unknown:
            raise ValueError(f"unknown band {', '.join(unknown)}")
        return SKYPORTAL_BANDPASSES | named


@dataclass(frozen=True, eq=False)
class Evidence:
    """What is known of one candidate beside its row.

    Attributes
    ----------
    photometry
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY` as dictionaries with ``side`` (``search`` or
        ``template``) and ``exptime_s`` (None if unknown).
    event
        Name of the event that was followed up.
    detection_id
        Its last detection with stamps; None if none has some.
    cutouts, thumbnails
        ``SEARCH``, ``TEMPLATE`` and ``DIFFERENCE`` of that detection: compressed FITS images, and PNG pictures.
    host_redshift
        Redshift of its host in the galaxy catalogue; None if unknown.
    """

    photometry: Sequence[Row]
    event: str
    detection_id: int | None = None
    cutouts: Mapping[str, bytes] = field(default_factory=dict)
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    host_redshift: float | None = None

    def points(self, side: str | None = None) -> list[Row]:
        """Return the points that are not masked and have a flux, in order of time."""
        return [p for p in in_order(self.photometry) if _usable(p) and side in (None, p["side"])]


def moment(mjd: float) -> str:
    """Format an MJD as UTC to the second: ``2017-08-17T12:41:04``."""
    return (MJD_EPOCH + timedelta(days=mjd)).isoformat(timespec="seconds")


def in_order(photometry: Sequence[Row]) -> list[Row]:
    """Return photometry sorted by time, then exposure."""
    return sorted(photometry, key=lambda point: (point["mjd"], point["expnum"]))


def is_detection(point: Row) -> bool:
    """Whether a usable point is a detection: a search difference above five sigma."""
    return point["side"] == SEARCH and point["mag"] is not None and point["flux"] > MIN_SNR * point["flux_error"]


def _usable(point: Row) -> bool:
    flux, error = point["flux"], point["flux_error"]
    return not point["masked"] and None not in (flux, error) and math.isfinite(flux) and error > 0


def require_settings(form: str, settings: ReportSettings) -> None:
    """Raise unless the required settings are given.

    Raises
    ------
    InputError
        If a required setting is missing.
    """
    for name in REQUIRED.get(form, ()):
        if not getattr(settings, name):
            raise InputError(
                "a setting required for the report is missing",
                value=name,
                remedy="set it in the file given with --settings",
            )


def require_detections(row: Row, evidence: Evidence) -> list[Row]:
    """Return the detections of a candidate in order of time.

    Raises
    ------
    InputError
        If it has none above five sigma in a search difference.
    """
    seen = [point for point in evidence.points(SEARCH) if is_detection(point)]
    if not seen:
        raise InputError(
            "candidate cannot be reported: no photometry is significant enough",
            value=row["candidate_id"],
            limit=f"S/N {MIN_SNR:g} in forced photometry",
            remedy="leave it out with --where",
        )
    return seen
