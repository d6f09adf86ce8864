"""Photometric calibration: reference magnitudes in the camera's bands, zero points, and their tie over the exposure."""
