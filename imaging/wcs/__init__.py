"""Coordinates: the TPV projection of DECam, and geometry on the sphere."""
