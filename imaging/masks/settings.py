"""Settings of bleed-trail, star-halo, cosmic-ray and streak masks."""

from pydantic import Field

from imaging.settings import Settings


class BleedSettings(Settings):
    """Masks of bleed trails, edge bleeds and halos of saturated stars."""

    minimum_pixels: int = Field(7, ge=1)
    """Fewest saturated pixels of a star; smaller groups are hot pixels or cores of cosmic rays."""
    spill_rows: int = Field(2, ge=0)
    """Rows masked above and below saturated pixels: the last pixel that received bled charge is not saturated."""
    trail_rows: int = Field(20, ge=3)
    """Saturated rows in one column above which it counts as bleeding; no stellar core is taller without bleeding."""
    trail_grow_pixels: int = Field(2, ge=0)
    """Columns masked on either side of a trail, which also receive charge."""
    trail_sigma: float = Field(1.0, gt=0)
    """A trail ends where its excess over the adjacent columns falls below this many sigma of a pixel."""
    edge_reach_rows: int = Field(10, ge=1)
    """Largest distance from the readout edge of a trail that counts as an edge bleed."""
    edge_rows: int = Field(200, ge=16)
    """Rows from the readout edge in which spilt charge is searched for."""
    edge_sigma: float = Field(6.0, gt=0)
    """Deviation of a cell of 8 x 16 pixels from the sky above which it contains spilt charge."""
    edge_fraction: float = Field(0.01, gt=0)
    """The same limit as a fraction of the sky; flat-field structure at the edge is below it."""
    star_sigma: float = Field(7.0, gt=0)
    """The star radius is where its profile falls below this many sigma of a pixel."""
    star_factor: float = Field(2.0, ge=1)
    """Ratio of halo radius to star radius; a Moffat profile falls to a hundredth over it."""
    star_limit_pixels: int = Field(600, ge=10)
    """Largest halo radius; ghosts beyond it are left to the sky model."""


class CosmicRaySettings(Settings):
    """Cosmic-ray detection by gradients steeper than the PSF."""

    minimum_sigma: float = Field(5.0, gt=0)
    """Significance of a cosmic ray's seed pixel; the false rate by noise alone is below 1e-6."""
    gradient_sigma: float = Field(4.5, gt=0)
    """Significance by which the gradient must exceed that of the PSF: a CCD has some 100 000 source pixels, each with
    eight gradients that noise can steepen."""
    sharpness: float = Field(0.80, gt=0, le=1)
    """FWHM of the sharpest source that must not be masked, in units of the seeing: allows for variation over the CCD,
    the minor axis of elongated stars and the cores of brighter-fatter profiles."""
    grow_sigma: float = Field(2.5, gt=0)
    """Significance above which neighbouring pixels are added to a cosmic ray: of their gradient, or of their signal if
    they are fainter than the ray."""
    skirt_sigma: float = Field(1.0, gt=0)
    """The same for the outermost pixels, from which the mask does not grow further."""
    maximum_fraction: float = Field(0.03, gt=0, lt=1)
    """Largest fraction of masked pixels; more indicate a failed search (wrong seeing, for example)."""
    minimum_fwhm_pixels: float = Field(1.5, gt=0)
    """Seeing below which stars and cosmic rays cannot be distinguished."""


class StreakSettings(Settings):
    """Detection of satellite, aircraft and meteor streaks as lines on the binned image."""

    bin_pixels: int = Field(8, ge=2)
    """Binning of the search: about the width of a streak, the optimum for its signal to noise."""
    window_bins: int = Field(128, ge=32)
    """Side of the windows searched separately, bins, so that streaks that do not cross the CCD are found too."""
    clip_sigma: float = Field(4.0, gt=0)
    """Clipping level of bins in the accumulation, so that a few bright ones do not mimic a line."""
    detect_sigma: float = Field(8.0, gt=0)
    """Significance of a line in a window that makes it a streak candidate; sources alone rarely reach it."""
    segment_pixels: int = Field(64, ge=16)
    """Length of the segments in which a streak candidate is verified."""
    segment_sigma: float = Field(3.0, gt=0)
    """Significance above which the streak counts as present in a segment."""
    minimum_fill: float = Field(0.75, gt=0, le=1)
    """Fraction of the segments between the end points that must show the streak; sources show in a few only."""
    minimum_length_pixels: tuple[float, float, float] = (100.0, 500.0, 1000.0)
    """Shortest streak with none, one and both of its ends inside the CCD; galaxies and diffraction spikes end there
    too."""
    minimum_evenness: float = Field(0.2, gt=0, le=1)
    """Lowest ratio of lower to upper quartile of the brightness along a streak; galaxies fade from the middle."""
    minimum_surface_sigma: float = Field(0.2, gt=0)
    """Lowest peak brightness of a streak, in units of the pixel noise."""
    minimum_significance: float = Field(15.0, gt=0)
    """Lowest significance of the whole streak."""
    maximum_fwhm_pixels: float = Field(300.0, gt=0)
    """Largest width of a streak: that of the mirror's image of a light 10 km away."""
    mask_factor: float = Field(1.5, gt=0)
    """Smallest half width of the mask, in units of the streak's FWHM."""
    mask_residual_sigma: float = Field(0.2, gt=0)
    """Brightness at the edge of the mask, in units of the pixel noise: bright streaks are masked wider."""
    maximum_streaks: int = Field(10, ge=1)
    """Largest number of streaks per CCD."""
    link_distance_pixels: float = Field(25.0, gt=0)
    """Largest distance from a trail's line of a streak on another CCD that belongs to it."""
    link_angle_deg: float = Field(0.5, gt=0)
    """Largest difference in direction of streaks of the same trail."""
    link_minimum_ccds: int = Field(2, ge=2)
    """Fewest CCDs that show a trail before it is masked on others."""
    link_margin_pixels: float = Field(4.0, ge=0)
    """Widening of the mask where a trail is predicted but not detected."""
