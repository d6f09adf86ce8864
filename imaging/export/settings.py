"""Settings of the export to DES product names and formats."""

from pydantic import Field

from imaging.settings import Settings


class ExportSettings(Settings):
    """Export of products under the names of the original pipeline."""

    instrumental_zeropoint_mag: float = Field(25.0, gt=0)
    """Zero point of the MAG columns, magnitudes; the value that the original calibration expects."""
    compress: bool = True
    """Tile-compress the image (``.fits.fz``): a sixth of the size, 3 seconds more per CCD."""
    source_noise: bool = False
    """Include the shot noise of sources in the exported weights, beside sky and readout noise (keyword DESWGT)."""
