"""Picture of a night: sky map, CCD images coloured by depth, and candidates."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray
from PIL import Image

from imaging.pictures.canvas import SEQUENTIAL, encode, new_figure, robust_limits, to_png
from imaging.skymap.footprints import Footprints
from imaging.skymap.model import SkyMap
from imaging.tables import column
from imaging.wcs.sphere import polygon_centre

FloatArray = NDArray[np.float64]


def night_picture(
    skymap: SkyMap, footprints: Footprints, candidates: pa.Table | None = None, *, title: str, labelled: int = 10
) -> bytes:
    """Draw the sky map with its 50 % and 90 % regions, the CCD images coloured by depth, and the candidates.

    Parameters
    ----------
    skymap
        Sky map.
    footprints
        CCD images of the night.
    candidates
        Ranked rows of :data:`imaging.schemas.candidates.CANDIDATES`, best first.
    title
        Heading.
    labelled
        Number of candidates labelled with their rank.

    Returns
    -------
    png
        PNG bytes.
    """
    centre, radius = field_of(skymap, footprints)
    figure, axes = new_figure(7.2, 6.2)
    draw_map(axes, skymap, centre, radius)
    if len(footprints):
        _draw_footprints(figure, axes, footprints, centre)
    if candidates is not None and candidates.num_rows:
        _draw_candidates(axes, candidates, centre, labelled)
    frame_field(axes, centre, radius, title)
    return to_png(figure)


def frame_field(axes: Axes, centre: tuple[float, float], radius: float, title: str) -> None:
    """Set limits, labels and heading of a field of the sky: north up, east left, degrees from its centre."""
    axes.set_xlim(radius, -radius)
    axes.set_ylim(-radius, radius)
    axes.set_aspect("equal")
    axes.set_xlabel("degrees east of the middle")
    axes.set_ylabel("degrees north of the middle")
    axes.set_title(f"{title}\nmiddle at RA {centre[0]:.2f}, Dec {centre[1]:+.2f}", fontsize=10.5)


def project(ra_deg: FloatArray, dec_deg: FloatArray, centre: tuple[float, float]) -> tuple[FloatArray, FloatArray]:
    """Return offsets east and north in degrees in Lambert's azimuthal equal-area projection."""
    ra, dec = np.radians(np.asarray(ra_deg) - centre[0]), np.radians(dec_deg)
    dec0 = np.radians(centre[1])
    cos_distance = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(ra)
    factor = np.degrees(np.sqrt(2.0 / np.maximum(1.0 + cos_distance, 1e-9)))
    east = factor * np.cos(dec) * np.sin(ra)
    north = factor * (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(ra))
    return east, north


def unproject(
    east_deg: FloatArray, north_deg: FloatArray, centre: tuple[float, float]
) -> tuple[FloatArray, FloatArray]:
    """Invert :func:`project`; NaN outside the projected sphere."""
    x, y = np.radians(east_deg), np.radians(north_deg)
    rho = np.hypot(x, y)
    with np.errstate(invalid="ignore", divide="ignore"):
        c = 2.0 * np.arcsin(np.where(rho <= 2.0, rho / 2.0, np.nan))
        dec0 = np.radians(centre[1])
        ratio = np.where(rho > 0, np.sin(c) / np.maximum(rho, 1e-12), 1.0)
        dec = np.arcsin(np.clip(np.cos(c) * np.sin(dec0) + y * ratio * np.cos(dec0), -1.0, 1.0))
        ra = np.arctan2(x * ratio, np.cos(dec0) * np.cos(c) - y * ratio * np.sin(dec0))
    return np.mod(np.degrees(ra) + centre[0], 360.0), np.degrees(dec)


def field_of(skymap: SkyMap, footprints: Footprints) -> tuple[tuple[float, float], float]:
    """Return centre (RA, Dec) and half width, degrees, of a field with all footprints, or of the map if none."""
    if len(footprints):
        corners = footprints.corners.reshape(-1, 2)
        centre = polygon_centre(corners)
        reach = np.hypot(*project(corners[:, 0], corners[:, 1], centre)).max()
        return centre, float(np.clip(1.35 * reach, 1.5, 110.0))
    centre = skymap.peak()
    ra, dec = skymap.centres(skymap.region(0.9))
    return centre, float(np.clip(1.2 * np.hypot(*project(ra, dec, centre)).max(), 1.5, 110.0))


