"""Stamps of a candidate: search, template and difference."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.numerics.robust import mad_sigma
from imaging.pictures.canvas import encode, new_figure, to_png

Stamp = NDArray[np.floating]
BytePanel = NDArray[np.uint8]

GAP = 1
"""Pixels between the panels of a strip."""

GAP_SHADE = 24
"""Shade of these pixels: that of the dark page."""

QUIET = 0.4
"""Shade of zero in a difference: darker than the middle, to leave more range for positive flux."""


def stamp_strip(search: Stamp, template: Stamp, difference: Stamp) -> bytes:
    """Combine the three stamps side by side, without scaling, as a small grey PNG for the page of a night.

    Search and template share one stretch; the difference spans four sigma below zero to six above. Non-finite pixels
    are black. The first row is at the bottom, as in image viewers.

    Parameters
    ----------
    search, template, difference
        (n, n) stamps, electrons, the template on the scale of the search image.

    Returns
    -------
    png
        PNG bytes of an image of 3 n + 2 by n pixels, 64 shades of grey.
    """
    panels = [*_stretch(search, template), _centred(difference)]
    height = panels[0].shape[0]
    gap = np.full((height, GAP), GAP_SHADE, dtype=np.uint8)
    strip = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    return encode(Image.fromarray(np.ascontiguousarray(strip[::-1] >> 2 << 2)))


def candidate_picture(
    search: Stamp, template: Stamp, difference: Stamp, *, title: str, pixel_scale_arcsec: float
) -> bytes:
    """Draw the three stamps with a title, labels, a scale and marks at the candidate's position.

    Parameters
    ----------
    search, template, difference
        (n, n) stamps, electrons, centred on the candidate.
    title
        Heading.
    pixel_scale_arcsec
        Size of a pixel.

    Returns
    -------
    png
        PNG bytes.
    """
    figure, first = new_figure(7.2, 2.75)
    first.remove()
    panels = [*_stretch(search, template), _centred(difference)]
    n = search.shape[0]
    centre = (n - 1) / 2
    for number, (panel, name) in enumerate(zip(panels, ("search", "template", "difference"), strict=True), start=1):
        axes = figure.add_subplot(1, 3, number)
        axes.imshow(panel, cmap="gray", vmin=0, vmax=255, origin="lower", interpolation="nearest")
        for along, across in (((3, 8), (0, 0)), ((0, 0), (3, 8))):
            axes.plot([centre + a for a in along], [centre + a for a in across], color="#e69f00", linewidth=1.6)
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    length = 5.0 / pixel_scale_arcsec
    last = figure.axes[-1]
    last.plot([2, 2 + length], [2.5, 2.5], color="#e69f00", linewidth=2)
    last.text(2, 4, '5"', color="#e69f00", fontsize=9)
    figure.suptitle(title, fontsize=10.5)
    return to_png(figure)


def _stretch(search: Stamp, template: Stamp) -> tuple[BytePanel, BytePanel]:
    """Scale both stamps equally: an inverse hyperbolic sine from two sigma below the sky to the brightest pixels."""
    both = np.concatenate([search.ravel(), template.ravel()]).astype(float)
    both = both[np.isfinite(both)]
    if both.size == 0:
        blank = np.zeros(search.shape, dtype=np.uint8)
        return blank, blank
    sky, sigma = float(np.median(both)), max(mad_sigma(both), 1e-6)
    top = max(float(np.percentile(both, 99.7)), sky + 6.0 * sigma)

    def scaled(stamp: Stamp) -> BytePanel:
        values = np.nan_to_num(np.asarray(stamp, dtype=float), nan=-np.inf)
        x = np.clip((values - sky + 2.0 * sigma) / (3.0 * sigma), 0.0, None)
        return _bytes(np.arcsinh(x) / np.arcsinh((top - sky + 2.0 * sigma) / (3.0 * sigma)))

    return scaled(search), scaled(template)


def _centred(difference: Stamp) -> BytePanel:
    values = np.asarray(difference, dtype=float)
    finite = values[np.isfinite(values)]
    sigma = max(mad_sigma(finite), 1e-6) if finite.size else 1.0
    centre = float(np.median(finite)) if finite.size else 0.0
    return _bytes(np.nan_to_num(QUIET + (values - centre) / (10.0 * sigma), nan=0.0))


def _bytes(values: NDArray[np.float64]) -> BytePanel:
    return (np.clip(values, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
