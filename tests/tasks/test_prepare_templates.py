"""Templates of planned pointings: read, chosen, and processed once before the night."""

import json
from pathlib import Path

import pytest
from prefect.states import Completed, Failed

from blocks.site import Site
from deployments.cli import main
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.exposure_list import ListedExposure, write_exposure_list
from imaging.io.pointings import Pointing, read_pointings
from imaging.templates.settings import TemplateSettings
from tasks.engine.final_state import exit_code
from tasks.engine.jobs import ExitCode
from tasks.prepare_templates import Preparation, known_exposures, mjd_of_night, plan_preparation, preparation_state
from tasks.requests import Version

NIGHT = 20260817
MJD = mjd_of_night(NIGHT)


def listed(expnum: int, ra: float, dec: float, *, band: str = "i", days: float = -100.0) -> ListedExposure:
    mjd = MJD + days
    return ListedExposure(Exposure(expnum, band, 20260501, mjd, 90.0, ra % 360.0, dec, 1.2), 0.9)


def plan(*pointings: Pointing, exposures: list[ListedExposure]) -> Preparation:
    return plan_preparation(pointings, MJD, exposures, Version(rnum=4, pnum=5), TemplateSettings())


def test_a_template_of_several_pointings_is_processed_once():
    dithers = [Pointing(ra_deg=10.0 + 0.02 * k, dec_deg=-30.0, band="i") for k in range(3)]
    prepared = plan(*dithers, exposures=[listed(1, 10.0, -30.0), listed(2, 10.05, -30.02), listed(3, 200.0, 10.0)])
    assert sorted(request.expnum for request in prepared.exposures) == [1, 2]
    assert {request.rpnum for request in (r.exposure_id() for r in prepared.exposures)} == {"r4p5"}
    assert all(set(item.templates) == {1, 2} and item.n_covered == item.n_ccds for item in prepared.pointings)


def test_time_windows_refer_to_the_planned_night_and_rejections_have_reasons():
    field = Pointing(ra_deg=10.0, dec_deg=-30.0, band="i")
    exposures = [listed(1, 10.0, -30.0, days=-14.0), listed(2, 10.0, -30.0, days=-16.0), listed(3, 10, -30, band="g")]
    (item,) = plan(field, exposures=exposures).pointings
    assert item.templates == (2,)
    assert item.left == {"14.0 d before the search, less than 15 d": 1}


@pytest.mark.parametrize(("ra", "dec", "other"), [(0.0, -30.0, 359.7), (45.0, -89.9, 225.0)], ids=["RA 0", "pole"])
def test_fields_across_ra_zero_and_over_the_pole(ra, dec, other):
    (item,) = plan(Pointing(ra_deg=ra, dec_deg=dec, band="i"), exposures=[listed(7, other, dec)]).pointings
    assert item.templates == (7,)
    assert 0.6 * item.n_ccds < item.n_covered <= item.n_ccds


def test_pointings_as_the_observers_write_them(tmp_path):
    table = tmp_path / "plan.csv"
    table.write_text("# queue\nRA, DEC, FILTER\n190.5, -10.0, i\n12:42:00, -10:00:00, i\n0.5, 2, VR\n")
    assert read_pointings(table) == (
        Pointing(ra_deg=190.5, dec_deg=-10.0, band="i"),
        Pointing(ra_deg=0.5, dec_deg=2.0, band="VR"),
    )
    queue = tmp_path / "plan.json"
    queue.write_text(json.dumps([{"object": "hex 1", "RA": -1.0, "dec": 3, "filter": "z", "expTime": 90}]))
    assert read_pointings(queue) == (Pointing(ra_deg=359.0, dec_deg=3.0, band="z"),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RA,DEC,BAND\n", "empty"),
        ("RA,DEC\n1,2\n", "lacks a column"),
        ("RA,DEC,BAND\n1,2,q\n", "unknown band"),
        ("RA,DEC,BAND\n1,97,i\n", "pointing 1"),
        ("RA,DEC,BAND\n1,2,i\nx,2,i\n", "angle not understood|pointing 2"),
    ],
)
def test_a_bad_list_of_pointings_names_the_error(tmp_path, text, message):
    path = tmp_path / "plan.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_pointings(path)


def test_without_raw_files_there_is_nothing_to_choose_from(tmp_path):
    with pytest.raises(InputError, match="no exposures to choose templates from"):
        known_exposures(Site.at(tmp_path), None)


def test_the_final_message_counts_pointings_without_template():
    fields = [Pointing(ra_deg=10.0, dec_deg=-30.0, band="i"), Pointing(ra_deg=90.0, dec_deg=0.0, band="i")]
    prepared = plan(*fields, exposures=[listed(1, 10.0, -30.0)])
    state = preparation_state(prepared, {1: Completed(message="fine")})
    assert "1 pointings without a template" in (state.message or "")
    assert exit_code(state) is ExitCode.MISSING
    assert exit_code(preparation_state(prepared, {1: Failed(message="no raw file")})) is ExitCode.FAILED
    whole = preparation_state(plan(fields[0], exposures=[listed(1, 10.0, -30.0)]), {1: Completed()})
    assert exit_code(whole) is ExitCode.COMPLETE


@pytest.mark.server
def test_the_flow_processes_each_template_once_with_the_settings_of_the_night(monkeypatch, prefect_server, tmp_path):
    from flows import preparation
    from flows.settings import NightSettings

    asked, tidied = [], []

    def process(exposure, site, settings, *, overwrite, return_state):
        asked.append((exposure.expnum, exposure.rnum, site, overwrite))
        return Completed(message="done", data={"done": [1], "failures": {}})

    monkeypatch.setattr(preparation, "process_exposure", process)
    monkeypatch.setattr(preparation, "remove_intermediates", lambda who, _: tidied.append(who.expnum))
    path = tmp_path / "exposures.csv"
    write_exposure_list(path, [listed(1, 10.0, -30.0), listed(2, 10.02, -30.0)])
    fields = [Pointing(ra_deg=10.0 + 0.01 * k, dec_deg=-30.0, band="i") for k in range(4)]
    settings = NightSettings(version=Version(rnum=9))
    state = preparation.prepare_templates(
        fields, NIGHT, str(path), site=str(tmp_path), settings=settings, return_state=True
    )
    assert sorted(asked) == [(1, 9, str(tmp_path), False), (2, 9, str(tmp_path), False)]
    assert sorted(tidied) == [1, 2]
    assert exit_code(state) is ExitCode.COMPLETE


def test_the_command_prints_the_plan_without_running_it(capsys, tmp_path):
    write_exposure_list(tmp_path / "exposures.csv", [listed(1, 10.0, -30.0), listed(2, 100.0, 20.0)])
    (tmp_path / "plan.csv").write_text("RA,DEC,BAND\n10,-30,i\n10.1,-30,i\n")
    words = ["prepare-templates", str(tmp_path / "plan.csv"), "--night", str(NIGHT), "--plan", "--json"]
    where = ["--site", str(tmp_path), "--exposures", str(tmp_path / "exposures.csv")]
    assert main.run([*words, *where]) is ExitCode.COMPLETE
    document = json.loads(capsys.readouterr().out)
    assert document["exposures"] == [1]
    assert [row["templates"] for row in document["pointings"]] == [[1], [1]]
    assert main.run([*words[:3], "20261399", *words[4:], *where]) is ExitCode.BAD_INPUT
    assert not Path(tmp_path / "products").exists()
