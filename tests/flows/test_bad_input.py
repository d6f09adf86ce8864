"""Bad input on real products: one sentence with place and remedy, the right exit code, no lost products."""

import errno
import json
import shutil

import fitsio
import pytest
from night_site import NIGHT, SEARCH, gw_workflow, raw_file, replace_file, single_epoch

import tasks.measure
from imaging.io.atomic import atomic_path
from imaging.io.images import write_planes
from tasks.engine.jobs import ExitCode

pytestmark = pytest.mark.slow

DIFFERENCE = ["difference", "-E", SEARCH[0], "-r", "r1p1", "-p", 1, "-n", NIGHT, "-b", "i", "-c", 27, "--workers", 1]


def refused(ran, *phrases):
    """Check that the input was refused in one sentence with these phrases."""
    assert ran.code is ExitCode.BAD_INPUT
    assert ran.error.startswith("gw-workflow: ")
    assert ran.error.count("\n") == 1
    for phrase in phrases:
        assert str(phrase) in ran.message
    return True


def edit_header(path, extension, change):
    """Copy a raw file in place of its link and change a header."""
    replace_file(path, path.read_bytes())
    with fitsio.FITS(str(path), "rw") as file:
        change(file[extension])


def test_raw_file_missing(command, borrowed):
    raw_file(borrowed).unlink()
    assert refused(command(borrowed, *single_epoch()), raw_file(borrowed), "missing", "fetch the raw file")


@pytest.mark.parametrize("content", [b"", b"not FITS at all" * 1000], ids=["empty", "text"])
def test_raw_file_is_not_fits(command, borrowed, content):
    replace_file(raw_file(borrowed), content)
    assert refused(command(borrowed, *single_epoch()), "not FITS", raw_file(borrowed))


@pytest.mark.parametrize(
    ("asked", "phrases"),
    [({"band": "g"}, ("another band", "(i in", "allowed: g")), ({"expnum": 1300077}, ("exposure number", "1300001"))],
    ids=["band", "number"],
)
def test_raw_file_is_another_one(command, borrowed, asked, phrases):
    here = raw_file(borrowed)
    if "expnum" in asked:
        replace_file(raw_file(borrowed, asked["expnum"]), here.read_bytes())
    assert refused(command(borrowed, *single_epoch(**asked)), *phrases)


def test_raw_file_is_of_another_night(command, borrowed):
    folder = borrowed.raw / "20240511"
    folder.mkdir()
    (folder / raw_file(borrowed).name).symlink_to(raw_file(borrowed))
    assert refused(command(borrowed, *single_epoch(night=20240511)), "another night", "20240510", "20240511")


def test_raw_file_lacks_a_keyword(command, borrowed):
    def rename_filter(hdu):
        hdu.delete_key("FILTER")

    edit_header(raw_file(borrowed), 0, rename_filter)
    assert refused(command(borrowed, *single_epoch()), "FILTER")


def test_truncated_raw_file_fails_the_ccds_behind_the_cut_and_a_repair_recomputes_only_these(command, borrowed):
    whole = raw_file(borrowed).read_bytes()
    replace_file(raw_file(borrowed), whole[: int(0.8 * len(whole))])

    broken = command(borrowed, *single_epoch(ccds="27,34"))
    assert broken.code is ExitCode.MISSING
    assert broken.document["state"] == "CompletedWithFailures"
    (ccd,) = broken.failures
    assert "fetch the raw file again" in broken.failures[ccd]["message"]
    assert f"exposure {SEARCH[0]}, CCD {ccd}" in broken.failures[ccd]["message"]

    replace_file(raw_file(borrowed), whole)
    repaired = command(borrowed, *single_epoch(ccds="27,34"))
    assert repaired.code is ExitCode.COMPLETE
    done = repaired.document["summary"]["stages"]["single_epoch"]
    assert done["n_computed"] == 4  # detrend and measure of the broken CCD; sky and tie, which it joins
    assert done["n_cached"] == 2


def test_raw_file_lacks_an_extension(command, borrowed):
    with fitsio.FITS(str(raw_file(borrowed))) as file:
        number = next(n for n in range(1, len(file)) if file[n].read_header()["CCDNUM"] == 34)
        starts = [file[n].get_offsets()["header_start"] for n in range(len(file))]
    content = raw_file(borrowed).read_bytes()
    end = starts[number + 1] if number + 1 < len(starts) else len(content)
    replace_file(raw_file(borrowed), content[: starts[number]] + content[end:])

    ran = command(borrowed, *single_epoch(ccds="27,34"))

    assert ran.code is ExitCode.MISSING
    assert set(ran.failures) == {"34"}
    assert "has no extension of this CCD" in ran.failures["34"]["message"]


