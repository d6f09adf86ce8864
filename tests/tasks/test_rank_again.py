"""A night is ranked again from its tables: with a new map, with other weights, by an event."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import xxhash

from bench.candidates import prepare
from bench.ranked_site import write_site
from blocks.night_runs import list_lock, read_runs
from blocks.nights import read_night
from blocks.skymaps import adopt_skymap
from deployments.events.decisions import RankedList, read_ranked
from flows.night import find_candidates
from flows.ranking import rank_night
from flows.settings import NightSettings
from imaging.candidates.settings import CandidateSettings
from imaging.errors import InputError
from imaging.io.atomic import content_hash
from imaging.io.candidates import read_candidates
from imaging.io.skymaps import read_skymap, write_skymap
from imaging.io.tables import read_table, write_table
from imaging.schemas.candidates import CandidateFlag
from imaging.schemas.difference import DIRECT_PHOTOMETRY
from imaging.simulation.candidate_sources import MJD_EVENT, NIGHT
from imaging.skymap.build import gaussian_skymap
from imaging.skymap.settings import CoverageSettings
from imaging.tables import column, make_table
from tasks import ranked_tables
from tasks.associate import cones_of
from tasks.engine.jobs import FileRecord
from tasks.jobs import StepJob
from tasks.rank import candidate_links, detection_image, made_with, rank
from tasks.ranked_tables import last_settings, rerank_job

COARSE = CandidateSettings(coverage=CoverageSettings(order=10))


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    synthetic, table, forced = prepare(2, scale=0.05)
    root = tmp_path_factory.mktemp("ranked")
    return synthetic, write_site(root, table, forced, synthetic.skymap, synthetic.footprints, COARSE)


@pytest.fixture
def site(night):
    return night[1]


@pytest.fixture(scope="module")
def ranked(night):
    synthetic, site = night
    return synthetic, rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site))


def listed(site):
    return read_candidates(site.store / "nights" / str(NIGHT) / "candidates.parquet")


def content(site, result):
    return {name: site.path(record.path).read_bytes() for name, record in result.products.items()}


def test_ranking_again_on_the_same_map_gives_the_same_bytes(ranked, site):
    before = content(site, ranked[1])
    again = rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site))
    assert content(site, again) == before
    assert len(before) > 50, "list, exports, pictures, page, and region files per CCD"


def test_a_candidate_has_its_provenance(ranked, site):
    rows = listed(site).to_pylist()
    job = rerank_job(NIGHT, read_night(site, NIGHT).skymap, site)
    other = job.model_copy(update={"parameters": job.parameters | {"code_version": "e" * 32}})
    forced = read_table(site.store / "nights" / str(NIGHT) / "lightcurves.parquet")
    for row in (rows[0], rows[-1]):
        mine = [p["expnum"] for p in forced.to_pylist() if p["candidate_id"] == row["candidate_id"]]
        assert row["expnums"] == sorted(set(mine))
        assert row["calibration_set"] == "d" * 32
        assert row["code_version"] == made_with(job).code_version != made_with(other).code_version
        assert row["templates"] == [1200001, 1200002]
    assert len({row["settings_hash"] for row in rows}) == 1


def test_the_search_report_has_detection_probabilities(ranked, site):
    summary = json.loads(site.path(ranked[1].products["summary"].path).read_text())
    searched = summary["probability_searched"]
    chances = [chance for _, chance in summary["found_apparent"]["i"]]
    assert chances == sorted(chances, reverse=True)
    assert 0.97 * searched <= chances[0] <= searched, "the plateau of one exposure, and both exposures in i"
    assert chances[-1] < 0.01 * searched
    assert 0 < summary["found_kilonova"] <= summary["found_at2017gfo"] < searched
    faint = dict(map(tuple, summary["found_absolute"]))
    assert faint[-18.0] > 2 * faint[-12.0] >= 0
    pixels = read_table(site.path(ranked[1].products["searched"].path))
    assert column(pixels, "probability").sum() == pytest.approx(searched)
    depth = column(pixels, "m50_i")
    assert np.nanmax(depth) == pytest.approx(22.7)
    assert np.isnan(column(pixels, "m50_u")).all()


def test_a_new_map_reverses_the_list_and_is_stored(ranked, site, tmp_path, prefect_server):
    first = listed(site).to_pylist()[0]
    other = next(row for row in listed(site).to_pylist() if abs(row["ra"] - first["ra"]) > 0.8)
    path = tmp_path / "update.fits"
    moved = gaussian_skymap(
        other["ra"], other["dec"], 0.02, distance_mpc=100, distance_sigma_mpc=20, order=11, mjd=MJD_EVENT
    )
    write_skymap(path, moved)
    state = rank_night(event={"night": NIGHT, "skymap": str(path)}, site=str(site.root), return_state=True)
    assert state.is_completed()
    renewed = read_night(site, NIGHT)
    assert renewed.record.revision == 2
    assert renewed.skymap.read_bytes() == path.read_bytes()
    assert renewed.record.list_revision == 1, "the exposures are not processed again"
    (run,) = read_runs(renewed)
    assert (run.flow, run.revision, run.end) == ("rank-night", 2, "completed")
    assert read_ranked(site, NIGHT) == RankedList(renewed.record.skymap_hash)
    after = {row["candidate_id"]: row for row in listed(site).to_pylist()}
    assert after[other["candidate_id"]]["rank"] < other["rank"]
    assert after[first["candidate_id"]]["loglr_skymap"] < first["loglr_skymap"]
    assert adopt_skymap(site, NIGHT, path).record.revision == 2, "the same map is no news"


def test_a_map_that_arrives_while_a_ranking_waits_is_the_one_it_uses(
    ranked, site, tmp_path, prefect_server, monkeypatch
):
    """Two maps, two rankings: whichever writes last has read the newest revision after the other one ended."""
    paths = [tmp_path / f"{number}.fits" for number in range(2)]
    for number, path in enumerate(paths):
        drawn = gaussian_skymap(
            40.0 + number, -24.0, 1.0, distance_mpc=100, distance_sigma_mpc=20, order=7, mjd=MJD_EVENT
        )
        write_skymap(path, drawn)

    @contextmanager
    def after_another_map(registered):
        adopt_skymap(site, NIGHT, paths[1])
        with list_lock(registered):
            yield

    before = read_night(site, NIGHT).record
    monkeypatch.setattr("flows.ranking.list_lock", after_another_map)
    assert rank_night(NIGHT, str(paths[0]), site=str(site.root), return_state=True).is_completed()
    after = read_night(site, NIGHT).record
    assert after.revision == before.revision + 2
    assert read_ranked(site, NIGHT) == RankedList(content_hash(paths[1]))


def test_the_list_of_a_night_is_made_with_the_map_that_is_newest_then(ranked, site, tmp_path, monkeypatch):
    path = tmp_path / "newer.fits"
    write_skymap(
        path, gaussian_skymap(43.0, -24.0, 1.0, distance_mpc=100, distance_sigma_mpc=20, order=7, mjd=MJD_EVENT)
    )
    earlier, used = read_night(site, NIGHT), []

    def run(step, job, ccds):
        adopt_skymap(site, NIGHT, path)  # while the detections are associated
        return SimpleNamespace(quality={})

    stage = SimpleNamespace(run=run, map_all=lambda step, jobs: [])
    monkeypatch.setattr("flows.night.associate_job", lambda *_: None)
    monkeypatch.setattr("flows.night.rank_job", lambda registered, *_: used.append(registered.record.skymap_hash))
    monkeypatch.setattr("flows.night.show_candidates", lambda *_: None)
    monkeypatch.setattr("flows.night.announce_candidates", lambda *_: None)
    find_candidates(stage, earlier, (), (object(),), site, NightSettings())
    assert used == [content_hash(path)]


def test_weights_are_settings_that_the_next_ranking_keeps(ranked, site):
    skymap = read_night(site, NIGHT).skymap
    usual = last_settings(NIGHT, site)
    changed = usual.with_values(rank=usual.rank.with_values(weight_skymap=0.0))
    rank(rerank_job(NIGHT, skymap, site, changed))
    rows = listed(site).to_pylist()
    parts = ("distance", "real", "lightcurve", "host", "time", "history", "motion", "reported")
    assert rows[0]["rank_score"] == pytest.approx(sum(rows[0][f"loglr_{name}"] for name in parts), abs=1e-4)
    assert last_settings(NIGHT, site).rank.weight_skymap == 0.0
    rank(rerank_job(NIGHT, skymap, site, COARSE))


def test_what_is_missing_is_named(site, tmp_path):
    with pytest.raises(InputError, match="cannot be ranked again"):
        rerank_job(20200101, read_night(site, NIGHT).skymap, site)
    bad = tmp_path / "map.fits"
    bad.write_text("no map")
    with pytest.raises(InputError, match="sky map"):
        adopt_skymap(site, NIGHT, bad)


def test_a_map_without_a_time_uses_that_of_the_previous_map(ranked, site, tmp_path):
    path = tmp_path / "timeless.fits"
    write_skymap(path, gaussian_skymap(40.0, -24.0, 1.0, distance_mpc=100, distance_sigma_mpc=20, order=7))
    assert rank(rerank_job(NIGHT, path, site)).quality["n_candidates"] > 10
    job = rerank_job(NIGHT, path, site)
    nothing = job.model_copy(update={"parameters": job.parameters | {"mjd_event": None}})
    with pytest.raises(InputError, match="lacks the time of the event"):
        rank(nothing)


def test_exposures_of_one_field_share_their_reads_of_the_catalogue(ranked):
    footprints = ranked[0].footprints
    cones = cones_of(footprints)
    assert len(footprints) == 6 * 2 * 62
    assert len(cones) <= 2 * 62
    for corners in footprints.corners[:: len(footprints) // 40]:
        inside = [
            np.hypot((corners[:, 0] - ra) * np.cos(np.radians(dec)), corners[:, 1] - dec).max() < radius
            for ra, dec, radius in cones
        ]
        assert any(inside)


def test_the_page_links_to_the_products_of_every_detection(ranked, site):
    row = listed(site).to_pylist()[0]
    image = detection_image(row["detection_ids"][0])
    expnum, ccd = image.split("_")
    name = f"products/gw/exp/{NIGHT}/{expnum}/dp1/i_{ccd}/D_stamps.fits"
    record = FileRecord(path=name, size=1, mtime_ns=1, content_hash="e")
    job = StepJob(night=NIGHT, site=site, inputs={f"stamps_{image}": record})
    links = candidate_links(job, listed(site).slice(0, 1))[row["candidate_id"]]
    assert [text.split()[0] for text, _ in links] == ["difference", "template", "detections"]
    page = job.product_path("candidates.html").parent
    assert (page / links[0][1]).resolve() == site.path(name.replace("stamps", "diff")).resolve()


def counted_likelihoods(monkeypatch):
    """Count how often likelihoods of light curves are computed."""
    calls = []
    real = ranked_tables.lightcurve_likelihood
    monkeypatch.setattr(ranked_tables, "lightcurve_likelihood", lambda *a: calls.append(1) or real(*a))
    return calls


def test_likelihoods_are_computed_once_for_all_maps_and_weights(ranked, site, tmp_path, monkeypatch):
    calls = counted_likelihoods(monkeypatch)
    path = tmp_path / "later.fits"
    moved = gaussian_skymap(40.3, -24.2, 0.5, distance_mpc=70, distance_sigma_mpc=10, order=9, mjd=MJD_EVENT + 1e-7)
    write_skymap(path, moved)
    before = listed(site).column("loglr_lightcurve").to_pylist()
    rank(rerank_job(NIGHT, path, site))
    taken_over = listed(site)
    assert not calls
    assert taken_over.column("loglr_lightcurve").to_pylist() != before, "the map's distance still decides"
    (site.store / "nights" / str(NIGHT) / "lightcurve_likelihood.feather").unlink()
    rank(rerank_job(NIGHT, path, site))
    assert len(calls) == 1
    assert listed(site).equals(taken_over), "what was kept is what would be found again"


@pytest.mark.parametrize("change", ["another second", "another model", "damaged"])
def test_outdated_likelihoods_are_recomputed(ranked, site, tmp_path, monkeypatch, change):
    skymap = read_night(site, NIGHT).skymap
    rank(rerank_job(NIGHT, skymap, site))
    settings = last_settings(NIGHT, site)
    calls = counted_likelihoods(monkeypatch)
    if change == "another second":
        skymap = tmp_path / "shifted.fits"
        shifted = gaussian_skymap(
            40.0, -24.0, 0.5, distance_mpc=70, distance_sigma_mpc=10, order=8, mjd=MJD_EVENT + 0.1
        )
        write_skymap(skymap, shifted)
    elif change == "another model":
        settings = settings.with_values(lightcurve=settings.lightcurve.with_values(luminosity_scatter_mag=0.5))
    else:
        path = site.store / "nights" / str(NIGHT) / "lightcurve_likelihood.feather"
        path.write_bytes(path.read_bytes()[:-8] + b"nonsense")
    rank(rerank_job(NIGHT, skymap, site, settings))
    assert len(calls) == 1
    rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site, COARSE))


def test_a_candidate_can_be_reproduced_from_its_provenance(ranked, site, tmp_path):
    rank(rerank_job(NIGHT, read_night(site, NIGHT).skymap, site, COARSE))
    folder, row = site.store / "nights" / str(NIGHT), listed(site).to_pylist()[3]
    known = json.loads((folder / "ranking.json").read_text())
    settings = {**known["parameters"]["upstream"], "candidates": known["settings"]}
    digest = xxhash.xxh3_128_hexdigest(json.dumps(settings, sort_keys=True).encode())
    assert row["settings_hash"] == digest, "the settings of that hash are kept beside the list"
    forced = read_table(folder / "lightcurves.parquet")
    named = pc.is_in(forced.column("expnum"), value_set=pa.array(row["expnums"]))
    mine = forced.filter(pc.and_(named, pc.equal(forced.column("candidate_id"), row["candidate_id"])))
    alone = read_candidates(folder / "associated.parquet")
    alone = alone.filter(pc.equal(alone.column("candidate_id"), row["candidate_id"]))
    chosen = CandidateSettings.model_validate(known["settings"])
    skymap = read_skymap(read_night(site, NIGHT).skymap)
    fresh = write_site(tmp_path, alone, mine, skymap, ranked[0].footprints, chosen)
    rank(rerank_job(NIGHT, read_night(fresh, NIGHT).skymap, fresh))
    again = listed(fresh).to_pylist()
    assert again == [row | {"rank": 1}], "every number to the last bit, but for its place in a list of one"


def test_photometry_of_the_templates_is_in_the_light_curves(ranked, site, tmp_path):
    folder = site.store / "nights" / str(NIGHT)
    names = listed(site).slice(0, 2).column("candidate_id").to_pylist()
    n = 6
    columns = {
        "candidate_id": [names[0]] * 3 + [names[1]] * 3, "expnum": [1200001, 1200002, 1200003] * 2, "band": ["g"] * n,
        "night": [20200101] * n, "ccd": [1] * n, "mjd": [MJD_EVENT - d for d in (400.0, 300.0, 200.0)] * 2,
        "side": ["template"] * n, "flux": [0.0, 1e5, 0.0, 0.0, 100.0, 0.0], "flux_error": [500.0] * n,
        "snr": [0.0] * n, "mag": pa.nulls(n, pa.float32()), "mag_error": pa.nulls(n, pa.float32()),
        "limit_mag": [23.0] * n, "masked": [False] * n,
    }  # fmt: skip
    write_table(tmp_path / "direct.parquet", make_table(columns, DIRECT_PHOTOMETRY))
    job = rerank_job(NIGHT, read_night(site, NIGHT).skymap, site)
    job.inputs.pop("likelihood", None)
    before = {row["candidate_id"]: row for row in listed(site).to_pylist()}
    kept = (folder / "lightcurves.parquet").read_bytes()
    aside = tmp_path / "forced.parquet"
    aside.write_bytes(kept)
    inputs = job.inputs | {
        "direct_00000": FileRecord.of(site, tmp_path / "direct.parquet"),
        "forced_00000": FileRecord.of(site, aside),
    }
    named = [[expnum, ccd, [1200001, 1200002, 1200003]] for expnum, ccd, _ in job.parameters["templates"]]
    rank(job.model_copy(update={"inputs": inputs, "parameters": job.parameters | {"templates": named}}))
    after = {row["candidate_id"]: row for row in listed(site).to_pylist()}
    written = read_table(folder / "lightcurves.parquet").num_rows
    (folder / "lightcurves.parquet").write_bytes(kept)
    assert written == read_table(aside).num_rows + n
    assert after[names[0]]["loglr_history"] < before[names[0]]["loglr_history"] - 3.0, "it was there a year before"
    assert after[names[0]]["flags"] & CandidateFlag.IN_HISTORY
    assert after[names[1]]["loglr_history"] == pytest.approx(before[names[1]]["loglr_history"], abs=0.6)
    assert after[names[0]]["expnums"] == before[names[0]]["expnums"], "templates are named as templates"
