"""Extraction flags of catalogued sources (SExtractor's FLAGS)."""

from enum import IntFlag


class CatalogueFlag(IntFlag):
    """Extraction flags, with SExtractor's values."""

    NEIGHBOURS = 1  # neighbours or masks occupy more than a tenth of the AUTO ellipse
    DEBLENDED = 2  # split from another source
    SATURATED = 4  # a saturated pixel in the isophote
    TRUNCATED = 8  # the AUTO ellipse or the isophote reaches the border
    APERTURE_INCOMPLETE = 16  # masked pixels in the AUTO ellipse without a replacement
