"""Unusual nights: no detections, one exposure, a map without distances, missing stamps."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bench.candidates import prepare
from bench.ranked_site import write_site
from blocks.nights import read_night
from blocks.site import Site
from deployments.cli import main
from imaging.candidates.crossmatch import with_columns
from imaging.candidates.settings import AssociateSettings, CandidateSettings
from imaging.io.candidates import read_candidates
from imaging.schemas.candidates import CandidateFlag
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT
from imaging.skymap.build import skymap_from_flat
from imaging.skymap.footprints import Footprints
from imaging.skymap.settings import CoverageSettings
from imaging.tables import column
from tasks.rank import rank
from tasks.ranked_tables import rerank_job

COARSE = CandidateSettings(coverage=CoverageSettings(order=9), associate=AssociateSettings(lone_probability=0.0))
"""Candidates of one detection stay, whatever their probability to be real (``tests/candidates/test_chance.py``)."""
N = 25
FIELDS = ("expnum", "ccd", "band", "mjd", "corners", "m50_mag")


@pytest.fixture(scope="module")
def usual():
    synthetic, table, forced = prepare(2, scale=0.05)
    improbable = pc.greater(table.column("snr_best"), 6.0)
    return synthetic, table.filter(improbable).slice(0, N), forced


@pytest.fixture
def command(capsys, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)

    def do(site, *words):
        code = main.run([str(word) for word in (*words, "--site", site.root, "--json")])
        return code, json.loads(capsys.readouterr().out)

    return do


def ranked(site):
    result = rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site))
    summary = json.loads(site.path(result.products["summary"].path).read_text())
    page = site.path(result.products["page"].path).read_text()
    return read_candidates(site.path(result.products["candidates"].path)), summary, page


def footprints_of_exposures(footprints, expnums):
    chosen = np.isin(footprints.expnum, expnums)
    return Footprints(*(getattr(footprints, name)[chosen] for name in FIELDS))


def test_a_night_without_detections(usual, tmp_path, command):
    synthetic, table, forced = usual
    site = write_site(tmp_path, table.slice(0, 0), forced.slice(0, 0), synthetic.skymap, synthetic.footprints, COARSE)
    found, summary, page = ranked(site)
    assert found.num_rows == 0 == summary["n_candidates"]
    assert summary["probability_searched"] > 0.1, "what was searched counts all the same"
    assert '"candidate_id":[]' in page
    assert command(site, "candidates", NIGHT)[1]["n_candidates"] == 0
    assert command(site, "candidates", NIGHT, "--output", tmp_path / "none.reg")[0] == 0
    code, document = command(site, "report", NIGHT, "--form", "avro")
    assert (code, "no candidate meets the condition" in document["error"]) == (1, True)


def test_one_exposure_is_enough(usual, tmp_path):
    synthetic, table, forced = usual
    only = int(synthetic.footprints.expnum[0])
    images = footprints_of_exposures(synthetic.footprints, [only])
    one = forced.filter(np.asarray(forced.column("expnum")) == only)
    found, summary, _ = ranked(write_site(tmp_path, table, one, synthetic.skymap, images, COARSE))
    assert found.column("rank").to_pylist() == list(range(1, N + 1))
    assert list(summary["found_apparent"]) == [str(images.band[0])]
    assert np.isfinite(found.column("rank_score").to_numpy()).all()


def test_without_exposures_nothing_is_searched(usual, tmp_path):
    synthetic, table, forced = usual
    images = footprints_of_exposures(synthetic.footprints, [])
    found, summary, _ = ranked(write_site(tmp_path, table, forced, synthetic.skymap, images, COARSE))
    assert (found.num_rows, summary["probability_searched"], summary["m50_mag"]) == (N, 0.0, None)


def test_a_map_without_distances_ranks_by_position_alone(usual, tmp_path):
    synthetic, table, forced = usual
    n = 12 * 32**2
    flat = skymap_from_flat(np.arange(1.0, n + 1), nested=True, name="flat", mjd=MJD_EVENT)
    found, summary, page = ranked(write_site(tmp_path, table, forced, flat, synthetic.footprints, COARSE))
    assert (np.asarray(found.column("loglr_distance")) == 0).all()
    assert found.column("distance_mean_mpc").null_count == N
    assert summary["found_kilonova"] is None
    assert all(chance is None for _, chance in summary["found_absolute"])
    assert "unknown distance" in page
    assert summary["found_apparent"]["i"][0][1] > 0


def test_missing_stamps_leave_the_rest(usual, tmp_path):
    synthetic, table, forced = usual
    site = write_site(tmp_path, table, forced, synthetic.skymap, synthetic.footprints, COARSE)
    path = site.store / "nights" / str(NIGHT) / "ranking.json"
    content = json.loads(path.read_text())
    content["stamps"] = {"stamps_1300010_01": "products/gw/gone_stamps.fits"}
    path.write_text(json.dumps(content))
    found, _, page = ranked(site)
    assert found.num_rows == N
    assert '"hasStamps":false' in page


def test_a_night_of_another_version_is_refused_with_a_message(usual, tmp_path, command):
    synthetic, table, forced = usual
    site = write_site(tmp_path, table, forced, synthetic.skymap, synthetic.footprints, COARSE)
    path = site.store / "nights" / str(NIGHT) / "ranking.json"
    content = json.loads(path.read_text())
    content["settings"]["rank"]["weight_beauty"] = 1.0
    path.write_text(json.dumps(content))
    code, document = command(site, "rank", NIGHT, "--weight", "skymap=2")
    assert (code, "another version" in document["error"]) == (1, True)


@pytest.mark.parametrize(
    "words", [("candidates", 20200101), ("candidates", 20201399), ("report", 20200101, "--form", "tns")]
)
def test_an_unregistered_night_is_refused(tmp_path, command, words):
    code, document = command(Site.at(tmp_path), *words)
    assert code == 1
    assert str(words[1]) in document["error"]


def test_a_lone_detection_that_noise_explains_is_left_out_and_counted(usual, tmp_path):
    synthetic, table, forced = usual
    snr, flags = (column(table, name).copy() for name in ("snr_best", "flags"))
    snr[:2], flags[:2] = (5.1, 6.5), int(CandidateFlag.SINGLE_DETECTION)
    table = with_columns(table, snr_best=snr, flags=flags)
    ids = table.column("candidate_id").to_pylist()
    silent = forced.filter(pc.invert(pc.is_in(forced.column("candidate_id"), value_set=pa.array(ids[:2]))))
    site = write_site(tmp_path, table, silent, synthetic.skymap, synthetic.footprints, COARSE)
    found, summary, page = ranked(site)
    assert set(ids) - set(found.column("candidate_id").to_pylist()) == {ids[0]}
    assert found.column("rank").to_pylist() == list(range(1, N))
    assert (summary["n_candidates"], summary["n_left_out_as_noise"]) == (N - 1, 1)
    assert ids[0] not in page
