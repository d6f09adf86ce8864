"""Which calibration an exposure takes: validity, age, checksums, the epochs of the original."""

import pytest

from blocks.site import Site
from imaging.detector.status import FAULTS, bad_amplifiers, dead_ccds
from imaging.errors import InputError
from imaging.exposure import Exposure
from imaging.identity import ExposureId
from imaging.io.atomic import content_hash, write_text
from imaging.io.calibrations import CalibrationLibrary, write_manifest
from imaging.io.manifest import AgeLimit, CalibrationEntry
from imaging.io.original_epochs import original_entries
from imaging.sky.settings import SkySettings
from tasks.calibration_files import calibration_record
from tasks.fit_sky import fit_sky_job


def exposure(expnum=1300001, band="i", night=20240510):
    return Exposure(expnum, band, night, 60440.0, 90.0, 150.0, 2.0, 1.2)


@pytest.fixture
def original(tmp_path):
    """Return a library with the survey's epochs, every file of CCD 7 present."""
    for entry in original_entries():
        for band in "uiY":
            (tmp_path / entry.name(7, band)).touch()
    write_manifest(tmp_path, original_entries())
    return CalibrationLibrary(tmp_path)


@pytest.mark.parametrize(
    ("expnum", "night", "band", "flat", "bad_pixels"),
    [
        (150000, 20121101, "i", "D_n20130115t0131_i_c07_r1788p01_norm-dflatcor.fits", "r1975p01_bpm"),
        (226352, 20130301, "i", "D_n20130115t0131_i_c07_r1788p01_norm-dflatcor.fits", "r1975p01_bpm"),
        (226353, 20130901, "Y", "D_n20130916t0926_Y_c07_r1999p06_norm-dflatcor.fits", "r2083p01_bpm"),
        (258563, 20131120, "i", "D_n20130916t0926_i_c07_r1999p06_norm-dflatcor.fits", "r2083p01_bpm"),
        (284390, 20140209, "i", "D_n20140117t0129_i_c07_r2045p01_norm-dflatcor.fits", "r2105p01_bpm"),
        (383321, 20141130, "i", "D_n20141020t1030_i_c07_r1471p01_norm-dflatcor.fits", "r1474p01_bpm"),
        (438444, 20150518, "i", "D_n20150105t0115_i_c07_r2050p02_norm-dflatcor.fits", "r2134p01_bpm"),
        (519543, 20160301, "i", "D_n20151113t1123_i_c07_r2350p02_norm-dflatcor.fits", "r2359p01_bpm"),
        (666747, 20170817, "i", "D_n20151113t1123_i_c07_r2350p02_norm-dflatcor.fits", "r2400p01_bpm"),
        (666748, 20180820, "i", "D_n20180913t0923_i_c07_r4033p02_norm-dflatcor.fits", "r3697p01_bpm"),
        (500000, 20151201, "u", "D_n20141020t1030_u_c07_r1471p01_norm-dflatcor.fits", "r1474p01_bpm"),
        (700000, 20181101, "u", "D_n20170201t0213_u_c07_r2922p01_norm-dflatcor.fits", "r3697p01_bpm"),
    ],
)
def test_the_epochs_of_the_original_are_chosen_by_exposure_number(original, expnum, night, band, flat, bad_pixels):
    observed = exposure(expnum, band, night)
    assert original.find("flat", observed, 7).name == flat
    assert bad_pixels in original.find("bad_pixels", observed, 7).name
    assert original.find("crosstalk", observed, 7).name == "DECam_20130606.xtalk"


def test_masters_of_2018_are_refused_in_2024_unless_their_epoch_is_forced(original):
    observed = exposure()
    with pytest.raises(InputError, match="calibration too old: bad_pixels, epoch y7") as caught:
        original.find("bad_pixels", observed, 7)
    assert caught.value.value == "2067 days from the exposure"
    assert caught.value.limit == "less than 730"
    forced = original.find("flat", observed, 7, epoch="y4e1").name
    assert forced == "D_n20151113t1123_i_c07_r2350p02_norm-dflatcor.fits"
    assert any("flat of 20151113" in text for text in original.age_warnings(observed, epoch="y4e1"))


def test_an_epoch_that_does_not_exist_names_what_there_is(original):
    with pytest.raises(InputError, match="exposures 226353 to 258563"):
        original.find("flat", exposure(), 7, epoch="y99")


def library(tmp_path, made_night, **limits):
    (tmp_path / "bias_07.fits").write_bytes(b"bias")
    entry = CalibrationEntry(epoch="e", kind="bias", files="bias_{ccd:02d}.fits", made_night=made_night)
    write_manifest(tmp_path, (entry,), {"bias": AgeLimit(**limits)} if limits else {})
    return CalibrationLibrary(tmp_path)


