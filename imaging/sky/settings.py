"""Settings of the sky subtraction."""

from pydantic import Field

from imaging.settings import Settings


class SkySettings(Settings):
    """Settings of the focal-plane sky fit."""

    maximum_condition: float = Field(1000.0, gt=1)
    """Largest condition number of the design matrix, columns normalised: beyond it the available CCDs cannot separate
    the modes, and one is dropped. One CCD near the camera's centre gives 500, a dozen over the field 3; the sky on the
    available CCDs is well determined in either case, but at 1000 single superpixels begin to matter."""
    minimum_visibility: float = Field(0.02, gt=0, lt=1)
    """Ratio of a mode's amplitude on the available CCDs to that on all CCDs below which the mode is dropped: a ghost at
    the centre of the camera cannot be measured at its edge."""
    clip_sigma: float = Field(3.0, gt=1)
    """Clipping limit of superpixels in sigma; rejects bright sources, halos and ghosts."""
    maximum_iterations: int = Field(10, ge=1)
    """Largest number of clipping iterations."""
    minimum_superpixels_per_mode: int = Field(20, ge=2)
    """Fewest superpixels per fitted mode."""
    minimum_fraction: float = Field(0.5, gt=0, le=1)
    """Fraction of the superpixels that must survive the clipping for the fit of modes to be accepted."""
    maximum_rms_fraction: float = Field(0.02, gt=0)
    """Residual rms, as a fraction of the sky, above which the modes are rejected and a mesh of medians is used."""
    mesh_smoothing: int = Field(5, ge=1)
    """Width of the mesh's median filter in superpixels: wide enough to remove galaxies and halos."""
    mesh_minimum_superpixels: int = Field(16, ge=1)
    """Fewest superpixels of a CCD for its own mesh."""
    residual_limit_fraction: float = Field(0.002, gt=0)
    """Residual of a CCD, as a fraction of the sky, above which its fit is suspicious; if modes were dropped, the mesh
    is used instead."""
