"""Settings of image subtraction, detection on the difference, and fakes."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from imaging.masks.settings import StreakSettings
from imaging.settings import Settings
from imaging.templates.settings import StackSettings


class FewSourceSettings(Settings):
    """Sum and shift of the kernel where few sources fix them, and the transients among these sources."""

    max_sources: int = Field(default=20, ge=0)
    """Largest number of stamps that are searched for sources of one image only; among more they are clipped."""
    zeropoint_error: float = Field(default=0.005, gt=0)
    """Relative error of the zero points' ratio, unless three constant sources or more show that it is wrong."""
    shift_pixels: float = Field(default=0.7, gt=0)
    """Error of the relative coordinates per axis, pixels."""
    source_scale: float = Field(default=0.03, gt=0)
    """Scatter of the flux ratios of constant sources (colours, flat fields)."""
    source_shift_pixels: float = Field(default=0.02, gt=0)
    """Scatter of the shifts of sources (turbulence), pixels per axis."""
    sky_error: float = Field(default=0.2, gt=0)
    """Error of the background of a stamp, in units of the noise of a pixel."""
    width_error: float = Field(default=0.02, gt=0)
    """Error of the second moments of the matched PSF, relative to their size."""
    psf_error: float = Field(default=0.1, gt=0)
    """Error of the matched PSF, as a fraction of the brightness."""
    companion_sigma: float = Field(default=5.0, gt=0)
    """Significance of a point source that is in one image only."""
    varied_sigma: float = Field(default=14.0, gt=0)
    """Significance of such a source above which its stamp is left out of a fitted kernel too."""
    max_companions: int = Field(default=2, ge=1)
    """Largest number of such sources per stamp."""


class KernelSettings(Settings):
    """The PSF-matching kernel and its fit (Alard and Lupton 1998; Alard 2000; Becker et al. 2012)."""

    basis: Literal["gaussian", "delta"] = "gaussian"
    """Kernel basis: ``gaussian`` (Gaussians times polynomials) or ``delta`` (one value per pixel, smoothed)."""
    sigma_factors: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(0.5, 1.0, 2.0, 4.0), min_length=1)
    """Widths of the Gaussians in units of the width that matches the two seeings; the widest one models the wings,
    without which bright stars leave rings."""
    degrees: tuple[Annotated[int, Field(ge=0, le=8)], ...] = (4, 3, 2, 1)
    """Degree of the polynomial of each Gaussian."""
    min_sigma_pixels: float = Field(default=0.7, gt=0)
    """Narrowest Gaussian, pixels; narrower ones are undersampled."""
    min_half_width: int = Field(default=7, ge=2)
    """Smallest half width of the kernel, pixels."""
    max_half_width: int = Field(default=28, ge=2, le=30)
    """Largest half width of the kernel, pixels; 14 left rings of false detections where an image of 2.6 arcsec meets a
    template of 1.0."""
    delta_half_width: int = Field(default=6, ge=1, le=15)
    """Half width of the delta-function kernel, pixels."""
    delta_penalty: float = Field(default=0.1, ge=0)
    """Weight of the penalty on the second differences of a delta-function kernel, relative to the data's."""
    max_order: int = Field(default=2, ge=0, le=3)
    """Highest spatial order of the kernel shape from which cross-validation chooses."""
    scale_order: int = Field(default=0, ge=0, le=2)
    """Spatial order of the kernel sum: zero, because both images are flat-fielded for stars."""
    background_order: int = Field(default=2, ge=0, le=3)
    """Spatial order of the differential background; first order left 5 % more noise in a test."""
    stamp_half_width: int = Field(default=15, ge=3, le=64)
    """Smallest half size of the stamps around the sources to which the kernel is fitted, pixels."""
    stamp_reach_fwhm: float = Field(default=2.5, ge=0)
    """Half size of the stamps in units of the broader seeing, where that is more."""
    stamp_cell_pixels: int = Field(default=256, ge=16)
    """Side of the cells over which stamps are distributed evenly, pixels."""
    stamps_per_cell: int = Field(default=3, ge=1)
    """Most stamps per cell."""
    stamp_snr: float = Field(default=12.0, gt=0)
    """Lowest signal to noise of a stamp's peak pixel in the image that is convolved."""
    min_stamps: int = Field(default=3, ge=1)
    """Fewest stamps for a kernel fit; with fewer the kernel is computed from the two PSF models."""
    template_noise_share: float | None = Field(default=None, gt=0, le=1)
    """Fraction of the convolved image's noise variance that remains after convolution, for the weights of the fit;
    None computes it from the kernel of the two PSF models."""
    error_floor: float = Field(default=0.002, ge=0)
    """Model error as a fraction of the brightness, so that the few brightest stars do not dominate the fit."""
    clip_sigma: float = Field(default=4.0, gt=0)
    """Clipping limit of a stamp's chi-square in sigma; rejects variable stars, transients, blends with defects."""
    max_iterations: int = Field(default=6, ge=1)
    """Largest number of clipping iterations."""
    cross_validation_folds: int = Field(default=5, ge=2)
    """Number of cross-validation folds for the choice of kernel complexity and order."""
    max_sum_error: float = Field(default=0.20, gt=0)
    """Largest relative deviation of the kernel sum from the flux ratio of the zero points; beyond, the CCD fails."""
    min_common_share: float = Field(default=0.5, ge=0, le=1)
    """Smallest fraction of the bright sources of the convolved image that the other one has at the same place."""
    max_chi2: float = Field(default=10.0, gt=0)
    """Largest median reduced chi-square of the stamps."""
    few: FewSourceSettings = FewSourceSettings()
    """Match of images with few sources."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Refuse values that contradict each other."""
        if len(self.degrees) != len(self.sigma_factors):
            raise ValueError(
                f"degrees has {len(self.degrees)} values and sigma_factors {len(self.sigma_factors)}; "
                "give one degree for each width"
            )
        if self.max_half_width < self.min_half_width:
            raise ValueError("max_half_width is below min_half_width")
        return self


