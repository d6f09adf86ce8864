"""The command difference-images on images as users have them."""

import json
from dataclasses import replace
from pathlib import Path

import fitsio
import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.wcs import WCS

from bench.difference_runs import Scenario, Truth, take
from deployments.cli import main
from deployments.cli.images import ImageOptions, user_images
from imaging.errors import InputError
from imaging.image import CalibratedImage
from imaging.io.images import read_planes
from imaging.wcs.tpv import TpvWcs
from tasks.engine.jobs import ExitCode

GAIN = 4.0
SKY = 700.0
CUT_OUT = Scenario(seed=10, shape=(256, 250), n_templates=2, missed_cosmic_rays=0, n_transients=4, cosmic_rays=2)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return take(CUT_OUT)


@pytest.fixture
def command(capsys):
    """Run the command; return exit code, JSON document and standard error."""

    def do(*words):
        code = main.run(["difference-images", *(str(word) for word in words), "--json"])
        captured = capsys.readouterr()
        return code, json.loads(captured.out), captured.err

    return do


def write_counts(path: Path, image: CalibratedImage, *, wcs: TpvWcs | None = None, planes: str = "MASK") -> Path:
    """Write an image in counts with its sky, as a camera's pipeline might: IMAGE, a mask, VAR."""
    pixels = image.pixels
    cards = (wcs or image.wcs).to_header() | {"MAGZERO": image.zeropoint_mag - 2.5 * np.log10(GAIN), "GAIN": GAIN}
    cards |= {"SATURATE": image.saturation_electrons / GAIN + SKY, "FILTER": "r DECam", "MJD-OBS": 61041.0}
    with fitsio.FITS(str(path), "rw", clobber=True) as file:
        header = [{"name": k, "value": v} for k, v in cards.items()]
        file.write(pixels.science / np.float32(GAIN) + np.float32(SKY), header=header, extname="IMAGE")
        file.write((pixels.mask != 0).astype(np.uint8), extname=planes)
        variance = np.divide(1.0, pixels.weight, out=np.full(pixels.shape, 1e12, np.float32), where=pixels.weight > 0)
        file.write((variance / GAIN**2).astype(np.float32), extname="VAR")
    return path


@pytest.fixture
def files(truth: Truth, tmp_path: Path) -> list[Path]:
    frames = [truth.search, *truth.templates]
    return [write_counts(tmp_path / f"{number}.fits", frame.image) for number, frame in enumerate(frames)]


def test_a_cut_out_against_two_templates(command, files, truth, tmp_path):
    code, document, _ = command(*files, "--output", tmp_path / "out", "--fakes")
    assert code is ExitCode.COMPLETE and document["exit_code"] == 0
    assert document["noise_width"] == pytest.approx(1.0, abs=0.02)
    assert abs(document["lag1_correlation"]) < 0.03
    assert document["kernel_sum"] == pytest.approx(1.0, abs=0.02)
    ratio = 10 ** (0.4 * (truth.search.image.zeropoint_mag - truth.templates[0].image.zeropoint_mag))
    assert document["scale"] == pytest.approx(ratio, rel=0.02)
    assert document["n_stamps"] >= 3 and [t["label"] for t in document["templates"]] == [
        "1.fits[IMAGE]",
        "2.fits[IMAGE]",
    ]

    flux = truth.transient_flux
    bright = int(np.argmax(flux))
    x, y = truth.search.true_x[bright], truth.search.true_y[bright]
    found = min(document["detections"], key=lambda row: np.hypot(row["x"] - x, row["y"] - y))
    assert np.hypot(found["x"] - x, found["y"] - y) < 0.3
    assert found["flags"] == [] and found["snr"] > 20
    assert abs(found["flux"] - flux[bright]) < 4 * np.hypot(found["flux_error"], 0.01 * flux[bright])
    ra, dec = truth.search.image.wcs.pixel_to_sky(found["x"], found["y"])
    assert (found["ra"], found["dec"]) == (pytest.approx(float(ra), abs=1e-8), pytest.approx(float(dec), abs=1e-8))

    products = {name: Path(path) for name, path in document["products"].items()}
    planes, _ = read_planes(products["difference"], ("SCI", "MSK", "WGT", "SCORE"))
    assert {plane.shape for plane in planes.values()} == {(256, 250)}
    assert pq.read_table(products["detections"]).num_rows == len(document["detections"])
    assert pq.read_table(products["fakes"]).num_rows > 0
    passed = [str(row["detection_id"]) for row in document["detections"] if not row["flags"]]
    assert sorted(path.stem for path in products["pictures"].glob("*.png")) == sorted(passed)
    assert json.loads(products["summary"].read_text())["n_stamps"] == document["n_stamps"]


