"""Pictures and pages of a night: small PNGs for Prefect artifacts, readable without colour vision."""
