"""Read and write models of the ghosts of bright stars."""

from pathlib import Path

import numpy as np

from imaging.difference.ghost_model import GhostModel
from imaging.errors import InputError
from imaging.io.calibrations import calibration
from imaging.io.damage import DamagedError
from imaging.io.possible import require_possible
from imaging.io.sealed import read_sealed, write_sealed


def write_ghosts(path: Path, model: GhostModel) -> None:
    """Write the ghosts of a band as sealed JSON."""
    write_sealed(path, model.model_dump_json(indent=1))


def read_ghosts(path: Path, band: str) -> GhostModel:
    """Read the ghosts of a band.

    Raises
    ------
    InputError
        If the file is damaged, of another band, or holds what are no possible ghosts.
    """
    with calibration(path):
        found = GhostModel.model_validate_json(read_sealed(path))
        if found.band != band:
            raise InputError(
                "calibration of another band",
                value=f"band {found.band}",
                limit=f"band {band}",
                remedy="correct the manifest, or copy the file of this band",
            )
        if not found.families:
            raise DamagedError("no family of ghosts")
        for family in found.families:
            if not 0.0 <= family.inner_pixels < family.outer_pixels:
                raise DamagedError(f"a ghost from {family.inner_pixels} to {family.outer_pixels} pixels")
            require_possible(np.array([family.displacement]), "ghost_displacement")
            require_possible(np.array([family.outer_pixels]), "ghost_radius")
            require_possible(np.array([family.level, family.level_error]), "ghost_level")
        return found
