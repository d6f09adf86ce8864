"""Maintenance of a site: step records, clean-up, and the flows that run on a schedule."""
