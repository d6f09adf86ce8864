"""``archive fetch --for-night``: what a registered night lacks is fetched, and nothing else."""

import json

from astropy.io import fits
from astropy.time import Time
from listed_nights import NIGHT, check_map, write_list

from blocks.site import Site
from deployments.archive.night import FRAMES
from deployments.cli import main
from deployments.events.add_raw import add_raw
from deployments.events.registry import register_night

SEARCHED = (1300001, 1300002)
RA, DEC = 197.45, -23.38


def registered(tmp_path, templates) -> Site:
    """Return a site with a registered night and no other file."""
    site = Site.at(tmp_path / "site")
    (tmp_path / "map.fits").write_bytes(b"SIMPLE")
    exposures = write_list(tmp_path / "list.csv", SEARCHED, templates=templates)
    register_night(
        site, NIGHT, event="GW170817", skymap=tmp_path / "map.fits", exposures=exposures, check_skymap=check_map
    )
    return site


def dashed(night: int) -> str:
    return f"{night // 10000}-{night // 100 % 100:02d}-{night % 100:02d}"


def add(fake_archive, expnum: int, night: int, kind: str = "object", **values) -> None:
    about = {
        "EXPNUM": expnum,
        "caldat": dashed(night),
        "original_filename": f"DECam_{expnum:08d}.fits.fz",
        "obs_type": kind,
        "ra_center": RA,
        "dec_center": DEC,
    }
    fake_archive.add(b"%d" % expnum, **about | values)


def fetch(site: Site, *words: str) -> int:
    return main.run(["archive", "fetch", "--for-night", str(NIGHT), "--site", str(site.root), "--json", *words])


def test_a_night_gets_its_exposures_its_calibration_frames_and_templates_that_cover_it(tmp_path, fake_archive, capsys):
    site = registered(tmp_path, (900001,))
    for expnum in SEARCHED:
        add(fake_archive, expnum, NIGHT)
    add(fake_archive, 900001, 20170301)
    for number in range(FRAMES + 2):
        for night in (NIGHT - 1, 20170301 + 3):
            add(fake_archive, 2000000 + night % 100 * 1000 + number, night, "zero")
            add(fake_archive, 3000000 + night % 100 * 1000 + number, night, "dome flat")
    add(fake_archive, 1300003, NIGHT, ra_center=RA + 0.3)  # of the same night, not listed
    add(fake_archive, 800001, 20160401, ra_center=RA + 40.0)  # elsewhere
    add(fake_archive, 800002, NIGHT - 5)  # too near in time for a template
    assert fetch(site) == 0
    said = json.loads(capsys.readouterr().out)
    names = sorted(path.rpartition("_")[2].partition(".")[0].lstrip("0") for path in said["fetched"])
    assert [name for name in names if len(name) == 7 and name[0] == "1"] == ["1300001", "1300002"]
    assert "900001" in names
    assert not {"1300003", "800001", "800002"} & set(names)
    assert sum(name.startswith("2") for name in names) == 2 * FRAMES, "the bias frames of each of two nights"
    assert sum(name.startswith("3") for name in names) == 2 * FRAMES
    assert (site.raw / str(NIGHT) / "DECam_01300001.fits.fz").read_bytes() == b"1300001"
    assert fetch(site) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["fetched"] == []


def test_templates_are_chosen_where_the_list_has_none(fake_archive, tmp_path, capsys):
    site = registered(tmp_path, ())
    for number in range(8):
        add(fake_archive, 800001 + number, 20160401)
    add(fake_archive, 700001, 20160401, ra_center=RA + 40.0)
    add(fake_archive, 700002, 20160401, exposure=10.0)
    add(fake_archive, 700003, 20160401, ifilter="z DECam")
    fetch(site, "--dry-run")
    said = json.loads(capsys.readouterr().out)
    chosen = {file["expnum"] for file in said["files"]}
    assert len(chosen) == 4, "more covers than the rules want are not fetched"
    assert chosen <= set(range(800001, 800009))
    notes = " ".join(said["notes"])
    assert "not in the archive: raw exposures 1300001, 1300002" in notes
    assert f"no night within 10 days of {NIGHT}" in notes


def test_what_lies_elsewhere_is_not_fetched_again(fake_archive, tmp_path, capsys):
    site = registered(tmp_path, ())
    kinds = {800001: "object", 1300001: "object"} | {
        5000001 + n: ("zero", "dome flat")[n % 2] for n in range(2 * FRAMES)
    }
    elsewhere = tmp_path / "received"
    elsewhere.mkdir()
    for expnum, kind in kinds.items():
        night = 20160401 if kind == "object" and expnum < SEARCHED[0] else NIGHT
        add(fake_archive, expnum, night, kind)
        moment = f"{dashed(night)}T23:59:00"
        cards = {"EXPNUM": expnum, "OBSTYPE": kind, "FILTER": "i DECam", "MJD-OBS": Time(moment).mjd, "EXPTIME": 80.0}
        header = fits.Header(cards | {"TELRA": RA, "TELDEC": DEC})
        fits.HDUList([fits.PrimaryHDU(header=header), fits.ImageHDU()]).writeto(elsewhere / f"c4d_{expnum}_ori.fits")
    add(fake_archive, 1300002, NIGHT)
    add_raw(site, [elsewhere])
    assert fetch(site, "--dry-run") == 0
    assert {file["expnum"] for file in json.loads(capsys.readouterr().out)["files"]} == {1300002}
