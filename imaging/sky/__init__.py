"""Sky subtraction over the whole exposure: mini-skies, focal-plane modes, sky images, star flat, weights."""
