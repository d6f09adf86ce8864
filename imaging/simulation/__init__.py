"""Simulated nights in the observatory's raw format, with everything a night needs beside it and the truth.

Only tests and benches open the truth; the processing never does.
"""
