"""Depth map of the searched part of a sky map: faintest m50 per pixel and band."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from imaging.bands import BANDS
from imaging.pictures.canvas import SEQUENTIAL, new_figure, robust_limits, to_png
from imaging.pictures.night import draw_credible_regions, field_of, raster
from imaging.skymap.coverage import Coverage
from imaging.skymap.model import SkyMap

SIZE = 180
"""Pixels per side of a panel."""

COLUMNS = 3


def depth_picture(skymap: SkyMap, coverage: Coverage, *, title: str) -> bytes:
    """Draw the faintest m50 of every pixel of the map, one panel per band, with the map's 50 % and 90 % regions.

    Parameters
    ----------
    skymap
        Sky map.
    coverage
        Searched part of the map.
    title
        Heading.

    Returns
    -------
    png
        PNG bytes.
    """
    depths = {band: coverage.depth_mag(band) for band in BANDS}
    shown = [band for band, depth in depths.items() if np.isfinite(depth).any()]
    columns = min(max(len(shown), 1), COLUMNS)
    rows = -(-max(len(shown), 1) // COLUMNS)
    figure, first = new_figure(max(2.6 * columns + 1.3, 5.6), 2.75 * rows + 0.5)
    first.remove()
    known = np.concatenate([depth[np.isfinite(depth)] for depth in depths.values()])
    scale = Normalize(*robust_limits(known))
    panels = []
    for number, band in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, columns, number)
        share = float(coverage.probability[np.isfinite(depths[band])].sum())
        axes.set_title(f"{band}: {share:.1%} of the map", fontsize=9.5)
        _draw_panel(axes, skymap, coverage, band, scale)
        panels.append(axes)
    if panels:
        bar = figure.colorbar(ScalarMappable(scale, colormaps[SEQUENTIAL]), ax=panels, shrink=0.85)
        bar.set_label("deepest m50 [AB mag]")
    else:
        figure.text(0.5, 0.5, "no depth is known", ha="center", va="center")
    figure.suptitle(title, fontsize=10.5)
    return to_png(figure)


def _draw_panel(axes: Axes, skymap: SkyMap, coverage: Coverage, band: str, scale: Normalize) -> None:
    centre, radius = field_of(skymap, coverage.footprints)
    grid = raster(skymap, centre, radius, SIZE)
    depth = coverage.depth_at(grid.ra, grid.dec, band).reshape(SIZE, SIZE)
    axes.imshow(
        np.ma.masked_invalid(depth), origin="lower", extent=(-radius, radius, -radius, radius), cmap=SEQUENTIAL,
        norm=scale, interpolation="nearest",
    )  # fmt: skip
    draw_credible_regions(axes, grid)
    axes.set_xlim(radius, -radius)
    axes.set_aspect("equal")
    axes.set_xlabel("degrees east", fontsize=8.5)
    axes.set_ylabel("degrees north", fontsize=8.5)
    axes.tick_params(labelsize=8)
