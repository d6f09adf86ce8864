"""Where files are opened: the only place of :mod:`imaging` that touches the disk."""
