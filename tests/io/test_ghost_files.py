"""Models of ghosts as files: what is read back, and what is refused."""

import json

import pytest

from imaging.difference.ghost_model import GhostFamily, GhostModel
from imaging.errors import InputError
from imaging.io.ghosts import read_ghosts, write_ghosts
from imaging.io.sealed import write_sealed

FAMILY = GhostFamily(displacement=0.017, outer_pixels=600.0, inner_pixels=210.0, level=2e-9, level_error=1e-10)
MODEL = GhostModel(name="ghosts_i.json", band="i", families=[FAMILY])


def test_a_model_is_read_back_for_its_band_only(tmp_path):
    write_ghosts(tmp_path / "ghosts.json", MODEL)
    assert read_ghosts(tmp_path / "ghosts.json", "i") == MODEL
    with pytest.raises(InputError, match=r"another band.*band z"):
        read_ghosts(tmp_path / "ghosts.json", "z")


@pytest.mark.parametrize(
    "change",
    [
        {"outer_pixels": 200.0},
        {"inner_pixels": -1.0},
        {"outer_pixels": 1e5},
        {"displacement": 1.0},
        {"level": -1e-9},
        {"level": 1e-3},
        {"level_error": None},
        {"ratio_error": -0.1},
        {"place_error": 0.0},
        None,
    ],
)
def test_impossible_models_are_refused_by_name(tmp_path, change):
    families = [] if change is None else [FAMILY.model_dump() | change]
    write_sealed(tmp_path / "ghosts.json", json.dumps(MODEL.model_dump() | {"families": families}))
    with pytest.raises(InputError, match=r"calibration file damaged.*ghosts\.json"):
        read_ghosts(tmp_path / "ghosts.json", "i")
