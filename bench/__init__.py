"""What it costs and how accurate it is; run one with ``python -m bench.NAME [--json] [--quick]``."""
