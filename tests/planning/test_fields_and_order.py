"""Fields of a plan: what they cover, which come first, and when they are observed."""

import csv
import itertools
import json

import numpy as np
import pytest
from astropy.coordinates import SkyCoord

from deployments.cli import main
from imaging.detector.ccds import SCIENCE_CCDS
from imaging.exposure import Exposure
from imaging.io.exposure_list import ListedExposure, write_exposure_list
from imaging.io.pointings import read_pointings
from imaging.io.skymaps import write_skymap
from imaging.planning.fields import Field, choose_fields, region_points, tiling
from imaging.planning.order import PlanSettings, observing_order
from imaging.planning.visibility import airmass, heights_deg
from imaging.skymap.build import gaussian_skymap
from tasks.plan_fields import template_footprints

NIGHT = 20230923
RA, DEC = 20.0, -30.0


@pytest.fixture(scope="module")
def skymap():
    return gaussian_skymap(RA, DEC, 1.5, distance_mpc=100.0, distance_sigma_mpc=20.0, order=8, name="S230922g")


@pytest.fixture(scope="module")
def region(skymap):
    return region_points(skymap, 0.9)


def listed(expnum, ra, dec, band="i", night=20210901, mjd=59458.2):
    return ListedExposure(Exposure(expnum, band, night, mjd, 90.0, ra, dec, 1.1), 0.8)


def test_the_points_of_a_region_hold_its_probability(skymap, region):
    assert region.probability.sum() == pytest.approx(0.9, abs=0.01)
    distance = SkyCoord(region.ra_deg, region.dec_deg, unit="deg").separation(SkyCoord(RA, DEC, unit="deg")).deg
    assert distance.max() == pytest.approx(1.5 * np.sqrt(-2 * np.log(0.1)), abs=0.3), "the 90 % circle of a Gaussian"


def test_the_tiling_leaves_no_hole_anywhere():
    """Every place of the sky is within a field radius of a centre; most are inside the CCDs of a field."""
    rng = np.random.default_rng(3)
    everywhere = gaussian_skymap(0.0, -60.0, 30.0, distance_mpc=1.0, distance_sigma_mpc=1.0, order=5)
    centres = np.array(tiling(region_points(everywhere, 0.9)))
    fields = SkyCoord(centres[:, 0], centres[:, 1], unit="deg")
    points = SkyCoord(rng.uniform(-30, 30, 300), rng.uniform(-80, -40, 300), unit="deg")
    _, distance, _ = points.match_to_catalog_sky(fields)
    assert distance.deg.max() < 1.35


def test_fields_with_templates_come_first_and_nothing_counts_twice(skymap, region):
    templates = {"i": template_footprints([listed(1, RA + 1.2, DEC + 0.4)])}
    centres = tiling(region, [(RA + 1.2, DEC + 0.4)])
    fields = choose_fields(region, centres, SCIENCE_CCDS, templates, 50)
    assert (fields[0].ra_deg, fields[0].dec_deg) == pytest.approx((RA + 1.2, DEC + 0.4))
    assert fields[0].n_covered["i"] >= fields[0].n_ccds - 1, "one CCD was dead when the template was taken"
    assert fields[0].searchable["i"] == pytest.approx(fields[0].probability, rel=0.03)
    merits = [field.merit for field in fields]
    assert merits == sorted(merits, reverse=True)
    assert sum(field.probability for field in fields) <= region.probability.sum() * (1 + 1e-9)
    assert sum(field.probability for field in fields) > 0.8 * region.probability.sum(), (
        "gaps between CCDs take the rest"
    )
    assert any(field.merit == 0.0 and field.probability > 0.0 for field in fields), "fields without templates stay"


def test_the_searchable_part_is_what_a_template_covers(region):
    """A template shifted by a field radius covers half of the field; the truth comes from points and CCD corners."""
    templates = {"i": template_footprints([listed(1, RA + 1.0 / np.cos(np.radians(DEC)), DEC)])}
    (field,) = choose_fields(region, [(RA, DEC)], SCIENCE_CCDS, templates, 5)
    assert 0.25 < field.searchable["i"] / field.probability < 0.6
    assert 15 < field.n_covered["i"] < 40


def test_the_order_keeps_the_limits_and_the_better_fields():
    rng = np.random.default_rng(5)
    fields = [
        Field(float(ra), float(dec), 0.1, {"i": 0.1 - 0.001 * n}, 60, {"i": 60})
        for n, (ra, dec) in enumerate(zip(rng.uniform(0, 360, 60), rng.uniform(-70, 10, 60), strict=True))
    ]
    settings = PlanSettings(max_airmass=1.7, min_moon_deg=20.0)
    schedule = observing_order(fields, NIGHT, 1500.0, settings)
    assert schedule.observations
    times = [item.mjd for item in schedule.observations]
    assert all(b - a >= 1500.0 / 86400.0 - 1e-9 for a, b in itertools.pairwise(times)), "no two at a time"
    assert schedule.begin_mjd <= times[0]
    assert times[-1] + 1500.0 / 86400.0 <= schedule.end_mjd + 1e-9
    for item in schedule.observations:
        ends = item.mjd + 1500.0 / 86400.0
        both = airmass(heights_deg(item.field.ra_deg, item.field.dec_deg, [item.mjd, ends]))
        assert both.max() <= 1.7
    taken = {item.rank for item in schedule.observations}
    assert taken | {rank for rank, _, _ in schedule.left} == set(range(1, 61))
    assert sum(reason == "no time" for _, _, reason in schedule.left) > 5, "the night is full"
    assert np.mean([rank for rank, _, reason in schedule.left if reason == "no time"]) > np.mean(sorted(taken))


