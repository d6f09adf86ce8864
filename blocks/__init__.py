"""Where things are and how to reach them: folders, calibrations, reference catalogue, compute."""
