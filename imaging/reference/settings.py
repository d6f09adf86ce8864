"""Settings of the building of a reference catalogue."""

from pydantic import Field

from imaging.settings import Settings


class ReferenceCatalogueSettings(Settings):
    """How a reference catalogue is partitioned and rounded."""

    order: int = Field(default=5, ge=0, le=10)
    """HEALPix order of the partitions; 5 is 3.4 square degrees, of which a camera field touches three or four."""
    rows_per_group: int = Field(default=16384, ge=1024)
    """Stars per row group, in order of position: what a lookup has to read at least."""
    faint_limit_mag: float | None = None
    """Stars fainter than this in Gaia G are left out; None keeps all."""
    compress: bool = True
    """Whether numbers are rounded to what they are worth, which halves the size: positions to 4 microarcseconds, proper
    motions and parallaxes to 1 in the last thousandth, magnitudes to 0.12 mmag, errors to 1 part in 256."""
