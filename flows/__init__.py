"""The flows: one per file, each readable as a flowchart of its steps."""
