"""Write candidates as DS9 region files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from imaging.io.atomic import write_text
from imaging.io.images import read_header
from imaging.schemas.candidates import CandidateFlag
from imaging.skymap.footprints import Footprints, covering
from imaging.tables import column
from imaging.wcs.tpv import TpvWcs

REGION_RADIUS_ARCSEC = 3.0

BEST_RANK = 10
"""Candidates up to this rank are drawn green in region files."""


def write_regions(path: Path, candidates: pa.Table, image: Path | None = None) -> None:
    """Write candidates as a DS9 region file, in ICRS or in the pixels of an image.

    Parameters
    ----------
    path
        File to write.
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    image
        A calibrated image with a plane SCI; only candidates on it are written, in its pixels.

    Raises
    ------
    StorageError
        If the file cannot be written, or the image cannot be read.
    """
    if image is None:
        write_text(path, region_text(candidates))
        return
    header = read_header(image)
    wcs = TpvWcs.from_header(header)
    x, y = wcs.sky_to_pixel(column(candidates, "ra"), column(candidates, "dec"))
    inside = (np.abs(2 * x + 1 - header["NAXIS1"]) <= header["NAXIS1"]) & (
        np.abs(2 * y + 1 - header["NAXIS2"]) <= header["NAXIS2"]
    )
    pixels = np.stack([x, y], axis=1)[inside] + 1.0
    write_text(path, region_text(candidates.filter(pa.array(inside)), pixels, image.name))


def region_text(candidates: pa.Table, pixels: NDArray[np.float64] | None = None, name: str = "") -> str:
    """Format candidates as a DS9 region file: circles with rank and score, coloured by class.

    Green: best ranks; red: flagged; yellow: others.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    pixels
        (n, 2) positions in the frame ``image`` of an image, whose first pixel is (1, 1); None for ICRS.
    name
        Name of this image.
    """
    lines = ["# Region file format: DS9 version 4.1", "global width=2 font='helvetica 11 normal roman'"]
    if pixels is None:
        lines.append("icrs")
    else:
        about = f"# pixels of {name}: the centre of the first is (1, 1); tables of the pipeline count from 0"
        lines += [about, "image"]
    doubtful = CandidateFlag.MOVER | CandidateFlag.KNOWN_VARIABLE | CandidateFlag.ON_STAR | CandidateFlag.IN_HISTORY
    rows = candidates.select(["candidate_id", "ra", "dec", "rank", "rank_score", "flags"]).to_pylist()
    for number, row in enumerate(rows):
        rank = row["rank"] or 0
        colour = "red" if (row["flags"] or 0) & doubtful else "green" if 0 < rank <= BEST_RANK else "yellow"
        score = "" if row["rank_score"] is None else f" {row['rank_score']:.1f}"
        text = f"{rank}{score}" if rank else row["candidate_id"]
        place = f"{row['ra']:.7f},{row['dec']:.7f}" if pixels is None else "{:.2f},{:.2f}".format(*pixels[number])
        circle = f'circle({place},{REGION_RADIUS_ARCSEC}")'
        lines.append(f"{circle} # color={colour} text={{{text}}} tag={{{row['candidate_id']}}}")
    return "\n".join(lines) + "\n"


def write_ccd_regions(
    folder: Path,
    candidates: pa.Table,
    footprints: Footprints,
    stem: Callable[[int, str, int], str] = "D{:08d}_{}_{:02d}".format,
) -> list[Path]:
    """Write one DS9 region file for each CCD image with candidates.

    Parameters
    ----------
    folder
        Output folder.
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    footprints
        CCD images.
    stem
        Function of exposure number, band and CCD that returns the stem of the name; ``_candidates.reg`` is added.

    Returns
    -------
    paths
        The files written, in the order of the footprints.

    Raises
    ------
    StorageError
        If a file cannot be written.
    """
    paths = []
    for number, chosen in _candidates_by_footprint(candidates, footprints):
        name = stem(int(footprints.expnum[number]), str(footprints.band[number]), int(footprints.ccd[number]))
        path = Path(folder) / f"{name}_candidates.reg"
        write_text(path, region_text(chosen), flush=False)
        paths.append(path)
    return paths


def _candidates_by_footprint(candidates: pa.Table, footprints: Footprints) -> Iterator[tuple[int, pa.Table]]:
    footprint, position = covering(footprints, column(candidates, "ra"), column(candidates, "dec"))
    for number in sorted(set(footprint.tolist())):
        yield number, candidates.take(pa.array(position[footprint == number]))
