"""The jobs of this project's steps: one CCD, one exposure, one night, or a topic such as a catalogue."""

from pathlib import Path, PurePosixPath
from typing import Any, Self

from pydantic import model_validator

from imaging.identity import ExposureId
from tasks.engine.jobs import Job, StepInfo

UNIT = "ccd{:02d}"
"""Format of a CCD in the names of records and task runs."""


def ccd_of(unit_name: str) -> int | None:
    """Return the CCD number from a unit name such as ``ccd07``; None if it is not a CCD."""
    digits = unit_name.removeprefix("ccd")
    return int(digits) if unit_name.startswith("ccd") and digits.isdigit() else None


class StepJob(Job):
    """The arguments of a step for one CCD, one exposure, one night or one topic."""

    exposure: ExposureId | None = None
    """The exposure; None for a step of a night or a topic."""
    night: int | None = None
    """The night, YYYYMMDD; that of the exposure if there is one."""
    topic: str | None = None
    """Subject other than an exposure or a night, such as ``catalogue-gaia``; used in file names."""
    part: str | None = None
    """Part of the topic, such as an input file."""
    ccd: int | None = None
    """CCD number; None for a step of a whole exposure."""
    season: int | None = None
    """Season of the products of the difference stage; None for those of the single epoch."""

    @model_validator(mode="after")
    def _has_a_subject(self) -> Self:
        if self.exposure is None and self.night is None and self.topic is None:
            raise ValueError("a job needs an exposure, a night or a topic")
        return self

    @property
    def subject(self) -> str:
        """The exposure number, ``night-YYYYMMDD``, or the topic; used in file names."""
        if self.exposure is not None:
            return str(self.exposure.expnum)
        return self.topic or f"night-{self.night}"

    @property
    def unit(self) -> int | None:
        """CCD number; None for a whole exposure or night."""
        return self.ccd

    @property
    def unit_name(self) -> str:
        """The part of a topic, or the CCD, such as ``ccd07``."""
        return self.part or ("" if self.ccd is None else UNIT.format(self.ccd))

    def at_unit(self, unit: int) -> Self:
        """Return a copy of the job for one CCD."""
        return self.model_copy(update={"ccd": unit})

    @property
    def label(self) -> str:
        """Subject and CCD for messages, such as ``exposure 1300001 CCD 7``."""
        if self.topic is not None:
            return f"{self.topic} {self.part}" if self.part else self.topic
        text = f"night {self.night}" if self.exposure is None else f"exposure {self.exposure.expnum}"
        return text if self.ccd is None else f"{text} CCD {self.ccd}"

    @property
    def identity(self) -> dict[str, Any]:
        """Night, exposure and version, CCD, season and destination, for the cache key."""
        who = self.exposure
        return {
            "night": self.night,
            "exposure": None if who is None else [who.expnum, who.band, who.night, who.rnum, who.pnum, who.schema],
            "ccd": self.ccd,
            "season": self.season,
            "destination": self.site.destination,
        }

    @property
    def place(self) -> dict[str, Any]:
        """Exposure and CCD, for messages."""
        return {"expnum": self.expnum, "ccd": self.ccd}

    @property
    def expnum(self) -> int | None:
        """Exposure number; None for a night."""
        return None if self.exposure is None else self.exposure.expnum

    def product_path(self, suffix: str) -> Path:
        """Return the path of a product: store, folder of exposure or season, stem of the CCD, and suffix.

        Parameters
        ----------
        suffix
            End of the file name after the underscore, such as ``detrend.fits``; for a night, the whole file name.
        """
        if self.exposure is None:
            return self.site.store / PurePosixPath("nights") / str(self.night) / suffix
        folder = self.exposure.folder
        stem = self.exposure.stem if self.ccd is None else self.exposure.ccd_stem(self.ccd)
        if self.season is not None:
            folder = self.exposure.season_folder(self.season, self.ccd)
        return self.site.store / folder / f"{stem}_{suffix}"

    def product_paths(self, step: StepInfo) -> dict[str, Path]:
        """Return the paths of a step's products by name."""
        return {name: self.product_path(suffix) for name, suffix in step.products.items()}
