"""Benchmarks of cost and accuracy; run one with ``python -m bench.NAME [--json] [--quick]``.

Processes that a bench starts keep the bytecode of the modules that they compile, as an installed package has it, also
where the environment says otherwise: without it every process compiles 500 modules, for 0.5 CPU s.
"""

import os

import imaging as imaging  # sets the number of library threads before NumPy is loaded

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
