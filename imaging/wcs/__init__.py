"""World coordinates: the TPV projection of DECam, conversion of other projections, spherical geometry."""