def test_calibration_of_one_ccd_missing_costs_that_ccd(command, borrowed):
    (borrowed.calibrations / "bias" / "bias_c34.fits").unlink()
    ran = command(borrowed, *single_epoch(ccds="27,34"))
    assert ran.code is ExitCode.MISSING
    assert set(ran.failures) == {"34"}
    assert "bias_c34.fits" in ran.failures["34"]["message"]


def test_calibration_missing_for_all(command, borrowed):
    (borrowed.calibrations / "bias" / "bias_c27.fits").unlink()
    assert refused(command(borrowed, *single_epoch()), "CCD 27", "calibration file missing: bias")


def test_calibration_outside_its_validity(command, borrowed):
    manifest = borrowed.calibrations / "manifest.json"
    document = json.loads(manifest.read_text())
    for entry in document["entries"]:
        entry["last_night"] = 20240101
    replace_file(manifest, json.dumps(document).encode())
    assert refused(command(borrowed, *single_epoch()), "calibration outside its validity", NIGHT, "20240101")


def test_calibration_library_missing_or_damaged(command, borrowed):
    replace_file(borrowed.calibrations / "manifest.json", b"{")
    assert refused(command(borrowed, *single_epoch()), "manifest is not valid", "manifest.json")
    shutil.rmtree(borrowed.calibrations)
    assert refused(command(borrowed, *single_epoch()), "no calibration library", borrowed.calibrations)


def test_reference_catalogue_missing(command, borrowed):
    shutil.rmtree(borrowed.reference / "gaia")
    assert refused(command(borrowed, *single_epoch()), f"exposure {SEARCH[0]}, CCD 27", "no reference catalogue")


def test_no_reference_stars_in_the_field(command, borrowed):
    dataset = borrowed.reference / "gaia"
    for path in dataset.rglob("*.parquet"):
        path.unlink()
    assert refused(command(borrowed, *single_epoch()), "file of the reference catalogue is missing", "Npix=")


def test_no_overlapping_template(command, borrowed):
    assert command(borrowed, *single_epoch("-C")).code is ExitCode.COMPLETE
    ran = command(borrowed, *DIFFERENCE)
    assert ran.code is ExitCode.FAILED
    assert ran.failures["27"]["reason"] == "no_template"
    assert "no template overlaps the CCD" in ran.failures["27"]["message"]
    assert "process earlier exposures of the field" in ran.failures["27"]["message"]


def test_difference_of_what_was_not_processed(command, borrowed):
    assert refused(command(borrowed, *DIFFERENCE), f"exposure {SEARCH[0]}", "has not been verified", "single-epoch")


def test_disk_full_during_a_write_loses_nothing(command, borrowed, monkeypatch):
    is_full = True

    def write_on_full_disk(path, *args, **options):
        if not is_full:
            return write_planes(path, *args, **options)
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"SIMPLE")
            raise OSError(errno.ENOSPC, "No space left on device", str(temporary))

    monkeypatch.setattr(tasks.measure, "write_planes", write_on_full_disk)
    failed = command(borrowed, *single_epoch())
    assert failed.code is ExitCode.FAILED
    message = failed.failures["27"]["message"]
    assert f"exposure {SEARCH[0]}, CCD 27, measure: cannot write a file: the disk is full" in message
    assert "_measured.fits" in message
    assert "free some disk space and run the same command again" in message
    assert not list(borrowed.root.rglob("*.tmp"))

    is_full = False
    resumed = command(borrowed, *single_epoch())
    assert resumed.code is ExitCode.COMPLETE
    assert resumed.document["summary"]["stages"]["single_epoch"]["n_cached"] == 2  # detrend and the sky


def test_night_registered_twice_or_with_an_unreadable_map(simulated, tmp_path):
    words = ["register-night", NIGHT, "--event", "MS240510a", "--exposures", simulated.root / "exposures.csv"]
    again = gw_workflow(*words, "--skymap", simulated.root / "skymap.multiorder.fits", "--site", simulated.root)
    assert again.code == 1
    assert "already registered" in again.message
    assert "--update" in again.message

    broken = tmp_path / "map.fits"
    broken.write_bytes((simulated.root / "skymap.multiorder.fits").read_bytes()[:3000])
    refused_map = gw_workflow(*words, "--skymap", broken, "--site", tmp_path / "fresh")
    assert refused_map.code == 1
    assert str(broken) in refused_map.message
    assert not list((tmp_path / "fresh").rglob("night.json"))
