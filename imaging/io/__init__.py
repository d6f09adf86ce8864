"""Reading and writing of files; no other part of :mod:`imaging` accesses the disk."""
