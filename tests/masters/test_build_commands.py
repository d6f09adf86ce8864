"""The commands that build calibrations: what they ask the flows for, and what they refuse before anything starts."""

import pytest

from blocks.site import Site
from deployments.cli import calibrations, main
from deployments.cli.output import Answer
from imaging.errors import InputError
from imaging.identity import ExposureId
from imaging.io.calibrations import write_manifest
from imaging.io.manifest import CalibrationEntry
from imaging.io.raw_write import encode_primary, write_raw
from tasks.calibration_files import require_one_period
from tasks.raw_files import raw_of_kind


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Note what flows are asked for instead of running them; the site holds two processed exposures."""
    notes = []

    def note(command, common, site, flow, parameters, *, workers, about):
        notes.append((command, about))
        return Answer({"command": command}, (command,))

    for expnum in (1300001, 1300002):
        folder = tmp_path / "products/gw/exp/20240510" / str(expnum)
        folder.mkdir(parents=True)
        (folder / f"D0{expnum}_i_27_r4p5_immask.fits").touch()
    monkeypatch.setattr(calibrations, "run_flow", note)
    monkeypatch.setenv("GW_WORKFLOW_ROOT", str(tmp_path))
    return notes


def test_masters_of_a_night(asked):
    assert main.run(["build-calibrations", "20240510", "--ccds", "3,5-7", "--epoch", "y12"]) == 0
    assert asked == [("build-calibrations", {"night": 20240510, "ccds": (3, 5, 6, 7)})]


@pytest.mark.parametrize("command", ["build-sky-modes", "build-star-flat", "build-pixel-displacement", "build-ghosts"])
def test_exposures_are_found_by_their_products(asked, command):
    words = [command, "1300001", "1300002", "--epoch", "y12", "--rnum", "4", "--pnum", "5"]
    assert main.run(words) == 0
    assert asked == [(command, {"expnums": (1300001, 1300002), "epoch": "y12"})]


@pytest.mark.parametrize("command", ["build-sky-modes", "build-star-flat", "build-pixel-displacement", "build-ghosts"])
def test_exposures_of_an_era_are_found_by_band_and_night(asked, command):
    words = [command, "--epoch", "y12", "--rnum", "4", "--pnum", "5", "--to", "20240601", "--from"]
    assert main.run([*words, "20240501", "--band", "i"]) == 0
    assert asked == [(command, {"expnums": (1300001, 1300002), "epoch": "y12"})]
    assert main.run([*words, "20240511", "--band", "i"]) == 1, "no exposures of these nights"
    assert main.run([*words, "20240501", "--band", "z"]) == 1
    assert len(asked) == 1


def test_exposures_of_several_stable_periods_are_refused(tmp_path):
    site = Site.at(tmp_path)
    site.calibrations.mkdir(parents=True)
    about = {"kind": "flat", "band": "i", "files": "flat_i_c{ccd:02d}.fits"}
    nights = [(20240101, 20240331), (20240401, 20240630)]
    entries = [CalibrationEntry(epoch=f"n{a}", made_night=a, first_night=a, last_night=b, **about) for a, b in nights]
    write_manifest(site.calibrations, [*entries, CalibrationEntry(epoch="all", made_night=20240501, **about)])
    exposures = [ExposureId(n, "i", night) for n, night in ((1, 20240102), (2, 20240331), (3, 20240401))]
    require_one_period(site, exposures[:2])
    require_one_period(site, [ExposureId(3, "z", 20240401), *exposures[:2]])
    with pytest.raises(InputError, match="20240101 to 20240331, 20240401 to 20240630"):
        require_one_period(site, exposures)


@pytest.mark.parametrize(
    "words",
    [
        ["build-calibrations", "20241340"],
        ["build-star-flat", "--epoch", "y12"],
        ["build-star-flat", "1300001", "--epoch", "y12", "--rnum", "4", "--pnum", "5", "--band", "i"],
        ["build-star-flat", "1300001", "--epoch", "y12", "--rnum", "4", "--pnum", "5", "--to", "20240601"],
        ["build-sky-modes", "1300001", "--epoch", "y12"],
        ["build-star-flat", "1300003", "--epoch", "y12", "--rnum", "4", "--pnum", "5"],
        ["build-star-flat", "1300001"],
    ],
)
def test_bad_input_is_refused(asked, words, capsys):
    assert main.run(words) == 1
    assert asked == []
    assert capsys.readouterr().err


def raw_file(site, expnum, obstype, band="i"):
    cards = {"SIMPLE": True, "BITPIX": 8, "NAXIS": 0, "EXTEND": True, "EXPNUM": expnum, "FILTER": band}
    cards |= {"MJD-OBS": 60440.9, "EXPTIME": 10.0, "RA": "10:00:00", "DEC": "-20:00:00", "OBSTYPE": obstype}
    primary = encode_primary([(key, value, "") for key, value in cards.items()], "2024-05-10")
    extension = site.root / "extension"
    header = [("XTENSION", "IMAGE", ""), ("BITPIX", 8, ""), ("NAXIS", 0, ""), ("PCOUNT", 0, ""), ("GCOUNT", 1, "")]
    text = b"".join(f"{key:8}= {value!r:>20}".ljust(80).encode() for key, value, _ in [*header, ("CCDNUM", 27, "")])
    extension.write_bytes((text + b"END".ljust(80)).ljust(2880))
    write_raw(site.raw / "20240510" / f"DECam_{expnum:08d}.fits.fz", primary, [extension])


def test_calibration_exposures_are_found_by_their_kind(tmp_path):
    site = Site.at(tmp_path)
    for expnum, obstype in ((7, "zero"), (5, "zero"), (6, "dome flat"), (8, "object")):
        raw_file(site, expnum, obstype)
    assert [raw.exposure.expnum for raw in raw_of_kind(site, 20240510, ("zero", "bias"))] == [5, 7]
    assert [raw.exposure.expnum for raw in raw_of_kind(site, 20240510, ("dome flat",))] == [6]
    assert raw_of_kind(site, 20240511, ("zero",)) == []
    (site.raw / "20240510" / "DECam_00000009.fits.fz").write_text("not FITS")
    with pytest.raises(InputError):
        raw_of_kind(site, 20240510, ("zero",))
