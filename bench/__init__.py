"""What it costs and how accurate it is; run one with ``python -m bench.NAME [--json] [--quick]``."""

import imaging as imaging  # pins the thread pools of the libraries before NumPy is loaded