class RegistrationSettings(Settings):
    """Measurement and correction of the residual shift between search and template."""

    correct: bool = True
    """Correct the residual shift field that the kernel does not absorb."""
    min_snr: float = Field(default=30.0, gt=0)
    """Lowest signal to noise of the sources whose shifts are measured."""
    scales_pixels: tuple[Annotated[float, Field(gt=0)], ...] = (150.0, 300.0, 600.0, 1200.0)
    """Correlation lengths tried for the shift field, pixels: turbulence is correlated over arcminutes."""
    min_stars: int = Field(default=20, ge=3)
    """Fewest sources for a shift field."""
    max_shift_pixels: float = Field(default=1.0, gt=0)
    """Largest shift of a single source; larger ones are rejected."""


class NoiseSettings(Settings):
    """Whitening and normalisation of the difference noise."""

    decorrelate: bool = True
    """Whiten the noise that the convolution has correlated (decorrelation kernel)."""
    tile_pixels: int = Field(default=256, ge=32)
    """Side of the tiles in which kernel, PSF and noise are constant, pixels."""
    border_pixels: int = Field(default=20, ge=0)
    """Margin around a tile for the whitening kernel and the PSF, pixels."""
    normalise_degree: int = Field(default=2, ge=0, le=5)
    """Spatial degree of the factor that scales the predicted noise to the measured noise."""
    max_normalisation: float = Field(default=1.5, gt=1)
    """Largest such factor; beyond, the noise prediction is wrong and the difference is rejected."""
    background_mesh_pixels: int = Field(default=128, ge=0)
    """Mesh size of the residual background, pixels; zero disables its subtraction."""
    blank_snr: float = Field(default=5.0, gt=0)
    """Template flux, in units of the difference's flux error, below which a pixel counts as blank sky.
    A stricter cut would select on the template noise, which is part of the difference noise."""
    default_scale_error: float = Field(default=0.004, ge=0)
    """Relative error of the template model under a source if too few sources are available to measure it."""
    max_scale_error: float = Field(default=0.05, gt=0)
    """Largest accepted relative error of the template model."""


