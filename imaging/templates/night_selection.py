"""Settings of the choice of a night's exposures from the raw files at hand."""

from typing import Literal

from pydantic import Field

from imaging.settings import Settings
from imaging.templates.settings import TemplateSettings


class NightSelection(Settings):
    """Which raw files belong to a night: search exposures, and the templates of these."""

    bands: tuple[str, ...] = ()
    """Bands of the search exposures; empty for all."""
    programs: tuple[str, ...] = ()
    """Proposals of the search exposures, such as 2022B-715089; empty for all."""
    region: float = Field(default=0.95, gt=0.0, le=1.0)
    """Probability of the region of the sky map that the field of a search exposure must touch."""
    min_exptime_s: float = Field(default=10.0, ge=0.0)
    """Shortest search exposure, seconds."""
    first_mjd: float | None = None
    """Earliest start of a search exposure, MJD UTC; None for the whole night."""
    last_mjd: float | None = None
    """Latest start of a search exposure, MJD UTC; None for the whole night."""
    unlisted: Literal["never", "region", "program", "either"] = "either"
    """Exposures that arrive during the night without being listed are taken if they lie in the region, if they are of
    a proposal of the night's list, or either."""
    list_programs: tuple[str, ...] = ()
    """Proposals of the search exposures that a person has listed; noted when the night is registered with a list."""
    templates: TemplateSettings = TemplateSettings()
    """Cuts and time windows of the templates."""
