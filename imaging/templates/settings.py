"""Settings of the choice of templates and of their stack."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from imaging.settings import Settings


class TemplateSettings(Settings):
    """Which earlier exposures may serve as templates; the rules are the original's, the ranking is new."""

    min_exptime_s: float = 30.0
    """Shortest exposure, seconds; shorter ones add more noise than depth."""
    min_t_eff: dict[str, float] = Field(
        default_factory=lambda: {"u": 0.2, "g": 0.2, "r": 0.3, "i": 0.3, "z": 0.3, "Y": 0.2, "VR": 0.3}
    )
    """Lowest effective exposure-time factor by band; an exposure whose factor is unknown passes."""
    min_days: float = 15.0
    """Shortest time between template and search, days: a transient of some days must not be in both."""
    min_days_before: float | None = None
    """If set, templates before the search need this distance in days instead of ``min_days``."""
    min_days_after: float | None = None
    """If set, templates after the search need this distance in days instead of ``min_days``."""
    first_night: int = 20100101
    """Earliest night, YYYYMMDD."""
    last_night: int = 99991231
    """Latest night, YYYYMMDD."""
    blacklist: tuple[int, ...] = (
        *(140065, 227396, 227923, 227939, 227952, 227959, 227970, 276825),
        *(375777, 467561, 467585, 467587, 468317, 552909),
    )
    """Exposure numbers never to be used; these are the original's."""
    min_overlap: float = 0.02
    """Smallest useful share of the search CCD; a sliver costs a resampling and covers nothing."""
    max_templates: int = 12
    """Most templates per search CCD; CCDs that meet in it count each."""
    target_covers: int = 4
    """Templates wanted at every place: four leave a quarter of one's noise variance; more cost more than they give."""
    reference_fwhm_arcsec: float = 1.0
    """Seeing at which the ranking is neutral, arcseconds."""
    year_penalty: float = 0.05
    """Loss of rank per year between template and search (proper motions, flat fields that change)."""


class ResamplingInputSettings(Settings):
    """What is worked out on a final image once, before it is compared with any other."""

    repair_gap_pixels: int = Field(default=12, ge=0)
    """Widest defect that is bridged along the row before resampling, pixels."""
    mask_growth_pixels: int = Field(default=2, ge=0)
    """Growth of a template's mask, pixels: the Lanczos kernel's weights beyond two pixels are below 0.03."""


class StackSettings(Settings):
    """How templates are resampled and stacked."""

    OLD_NAMES: ClassVar[Mapping[str, str]] = {"groundwork": "resampling_inputs"}

    resampling_inputs: ResamplingInputSettings = ResamplingInputSettings()
    """Repair and growth; where an image brings the result for other values, it is computed again."""

    map_step_pixels: int = 32
    """Spacing of the exact coordinates in pixels; halved where the accuracy asks for it."""
    map_error_pixels: float = 1e-3
    """Largest error of the interpolated coordinates, pixels."""
    align_max_pixels: float = 8.0
    """Largest offset between the coordinates of search and template that is looked for, pixels (2 arcsec)."""
    align_min_sources: int = 4
    """Fewest common sources for a correction of the template's coordinates."""
    align_linear_sources: int = 30
    """Common sources from which on the correction may change linearly over the image."""
    correlation_tile_pixels: int = 128
    """Side of the tiles in which the correlation of the noise is recorded, pixels."""
    min_zeropoint_stars: int = 10
    """Fewest common stars for a relative zero point; with fewer the header's is trusted."""
    max_zeropoint_correction_mag: float = 0.2
    """Largest correction of a header's zero point by the stars, mag; beyond, the input is left out."""
    zeropoint_snr: float = 50.0
    """Lowest signal to noise of a star that ties the zero points."""
    clip_sigma: float = 4.0
    """Distance from the median at which a pixel of one input is left out, in its own noise."""
    clip_gradient: float = 0.35
    """Allowance for seeing and registration: this share of the local contrast is added to the tolerance, so that the
    cores of stars, which differ between inputs of different seeing, are never clipped."""
    clip_fraction: float = 0.10
    """Allowance for scale differences: this share of the local brightness is added to the tolerance."""
    min_coverage: float = 0.10
    """Below this share of covered pixels there is nothing to do."""
    good_coverage: float = 0.20
    """Below this share of covered pixels the CCD is done, and its quality says ``poorly_covered``."""