def test_the_best_field_is_observed_where_it_is_high_and_none_waits_without_reason():
    best, other = (Field(ra, -30.0, p, {"i": p}, 60, {"i": 60}) for ra, p in ((330.0, 0.5), (333.0, 0.01)))
    first, second = observing_order([best, other], NIGHT, 300.0, PlanSettings(loss_per_hour=0.0)).observations
    assert {first.rank, second.rank} == {1, 2}
    assert min(first.airmass, second.airmass) < 1.001
    early = observing_order([best, other], NIGHT, 300.0, PlanSettings(loss_per_hour=0.5)).observations
    assert early[0].rank == 1
    assert early[0].mjd < first.mjd


def test_a_field_that_sets_comes_before_one_that_rises():
    setting = Field(245.0, -30.0, 0.1, {"i": 0.1}, 60, {"i": 60})
    rising = Field(60.0, -30.0, 0.2, {"i": 0.2}, 60, {"i": 60})
    schedule = observing_order([rising, setting], NIGHT, 200.0, PlanSettings())
    assert [item.rank for item in schedule.observations] == [2, 1]


@pytest.mark.parametrize(
    ("ra", "dec", "night", "reason"),
    [
        (190.0, 76.0, 20240510, "below the horizon while it is dark"),
        (48.0, 17.0, 20240510, "below the horizon while it is dark"),  # beside the Sun
        (200.0, 40.0, 20240510, "airmass 2.91 at best while it is dark (limit 2)"),  # at a height of 19.8 degrees
        (240.0, -22.0, 20240523, "6 degrees from the Moon when its airmass allows it (limit 15)"),
    ],
)
def test_what_cannot_be_observed_is_left_with_the_reason_and_its_number(ra, dec, night, reason):
    schedule = observing_order([Field(ra, dec, 0.1, {"i": 0.1}, 60, {"i": 60})], night, 300.0, PlanSettings())
    assert [why for _, _, why in schedule.left] == [reason]


def test_the_command_writes_what_the_telescope_and_prepare_templates_read(skymap, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_skymap(tmp_path / "map.fits", skymap)
    write_exposure_list(tmp_path / "known.csv", [listed(1, RA, DEC), listed(2, RA, DEC, "g")])
    words = ["plan", str(NIGHT), "--skymap", "map.fits", "--exposures", "known.csv", "--bands", "gi", "--json"]
    words += ["--exptimes", "60,80", "--proposal", "2022B-715089", "--site", str(tmp_path / "site")]
    assert main.run(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert 0.0 < said["searchable"] < said["probability"] < 0.9
    script = json.loads((tmp_path / f"plan-{NIGHT}" / "plan.json").read_text())
    assert len(script) == 2 * len(said["fields"])
    assert [(row["filter"], row["exptime"]) for row in script[:2]] == [("g", 60.0), ("i", 80.0)]
    assert {row["propid"] for row in script} == {"2022B-715089"}
    assert len(read_pointings(tmp_path / f"plan-{NIGHT}" / "plan.json")) == len(script)
    rows = list(csv.DictReader((tmp_path / f"plan-{NIGHT}" / "plan.csv").read_text().splitlines()))
    assert [row["begin_utc"] for row in rows] == sorted(row["begin_utc"] for row in rows)
    best = next(row for row in rows if row["rank"] == "1")
    assert (float(best["ra_deg"]), float(best["dec_deg"])) == pytest.approx((RA, DEC), abs=0.01)
    assert int(best["ccds_with_template_g"]) == int(best["n_ccds"])
    assert (tmp_path / f"plan-{NIGHT}" / "plan.png").read_bytes().startswith(b"\x89PNG")
    assert main.run([word for word in words if word not in ("--exposures", "known.csv")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["searchable"] == 0.0
    assert any("no exposures to choose templates from" in note for note in said["notes"])


@pytest.mark.parametrize(
    "words", [["--bands", "gq"], ["--exptimes", "60,70,80"], ["--exptimes", "x"], ["--exptimes", "-1"]]
)
def test_a_visit_that_makes_no_sense_is_refused(words, tmp_path, capsys):
    assert main.run(["plan", str(NIGHT), "--skymap", "none.fits", *words, "--site", str(tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err
