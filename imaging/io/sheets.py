"""Combine pictures vertically: one PNG per candidate with stamps and light curve."""

import io
from collections.abc import Sequence

from PIL import Image

from imaging.pictures.canvas import encode

WHITE = (255, 255, 255)


def sheet(pictures: Sequence[bytes]) -> bytes:
    """Stack pictures vertically on white, each centred.

    Parameters
    ----------
    pictures
        PNG bytes, at least one.

    Returns
    -------
    png
        PNG bytes, as wide as the widest picture.
    """
    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    width, height = max(image.width for image in images), sum(image.height for image in images)
    together = Image.new("RGB", (width, height), WHITE)
    top = 0
    for image in images:
        together.paste(image, ((width - image.width) // 2, top))
        top += image.height
    return encode(together)
