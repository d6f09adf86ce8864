"""Picture of a plan: sky map, and the fields in order of observation, marked where templates are missing."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize

from imaging.pictures.canvas import SEQUENTIAL, new_figure, to_png
from imaging.pictures.night import draw_map, frame_field, project
from imaging.planning.order import Observation
from imaging.skymap.model import SkyMap
from imaging.wcs.sphere import polygon_centre

SIDES = 12
"""Corners with which the camera's field is drawn."""

RADIUS_DEG = 1.0


def plan_picture(skymap: SkyMap, observations: Sequence[Observation], *, title: str) -> bytes:
    """Draw the sky map with its 50 % and 90 % regions and the planned fields.

    Parameters
    ----------
    skymap
        Sky map.
    observations
        Fields in order of observation; at least one.
    title
        Heading.

    Returns
    -------
    png
        PNG bytes. A field is coloured by the fraction of its CCDs with templates, and dashed if it has none.
    """
    places = np.array([(item.field.ra_deg, item.field.dec_deg) for item in observations])
    centre = polygon_centre(places) if len(places) > 1 else (float(places[0, 0]), float(places[0, 1]))
    east, north = project(places[:, 0], places[:, 1], centre)
    radius = float(np.clip(np.hypot(east, north).max() + 3.0, 4.0, 110.0))
    figure, axes = new_figure(7.2, 6.2)
    draw_map(axes, skymap, centre, radius)
    share = np.array([_share(item) for item in observations])
    angle = np.arange(SIDES) * 2.0 * np.pi / SIDES
    ring = RADIUS_DEG * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    outlines = np.stack([east, north], axis=-1)[:, None, :] + ring[None]
    colours = colormaps[SEQUENTIAL](share)
    styles = ["--" if value == 0.0 else "-" for value in share]
    axes.add_collection(
        PolyCollection(list(outlines), facecolors="none", edgecolors=colours, linestyles=styles, linewidths=1.2)
    )
    for number, (x, y) in enumerate(zip(east, north, strict=True), start=1):
        axes.annotate(str(number), (x, y), ha="center", va="center", fontsize=7)
    figure.colorbar(
        ScalarMappable(Normalize(0.0, 1.0), colormaps[SEQUENTIAL]),
        ax=axes,
        label="CCDs with a template; dashed: none",
        shrink=0.7,
    )
    frame_field(axes, centre, radius, title)
    return to_png(figure)


def _share(item: Observation) -> float:
    """Return the fraction of a field's CCDs with a template, mean of the bands."""
    field = item.field
    counts = list(field.n_covered.values())
    return sum(counts) / (len(counts) * field.n_ccds) if counts else 0.0
