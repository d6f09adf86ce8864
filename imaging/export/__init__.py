"""Export to the names and formats of Dark Energy Survey products: conversions only, no files."""