def test_a_second_run_leaves_nothing_of_the_first(command, files, tmp_path):
    _, first, _ = command(*files, "--output", tmp_path / "out", "--fakes")
    code, second, _ = command(*files, "--output", tmp_path / "out", "--threshold", "50", "--stamps", "all")
    assert code is ExitCode.COMPLETE and 0 < len(second["detections"]) < len(first["detections"])
    pictures = Path(second["products"]["pictures"])
    numbers = {str(row["detection_id"]) for row in second["detections"]}
    assert {path.stem for path in pictures.iterdir()} == numbers
    assert not (tmp_path / "out" / "fakes.parquet").exists()


def test_masks_in_files_of_their_own_give_the_same_difference(command, files, truth, tmp_path):
    usual = command(files[0], files[1], "--output", tmp_path / "usual")[1]
    mine = [
        write_counts(tmp_path / f"own{n}.fits", f.image, planes="X")
        for n, f in enumerate((truth.search, truth.templates[0]))
    ]
    separate = ["--mask", f"{files[0]}[MASK]", "--template-mask", "[X]", "--output", tmp_path / "separate"]
    other = command(*mine, *separate)[1]
    assert other["kernel_sum"] == usual["kernel_sum"] and other["noise_width"] == usual["noise_width"]


def test_coordinates_that_astropy_wrote(truth, tmp_path):
    """A PC matrix, CDELT and SIP terms are read as astropy reads them."""
    image = truth.search.image
    cards = {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "CDELT1": -7.3e-5, "CDELT2": 7.3e-5}
    cards |= {"CRVAL1": 0.01, "CRVAL2": -89.9, "CRPIX1": 900.0, "CRPIX2": -400.0, "PC1_1": 0.0, "PC1_2": 1.0}
    cards |= {"PC2_1": 1.0, "PC2_2": 0.0, "A_ORDER": 2, "B_ORDER": 2, "A_2_0": 2e-6, "B_0_2": -1e-6}
    path = tmp_path / "sip.fits"
    fitsio.write(str(path), image.pixels.science, header=[{"name": k, "value": v} for k, v in cards.items()])
    (read,) = user_images([str(path)], ImageOptions())
    x, y = np.array([3.0, 125.0, 240.0]), np.array([250.0, 17.0, 128.0])
    ra, dec = WCS(cards).all_pix2world(x, y, 0)
    assert np.allclose(read.loaded.wcs.sky_to_pixel(ra, dec), (x, y), atol=0.01)
    without = WCS({k: v for k, v in cards.items() if k[1] != "_"} | {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"})
    assert np.abs(np.subtract(without.all_world2pix(ra, dec, 0), (x, y))).max() > 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{0}", "none.fits"], "image missing or not FITS"),
        (
            ["{0}", "{1}", "--template-mask", "a", "--template-mask", "b"],
            "--template-mask is not given once per template",
        ),
        (["{0}", "{1}[N9]"], "no such extension"),
        (["{0}", "{1}", "--threshold", "2"], "invalid setting threshold_sigma"),
        (["{0}", "{1}", "--settings", "{bad}"], "invalid setting difference.kernel.basis"),
        (["{0}", "{1}", "--psf", "none.psf"], "PSF file missing"),
        (["{0}", "{1}", "--zeropoint", "nan"], "--zeropoint is not a number that can be meant"),
        (["{0}", "{1}", "--template-zeropoint", "inf"], "--template-zeropoint is not a number that can be meant"),
        (["{0}"], "TEMPLATE"),
    ],
    ids=[
        *("no file", "too many masks", "no extension", "low threshold", "wrong setting", "no PSF"),
        *("zero point", "zero point of the template", "no template"),
    ],
)
def test_bad_input_is_exit_code_1(command, files, tmp_path, words, message):
    bad = tmp_path / "bad.json"
    bad.write_text('{"difference": {"kernel": {"basis": "wavelets"}}}')
    text = [word.format(*files, bad=bad) for word in words]
    code, document, _ = command(*text, "--output", tmp_path / "out")
    assert code is ExitCode.BAD_INPUT
    assert message in document["error"]
    assert not (tmp_path / "out").exists()


def test_a_template_whose_rows_run_along_the_columns(command, files, truth, tmp_path):
    image = truth.templates[0].image
    wcs, pixels = image.wcs, image.pixels
    planes = {name: np.ascontiguousarray(getattr(pixels, name).T) for name in ("science", "mask", "weight")}
    crossed = TpvWcs(wcs.crval, (wcs.crpix[1], wcs.crpix[0]), wcs.cd[:, ::-1], wcs.pv)
    other = replace(image, pixels=replace(pixels, **planes), wcs=crossed)
    path = write_counts(tmp_path / "crossed.fits", other)
    _, usual, _ = command(files[0], files[1], "--output", tmp_path / "usual")
    code, document, _ = command(files[0], path, "--output", tmp_path / "crossed")
    assert code is ExitCode.COMPLETE
    assert document["convolved"] == usual["convolved"]
    assert document["noise_width"] == pytest.approx(1.0, abs=0.02)
    assert document["kernel_sum"] == pytest.approx(usual["kernel_sum"], abs=0.02)
    bright = [[row["flux"] for row in d["detections"] if row["snr"] > 20] for d in (usual, document)]
    assert bright[0] and bright[1] == pytest.approx(bright[0], rel=0.02)


