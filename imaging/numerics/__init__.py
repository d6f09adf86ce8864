"""Numerical functions used by several stages: robust statistics, local backgrounds, connected pixels."""
