"""How the sky of an exposure is fitted."""

from pydantic import Field

from imaging.settings import Settings


class SkySettings(Settings):
    """Settings of the focal-plane sky fit."""

    maximum_condition: float = Field(1000.0, gt=1)
    """Largest condition number of the design matrix, columns normalised: beyond it the CCDs present cannot tell the
    modes apart, and one is given up. One CCD near the camera's centre gives 500, a dozen over the field 3; the sky on
    the CCDs present is well determined in either case, but at 1000 single superpixels begin to show."""
    minimum_visibility: float = Field(0.02, gt=0, lt=1)
    """Size of a mode on the CCDs present over its size on all CCDs below which it is given up: a ghost at the centre of
    the camera cannot be measured at its edge."""
    clip_sigma: float = Field(3.0, gt=1)
    """Clipping of superpixels that bright sources, halos or ghosts have spoilt."""
    maximum_iterations: int = Field(10, ge=1)
    """Rounds of clipping at most."""
    minimum_superpixels_per_mode: int = Field(20, ge=2)
    """Superpixels that each fitted mode must rest on."""
    minimum_fraction: float = Field(0.5, gt=0, le=1)
    """Share of the superpixels that must survive the clipping for the modes to be believed."""
    maximum_rms_fraction: float = Field(0.02, gt=0)
    """Residual rms, as a share of the sky, above which the modes do not describe this sky and the mesh is taken."""
    mesh_smoothing: int = Field(5, ge=1)
    """Superpixels of the median filter of the mesh: wide enough to pass over galaxies and halos."""
    mesh_minimum_superpixels: int = Field(16, ge=1)
    """Superpixels of its own that a CCD's mesh must rest on."""
    residual_limit_fraction: float = Field(0.002, gt=0)
    """Residual of a CCD, as a share of the sky, above which its fit counts as suspicious; if modes had to be given up,
    the mesh is taken instead."""
