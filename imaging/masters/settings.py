"""Settings of master bias, dome flat, bad-pixel mask, sky modes, star flat and pixel displacements."""

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
    bump_depth: float = Field(0.008, gt=0, lt=1)
    """Loss of response over some tens of pixels above which a round region is a tape bump (TAPEBUMP)."""
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


class DisplacementSettings(Settings):
    """Settings of the maps of pixel displacements."""

    minimum_exposures: int = Field(4, ge=3)
    """Fewest exposures: each is left out in turn to test the map."""
    minimum_stars: int = Field(200, ge=30)
    """Fewest measurements of reference stars on a CCD: 200 give the amplitude of the tree rings to 0.1."""
    floor_pixels: float = Field(0.01, gt=0)
    """Systematic error of a position, pixels: close neighbours, colours."""
    clip_sigma: float = Field(4.0, gt=2)
    """Clipping limit in sigma; rejects false matches and blends."""
    minimum_significance: float = Field(2.0, ge=0)
    """Least improvement of the exposures left out, in units of its error, for a part of the map to be used."""


class RampSettings(Settings):
    """Settings of the response curves from a ramp of dome flats."""

    detrend: DetrendSettings = DetrendSettings()
    """Overscan and header limits, as for science exposures."""
    minimum_times: int = Field(8, ge=4)
    """Fewest exposure times of a ramp; a band with fewer has ordinary dome flats."""
    reference_adu: float = Field(10000.0, gt=0)
    """Signal that the curves leave unchanged: a ramp gives the shape of a curve, the gain its scale."""
    lowest_adu: float = Field(500.0, gt=0)
    """Signal down to which the curves must be accurate."""
    floor_adu: float = Field(100.0, gt=0)
    """Signals below it are not used: the error of the overscan is a per mille of it."""
    reach: float = Field(0.85, gt=0, le=1)
    """Share of the saturation level up to which a ramp must measure an amplifier."""
    saturation_share: float = Field(0.98, gt=0, le=1)
    """Share of the saturation level that one pixel of a thousand may exceed in a frame that is used."""
    frames_per_interval: int = Field(3, ge=1)
    """Frames per interval of the splines."""
    maximum_intervals: int = Field(5, ge=2)
    """Largest number of intervals of the splines, over about five e-folds of signal."""
    lamp_degree: int = Field(3, ge=0, le=8)
    """Degree of the polynomial of the lamp in time, for each band."""
    lamp_noise: float = Field(0.0002, gt=0)
    """Expected scatter of single frames, as a fraction: the lamp, and the repeatability of the shutter."""
    shutter_error_s: float = Field(0.02, gt=0)
    """Largest plausible difference of the true exposure time from that of the header, seconds, one sigma."""
    clip_sigma: float = Field(5.0, gt=2)
    """Rejection limit of frames in sigma: a lamp that was off."""
    maximum_iterations: int = Field(10, ge=1)
    """Largest number of iterations."""
    maximum_left_out: float = Field(0.08, ge=0, lt=0.5)
    """Share of the frames that may deviate; with more it is not known which are right."""
    maximum_error: float = Field(0.001, gt=0)
    """Error of a curve above which it is refused."""


class EraSettings(Settings):
    """Settings of master calibrations over an era: many nights, divided where the camera has changed."""

    masters: MasterSettings = MasterSettings()
    """Settings of the masters of each period."""
    frames_per_night: int = Field(3, ge=1)
    """Frames of a kind and band of a night that are compared with those of other nights."""
    block_pixels: int = Field(256, ge=64)
    """Side of the blocks whose medians are compared."""
    block_share: float = Field(0.1, gt=0, lt=1)
    """Share of a CCD's blocks that must have changed."""
    bias_jump_adu: float = Field(1.0, gt=0)
    """Change of the bias that starts a new period: the deviation at which a frame is left out of a master."""
    flat_jump: float = Field(0.005, gt=0)
    """Change of a flat, relative to the camera, that starts a new period."""


class LeakSettings(Settings):
    """Settings of crosstalk coefficients from science frames."""

    detrend: DetrendSettings = DetrendSettings()
    """Overscan and header limits, as for science exposures."""
    bright_adu: float = Field(2000.0, gt=0)
    """Signal of a source from which a pixel counts: fainter ones add noise and no information."""
    shape_coefficient: float = Field(5e-5, gt=0)
    """Coefficient of the present matrix from which the shape of its response beyond the onset is believed; of pairs
    with smaller ones pixels beyond the onset are not used."""
    own_adu: float = Field(150.0, gt=0)
    """Excess over its surroundings above which a pixel of the victim holds light of its own; more than crosstalk."""
    own_reach_pixels: int = Field(12, ge=1)
    """Pixels around such light that are left out."""
    bright_own_adu: float = Field(5000.0, gt=0)
    """Excess above which light of the victim has wide wings: a star near the border of two amplifiers lights both."""
    bright_own_reach_blocks: int = Field(5, ge=1)
    """Blocks of 16 pixels around it that are left out."""
    clip_sigma: float = Field(4.0, gt=2)
    """Rejection limit about the model, in units of the victim's noise: faint sources."""
    iterations: int = Field(4, ge=1)
    """Number of iterations of the clipping."""
    maximum_error: float = Field(1e-5, gt=0)
    """Error of a coefficient above which the old one is kept; half the accuracy that the chain needs."""


class RepulsionSettings(Settings):
    """Settings of brighter-fatter kernels from pairs of dome flats."""

    detrend: DetrendSettings = DetrendSettings()
    """Overscan and header limits, as for science exposures."""
    minimum_pairs: int = Field(2, ge=1)
    """Fewest covariances, of one amplifier in one pair of flats each."""
    maximum_pairs: int = Field(10, ge=1)
    """Largest number of pairs that are read."""
    level_electrons: tuple[float, float] = (30000.0, 150000.0)
    """Range of levels: the effect grows with the level."""
    saturation_share: float = Field(0.85, gt=0, le=1)
    """Share of the saturation level above which a flat is not used."""
    level_tolerance: float = Field(0.02, gt=0)
    """Largest difference of the levels of a pair, as a fraction."""
    clip_sigma: float = Field(5.0, gt=2)
    """Rejection limit of pixels in sigma: cosmic rays."""
    gain_error: float = Field(0.01, gt=0)
    """Error of the gains, as a fraction."""
    minimum_significance: float = Field(10.0, gt=0)
    """Least significance of the correlation of neighbours: the kernel is then known to a tenth."""


class GhostSettings(Settings):
    """Settings of the model of the ghosts of bright stars."""

    minimum_exposures: int = Field(4, ge=2)
    """Fewest exposures."""
    minimum_stars: int = Field(6, ge=3)
    """Fewest stars."""
    faintest_mag: float = Field(10.0, gt=0)
    """Faintest star, G."""
    bin_pixels: int = Field(16, ge=8)
    """Side of the bins whose medians are used, pixels."""
    smallest_pixels: float = Field(80.0, gt=0)
    """Smallest outer radius of a donut."""
    largest_pixels: float = Field(1500.0, gt=0)
    """Largest distance from a star, and largest radius of a donut."""
    nearest_arcsec: float = Field(15.0, ge=0)
    """Smallest distance from a star: nearer is its own light."""
    clip_sigma: float = Field(6.0, gt=2)
    """Clipping limit of bins: sources and trails."""
    minimum_significance: float = Field(5.0, gt=0)
    """Least brightness of a family in units of its error, which is found by leaving out one field
    (star, CCD and exposure) after the other."""
    maximum_families: int = Field(3, ge=1)
    """Largest number of families: two of donuts, and the halo."""
