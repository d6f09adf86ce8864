"""Draw finding charts of candidates from the calibrated search images."""

import numpy as np

from blocks.site import Site
from imaging.candidates.reports import Row
from imaging.exposure import exposure_from_header
from imaging.io.images import read_cutout, read_header
from imaging.pictures.compass import Compass
from imaging.pictures.finding_chart import finding_chart
from imaging.wcs.header import stamp_keywords
from imaging.wcs.tpv import TpvWcs

SIDE_PIXELS = 457
"""Side of a chart: two arcminutes."""


def candidate_chart(site: Site, row: Row, detection_id: int | None) -> bytes | None:
    """Draw the finding chart of a candidate from the search image of a detection.

    Parameters
    ----------
    site
        The site.
    row
        Row of :data:`imaging.schemas.candidates.CANDIDATES`.
    detection_id
        The detection; None for the candidate's last one.

    Returns
    -------
    png
        PNG bytes; None if the search image is not at the site.
    """
    detection = detection_id or (row["detection_ids"] or [0])[-1]
    expnum, ccd = detection // 10_000_000, detection // 100_000 % 100
    path = next(iter(sorted(site.store.glob(f"*/exp/*/{expnum}/D*_{ccd:02d}_*_immask.fits"))), None)
    if path is None:
        return None
    header = read_header(path)
    wcs = TpvWcs.from_header(header)
    x, y = (float(value) for value in wcs.sky_to_pixel(row["ra"], row["dec"]))
    corner_x, corner_y = round(x) - SIDE_PIXELS // 2, round(y) - SIDE_PIXELS // 2
    left, bottom = max(corner_x, 0), max(corner_y, 0)
    right = min(corner_x + SIDE_PIXELS, int(header["NAXIS1"]))
    top = min(corner_y + SIDE_PIXELS, int(header["NAXIS2"]))
    pixels = np.full((SIDE_PIXELS, SIDE_PIXELS), np.nan, dtype=np.float32)
    inside = slice(bottom - corner_y, top - corner_y), slice(left - corner_x, right - corner_x)
    pixels[inside] = read_cutout(path, "SCI", slice(bottom, top), slice(left, right))
    compass = Compass.of(stamp_keywords(wcs, x, y, SIDE_PIXELS))  # within half a pixel of the middle: 0.1 arcsec
    assert compass is not None
    about = f"DECam {exposure_from_header(header, path.name).band}, exposure {expnum} CCD {ccd}"
    return finding_chart(pixels, compass, row["ra"], row["dec"], title=row["candidate_id"], about=about)
