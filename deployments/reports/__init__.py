"""Candidates of a night: lists, selections, pictures, and reports to other systems."""
