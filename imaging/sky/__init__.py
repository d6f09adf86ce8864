"""The sky of a whole exposure: mini-skies, focal-plane modes, sky images, weights."""