def map_background(skymap: SkyMap, centre: tuple[float, float], radius: float, size: int = 270) -> bytes:
    """Draw the density of a sky map, dark to light, with its 50 % and 90 % regions, as a background.

    Parameters
    ----------
    skymap
        Sky map.
    centre, radius
        Centre (RA, Dec) and half width, degrees, of a field in the projection of :func:`project`.
    size
        Pixels per side.

    Returns
    -------
    png
        PNG bytes, north up and east left.
    """
    grid = raster(skymap, centre, radius, size)
    top = max(float(np.percentile(grid.density, 99.8)), 1e-30)
    shade = 24.0 + 60.0 * np.clip(grid.density / top, 0.0, 1.0) ** 0.6
    for limit, step in ((0.5, 16.0), (0.9, 12.0)):
        shade += step * (grid.level <= limit)
    pixels = np.clip(shade, 0, 255).astype(np.uint8)[::-1, ::-1]
    return encode(Image.fromarray(np.ascontiguousarray(pixels)))


@dataclass(frozen=True, eq=False)
class Raster:
    """A sky map on a square grid: offsets, positions, density and credible level, arrays of (size, size)."""

    east: FloatArray
    north: FloatArray
    ra: FloatArray
    dec: FloatArray
    density: FloatArray
    level: FloatArray


def raster(skymap: SkyMap, centre: tuple[float, float], radius: float, size: int) -> Raster:
    """Sample a sky map on a square grid in the projection of :func:`project`, first row in the south, west first."""
    grid = (np.arange(size) + 0.5) / size * 2.0 * radius - radius
    east, north = np.meshgrid(grid, grid)
    ra, dec = unproject(east, north, centre)
    level = skymap.credible_level_at(ra.ravel(), dec.ravel()).reshape(east.shape)
    density = skymap.probability_density(ra.ravel(), dec.ravel()).reshape(east.shape)
    return Raster(east, north, ra, dec, density, level)


def draw_credible_regions(axes: Axes, grid: Raster) -> None:
    """Draw the outlines of the 50 % and 90 % credible regions, unless the field is outside the inner one."""
    if grid.level.min() < 0.5:
        axes.contour(
            grid.east,
            grid.north,
            grid.level,
            levels=[0.5, 0.9],
            colors="#b2432f",
            linewidths=1.1,
            linestyles=["-", "--"],
        )


def draw_map(axes: Axes, skymap: SkyMap, centre: tuple[float, float], radius: float) -> None:
    """Draw the density of a sky map with its credible regions as the background of a field."""
    grid = raster(skymap, centre, radius, 200)
    top = max(float(np.percentile(grid.density, 99.8)), 1e-30)
    axes.imshow(
        grid.density, origin="lower", extent=(-radius, radius, -radius, radius), cmap="Greys", vmin=0, vmax=1.6 * top,
        interpolation="nearest",
    )  # fmt: skip
    draw_credible_regions(axes, grid)


def _draw_footprints(figure: Figure, axes: Axes, footprints: Footprints, centre: tuple[float, float]) -> None:
    """Draw the outlines of the CCD images, the deepest on top."""
    order = np.argsort(np.nan_to_num(footprints.m50_mag, nan=-1.0), kind="stable")
    depth, corners = footprints.m50_mag[order], footprints.corners[order].reshape(-1, 2)
    scale, colours, known = Normalize(*robust_limits(depth)), colormaps[SEQUENTIAL], np.isfinite(depth)
    edges = np.where(known[:, None], colours(scale(np.nan_to_num(depth))), (0.5, 0.5, 0.5, 1.0))
    polygons = np.stack(project(corners[:, 0], corners[:, 1], centre), axis=-1).reshape(-1, 4, 2)
    axes.add_collection(PolyCollection(list(polygons), facecolors="none", edgecolors=edges, linewidths=0.9))
    if known.any():
        figure.colorbar(ScalarMappable(scale, colours), ax=axes, label="depth of the CCD, m50 [mag]", shrink=0.7)


def _draw_candidates(axes: Axes, candidates: pa.Table, centre: tuple[float, float], labelled: int) -> None:
    east, north = project(column(candidates, "ra"), column(candidates, "dec"), centre)
    axes.plot(east, north, linestyle="", marker=".", markersize=2.5, color="#555555", zorder=3)
    best = slice(0, labelled)
    axes.plot(
        east[best], north[best], linestyle="", marker="o", markersize=8, markerfacecolor="none",
        markeredgecolor="#d55e00", markeredgewidth=1.4, zorder=4,
    )  # fmt: skip
    for number, (x, y) in enumerate(zip(east[best], north[best], strict=True), start=1):
        axes.annotate(
            str(number),
            (x, y),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=9,
            color="#d55e00",
            weight="bold",
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )
