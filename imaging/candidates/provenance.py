"""Provenance of candidates: exposures, templates, code version, settings and calibrations."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from imaging.candidates.crossmatch import with_columns
from imaging.tables import column

CcdKey = tuple[int, int]


@dataclass(frozen=True)
class MadeWith:
    """Provenance common to a list of candidates: code, settings and calibrations.

    Attributes
    ----------
    code_version
        Hash of the code of every step from the raw pixels to the candidates.
    settings_hash
        Hash of the settings of every step.
    calibration_set
        Hash of the calibration manifest, which contains the checksums.
    """

    code_version: str
    settings_hash: str
    calibration_set: str


def add_provenance(
    candidates: pa.Table, forced: pa.Table, templates: Mapping[CcdKey, Sequence[int]], made_with: MadeWith
) -> pa.Table:
    """Fill the provenance columns.

    Parameters
    ----------
    candidates
        Rows of :data:`imaging.schemas.candidates.CANDIDATES`.
    forced
        Rows of :data:`imaging.schemas.difference.FORCED_PHOTOMETRY`, which give the exposures of each candidate.
    templates
        (Exposure, CCD) of a search image to the template exposures subtracted from it.
    made_with
        Code, settings and calibrations.

    Returns
    -------
    candidates
        With ``expnums``, ``templates``, ``code_version``, ``settings_hash`` and ``calibration_set``.
    """
    group, sets = _image_sets(candidates, forced)
    used = [sorted({t for image in images for t in templates.get(image, ())}) for images in sets]
    expnums = pa.array([sorted({expnum for expnum, _ in images}) for images in sets], type=pa.list_(pa.int64()))
    n = candidates.num_rows
    return with_columns(
        candidates,
        expnums=expnums.take(pa.array(group)),
        templates=pa.array(used, type=pa.list_(pa.int64())).take(pa.array(group)),
        **{
            name: pa.array([getattr(made_with, name)] * n, type=pa.string())
            for name in ("code_version", "settings_hash", "calibration_set")
        },
    )


def _image_sets(candidates: pa.Table, forced: pa.Table) -> tuple[NDArray[np.int64], list[list[CcdKey]]]:
    """Return the (n,) index of each candidate's set of images, and the few distinct sets.

    Sets are identified by the sum, modulo 2^64, of a random number per image.
    """
    n = candidates.num_rows
    place = pc.index_in(forced.column("candidate_id"), value_set=candidates.column("candidate_id").combine_chunks())
    known = np.asarray(place.is_valid())
    owner = place.fill_null(0).to_numpy()[known].astype(np.int64)
    keys = column(forced, "expnum")[known] * 100 + column(forced, "ccd").astype(np.int64)[known]
    images, image = np.unique(keys, return_inverse=True)
    tokens = np.random.default_rng(1).integers(1, 1 << 63, len(images) + 1, dtype=np.uint64)
    order = np.argsort(owner, kind="stable")
    owner, image = owner[order], image[order]
    ends = np.searchsorted(owner, np.arange(n + 1))
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(tokens[image], dtype=np.uint64)])
    _, first, group = np.unique(running[ends[1:]] - running[ends[:-1]], return_index=True, return_inverse=True)
    sets = [
        [(int(k) // 100, int(k) % 100) for k in images[np.unique(image[ends[i] : ends[i + 1]])]] for i in first.tolist()
    ]
    return group.astype(np.int64), sets
