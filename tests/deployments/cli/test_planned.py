"""Plans of pointings: kept first, told to the server, and taken up at dusk if no server heard of them."""

import json

import pytest

from blocks.plans import EVENT_NAME, PointingPlan, plan_path, read_plan, store_plan
from blocks.site import Site
from deployments.cli import main
from flows import preparation
from flows.preparation import chosen_night, given_plan
from imaging.errors import InputError
from imaging.io.pointings import Pointing

NIGHT = 20260817
POINTINGS = (Pointing(ra_deg=197.45, dec_deg=-23.38, band="i"), Pointing(ra_deg=10.0, dec_deg=0.0, band="z"))


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return Site.at(tmp_path / "site")


@pytest.fixture
def plan_file(tmp_path):
    path = tmp_path / "plan.csv"
    path.write_text("RA,DEC,BAND\n197.45,-23.38,i\n10.0,0.0,z\n")
    return path


def announce(site, plan_file, capsys):
    words = [
        "prepare-templates",
        str(plan_file),
        "--night",
        str(NIGHT),
        "--announce",
        "--site",
        str(site.root),
        "--json",
    ]
    assert main.run(words) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_is_kept_when_no_server_is_there(site, plan_file, capsys):
    assert announce(site, plan_file, capsys) | {"announced": False, "n_pointings": 2} == announce(
        site, plan_file, capsys
    )
    assert read_plan(site, NIGHT) == PointingPlan(night=NIGHT, pointings=POINTINGS)
    assert given_plan(site, NIGHT, None, None).pointings == POINTINGS


def test_the_same_plan_is_one_event_and_a_changed_one_another(site, plan_file, capsys, monkeypatch):
    heard = []
    monkeypatch.setattr("deployments.cli.templates.emit_if_possible", lambda site, emit_event: emit_event() or True)
    monkeypatch.setattr("deployments.cli.templates.emit", lambda *event, **told: heard.append((event, told)))
    for _ in range(2):
        assert announce(site, plan_file, capsys)["announced"]
    plan_file.write_text(plan_file.read_text() + "20.0,0.0,z\n")
    announce(site, plan_file, capsys)
    (name, first, resource), (_, second, _), (_, third, _) = (event for event, _ in heard)
    assert (name, resource, heard[0][1]["payload"]) == (EVENT_NAME, f"gw.night.{NIGHT}", {"night": NIGHT})
    assert first == second != third


def test_what_was_asked_for_goes_before_what_is_kept(site):
    store_plan(site, PointingPlan(night=NIGHT, pointings=POINTINGS))
    assert given_plan(site, NIGHT, POINTINGS[:1], "list.csv") == PointingPlan(
        night=NIGHT, pointings=POINTINGS[:1], exposure_list="list.csv"
    )
    assert given_plan(site, NIGHT + 1, None, None) is None


def test_at_dusk_the_night_is_the_one_that_begins(monkeypatch):
    dusk_in_chile_on_17_august = 1787002200.0  # 2026-08-17 21:30 UTC
    monkeypatch.setattr(preparation.time, "time", lambda: dusk_in_chile_on_17_august)
    assert chosen_night(None, None) == NIGHT
    assert chosen_night(None, {"night": 20260818}) == 20260818
    assert chosen_night(20260101, {"night": 20260818}) == 20260101
    with pytest.raises(InputError, match="event has no valid night"):
        chosen_night(None, {})


def test_a_night_without_a_plan_is_no_failure(site, prefect_server):
    state = preparation.prepare_templates(night=NIGHT, site=str(site.root), return_state=True)
    assert (state.name, state.message) == ("Completed", f"nothing is planned for night {NIGHT}")


def test_a_damaged_plan_says_what_to_do(site):
    path = plan_path(site, NIGHT)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(InputError, match=r"damaged.*plan the night again"):
        read_plan(site, NIGHT)
    with pytest.raises(InputError, match="not a date"):
        store_plan(site, PointingPlan(night=20261301, pointings=()))
