"""Benchmarks of cost and accuracy; run one with ``python -m bench.NAME [--json] [--quick]``."""

import imaging as imaging  # sets the number of library threads before NumPy is loaded