class MaskSettings(Settings):
    """Masking of difference pixels."""

    kernel_share: float = Field(default=0.8, gt=0, lt=1)
    """A defect of the convolved image masks the pixels within the radius that contains this fraction of the kernel."""
    saturated_growth_pixels: int = Field(default=3, ge=0)
    """Growth of the masks of saturated pixels and trails of either image, pixels, before the growth by the kernel."""
    bright_error: float = Field(default=0.005, gt=0)
    """Relative error of the light of a saturated star that no noise accounts for. At 0.15, halos of stars of 4 mag
    masked a third of a CCD, and in crowded fields galaxies beside a star."""
    bright_sigma: float = Field(default=2.0, gt=0)
    """Pixels around saturated stars are masked where that error exceeds this many sigma of the sky, as far as their
    light falls. Light above so many sigma of a pixel is their halo."""
    halo_error: float = Field(default=0.03, ge=0)
    """Relative error of the light of the halo, a part of the noise: beyond the kernel's size the wings of the two
    images differ."""


class ZogySettings(Settings):
    """Proper image subtraction in tiles (Zackay, Ofek and Gal-Yam 2016)."""

    max_flux_ratio_error: float = Field(default=0.1, gt=0)
    """Largest relative correction of the flux ratio given by the zero points."""


class SubtractionSettings(Settings):
    """All settings of image subtraction."""

    method: Literal["alard_lupton", "zogy"] = "alard_lupton"
    """``alard_lupton``: kernel fitted to the images; ``zogy``: proper image subtraction from the PSF models."""
    kernel: KernelSettings = KernelSettings()
    """PSF-matching kernel (``alard_lupton``)."""
    registration: RegistrationSettings = RegistrationSettings()
    """Registration of search and template."""
    noise: NoiseSettings = NoiseSettings()
    """Noise of the difference."""
    masks: MaskSettings = MaskSettings()
    """Masks of the difference."""
    streaks: StreakSettings = StreakSettings(minimum_length_pixels=(180.0, 500.0, 1000.0))
    """Search for streaks on the difference. In cut-outs below 180 pixels a host and its residuals can pass for one."""
    zogy: ZogySettings = ZogySettings()
    """Proper image subtraction (``zogy``)."""


