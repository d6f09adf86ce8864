"""How unwanted light and charge are found and masked."""

from pydantic import Field

from imaging.settings import Settings


class BleedSettings(Settings):
    """Bleed trails, edge bleeds and the halos of saturated stars."""

    minimum_pixels: int = Field(7, ge=1)
    """Saturated pixels that make a star; fewer are hot pixels or the hearts of cosmic rays."""
    spill_rows: int = Field(2, ge=0)
    """Rows masked above and below saturated pixels: the last pixel that took up their charge is not full."""
    trail_rows: int = Field(20, ge=3)
    """Saturated rows in one column from which it counts as bleeding: no stellar core is taller before it bleeds."""
    trail_grow_pixels: int = Field(2, ge=0)
    """Columns masked on either side of a trail, which shares its charge with them."""
    trail_sigma: float = Field(1.0, gt=0)
    """A trail ends where its excess over the columns beside it falls below this many sigma of a pixel."""
    edge_reach_rows: int = Field(10, ge=1)
    """A trail that comes this close to the readout edge has run into it."""
    edge_rows: int = Field(200, ge=16)
    """Rows from the readout edge over which spilt charge can lie."""
    edge_sigma: float = Field(6.0, gt=0)
    """Deviation of a cell of 8 x 16 pixels from the sky beyond which it holds spilt charge."""
    edge_fraction: float = Field(0.01, gt=0)
    """The same as a share of the sky, which structure of the flat at the edge stays below."""
    star_sigma: float = Field(7.0, gt=0)
    """The star ends where its profile falls below this many sigma of a pixel."""
    star_factor: float = Field(2.0, ge=1)
    """Halo radius over that radius: with the wings of a Moffat profile a hundredth of the light there remains."""
    star_limit_pixels: int = Field(600, ge=10)
    """Largest halo radius; the ghosts beyond are the sky's business."""


class CosmicRaySettings(Settings):
    """Cosmic rays, found by gradients steeper than the point-spread function allows."""

    minimum_sigma: float = Field(5.0, gt=0)
    """Significance of a pixel that can start a cosmic ray: false ones by noise alone stay below 1e-6."""
    gradient_sigma: float = Field(4.5, gt=0)
    """Significance by which its gradient must exceed that of the point-spread function: a CCD holds some 100 000
    pixels of sources, each with eight chances to be steep by noise."""
    sharpness: float = Field(0.80, gt=0, le=1)
    """FWHM of the sharpest source that must survive, in units of the seeing: covers its variation over the CCD, the
    short axis of elliptic stars and the cores of brighter-fatter profiles."""
    grow_sigma: float = Field(2.5, gt=0)
    """Significance from which neighbours of a cosmic ray belong to it."""
    skirt_sigma: float = Field(1.0, gt=0)
    """The same for the outermost pixels, which nothing grows from."""
    maximum_fraction: float = Field(0.03, gt=0, lt=1)
    """Share of pixels beyond which the search has failed (a wrong seeing, say) and is refused."""
    minimum_fwhm_pixels: float = Field(1.5, gt=0)
    """Seeing below which stars and cosmic rays cannot be told apart."""


class StreakSettings(Settings):
    """Satellites, aircraft and meteors, found as lines on the binned image."""

    bin_pixels: int = Field(8, ge=2)
    """Binning of the search: about the width of a streak, which is what gathers its light best."""
    window_bins: int = Field(128, ge=32)
    """Side of the windows that are searched separately, bins: what does not cross the CCD is found as well."""
    clip_sigma: float = Field(4.0, gt=0)
    """Bins are clipped here in the accumulation, lest a few bright ones make a line."""
    detect_sigma: float = Field(8.0, gt=0)
    """Significance of a line in a window that is looked at more closely; sources alone rarely reach it."""
    segment_pixels: int = Field(64, ge=16)
    """Length of the pieces along which a candidate is verified."""
    segment_sigma: float = Field(3.0, gt=0)
    """Significance of the streak in a piece for it to count as present there."""
    minimum_fill: float = Field(0.75, gt=0, le=1)
    """Share of the pieces between its end points that must show the streak: sources show in a few only."""
    minimum_length_pixels: tuple[float, float, float] = (100.0, 500.0, 1000.0)
    """Shortest streak with none, one and both of its ends inside the CCD: so do galaxies and diffraction spikes end."""
    minimum_evenness: float = Field(0.2, gt=0, le=1)
    """Lower over upper quartile of the brightness along a streak; a galaxy's falls off from its middle."""
    minimum_surface_sigma: float = Field(0.2, gt=0)
    """Faintest streak, peak brightness in units of the pixel noise."""
    minimum_significance: float = Field(15.0, gt=0)
    """Significance of the whole streak."""
    maximum_fwhm_pixels: float = Field(150.0, gt=0)
    """Widest streak that is believed."""
    mask_factor: float = Field(1.5, gt=0)
    """Masked half width in units of the FWHM, at least."""
    mask_residual_sigma: float = Field(0.2, gt=0)
    """Light left outside of the mask, in units of the pixel noise: bright streaks are masked wider."""
    maximum_streaks: int = Field(10, ge=1)
    """Streaks per CCD at most."""
    link_distance_pixels: float = Field(25.0, gt=0)
    """Distance from a trail's line within which a streak on another CCD belongs to it."""
    link_angle_deg: float = Field(0.5, gt=0)
    """Difference in direction that is allowed."""
    link_minimum_ccds: int = Field(2, ge=2)
    """CCDs that must show a trail before it is masked on others."""
    link_margin_pixels: float = Field(4.0, ge=0)
    """Widening of the mask where a trail is predicted, not seen."""
