"""Difference imaging: matching, subtraction, noise, detection, fakes, scores and forced photometry."""
