"""Master calibrations: bias, dome flat, bad-pixel map, sky modes, star flat."""
