"""One process changes the manifest of a calibration library at a time, whether it builds or imports."""

import fcntl
from threading import Thread

import pytest

from blocks.site import Site
from deployments.products.import_calibrations import import_calibrations
from imaging.detector.crosstalk import format_crosstalk, observatory_crosstalk
from imaging.io.atomic import write_text
from imaging.io.calibrations import CalibrationLibrary, write_manifest
from imaging.io.manifest import CalibrationEntry
from tasks.calibration_files import LOCK, master_path, record_files


def build(site, tmp_path):
    path = master_path(site, "built", "crosstalk", 0)
    write_text(path, format_crosstalk(observatory_crosstalk().terms))
    record_files(site, 20240510, "built", {("crosstalk", None): [path]})


def bring(site, tmp_path):
    path = tmp_path / "DECam_20130606.txt"
    write_text(path, format_crosstalk(observatory_crosstalk().terms))
    import_calibrations(site, [path], kind="crosstalk", night=20130606, epoch="brought")


@pytest.mark.parametrize(("change", "epoch"), [(build, "built"), (bring, "brought")])
def test_who_changes_the_manifest_waits_and_keeps_what_another_wrote(tmp_path, change, epoch):
    site = Site.at(tmp_path / "site")
    site.calibrations.mkdir(parents=True)
    write_manifest(site.calibrations, ())
    with (site.calibrations / LOCK).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        other = Thread(target=change, args=(site, tmp_path))
        other.start()
        other.join(1.0)
        assert other.is_alive()
        entry = CalibrationEntry(epoch="first", kind="bias", files="bias_c{ccd:02d}.fits", made_night=20240101)
        write_manifest(site.calibrations, [entry])
    other.join(60.0)
    assert not other.is_alive()
    assert {e.epoch for e in CalibrationLibrary(site.calibrations).manifest.entries} == {"first", epoch}
