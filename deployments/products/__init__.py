"""Products of processed exposures: found by version, exported as the original's tables, compared with the truth."""
