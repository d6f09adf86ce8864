"""One picture per candidate: stamps above the light curve."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from blocks.site import Site
from deployments.cli import main
from deployments.reports.candidates import candidate_table
from imaging.detector.distortion import seed_wcs
from imaging.difference.triplet import StampTriplet
from imaging.io.stamps import StoredStamps, write_stamps
from imaging.io.tables import write_table
from imaging.schemas.candidates import CANDIDATES
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.tables import make_table
from imaging.wcs.header import stamp_keywords
from tasks.engine.jobs import ExitCode

NIGHT, EXPNUM, CCD = 20260817, 1300001, 27
FIRST = (EXPNUM * 100 + CCD) * 100_000 + 3


def candidate(rank: int, name: str, detection_ids: list[int]) -> dict[str, object]:
    known = {"rank": rank, "candidate_id": name, "ra": 10.0, "dec": -30.0, "bands": "i", "snr_best": 12.0}
    known |= {"real_score": 0.9, "mag_first": 21.5, "mjd_first": 61270.0, "detection_ids": detection_ids}
    return {field.name: known.get(field.name) for field in CANDIDATES}


@pytest.fixture
def site(tmp_path) -> Site:
    site = Site.at(tmp_path)
    path = candidate_table(site, NIGHT)
    rows = [candidate(2, "B", [FIRST + 9]), candidate(1, "A", [FIRST - 1, FIRST])]
    write_table(path, pa.Table.from_pylist(rows, schema=CANDIDATES))
    point = {"candidate_id": ["A"], "expnum": [EXPNUM], "band": ["i"], "night": [NIGHT], "ccd": [CCD], "mjd": [61270.0]}
    flux = {"flux": [9e3], "flux_error": [700.0], "snr": [12.9], "mag": [21.5], "mag_error": [0.1], "limit_mag": [22.5]}
    write_table(
        path.with_name("lightcurves.parquet"), make_table(point | flux | {"masked": [False]}, FORCED_PHOTOMETRY)
    )
    rng = np.random.default_rng(1)
    wcs = seed_wcs(CCD, 10.0, -30.0)
    coordinates = stamp_keywords(wcs, 1024.0, 2048.0, 51)
    stamps = []
    for detection in (FIRST + 50, FIRST):
        search, template, difference = rng.normal(size=(3, 51, 51)).astype(np.float32)
        if detection == FIRST:
            difference[22:29, 22:29] = 300.0
        stamps.append(StoredStamps(detection, StampTriplet(search, template, difference), coordinates))
    folder = site.store / "gw" / "exp" / str(NIGHT) / str(EXPNUM) / "dp1" / f"i_{CCD}"
    write_stamps(folder / f"D0{EXPNUM}_i_{CCD}_r1p1_stamps.fits", stamps, {"EXPNUM": EXPNUM, "CCDNUM": CCD})
    return site


def draw(site: Site, capsys, *words: str) -> list[Image.Image]:
    code = main.run(["candidate-pictures", str(NIGHT), "--site", str(site.root), "--json", *words])
    document = json.loads(capsys.readouterr().out)
    assert code is ExitCode.COMPLETE
    return [Image.open(path).convert("L") for path in document["pictures"]]


def test_a_candidate_has_its_stamps_above_its_light_curve(site, capsys):
    first, second = draw(site, capsys)
    assert first.size[1] > 1.4 * second.size[1], "the second has no stamps, only its light curve"
    right = np.asarray(first)[60 : first.size[1] // 3, 2 * first.size[0] // 3 :]
    white = (right == 255).mean(axis=0)
    assert white.max() > 0.2, "the source stands out in the difference"
    folder = candidate_table(site, NIGHT).with_name("pictures")
    assert sorted(path.name for path in folder.iterdir()) == ["0001_A.png", "0002_B.png"]


def test_the_best_ones_only_and_the_same_bytes_again(site, capsys, tmp_path):
    (only,) = draw(site, capsys, "--limit", "1", "--output", str(tmp_path / "x"))
    (again,) = draw(site, capsys, "--limit", "1", "--output", str(tmp_path / "y"))
    buffers = [io.BytesIO(), io.BytesIO()]
    for image, buffer in zip((only, again), buffers, strict=True):
        image.save(buffer, format="PNG")
    assert buffers[0].getvalue() == buffers[1].getvalue()
    assert (tmp_path / "x" / "0001_A.png").read_bytes() == (tmp_path / "y" / "0001_A.png").read_bytes()


def test_a_night_without_candidates_is_bad_input(tmp_path):
    assert main.run(["candidate-pictures", str(NIGHT), "--site", str(tmp_path)]) is ExitCode.BAD_INPUT
