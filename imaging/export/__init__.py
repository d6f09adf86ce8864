"""Products under the names and in the formats of the Dark Energy Survey: pure translations, no files."""
