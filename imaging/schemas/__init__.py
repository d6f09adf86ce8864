"""The columns of every table that leaves a stage: names, types and, in the field's metadata, units and meaning."""
