"""Stamps of a candidate or detection: search, template and difference."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imaging.difference.triplet import StampTriplet
from imaging.image import FloatImage
from imaging.numerics.robust import mad_sigma
from imaging.pictures.canvas import encode, new_figure, to_png
from imaging.pictures.compass import Compass, draw_bar, draw_compass, draw_on_axes

Stamp = NDArray[np.floating]
BytePanel = NDArray[np.uint8]

GAP = 1
"""Pixels between the panels of a strip."""

GAP_SHADE = 24
"""Shade of these pixels: that of the dark page."""

MARK, MARK_RGB = "#e69f00", (230, 159, 0)
"""Colour of marks, distinguishable from grey without colour vision."""

ZOOM, WIDE_GAP = 4, 6
"""Enlargement, and pixels between the panels, of the pictures of detections."""

INNER = 8
"""Half width of the central part of search and template stamps that sets their stretch, without bright neighbours."""

QUIET = 0.4
"""Shade of zero in a difference: darker than the middle, to leave more range for positive flux."""


def stamp_strip(search: Stamp, template: Stamp, difference: Stamp, compass: Compass | None = None) -> bytes:
    """Combine the three stamps side by side, without scaling, as a small grey PNG for the page of a night.

    Search and template share one stretch; the difference spans four sigma below zero to six above. Non-finite pixels
    are black. The first row is at the bottom, as in image viewers. North and east are on the search stamp, a bar of
    5 arcsec on the difference.

    Parameters
    ----------
    search, template, difference
        (n, n) stamps, electrons, the template on the scale of the search image.
    compass
        Directions and scale; None, if unknown, draws none.

    Returns
    -------
    png
        PNG bytes of an image of 3 n + 2 by n pixels, 64 shades of grey.
    """
    panels = [np.ascontiguousarray(panel[::-1]) for panel in (*_stretch(search, template), _centred(difference))]
    if compass is not None:
        draw_compass(panels[0], compass)
        draw_bar(panels[2], compass)
    gap = np.full((panels[0].shape[0], GAP), GAP_SHADE, dtype=np.uint8)
    strip = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    return encode(Image.fromarray(np.ascontiguousarray(strip >> 2 << 2)))


def panel_pictures(
    search: Stamp, template: Stamp, difference: Stamp, compass: Compass | None = None
) -> dict[str, bytes]:
    """Draw each stamp as a grey PNG of its own, turned by right angles and mirrored so that north is up, east is left.

    Parameters
    ----------
    search, template, difference
        (n, n) stamps, scaled as by :func:`stamp_strip`.
    compass
        Directions; None, if unknown, leaves the stamps as they are.

    Returns
    -------
    pictures
        ``SEARCH``, ``TEMPLATE`` and ``DIFFERENCE`` to PNG bytes of n by n pixels.
    """
    panels = zip(("SEARCH", "TEMPLATE", "DIFFERENCE"), [*_stretch(search, template), _centred(difference)], strict=True)
    pictures = {}
    for name, panel in panels:
        turned = panel if compass is None else compass.turned(panel)
        pictures[name] = encode(Image.fromarray(np.ascontiguousarray(turned[::-1])))
    return pictures


def candidate_picture(
    search: Stamp,
    template: Stamp,
    difference: Stamp,
    *,
    title: str,
    pixel_scale_arcsec: float,
    compass: Compass | None = None,
) -> bytes:
    """Draw the three stamps with a title, labels, north, east, a scale and marks at the candidate's position.

    Parameters
    ----------
    search, template, difference
        (n, n) stamps, electrons, centred on the candidate.
    title
        Heading.
    pixel_scale_arcsec
        Size of a pixel.
    compass
        Directions and scale; None, if unknown, draws a scale bar only.

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
            axes.plot([centre + a for a in along], [centre + a for a in across], color=MARK, linewidth=1.6)
        axes.set_title(name, fontsize=10)
        axes.set_xticks([])
        axes.set_yticks([])
    draw_on_axes(figure.axes[-1], compass, pixel_scale_arcsec, n, MARK)
    figure.suptitle(title, fontsize=10.5)
    return to_png(figure)


def triplet_picture(triplet: StampTriplet, compass: Compass | None = None) -> bytes:
    """Draw the three stamps side by side, enlarged: search and template with one stretch, the difference with its own.

    Parameters
    ----------
    triplet
        The stamps.
    compass
        Directions and scale; None, if unknown, draws none.

    Returns
    -------
    png
        PNG bytes.
    """
    together = np.stack([triplet.search, triplet.template])
    sigma = _noise(triplet.difference)
    low = float(np.nanmedian(together)) - 3.0 * sigma
    middle = triplet.search.shape[0] // 2
    inner = together[:, middle - INNER : middle + INNER + 1, middle - INNER : middle + INNER + 1]
    high = max(float(np.nanpercentile(inner, 99.0)) if np.isfinite(inner).any() else low, low + 12.0 * sigma)
    reach = max(5.0 * sigma, 0.7 * float(np.nanmax(np.abs(_core(triplet.difference)))))
    panels = [_grey(plane, low, high) for plane in together] + [_grey(triplet.difference, -reach, reach, linear=True)]
    for panel in panels:
        _mark(panel)
    if compass is not None:
        draw_compass(panels[0], compass, ZOOM, MARK_RGB)
        draw_bar(panels[2], compass, ZOOM, MARK_RGB)
    gap = np.full((panels[0].shape[0], WIDE_GAP, 3), 255, dtype=np.uint8)
    return encode(Image.fromarray(np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)))


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


def _noise(stamp: FloatImage) -> float:
    sigma = 1.4826 * float(np.nanmedian(np.abs(stamp - np.nanmedian(stamp)))) if np.isfinite(stamp).any() else 0.0
    return sigma if sigma > 0 else 1.0


def _core(stamp: FloatImage) -> FloatImage:
    middle = stamp.shape[0] // 2
    return np.nan_to_num(stamp[middle - 4 : middle + 5, middle - 4 : middle + 5])


def _grey(plane: FloatImage, low: float, high: float, *, linear: bool = False) -> BytePanel:
    """Scale to 8 bits, (ny, nx, 3), brightest is white, row zero at the bottom, enlarged."""
    share = np.clip((np.nan_to_num(plane, nan=low) - low) / (high - low), 0.0, 1.0)
    if not linear:
        share = np.arcsinh(8.0 * share) / np.arcsinh(8.0)
    grey = (255.0 * share[::-1]).astype(np.uint8)
    return np.repeat(np.repeat(np.repeat(grey, ZOOM, axis=0), ZOOM, axis=1)[:, :, None], 3, axis=2)


def _mark(panel: BytePanel) -> None:
    """Draw two short lines beside the centre."""
    centre = panel.shape[0] // 2
    panel[centre - 1 : centre + 1, centre + 7 * ZOOM : centre + 11 * ZOOM] = MARK_RGB
    panel[centre - 11 * ZOOM : centre - 7 * ZOOM, centre - 1 : centre + 1] = MARK_RGB
