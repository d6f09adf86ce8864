"""The summary of a verified exposure, read by later stages."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from blocks.site import Site
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from tasks.jobs import StepJob


@dataclass(frozen=True, slots=True)
class ExposureSummary:
    """A verified exposure.

    Attributes
    ----------
    exposure
        The exposure.
    numbers
        Quality numbers of the exposure: ``t_eff``, ``depth_mag``, ``fwhm_arcsec``, ...; None if unknown.
    ccds
        CCD number to its ``status``, ``corners``, ``zeropoint_mag``, ``depth_mag`` and ``fwhm_arcsec``.
    """

    exposure: Exposure
    numbers: Mapping[str, Any]
    ccds: Mapping[int, Mapping[str, Any]]

    @property
    def usable(self) -> dict[int, Mapping[str, Any]]:
        """The CCDs that later stages may use: those with a zero point and a status other than bad."""
        good = {c: row for c, row in self.ccds.items() if row["status"] in ("good", "usable")}
        return {ccd: row for ccd, row in good.items() if row["zeropoint_mag"] is not None}


def summary_path(exposure: ExposureId, site: Site) -> Path:
    """Return the path of an exposure's summary."""
    return StepJob(exposure=exposure, site=site).product_path("summary.json")


def read_summary(path: Path, expnum: int | None = None) -> ExposureSummary:
    """Read the summary of a verified exposure.

    Raises
    ------
    InputError
        If the exposure has not been verified or the file is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        known = {field.name: document["exposure"][field.name] for field in fields(Exposure)}
        known["airmass"] = math.nan if known["airmass"] is None else known["airmass"]
        return ExposureSummary(
            Exposure(**known), document["numbers"], {int(ccd): row for ccd, row in document["ccds"].items()}
        )
    except FileNotFoundError as error:
        raise InputError(
            "the exposure has not been verified",
            expnum=expnum,
            value=path.name,
            remedy="process it with gw-workflow single-epoch -C first",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("summary of an exposure damaged", value=path, remedy="verify the exposure again") from error
