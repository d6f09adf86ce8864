"""Settings of master bias, dome flat, bad-pixel mask, sky modes and star flat."""

from pydantic import Field

from imaging.detrend.settings import DetrendSettings
from imaging.settings import Settings


class MasterSettings(Settings):
    """Settings of master bias, dome flat and bad-pixel mask."""

    detrend: DetrendSettings = DetrendSettings()
    """Overscan and header limits, as for science exposures."""
    minimum_exposures: int = Field(3, ge=3)
    """Fewest exposures of a kind for a master frame; with fewer, cosmic rays cannot be rejected."""
    maximum_exposures: int = Field(20, ge=3)
    """Largest number of exposures combined, taken in order; 20 frames of a CCD take 0.7 GB of memory."""
    clip_sigma: float = Field(4.0, gt=2)
    """Rejection limit about the median of a pixel's values, in units of the expected noise; rejects cosmic rays."""
    bias_outlier_adu: float = Field(1.0, gt=0)
    """Deviation of a bias frame from the others, over a tenth of the CCD, above which it is rejected: stray light or an
    amplifier that had not settled. Blocks of normal frames differ by 0.1 ADU."""
    flat_outlier_fraction: float = Field(0.005, gt=0)
    """The same for flats, as a fraction of their level: a lamp that was off, dust. Photon noise gives 0.001."""
    flat_level_range_electrons: tuple[float, float] = (5000.0, 130000.0)
    """Accepted level of a dome flat: photon noise below, saturation and brighter-fatter effect above."""
    flat_minimum: float = Field(0.5, gt=0, lt=1)
    """Response relative to the surroundings below which a pixel is bad (FLAT_MIN)."""
    flat_maximum: float = Field(1.5, gt=1)
    """Response relative to the surroundings above which a pixel is bad (FLAT_MAX)."""
    hot_adu: float = Field(60.0, gt=0)
    """Bias excess over the surroundings above which a pixel is hot (BIAS_HOT)."""
    warm_adu: float = Field(12.0, gt=0)
    """Bias excess above which a pixel is warm (BIAS_WARM): half the noise of a dark sky."""
    column_adu: float = Field(3.0, gt=0)
    """Offset of a column segment from its neighbours above which it is bad (BIAS_COL, FUNKY_COL)."""
    column_rows: int = Field(64, ge=16)
    """Rows of a column segment."""
    edge_columns: int = Field(9, ge=0)
    """Number of glowing columns along the long sides (EDGE)."""
    near_edge_columns: int = Field(30, ge=0)
    """Number of columns along the long sides with distorted sources (NEAREDGE)."""


class SkyModeSettings(Settings):
    """Settings of the sky modes (principal components of the night sky)."""

    n_modes: int = Field(5, ge=2)
    """Number of modes, the mean sky included; DES kept four to six."""
    minimum_exposures: int = Field(8, ge=4)
    """Fewest exposures for sky modes; each mode must occur with several amplitudes."""
    clip_sigma: float = Field(4.0, gt=2)
    """Clipping limit in sigma of superpixels and bins; rejects bright sources and ghosts."""
    maximum_iterations: int = Field(40, ge=1)
    """Largest number of clipping iterations."""
    fringe_bin: int = Field(8, ge=2)
    """Side of the bins for bands with fringes, pixels; a fringe is about 60 pixels wide. Other bands are smooth and use
    superpixels."""


class StarFlatSettings(Settings):
    """Settings of the star flat."""

    minimum_exposures: int = Field(4, ge=2)
    """Fewest exposures for a star flat; clouds in a single exposure would be attributed to the camera."""
    minimum_stars: int = Field(100, ge=12)
    """Fewest measurements to correct a CCD's flat: 100 of 0.02 mag give its level to 2 mmag."""
    scatter_floor_mag: float = Field(0.01, gt=0)
    """Systematic error added to the errors of the stars: colour terms and variability."""
    clip_sigma: float = Field(3.5, gt=2)
    """Clipping limit in sigma; rejects variable and blended stars."""
