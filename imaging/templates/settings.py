"""Settings of template selection, resampling and stacking."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from imaging.settings import Settings

SMALLEST_TILE, TILES_ACROSS = 32, 8
"""Side of the smallest tiles of the noise correlation, pixels; fewest tiles across an image with larger ones."""


class TemplateSettings(Settings):
    """Selection of template exposures; the cuts are those of the original pipeline, the ranking is new."""

    min_exptime_s: float = 30.0
    """Shortest exposure, seconds; shorter ones add more noise than depth."""
    min_t_eff: dict[str, float] = Field(
        default_factory=lambda: {"u": 0.2, "g": 0.2, "r": 0.3, "i": 0.3, "z": 0.3, "Y": 0.2, "VR": 0.3}
    )
    """Lowest effective exposure-time factor by band; exposures with unknown factor pass."""
    spare_t_eff_share: float = Field(default=0.3, gt=0, le=1)
    """Where no exposure that passes all cuts covers a part of a CCD, those that fail ``min_t_eff`` alone and have at
    least this share of it are taken: a shallow search finds more than none. 1 takes none of them."""
    min_days: float = 15.0
    """Shortest time between template and search, days, so that a transient of a few days is not in both."""
    min_days_before: float | None = None
    """If set, replaces ``min_days`` for templates taken before the search."""
    min_days_after: float | None = None
    """If set, replaces ``min_days`` for templates taken after the search."""
    first_night: int = 20100101
    """Earliest night, YYYYMMDD."""
    last_night: int = 99991231
    """Latest night, YYYYMMDD."""
    blacklist: tuple[int, ...] = (
        *(140065, 227396, 227923, 227939, 227952, 227959, 227970, 276825),
        *(375777, 467561, 467585, 467587, 468317, 552909),
    )
    """Exposure numbers never used; the default list is that of the original pipeline."""
    min_overlap: float = 0.02
    """Smallest fraction of the search CCD that a template must cover; slivers cost a resampling and add nothing."""
    max_templates: int = 12
    """Largest number of template CCDs per search CCD; adjacent CCDs of one exposure count separately."""
    target_covers: int = 4
    """Number of templates to reach at every position: four have a quarter of one template's noise variance; more cost
    more than they gain."""
    broad_ratio: float = Field(default=1.4, gt=1)
    """Seeing relative to that of the sharpest template chosen above which a template counts as broad."""
    broad_covers: int = Field(default=2, ge=0)
    """Number of templates at a position beside which no broad one is used: it broadens their stack and adds little. On
    a hard sky a template out of focus beside two good ones raised the false detections from 2 to 7.5 per CCD, for 0.08
    mag of depth."""
    reference_fwhm_arcsec: float = 1.0
    """Seeing at which the ranking is neutral, arcseconds."""
    year_penalty: float = 0.05
    """Loss of rank per year between template and search (proper motions, flat fields that change)."""


class ResamplingInputSettings(Settings):
    """Preparation of a final image for resampling, computed once and stored with the image."""

    repair_gap_pixels: int = Field(default=12, ge=0)
    """Widest defect interpolated along the row before resampling, pixels."""
    mask_growth_pixels: int = Field(default=2, ge=0)
    """Growth of a template's mask, pixels: the Lanczos kernel's weights beyond two pixels are below 0.03."""


class StackSettings(Settings):
    """Resampling and stacking of templates."""

    OLD_NAMES: ClassVar[Mapping[str, str]] = {"groundwork": "resampling_inputs"}

    resampling_inputs: ResamplingInputSettings = ResamplingInputSettings()
    """Repair and mask growth before resampling; recomputed if an image was stored with other values."""

    map_step_pixels: int = Field(default=32, ge=2)
    """Spacing of the exactly computed coordinates in pixels; halved where map_error_pixels requires it."""
    map_error_pixels: float = Field(default=1e-3, gt=0)
    """Largest error of the interpolated coordinates, pixels."""
    align_max_pixels: float = Field(default=8.0, gt=0)
    """Largest offset searched between the coordinates of search and template, pixels (2 arcsec)."""
    align_wide_arcsec: float = Field(default=60.0, ge=0)
    """Largest offset searched where few sources agree within ``align_max_pixels``, arcseconds."""
    align_wide_deg: float = Field(default=2.0, ge=0)
    """Largest rotation searched there, degrees."""
    align_min_share: float = Field(default=0.3, ge=0, le=1)
    """Fraction of the sources expected in common below which larger offsets and rotations are tried."""
    align_max_rms_pixels: float = Field(default=0.5, gt=0)
    """Scatter of the common sources above which they are tried too, pixels."""
    align_min_sources: int = Field(default=4, ge=1)
    """Fewest common sources to correct the template's coordinates."""
    align_linear_sources: int = Field(default=30, ge=4)
    """Fewest common sources to fit a correction that is linear over the image."""
    correlation_tile_pixels: int = Field(default=128, ge=SMALLEST_TILE, multiple_of=SMALLEST_TILE)
    """Side of the tiles in which the noise correlation is stored, pixels; smaller in a small image."""
    min_zeropoint_stars: int = Field(default=10, ge=1)
    """Fewest common stars for a relative zero point; with fewer the header's is used."""
    max_zeropoint_correction_mag: float = Field(default=0.2, gt=0)
    """Largest correction of a header's zero point by the common stars, mag; inputs beyond it are rejected."""
    zeropoint_snr: float = Field(default=50.0, gt=0)
    """Lowest signal to noise of the stars used for relative zero points."""
    clip_sigma: float = Field(default=4.0, gt=0)
    """Clipping limit: deviation of an input's pixel from the median in units of its noise."""
    clip_gradient: float = Field(default=0.35, ge=0)
    """Tolerance for seeing and registration: this fraction of the local contrast is added to the clipping limit, so
    that cores of stars, which differ between inputs of different seeing, are not clipped."""
    clip_fraction: float = Field(default=0.10, ge=0)
    """Tolerance for scale differences: this fraction of the local brightness is added to the clipping limit."""
    min_coverage: float = Field(default=0.10, ge=0, le=1)
    """Fraction of covered pixels below which the CCD is skipped."""
    good_coverage: float = Field(default=0.20, ge=0, le=1)
    """Fraction of covered pixels below which the CCD is processed but marked ``poorly_covered``."""

    def correlation_tile(self, shape: tuple[int, ...]) -> int:
        """Return the side of the tiles for the noise correlation of an image, pixels.

        The sub-pixel phases vary within a tile. Over the few tiles of a small image this does not average out.

        Parameters
        ----------
        shape
            (ny, nx) of the image.
        """
        return min(self.correlation_tile_pixels, max(min(shape) // TILES_ACROSS // SMALLEST_TILE, 1) * SMALLEST_TILE)
