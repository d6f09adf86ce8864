"""Features of detections labelled by a team, from the products of a site."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from blocks.site import Site
from imaging.difference.labelled import detections_of_table, labels_by_detection
from imaging.difference.score import FEATURES, features_of
from imaging.errors import InputError
from imaging.io.candidates import read_labels
from imaging.io.psf import read_psf
from imaging.io.tables import read_table
from imaging.tables import column
from tasks.rank import detection_image

Labelled = tuple[np.ndarray, np.ndarray, np.ndarray]


def own_labels(site: Site, files: Sequence[Path]) -> Labelled:
    """Return features, labels and scores of labelled detections.

    Parameters
    ----------
    site
        Site with the products of the difference stage.
    files
        Label files saved from the pages of nights.

    Returns
    -------
    features, is_real, score
        (n, k) float, (n,) bool and (n,) float.

    Raises
    ------
    InputError
        If a file has no labels, or no labelled detection is among the site's products.
    """
    label = labels_by_detection(read_labels(path) for path in files)
    found: list[Labelled] = []
    for image in sorted({detection_image(detection) for detection in label}):
        expnum, ccd = image.split("_")
        for path in sorted(site.store.glob(f"*/exp/*/{expnum}/*/*_{ccd}/*_detections.parquet")):
            table = read_table(path)
            ids = column(table, "detection_id").tolist()
            rows = [number for number, detection in enumerate(ids) if detection in label]
            psf = path.with_name(path.name.replace("detections.parquet", "diffpsf.fits"))
            if not rows or "pixel_excess" not in table.schema.names:
                continue  # products of an earlier version lack columns for some features
            detections = detections_of_table(table.take(pa.array(rows)))
            features = features_of(detections, read_psf(psf).fwhm_pixels)
            found.append((features, np.array([label[ids[row]] for row in rows]), detections.score))
    if not found:
        raise InputError("no labelled detection is among the site's products", value=f"{len(label)} labelled")
    features, is_real, score = (np.concatenate([part[k] for part in found]) for k in range(3))
    assert features.shape[1] == len(FEATURES)
    return features, is_real.astype(bool), score
