"""Plan a night: when fields are visible from the telescope, and which to observe in which order."""