@pytest.mark.parametrize(
    ("made", "warned", "refused"),
    [(20240501, False, False), (20240401, True, False), (20240610, True, False), (20230510, True, True)],
)
def test_age_warns_then_refuses_and_counts_both_ways(tmp_path, made, warned, refused):
    found = library(tmp_path, made, warn_days=30, refuse_days=300)
    assert bool(found.age_warnings(exposure())) == warned
    if refused:
        with pytest.raises(InputError, match="too old"):
            found.find("bias", exposure(), 7)
    else:
        found.find("bias", exposure(), 7)


def test_a_manifest_may_set_no_limit(tmp_path):
    assert library(tmp_path, 20100101).find("bias", exposure(), 7).is_file()


def test_an_old_calibration_is_a_note_of_the_run(tmp_path):
    site = Site.at(tmp_path)
    site.calibrations.mkdir()
    library(site.calibrations, 20240401, warn_days=30, refuse_days=300)
    job = fit_sky_job({}, {}, exposure(), ExposureId(1300001, "i", 20240510), site, SkySettings())
    age, default = job.parameters["calibration_warnings"]
    assert age == "calibration is old: bias of 20240401, 39 days from the exposure (warning limit 30)"
    assert default.startswith("no calibration of the kind linearity: none known")


def test_a_file_that_differs_from_its_checksum_is_refused(tmp_path):
    site = Site.at(tmp_path)
    path = site.calibrations / "bias_07.fits"
    write_text(path, "the bias")
    recorded = {"bias_07.fits": content_hash(path)}
    entry = CalibrationEntry(
        epoch="e", kind="bias", files="bias_{ccd:02d}.fits", made_night=20240501, checksums=recorded
    )
    write_manifest(site.calibrations, (entry,))
    found = CalibrationLibrary(site.calibrations)
    assert calibration_record(site, found, path).content_hash == recorded["bias_07.fits"]
    write_text(path, "another bias")
    with pytest.raises(InputError, match="differs from the manifest"):
        calibration_record(site, found, path)


def test_an_entry_of_a_band_goes_before_one_of_any_band(tmp_path):
    general = CalibrationEntry(epoch="a", kind="flat", files="any_{band}.fits", made_night=20240501)
    special = CalibrationEntry(epoch="b", kind="flat", files="only_z.fits", band="z", made_night=20240101)
    for name in ("any_i.fits", "any_z.fits", "only_z.fits"):
        (tmp_path / name).touch()
    write_manifest(tmp_path, (general, special))
    found = CalibrationLibrary(tmp_path)
    assert found.find("flat", exposure(band="i"), 7).name == "any_i.fits"
    assert found.find("flat", exposure(band="z"), 7).name == "only_z.fits"


def test_of_several_masters_the_one_nearest_in_time_is_used(tmp_path):
    years = (2014, 2018, 2023)
    write_manifest(
        tmp_path,
        [CalibrationEntry(epoch=f"e{y}", kind="bias", files=f"{y}.fits", made_night=y * 10000 + 601) for y in years],
    )
    for year in years:
        (tmp_path / f"{year}.fits").touch()
    found = CalibrationLibrary(tmp_path)
    nights = {20131201: 2014, 20160701: 2018, 20160501: 2014, 20201101: 2018, 20240101: 2023}
    assert {night: int(found.find("bias", exposure(night=night), 7).stem) for night in nights} == nights


def test_an_entry_of_some_ccds_leaves_the_others_what_they_had(tmp_path):
    old = CalibrationEntry(epoch="a", kind="bias", files="old_{ccd:02d}.fits", made_night=20240101)
    new = CalibrationEntry(epoch="b", kind="bias", files="new_{ccd:02d}.fits", made_night=20240501, ccds=(7,))
    for name in ("old_07.fits", "old_08.fits", "new_07.fits"):
        (tmp_path / name).touch()
    write_manifest(tmp_path, (old, new))
    found = CalibrationLibrary(tmp_path)
    assert found.find("bias", exposure(), 7).name == "new_07.fits"
    assert found.find("bias", exposure(), 8).name == "old_08.fits"
    assert found.holds("bias", exposure(), 8)
    assert not found.holds("bias", exposure(), 8, epoch="b")
    with pytest.raises(InputError, match=r"CCD 8: calibration outside its validity: bias") as caught:
        found.find("bias", exposure(), 8, epoch="b")
    assert "epoch b" in str(caught.value.value)


@pytest.mark.parametrize(
    ("night", "dead", "amplifiers"),
    [
        (20120901, set(), ()),
        (20121107, {61}, ("A",)),
        (20131129, {61}, ("A",)),
        (20131130, {2, 61}, ("A",)),
        (20161230, {2, 61}, ("A",)),
        (20161231, {61}, ("A",)),
        (20240510, {61}, ("A",)),
    ],
)
def test_ccds_and_amplifiers_that_work_follow_the_date(night, dead, amplifiers):
    assert dead_ccds(night) == dead
    assert bad_amplifiers(night, 31) == amplifiers
    assert all(fault.reason for fault in FAULTS)
