"""Is a product what it claims to be, and how good was the night: verification, grades, effective exposure."""
