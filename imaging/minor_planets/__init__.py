"""Known minor planets: orbits, motion under the planets' attraction, positions as seen from the telescope."""
