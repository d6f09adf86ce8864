"""Nights and what arrives for them: the registry, raw files, gravitational-wave alerts, sky maps."""
