"""The camera: CCDs, amplifiers, focal-plane geometry, optical distortion, crosstalk, known faults."""
