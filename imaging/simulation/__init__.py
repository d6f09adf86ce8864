"""Simulated nights in the observatory's raw format, with calibrations, reference catalogues, sky map and truth.

Only tests and benchmarks read the truth; the processing never does.
"""
