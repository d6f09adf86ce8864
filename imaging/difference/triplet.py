"""The stamps of one position. Apart from how they are cut, so that their readers do not depend on the difference."""

from dataclasses import dataclass

from imaging.image import FloatImage

STAMP_SIDE = 51
"""Side of a stamp in pixels, as in the original pipeline."""


@dataclass(frozen=True, eq=False)
class StampTriplet:
    """Three stamps about one position, (51, 51) float32 each, electrons of the search image; NaN outside the image.

    Attributes
    ----------
    search, template, difference
        The search image, the matched template, and the whitened difference.
    """

    search: FloatImage
    template: FloatImage
    difference: FloatImage
