"""How master calibrations are made."""

from pydantic import Field

from imaging.detrend.settings import DetrendSettings
from imaging.settings import Settings


class MasterSettings(Settings):
    """Settings of master bias, dome flat and bad-pixel mask."""

    detrend: DetrendSettings = DetrendSettings()
    """Overscan and header limits, those of the science exposures."""
    minimum_exposures: int = Field(3, ge=3)
    """Exposures of a kind below which nothing is built: fewer cannot tell a cosmic ray from the others."""
    maximum_exposures: int = Field(20, ge=3)
    """Exposures of a kind that are combined, the first ones; 20 frames of a CCD take 0.7 GB."""
    clip_sigma: float = Field(4.0, gt=2)
    """Rejection about the median of a pixel's values, in units of their expected noise: cosmic rays."""
    bias_outlier_adu: float = Field(1.0, gt=0)
    """Difference of a bias frame from the others, over a tenth of the CCD, from which on it is left out: light, or an
    amplifier that had not settled. Blocks of frames that are alike differ by 0.1 ADU."""
    flat_outlier_fraction: float = Field(0.005, gt=0)
    """The same for flats, as a share of their level: a lamp that was off, a cloud of dust. Photon noise gives 0.001."""
    flat_level_range_electrons: tuple[float, float] = (5000.0, 130000.0)
    """Levels of a dome flat that are used: photon noise below, saturation and brighter-fatter effect above."""
    flat_minimum: float = Field(0.5, gt=0, lt=1)
    """Response over its surroundings' below which a pixel is bad (FLAT_MIN)."""
    flat_maximum: float = Field(1.5, gt=1)
    """Response over its surroundings' above which a pixel is bad (FLAT_MAX)."""
    hot_adu: float = Field(60.0, gt=0)
    """Bias over its surroundings' above which a pixel is hot (BIAS_HOT)."""
    warm_adu: float = Field(12.0, gt=0)
    """Bias above which a pixel is warm (BIAS_WARM): half the noise of a dark sky."""
    column_adu: float = Field(3.0, gt=0)
    """Offset of a stretch of a column from its neighbours above which it is bad (BIAS_COL, FUNKY_COL)."""
    column_rows: int = Field(64, ge=16)
    """Rows of such a stretch."""
    edge_columns: int = Field(9, ge=0)
    """Columns along the long sides that glow (EDGE)."""
    near_edge_columns: int = Field(30, ge=0)
    """Columns along the long sides whose sources are distorted (NEAREDGE)."""


class SkyModeSettings(Settings):
    """Settings of the sky modes."""

    n_modes: int = Field(5, ge=2)
    """Modes, the mean sky included: the survey kept four to six."""
    minimum_exposures: int = Field(8, ge=4)
    """Exposures below which modes are not sought: each mode needs to be seen at several strengths."""
    clip_sigma: float = Field(4.0, gt=2)
    """Rejection of superpixels and bins that bright sources or ghosts have spoilt."""
    maximum_iterations: int = Field(40, ge=1)
    """Rounds of clipping at most."""
    fringe_bin: int = Field(8, ge=2)
    """Pixels per side of the bins in which bands with fringes are kept; a fringe is about 60 pixels wide. Other bands
    are smooth and keep the superpixels."""


class StarFlatSettings(Settings):
    """Settings of the star flat."""

    minimum_exposures: int = Field(4, ge=2)
    """Exposures below which no star flat is sought: clouds of a single one would be taken for the camera."""
    minimum_stars: int = Field(100, ge=12)
    """Measurements on a CCD below which it keeps its flat: 100 of 0.02 mag give its level to 2 mmag."""
    scatter_floor_mag: float = Field(0.01, gt=0)
    """Added to the errors of the stars: what colour terms and variability leave."""
    clip_sigma: float = Field(3.5, gt=2)
    """Rejection of variable and blended stars."""
