"""Remove the instrument's signature: from raw ADU to electrons on a flat response."""
