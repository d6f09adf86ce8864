"""Photometric calibration: reference magnitudes in the camera's bands, and zero points of CCDs and exposures."""
