"""Conventions of other programs' images: units and gains, mask planes, pixels without data, noise."""
