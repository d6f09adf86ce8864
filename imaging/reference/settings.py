"""Settings of building a reference catalogue: partitions, row groups, rounding."""

from pydantic import Field

from imaging.settings import Settings


class ReferenceCatalogueSettings(Settings):
    """Partitioning and rounding of a reference catalogue."""

    order: int = Field(default=5, ge=0, le=10)
    """HEALPix order of the partitions; 5 is 3.4 square degrees, so that a camera field needs three or four."""
    rows_per_group: int = Field(default=16384, ge=1024)
    """Stars per Parquet row group, sorted by position: the smallest unit that a lookup reads."""
    faint_limit_mag: float | None = None
    """Faintest star kept, Gaia G; None keeps all."""
    compress: bool = True
    """Round values below their precision, which halves the size: positions to 4 microarcseconds, proper motions and
    parallaxes to 1 in the last thousandth, magnitudes to 0.12 mmag, errors to 1 part in 256."""
