"""Catalogues on slow storage: what a sky map needs is copied when a night is registered or an alert comes."""

import json
from types import SimpleNamespace

import astropy.units as u
import numpy as np
import pytest
from astropy_healpix import HEALPix

from blocks.gw_events import AlertRecord, event_folder
from blocks.site import Site
from deployments.cli.main import run
from deployments.events.listening import listen
from deployments.events.prefetching import RememberedSource, prefetch_remembered, remember_source, remembered_sources
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.io.exposure_list import ListedExposure, write_exposure_list
from imaging.io.reference import read_reference_cone, write_reference_catalogue
from imaging.io.skymaps import write_skymap
from imaging.schemas.reference import REFERENCE_STARS
from imaging.skymap.model import SkyMap
from imaging.tables import make_table

NIGHT = 20240510


def stars(n=9000):
    random = np.random.default_rng(1)
    columns = {f.name: np.full(n, 0.1) for f in REFERENCE_STARS}
    columns |= {"source_id": np.arange(n), "ra": random.uniform(1, 39, n), "dec": random.uniform(-29, -11, n)}
    columns |= {"ref_epoch": np.full(n, 2016.0), "variable": np.zeros(n, bool)}
    return make_table(columns, REFERENCE_STARS)


def skymap(ra, dec=-20.0):
    pixel = HEALPix(32, order="nested").lonlat_to_healpix(ra * u.deg, dec * u.deg)
    return SkyMap(np.array([5]), np.array([pixel]), np.array([1.0]))


@pytest.fixture
def site(tmp_path):
    """A site that remembers where the whole of its Gaia lies."""
    write_reference_catalogue(tmp_path / "archive" / "gaia", stars(), name="gaia")
    site = Site.at(tmp_path / "site")
    remember_source(site, "gaia", RememberedSource(folder=tmp_path / "archive" / "gaia"))
    return site


def held(site, ra):
    return read_reference_cone(site.reference / "gaia", ra, -20.0, 1.0).num_rows


def command(capsys, *words):
    code = run([str(word) for word in (*words, "--json")])
    return code, json.loads(capsys.readouterr().out)


def register(capsys, site, folder, ra):
    write_skymap(folder / f"map{ra}.fits", skymap(ra))
    exposure = Exposure(1300001, "i", NIGHT, 60440.1, 90.0, ra, -20.0, 1.1)
    write_exposure_list(folder / "list.csv", [ListedExposure(exposure, 1.0)])
    words = ("--event", "S240510a", "--skymap", folder / f"map{ra}.fits", "--exposures", folder / "list.csv")
    return command(capsys, "register-night", NIGHT, *words, "--site", site.root)


def test_registering_a_night_copies_what_its_map_needs(site, tmp_path, capsys):
    code, document = register(capsys, site, tmp_path, 10.0)
    assert code == 0
    assert document["prefetched"] == ["catalogue gaia: 9 partitions of the region, 9 copied"]
    assert held(site, 10.0) > 10
    assert held(site, 30.0) == 0  # only the region


def test_regions_of_several_maps_add_up_and_nothing_is_copied_twice(site):
    said = []
    for ra in (10.0, 30.0, 10.0):
        prefetch_remembered(site, skymap(ra), said.append)
    assert [line.split(", ")[1] for line in said] == ["9 copied", "9 copied", "0 copied"]
    assert min(held(site, 10.0), held(site, 30.0)) > 10


def test_an_archive_that_does_not_answer_costs_a_line_and_not_the_night(site, tmp_path, capsys):
    (tmp_path / "archive").rename(tmp_path / "unmounted")
    code, document = register(capsys, site, tmp_path, 10.0)
    assert code == 0
    assert document["changed"]
    assert "catalogue gaia not prefetched" in document["prefetched"][0]


def test_a_site_without_slow_storage_does_nothing(tmp_path):
    said = []
    assert prefetch_remembered(Site.at(tmp_path), skymap(10.0), said.append) == {}
    assert said == []


def test_the_command_remembers_its_source(tmp_path, capsys):
    write_reference_catalogue(tmp_path / "whole", stars(), name="whole")
    write_skymap(tmp_path / "map.fits", skymap(10.0))
    words = ("reference-catalog", "prefetch", tmp_path / "whole", "--name", "gaia", "--site", tmp_path / "site")
    site = Site.at(tmp_path / "site")
    command(capsys, *words, "--skymap", tmp_path / "map.fits")
    assert remembered_sources(site) == {}
    command(capsys, *words, "--skymap", tmp_path / "map.fits", "--level", 0.9, "--remember")
    assert remembered_sources(site) == {"gaia": RememberedSource(folder=tmp_path / "whole", level=0.9)}


def test_a_damaged_file_of_sources_is_said(site):
    (site.reference / "sources.json").write_text('{"gaia": 3}')
    with pytest.raises(InputError, match="invalid list of sources"):
        remembered_sources(site)
    said = []
    assert prefetch_remembered(site, skymap(10.0), said.append) == {}
    assert "sources.json" in said[0]


def test_an_alert_copies_after_it_has_been_announced(site, monkeypatch):
    folder = event_folder(site, "S240510a")
    folder.mkdir(parents=True)
    write_skymap(folder / "new.fits", skymap(10.0))
    record = AlertRecord(
        superevent="S240510a", alert_type="UPDATE", time_created="2024-05-10T12:00:00Z", skymap="new.fits"
    )
    monkeypatch.setattr("deployments.events.listening.store_alert", lambda site, content: record)
    message = SimpleNamespace(error=lambda: None, value=lambda: b"alert")
    consumer = SimpleNamespace(poll=lambda seconds: message, commit=lambda **_: None)
    order = []
    announce = lambda site: order.append("announced")  # noqa: E731
    listen(site, consumer, say=order.append, announce=announce, seconds=0.01)
    first = next(k for k, line in enumerate(order) if line.startswith("catalogue"))
    assert "announced" in order[:first]
    assert held(site, 10.0) > 10
