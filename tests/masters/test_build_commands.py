"""The commands that build calibrations: what they ask the flows for, and what they refuse before anything starts."""

import pytest

from blocks.site import Site
from deployments.cli import calibrations, main
from deployments.cli.output import Answer
from imaging.errors import InputError
from imaging.io.raw_write import encode_primary, write_raw
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


@pytest.mark.parametrize("command", ["build-sky-modes", "build-star-flat"])
def test_exposures_are_found_by_their_products(asked, command):
    words = [command, "1300001", "1300002", "--epoch", "y12", "--rnum", "4", "--pnum", "5"]
    assert main.run(words) == 0
    assert asked == [(command, {"expnums": (1300001, 1300002), "epoch": "y12"})]


@pytest.mark.parametrize(
    "words",
    [
        ["build-calibrations", "20241340"],
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
