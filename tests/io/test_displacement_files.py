"""Maps of pixel displacements as files: what is read back, and what is refused."""

import json

import pytest

from imaging.astrometry.displacement import PixelDisplacement
from imaging.errors import InputError
from imaging.io.displacement import read_displacement, write_displacement
from imaging.io.sealed import write_sealed

MAP = PixelDisplacement(
    name="pixel_displacement_i_c27.json",
    ccd=27,
    band="i",
    centre=(-200.0, -300.0),
    first_radius=300.0,
    radius_step=4.0,
    ring=[0.01, 0.02, -0.03],
    edges=[[0.3, 0.1, 0.0, 0.0, 0.0]] * 4,
)


def test_a_map_is_read_back(tmp_path):
    write_displacement(tmp_path / "map.json", MAP)
    assert read_displacement(tmp_path / "map.json", 27, "i") == MAP


@pytest.mark.parametrize(("ccd", "band"), [(26, "i"), (27, "z")])
def test_the_map_of_another_ccd_or_band_is_refused(tmp_path, ccd, band):
    write_displacement(tmp_path / "map.json", MAP)
    with pytest.raises(InputError, match=r"another CCD or band.*CCD 27, band i"):
        read_displacement(tmp_path / "map.json", ccd, band)


@pytest.mark.parametrize(
    "change",
    [
        {"ring": [0.01, 3.0]},
        {"ring": [0.01, None]},
        {"edges": [[0.1] * 5] * 3},
        {"edges": [[0.1] * 4] * 4},
        {"radius_step": 0.0},
        {"ring": [], "edges": []},
        {"centre": [1.0]},
    ],
)
def test_impossible_maps_are_refused_by_name(tmp_path, change):
    write_sealed(tmp_path / "map.json", json.dumps(MAP.model_dump() | change))
    with pytest.raises(InputError, match=r"calibration file damaged.*map\.json"):
        read_displacement(tmp_path / "map.json", 27, "i")
