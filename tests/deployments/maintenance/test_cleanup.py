"""Making room: what goes and what stays."""

import os
import sqlite3
import time
from contextlib import closing

import pytest

from blocks.site import Site
from deployments.maintenance.cleanup import clean_up, remove_intermediate
from deployments.server.database import VARIABLE, prepare_sqlite
from imaging.identity import ExposureId

DAY_S = 86400.0
NAMES = ("detrend.fits", "measured.fits", "minisky.fits", "immask.fits", "fullcat.parquet", "psf.fits")


@pytest.fixture
def site(tmp_path) -> Site:
    return Site.at(tmp_path)


def products(site: Site, expnum: int, age_days: float, latest_days: float | None = None) -> set[str]:
    """Leave the products of a CCD; the catalogue may be younger than the others."""
    exposure = ExposureId(expnum, "i", 20170818)
    folder = site.store / exposure.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        path = folder / f"{exposure.ccd_stem(7)}_{name}"
        path.write_bytes(b"x" * 1000)
        age = latest_days if latest_days is not None and name == "fullcat.parquet" else age_days
        then = path.stat().st_mtime - age * DAY_S
        os.utime(path, (then, then))
    return {path.name.rpartition("_")[2] for path in folder.iterdir()}


def left(site: Site, expnum: int) -> set[str]:
    folder = site.store / ExposureId(expnum, "i", 20170818).folder
    return {path.name.rpartition("_")[2] for path in folder.iterdir()}


def test_only_what_the_next_step_alone_reads_goes_and_only_when_old(site):
    products(site, 1, age_days=40)
    products(site, 2, age_days=5)
    products(site, 3, age_days=40, latest_days=1)
    assert remove_intermediate(site, 30.0) == (2, 2000)
    assert left(site, 1) == {"minisky.fits", "immask.fits", "fullcat.parquet", "psf.fits"}
    assert left(site, 2) == left(site, 3) == set(NAMES), "somebody is at work there"
    assert remove_intermediate(site, 30.0) == (0, 0)


def test_old_scratch_goes_whatever_it_is(site):
    scratch = site.storing_in("scratch")
    products(scratch, 1, age_days=20)
    products(scratch, 2, age_days=5)
    account = clean_up(site, intermediate_days=30.0, scratch_days=14.0)
    assert left(scratch, 1) == set()
    assert left(scratch, 2) == set(NAMES)
    assert (account["scratch_files"], account["intermediate_products"]) == (len(NAMES), 0)
    assert account["free_gb"] > 0


def test_halves_of_killed_writers_go_after_a_day(site):
    site.products.mkdir()
    for name, age_days in ((".a.fits.1-2.tmp", 2.0), (".b.fits.1-2.tmp", 0.1), ("c.fits", 2.0)):
        path = site.products / name
        path.write_bytes(b"x")
        then = path.stat().st_mtime - age_days * DAY_S
        os.utime(path, (then, then))
    assert clean_up(site, intermediate_days=30.0, scratch_days=14.0)["half_written_files"] == 1
    assert sorted(path.name for path in site.products.iterdir()) == [".b.fits.1-2.tmp", "c.fits"]


def test_a_site_without_anything_is_no_error(site):
    account = clean_up(site, intermediate_days=30.0, scratch_days=14.0)
    assert (account["scratch_files"], account["freed_gb"]) == (0, 0.0)


def test_the_room_of_removed_runs_goes_back_to_the_disk(site, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    path = site.state / "server" / "prefect.db"
    path.parent.mkdir(parents=True)
    prepare_sqlite(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE log (message TEXT)")
        connection.executemany("INSERT INTO log VALUES (?)", [("x" * 1000,)] * 3000)
        connection.commit()
        connection.execute("DELETE FROM log")
        connection.commit()
    account = clean_up(site, intermediate_days=30.0, scratch_days=14.0)
    assert account["database"]["freed_mb"] > 2.5
    assert path.stat().st_size < 1e5


def test_a_database_that_is_away_does_not_keep_the_rest_from_being_done(site, monkeypatch):
    monkeypatch.setenv(VARIABLE, "postgresql+asyncpg://gw:secret@127.0.0.1:9/prefect")
    products(site.storing_in("scratch"), 1, age_days=20)
    account = clean_up(site, intermediate_days=30.0, scratch_days=14.0)
    assert account["scratch_files"] == len(NAMES)
    assert "PostgreSQL cannot be reached" in account["database"]["not_vacuumed"]
    assert "secret" not in account["database"]["not_vacuumed"]


def test_messages_with_alerts_are_kept_for_a_month(site):
    folder = site.state / "alerts"
    folder.mkdir(parents=True)
    for name, days in (("new.json", 29), ("old.json", 31)):
        (folder / name).write_text("{}")
        os.utime(folder / name, (time.time() - days * 86400,) * 2)
    assert clean_up(site, intermediate_days=30.0, scratch_days=14.0)["raw_alerts"] == 1
    assert [path.name for path in folder.iterdir()] == ["new.json"]
