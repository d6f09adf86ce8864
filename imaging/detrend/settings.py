"""How the instrument's signature is removed."""

from typing import Literal

from pydantic import Field

from imaging.masks.settings import BleedSettings
from imaging.settings import Settings

OverscanMethod = Literal["mean", "median", "spline"]


class ColumnSettings(Settings):
    """Which bad columns are repaired by an additive constant."""

    neighbours: int = Field(6, ge=2)
    """Good columns that a bad one is compared with."""
    reach: int = Field(12, ge=2)
    """Pixels to either side within which they are looked for: farther ones see another sky."""
    clip_sigma: float = Field(4.0, gt=0)
    """Clipping of the differences, which stars would pull."""
    minimum_rows: int = Field(100, ge=2)
    """Rows that an offset must rest on: 100 rows give it to a tenth of the sky noise."""
    variance_tolerance: float = Field(0.25, gt=0)
    """Fraction by which the column's variance may exceed its neighbours': a noisy column is bad, not shifted."""
    count_tolerance: float = Field(0.85, gt=0, le=1)
    """Share of the rows that must survive the clipping."""


class DetrendSettings(Settings):
    """Settings of the detrending chain; the defaults are those of the Dark Energy Survey where it has one."""

    overscan_method: OverscanMethod = "mean"
    """Level of a row: its clipped mean follows the steps between rows that CCDs sharing a backplane with the focus
    CCDs show; ``spline`` smooths along the rows and adds less noise where there are no steps."""
    overscan_trim_columns: int = Field(5, ge=0, le=20)
    """Overscan columns left out at either side: charge released late spoils those next to the data."""
    overscan_clip_sigma: float = Field(4.0, gt=2)
    """Rejection of overscan pixels about their row's median, in units of the read noise."""
    overscan_spline_rows: int = Field(64, ge=4)
    """Rows per knot of the spline."""
    gain_range: tuple[float, float] = (2.0, 8.0)
    """Gains in e-/ADU that are believed; DECam's lie between 3.4 and 4.5."""
    saturation_range_adu: tuple[float, float] = (15000.0, 65535.0)
    """Saturation levels that are believed; DECam's lie between 28 000 and 58 000 ADU above the bias."""
    saturation_fraction: float = Field(1.0, gt=0.5, le=1)
    """Share of the amplifier's saturation level from which pixels count as saturated."""
    read_noise_range_electrons: tuple[float, float] = (1.0, 30.0)
    """Noise of the overscan outside of which an amplifier is unusable; healthy ones have 5 to 13 electrons."""
    crosstalk_flag_adu: float = Field(2.5, gt=0)
    """Pixels that a saturated source changed by more than this are flagged SSXTALK: ten electrons, a fifth of the
    noise of a typical sky, beyond which the matrix's own error (5 %) begins to matter."""
    columns: ColumnSettings = ColumnSettings()
    """Repair of bad columns."""
    brighter_fatter: bool = True
    """Move charge back by the brighter-fatter kernel, where the calibration library holds one for the exposure."""
    light_fraction: float = Field(0.05, gt=0, lt=1)
    """Share of the band's dark sky below which an amplifier saw no light: no sky is that dark."""
    dead_row_fraction: float = Field(0.3, gt=0, lt=1)
    """Rows of an amplifier below this share of the CCD's sky are dead; vignetting never reaches it."""
    saturated_limit: float = Field(0.5, gt=0, le=1)
    """Share of saturated pixels above which a CCD is given up."""
    masked_limit: float = Field(0.9, gt=0, le=1)
    """Share of pixels without sky above which a CCD is given up: nothing can be measured on what remains."""
    bleeds: BleedSettings = BleedSettings()
    """Bleed trails, edge bleeds and star halos."""
