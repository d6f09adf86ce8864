"""Settings of detrending: overscan, gain, saturation, bad columns, bleed masks."""

from typing import Literal

from pydantic import Field

from imaging.masks.settings import BleedSettings
from imaging.settings import Settings

OverscanMethod = Literal["mean", "median", "spline"]


class ColumnSettings(Settings):
    """Repair of bad columns by an additive constant."""

    neighbours: int = Field(6, ge=2)
    """Number of good columns with which a bad one is compared."""
    reach: int = Field(12, ge=2)
    """Largest distance of those columns, pixels: the sky differs farther away."""
    clip_sigma: float = Field(4.0, gt=0)
    """Clipping limit of the differences in sigma; rejects stars."""
    minimum_rows: int = Field(100, ge=2)
    """Fewest rows from which an offset is measured: 100 rows give it to a tenth of the sky noise."""
    variance_tolerance: float = Field(0.25, gt=0)
    """Largest relative excess of a column's variance over its neighbours'; noisier columns are not repaired."""
    count_tolerance: float = Field(0.85, gt=0, le=1)
    """Fraction of the rows that must survive the clipping."""


class DetrendSettings(Settings):
    """Settings of detrending; defaults are those of the Dark Energy Survey where they exist."""

    overscan_method: OverscanMethod = "mean"
    """Overscan model: the clipped mean of each row follows the row steps of CCDs that share a backplane with the focus
    CCDs; ``spline`` smooths over rows and adds less noise where there are no steps."""
    overscan_trim_columns: int = Field(5, ge=0, le=20)
    """Overscan columns ignored at either side; deferred charge affects those next to the data."""
    overscan_clip_sigma: float = Field(4.0, gt=2)
    """Rejection of overscan pixels about their row's median, in units of the read noise."""
    overscan_spline_rows: int = Field(64, ge=4)
    """Rows per knot of the spline."""
    gain_range: tuple[float, float] = (2.0, 8.0)
    """Plausible range of the gain, e-/ADU; DECam's lie between 3.4 and 4.5."""
    saturation_range_adu: tuple[float, float] = (15000.0, 65535.0)
    """Plausible range of the saturation level; DECam's lie between 28 000 and 58 000 ADU above the bias."""
    saturation_fraction: float = Field(1.0, gt=0.5, le=1)
    """Fraction of the amplifier's saturation level above which pixels count as saturated."""
    unknown_linearity_fraction: float = Field(0.9, gt=0.3, le=1)
    """Fraction of the saturation level above which pixels count as saturated if no response curves are known. Below it
    DECam's curves deviate by at most a per cent or two, above it by up to a tenth (Bernstein et al. 2017)."""
    read_noise_range_electrons: tuple[float, float] = (1.0, 30.0)
    """Range of overscan noise of a usable amplifier; healthy ones have 5 to 13 electrons."""
    crosstalk_flag_adu: float = Field(2.5, gt=0)
    """Crosstalk correction from a saturated source above which a pixel is flagged SSXTALK: ten electrons, a fifth of
    the noise of a typical sky; beyond it the error of the matrix (5 %) matters."""
    columns: ColumnSettings = ColumnSettings()
    """Repair of bad columns."""
    brighter_fatter: bool = True
    """Correct the brighter-fatter effect if the calibration library has a kernel for the exposure."""
    light_fraction: float = Field(0.05, gt=0, lt=1)
    """Fraction of the band's dark sky level below which an amplifier received no light; no sky is that dark."""
    dead_row_fraction: float = Field(0.3, gt=0, lt=1)
    """Rows of an amplifier below this fraction of the CCD's sky are dead; vignetting is always weaker."""
    saturated_limit: float = Field(0.5, gt=0, le=1)
    """Fraction of saturated pixels above which a CCD is rejected."""
    masked_limit: float = Field(0.9, gt=0, le=1)
    """Fraction of masked pixels above which a CCD is rejected: the rest is too small to measure."""
    bleeds: BleedSettings = BleedSettings()
    """Bleed trails, edge bleeds and star halos."""
