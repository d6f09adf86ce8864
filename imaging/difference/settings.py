"""Settings of the subtraction."""

from typing import Literal

from pydantic import Field

from imaging.settings import Settings


class KernelSettings(Settings):
    """How the matching kernel is built and fitted (Alard and Lupton 1998; Alard 2000; Becker et al. 2012)."""

    basis: Literal["gaussian", "delta"] = "gaussian"
    """Gaussians times polynomials, or one free value per pixel with a smoothness penalty."""
    sigma_factors: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    """Widths of the Gaussians in units of the width that matches the two seeings; the widest one carries the wings, and
    without it bright stars keep rings."""
    degrees: tuple[int, ...] = (4, 3, 2, 1)
    """Degree of the polynomial of each Gaussian."""
    min_sigma_pixels: float = 0.7
    """Narrowest Gaussian, pixels; a narrower one is not sampled."""
    min_half_width: int = 7
    """Smallest half width of the kernel, pixels."""
    max_half_width: int = 14
    """Largest half width of the kernel, pixels."""
    delta_half_width: int = 6
    """Half width of the delta-function kernel, pixels."""
    delta_penalty: float = 0.1
    """Weight of the penalty on the second differences of a delta-function kernel, relative to the data's."""
    max_order: int = Field(default=2, ge=0, le=3)
    """Highest order in position that cross-validation may choose for the kernel's shape."""
    scale_order: int = Field(default=0, ge=0, le=2)
    """Order in position of the kernel's sum: zero, because both images are flat-fielded for stars."""
    background_order: int = Field(default=2, ge=0, le=3)
    """Order in position of the differential background; first order left 5 % more noise in a test."""
    stamp_half_width: int = 15
    """Half size of the stamps around the sources that fix the kernel, pixels."""
    stamp_cell_pixels: int = 256
    """Side of the cells from which stamps are taken evenly, pixels."""
    stamps_per_cell: int = 3
    """Most stamps per cell."""
    stamp_snr: float = 12.0
    """Lowest signal to noise of a stamp's peak pixel in the image that is convolved."""
    min_stamps: int = 3
    """Fewest stamps of a kernel; with fewer the kernel is computed from the two PSF models."""
    template_noise_share: float = 0.3
    """Share of the convolved image's noise variance that the kernel leaves, for the weights of the fit."""
    error_floor: float = 0.002
    """Error of the model as a share of the brightness, so that the few brightest stars do not rule the fit."""
    clip_sigma: float = 4.0
    """Distance at which a stamp's chi-square is an outlier (variable stars, transients, blends with defects)."""
    max_iterations: int = 6
    """Rounds of clipping at most."""
    cross_validation_folds: int = 5
    """Parts of the stamps that are held out in turn to choose complexity and order."""
    max_sum_error: float = 0.20
    """Largest deviation of the kernel's sum from the ratio of the zero points; beyond, nothing fits together."""
    max_chi2: float = 10.0
    """Largest median reduced chi-square of the stamps."""


class RegistrationSettings(Settings):
    """How the remaining shift between search and template is measured and corrected."""

    correct: bool = True
    """Whether to correct the shift field after the kernel has taken up its smooth part."""
    min_snr: float = 30.0
    """Lowest signal to noise of a source whose shift is measured."""
    scales_pixels: tuple[float, ...] = (150.0, 300.0, 600.0, 1200.0)
    """Correlation lengths that are tried for the shift field, pixels: turbulence is correlated over arcminutes."""
    min_stars: int = 20
    """Fewest sources for a shift field."""
    max_shift_pixels: float = 1.0
    """A larger shift of one source is not believed."""


class NoiseSettings(Settings):
    """How the noise of the difference is whitened and normalised."""

    decorrelate: bool = True
    """Whether to whiten the noise that the convolution has correlated."""
    tile_pixels: int = 256
    """Side of the tiles in which kernel, PSF and noise are taken as constant, pixels."""
    border_pixels: int = 20
    """Reach of the whitening kernel and of the PSF beyond a tile, pixels."""
    normalise_degree: int = 2
    """Degree in position of the factor by which the predicted noise is brought to the measured one."""
    max_normalisation: float = 1.5
    """Largest such factor; beyond, the prediction is wrong and the difference is refused."""
    background_mesh_pixels: int = 128
    """Side of the mesh of the residual background, pixels; zero leaves it out."""
    blank_snr: float = 5.0
    """Template flux, in units of the difference's flux error, below which a pixel counts as blank sky.
    A stricter cut would select on the template's noise, which is part of the difference's."""
    default_scale_error: float = 0.004
    """Relative error of the template model under a source where too few sources are there to measure it."""
    max_scale_error: float = 0.05
    """Largest such error that is believed."""


class MaskSettings(Settings):
    """Which pixels of the difference say nothing."""

    kernel_share: float = 0.8
    """A defect of the convolved image spoils the pixels within the radius that holds this share of the kernel."""
    saturated_growth_pixels: int = 3
    """Growth of saturated pixels and trails of either image, pixels, before the kernel's reach."""
    bright_error: float = 0.15
    """Error of the model of a saturated star's surroundings, as a share of its brightness: beyond the
    kernel's reach the wings of the two images differ."""
    bright_sigma: float = 2.0
    """Pixels around saturated stars are masked where that error exceeds this many sigma of the sky."""


