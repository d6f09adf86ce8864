"""A search by a sky map asks for circles around its region, and keeps what lies in it."""

import json

import numpy as np
import pytest

from deployments.archive.region import cones_of
from deployments.cli import main
from imaging.io.skymaps import write_skymap
from imaging.skymap.build import gaussian_skymap
from imaging.wcs.sphere import separation_deg, unit_vectors

DISTANCE = {"distance_mpc": 90.0, "distance_sigma_mpc": 15.0}


@pytest.mark.parametrize(("ra", "dec", "sigma"), [(0.2, -30.0, 4.0), (10.0, -89.5, 3.0), (187.0, 2.0, 0.3)])
def test_the_circles_contain_the_region_and_little_else(ra, dec, sigma):
    sky = gaussian_skymap(ra, dec, sigma, **DISTANCE)
    cones = cones_of(sky, 0.9)
    random = np.random.default_rng(3)
    some = random.normal(0, 1, (40_000, 3)) * 0.06 * sigma + unit_vectors(ra, dec)
    some /= np.linalg.norm(some, axis=1)[:, None]
    lon, lat = np.degrees(np.arctan2(some[:, 1], some[:, 0])), np.degrees(np.arcsin(some[:, 2]))
    inside = sky.credible_level_at(lon, lat) <= 0.9
    covered = np.zeros(len(lon), bool)
    for cone in cones:
        covered |= separation_deg(cone.ra_deg, cone.dec_deg, lon, lat) <= cone.radius_deg
    assert inside.sum() > 1000
    assert covered[inside].all()
    assert sum(np.pi * cone.radius_deg**2 for cone in cones) < 8.0 * max(sky.area_at_level_deg2(0.9), 3.0)


def test_the_archive_is_asked_for_the_region_only(tmp_path, fake_archive, capsys):
    write_skymap(tmp_path / "map.fits", gaussian_skymap(150.0, 2.0, 2.0, **DISTANCE))
    for number, (ra, dec) in enumerate([(150.0, 2.0), (151.0, 1.0), (158.0, 2.0), (10.0, -30.0)], 1):
        fake_archive.add(b"%d" % number, EXPNUM=number, original_filename="", ra_center=ra, dec_center=dec)
    words = ["--skymap", str(tmp_path / "map.fits"), "--night", "20170101", "20231231", "--bands", "i"]
    assert main.run(["archive", "search", *words, "--site", str(tmp_path), "--json"]) == 0
    assert [file["expnum"] for file in json.loads(capsys.readouterr().out)["files"]] == [1, 2]
    for search in fake_archive.searches:
        low, high = next(condition[1:] for condition in search["search"] if condition[0] == "dec_center")
        assert -12.0 < low < high < 16.0, "a search of years of the whole sky would be refused for its size"