class DetectionSettings(Settings):
    """Detection on the difference, and the cuts that flag detections."""

    threshold_sigma: float = Field(default=5.0, gt=3.0)
    """Detection threshold in sigma of the measured noise; 5 gives half a noise peak per CCD."""
    peak_radius_pixels: int = Field(default=3, ge=1)
    """A peak is the highest pixel within this radius."""
    stamp_half_width: int = Field(default=12, ge=3, le=64)
    """Half size of the window in which a detection is measured, pixels."""
    fit_radius_fwhm: float = Field(default=1.5, gt=0)
    """Radius of the PSF fit in FWHM."""
    forced_radius_fwhm: float = Field(default=2.0, gt=0)
    """Radius of forced photometry in FWHM."""
    max_shift_pixels: float = Field(default=2.0, ge=0)
    """Largest distance between the peak and the fitted position; the fit ends there."""
    psf_error: float = Field(default=0.02, ge=0)
    """Relative error of the PSF model, so that bright transients are not rejected for it."""
    dipole_radius_fwhm: float = Field(default=2.0, gt=0)
    """Largest distance of the two peaks of opposite sign of a dipole, in FWHM."""
    max_dipole_fraction: float = Field(default=0.35, ge=0, le=1)
    """Flux ratio of the weaker to the stronger side above which a detection is a dipole."""
    dipole_sigma: float = Field(default=3.0, ge=0)
    """Lowest significance of a neighbouring peak of opposite sign that is measured."""
    dipole_flag_sigma: float = Field(default=4.0, ge=0)
    """Lowest significance of a dipole's weaker side: noise has a peak of three sigma within two FWHM of one source in
    twenty, which is more than a third of a source of signal to noise 9."""
    cosmic_ray_spread: float = -0.008
    """spread_model below which, if significant, a detection is sharper than a point source."""
    cosmic_ray_pixel_sigma: float = Field(default=6.0, gt=0)
    """Excess of one pixel of the search image over a point source, in sigma, above which a detection is a cosmic ray:
    where the search image was convolved, cosmic rays are as wide as stars on the difference."""
    spread_sigma: float = Field(default=3.5, ge=0)
    """Lowest significance of spread_model for these two cuts."""
    template_spread_error: float = Field(default=0.0008, ge=0)
    """Error of spread_model per unit of template flux over flux: residuals of a bright star's profile change the shape
    of its variation."""
    not_psf_spread: float = 0.020
    """spread_model above which, if significant, a detection is wider than a point source."""
    max_chi2: float = Field(default=3.0, gt=0)
    """Largest reduced chi-square of the PSF fit."""
    max_negative_fraction: float = Field(default=0.20, ge=0, le=1)
    """Largest fraction of pixels below minus two sigma in the window (noise alone gives 0.023)."""
    max_masked_fraction: float = Field(default=0.30, ge=0, le=1)
    """Largest fraction of masked pixels within one FWHM."""
    vouching_score: float = Field(default=0.98, ge=0, le=1)
    """Real/bogus score from which on DIPOLE, COSMIC_RAY, NOT_PSF, NEGATIVE_PIXELS and NEAR_STAR do not reject a
    detection: each of them cuts one feature, the score weighs all."""
    vouching_snr: float = Field(default=50.0, gt=0)
    """Signal to noise from which on STREAK does not reject a detection with that score either: what trails leave is
    fainter, or not star-like."""
    edge_pixels: int = Field(default=10, ge=0)
    """Detections closer to the border than this are flagged."""
    streak_pixels: int = Field(default=12, ge=0)
    """Detections closer to a masked streak than this are flagged STREAK."""
    veto_mag: float = 16.0
    """Faintest star with a veto radius."""
    veto_radius_arcsec: float = Field(default=5.0, ge=0)
    """Veto radius of a star of magnitude 15."""
    veto_growth: float = Field(default=0.12, ge=0)
    """Growth of the veto radius, dex per magnitude."""
    astrometry_floor_arcsec: float = Field(default=0.02, ge=0)
    """Systematic astrometric error added to every position."""


class FakeSettings(Settings):
    """Fakes: transients injected into a copy of the difference to measure the detection efficiency."""

    n_blank: int = Field(default=160, ge=1)
    """Number of fakes at random positions on a full CCD; fewer on smaller images."""
    n_hosts: int = Field(default=120, ge=0)
    """Number of fakes on galaxies on a full CCD."""
    brightest_mag: float = 18.0
    """Brightest magnitude of fakes."""
    faintest_mag: float = 24.5
    """Faintest magnitude of fakes."""
    threshold_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Fraction of fakes with magnitudes near the local detection threshold: they measure where the efficiency falls,
    the others where the search is complete."""
    threshold_width_mag: float = Field(default=0.7, ge=0)
    """Largest difference between these magnitudes and the threshold."""
    separation_pixels: float = Field(default=60.0, gt=0)
    """Smallest distance between fakes, so that they do not overlap."""
    match_radius_fwhm: float = Field(default=0.7, gt=0)
    """Matching radius between fakes and detections, in FWHM."""
    bin_mag: float = Field(default=0.5, gt=0)
    """Width of the efficiency bins, magnitudes."""
    max_host_offset_pixels: float = Field(default=4.0, ge=0)
    """Largest offset of a fake from its host's centre, pixels."""
    star_images: bool = False
    """Whether to draw fakes with images of stars, cut out of the search image, in place of the PSF model, so that they
    show an error of the model that measures them."""
    star_snr: float = Field(default=300.0, gt=0)
    """Lowest signal to noise of these stars."""


class SearchSettings(Settings):
    """All settings of the search of one CCD, except the selection of templates."""

    stack: StackSettings = StackSettings()
    """Template stack."""
    difference: SubtractionSettings = SubtractionSettings()
    """Image subtraction."""
    detection: DetectionSettings = DetectionSettings()
    """Detection and cuts on the difference."""
    fakes: FakeSettings = FakeSettings()
    """Fakes and detection efficiency."""
