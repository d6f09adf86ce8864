"""How products are exported."""

from pydantic import Field

from imaging.settings import Settings


class ExportSettings(Settings):
    """Settings of the exports under the original's names."""

    instrumental_zeropoint_mag: float = Field(25.0, gt=0)
    """Zero point of the MAG columns, magnitudes: what the original's calibration expects of its catalogues."""
    compress: bool = True
    """Whether the image is tile-compressed (``.fits.fz``): a sixth of the size for 3 seconds per CCD."""
    source_noise: bool = False
    """Whether the exported weights hold the shot noise of the sources beside that of sky and readout (DESWGT says)."""