def test_images_of_different_fields_fail_with_a_reason(command, files, truth, tmp_path):
    away = write_counts(
        tmp_path / "away.fits", truth.templates[0].image, wcs=truth.templates[0].image.wcs.shifted(4000.0, 0.0)
    )
    code, document, _ = command(files[0], away, "--output", tmp_path / "out")
    assert code is ExitCode.FAILED
    assert document["reason"] == "no_template_overlap" and document["value"] == "0.0 %"
    assert document["limit"] == "at least 10 %"


def test_fields_that_share_nothing_are_told_apart_before_zero_points_are_asked_for(command, truth, tmp_path):
    """Without zero points, and on the other side of the sky, it is still the field that is wrong."""
    for name, crval in (("near", (152.0, -20.0)), ("opposite", (330.0, 20.0))):
        image = truth.templates[0].image
        wcs = TpvWcs(crval, image.wcs.crpix, image.wcs.cd, image.wcs.pv)
        paths = [
            write_counts(tmp_path / f"{name}_{k}.fits", truth.search.image, wcs=w) for k, w in enumerate((None, wcs))
        ]
        for path in paths:
            with fitsio.FITS(str(path), "rw") as file:
                file[0].write_key("MAGZERO", "unknown")
        code, document, _ = command(*paths, "--output", tmp_path / "out")
        assert code is ExitCode.FAILED and document["reason"] == "no_template_overlap", name
        assert "deg away" in document["error"]


def test_wrong_zero_points_are_not_hidden_by_a_fallback(command, files, tmp_path):
    code, document, _ = command(*files, "--zeropoint", "24", "--output", tmp_path / "out")
    assert code is ExitCode.FAILED
    assert document["reason"] == "kernel_sum"
    assert abs(np.log10(float(document["value"]))) > 0.5


@pytest.mark.parametrize("level", [0.0, np.nan])
def test_an_empty_image_is_called_empty(command, files, truth, tmp_path, level):
    pixels = truth.search.image.pixels
    blank = replace(truth.search.image, pixels=replace(pixels, science=np.full(pixels.shape, level, np.float32)))
    path = write_counts(tmp_path / "blank.fits", blank)
    code, document, _ = command(path, files[1], "--output", tmp_path / "out")
    assert code is ExitCode.FAILED
    assert document["reason"] == "no_good_pixels" and "blank" in document["error"]


def test_magnitudes_per_area_and_vetoes_follow_the_pixels_of_the_image(command, truth, tmp_path):
    """The same pixels with coordinates of half the scale: errors in arcseconds halve, pixels do not."""
    documents = []
    for name, factor in (("own", 1.0), ("half", 0.5)):
        paths = []
        for k, frame in enumerate((truth.search, truth.templates[0])):
            own, first = frame.image.wcs, truth.search.image.wcs
            dither = np.subtract(own.crval, first.crval) * factor
            crval = (first.crval[0] + float(dither[0]), first.crval[1] + float(dither[1]))
            wcs = TpvWcs(crval, own.crpix, own.cd * factor, own.pv)
            paths.append(write_counts(tmp_path / f"{name}{k}.fits", frame.image, wcs=wcs))
        _, document, _ = command(*paths, "--output", tmp_path / name)
        documents.append({round(row["x"]): row for row in document["detections"]})
    usual, half = documents
    common = sorted(set(usual) & set(half))
    assert common
    for key in common:
        a, b = (row[key]["position_error_arcsec"] ** 2 - 0.02**2 for row in (usual, half))
        assert b == pytest.approx(a / 4, rel=0.15), key


def test_a_plane_is_written_with_its_extension():
    from imaging.io.calibrated import Plane

    assert Plane.named("a/b.fits[N3]") == Plane(Path("a/b.fits"), "N3")
    assert Plane.named("[2]", Plane(Path("a.fits"))) == Plane(Path("a.fits"), "2")
    with pytest.raises(InputError, match="not understood"):
        Plane.named("[2]")


@pytest.mark.real_data
def test_a_community_pipeline_triple(command, real_data, tmp_path):
    search, template = (
        next((real_data / "decam_epochs" / "images").rglob(f"*{date}*_ooi_*")) for date in (180212, 170316)
    )
    code, document, _ = command(search, template, "--output", tmp_path / "out")
    assert code is ExitCode.COMPLETE
    assert document["noise_width"] == pytest.approx(1.0, abs=0.03)
    flags = {flag for row in document["detections"] for flag in row["flags"]}
    assert "COSMIC_RAY" in flags
    variable = [row for row in document["detections"] if np.hypot(row["x"] - 183.5, row["y"] - 24.9) < 2]
    assert variable[0]["snr"] < -5 and variable[0]["flags"] == ["NEGATIVE"]
