"""What is known of the camera: its CCDs, their amplifiers, where they sit, how the optics distort, what is broken."""