class ZogySettings(Settings):
    """Proper image subtraction in tiles (Zackay, Ofek and Gal-Yam 2016)."""

    max_flux_ratio_error: float = 0.1
    """Largest correction of the flux ratio that the zero points give."""


class SubtractionSettings(Settings):
    """All settings of a subtraction."""

    method: Literal["alard_lupton", "zogy"] = "alard_lupton"
    """Kernel fitted to the images, or proper subtraction from the PSF models."""
    kernel: KernelSettings = KernelSettings()
    """The matching kernel."""
    registration: RegistrationSettings = RegistrationSettings()
    """Relative astrometry."""
    noise: NoiseSettings = NoiseSettings()
    """Noise of the difference."""
    masks: MaskSettings = MaskSettings()
    """Masks of the difference."""
    zogy: ZogySettings = ZogySettings()
    """The second method."""


class DetectionSettings(Settings):
    """What counts as a detection, and what is wrong with one."""

    threshold_sigma: float = Field(default=5.0, gt=3.0)
    """Lowest significance, in true sigma: half a noise peak per CCD."""
    peak_radius_pixels: int = 3
    """A peak is the highest pixel within this distance."""
    stamp_half_width: int = 12
    """Half size of the window in which a detection is measured, pixels."""
    fit_radius_fwhm: float = 1.5
    """Radius of the PSF fit in FWHM."""
    forced_radius_fwhm: float = 2.0
    """Radius of forced photometry in FWHM."""
    max_shift_pixels: float = 2.0
    """Largest distance between the peak and the fitted position; beyond, the fit stays at the peak."""
    psf_error: float = 0.02
    """Error of the PSF as a share of its local value, so that bright transients are not judged by it."""
    dipole_radius_fwhm: float = 2.0
    """Distance within which a peak of the other sign makes a dipole, in FWHM."""
    max_dipole_fraction: float = 0.35
    """Flux of the weaker side over that of the stronger one from which on a detection is a dipole."""
    dipole_sigma: float = 3.0
    """Lowest significance of the weaker side."""
    cosmic_ray_spread: float = -0.008
    """Spread statistic below which, if significant, a detection is sharper than a point source."""
    cosmic_ray_pixel_sigma: float = 6.0
    """Excess of one pixel of the search image over a point source's, in sigma, from which on a detection is a cosmic
    ray: where the search image was convolved, the difference shows rays as wide as stars."""
    spread_sigma: float = 3.5
    """Significance that a spread needs to count."""
    template_spread_error: float = 0.0008
    """Error of the spread statistic per unit of template flux over flux: what is left of a bright star's profile
    changes the shape of its variation."""
    not_psf_spread: float = 0.020
    """Spread statistic above which, if significant, a detection is wider than a point source."""
    max_chi2: float = 3.0
    """Largest reduced chi-square of the PSF fit."""
    max_negative_fraction: float = 0.20
    """Largest share of pixels below minus two sigma in the window (noise alone has 0.023)."""
    max_masked_fraction: float = 0.30
    """Largest share of masked pixels within one FWHM."""
    edge_pixels: int = 10
    """Detections closer to the border than this are flagged."""
    streak_pixels: int = 12
    """Detections closer to a masked streak than this are flagged as its remains."""
    veto_mag: float = 16.0
    """Stars brighter than this have a veto radius."""
    veto_radius_arcsec: float = 5.0
    """Veto radius of a star of magnitude 15."""
    veto_growth: float = 0.12
    """Growth of the veto radius, dex per magnitude."""
    astrometry_floor_arcsec: float = 0.02
    """Error of the coordinates that is added to every position."""


class FakeSettings(Settings):
    """The transients that are added to a copy of the difference to learn how complete the search is."""

    n_blank: int = 160
    """Fakes at random places, on a full CCD; fewer on smaller images."""
    n_hosts: int = 120
    """Fakes on galaxies, on a full CCD."""
    brightest_mag: float = 18.0
    """Brightest magnitude."""
    faintest_mag: float = 24.5
    """Faintest magnitude."""
    threshold_share: float = Field(default=0.4, ge=0.0, le=1.0)
    """Share of fakes whose magnitude is about the threshold of their place: they fix where the efficiency falls, the
    others how far it is complete."""
    threshold_width_mag: float = 0.7
    """How far these are from the threshold at most, magnitudes."""
    separation_pixels: float = 60.0
    """Smallest distance between fakes, so that none sees another."""
    match_radius_fwhm: float = 0.7
    """Distance within which a detection is the fake, in FWHM."""
    bin_mag: float = 0.5
    """Width of the bins of the efficiency, magnitudes."""
    max_host_offset_pixels: float = 4.0
    """Largest offset of a fake from the centre of its host, pixels."""
