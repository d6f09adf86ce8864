"""What runs, in which order: one flow per file, each reads like its flowchart."""
