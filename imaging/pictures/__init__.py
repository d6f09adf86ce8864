"""Pictures of a night as PNG bytes: small enough for an artifact, readable without colour vision."""
