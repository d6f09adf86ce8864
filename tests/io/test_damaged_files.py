"""Files that are absent, empty, of another kind or cut short end in errors that name the file."""

import gzip
import json
import random
import subprocess
import sys
from itertools import pairwise

import fastavro
import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from astropy.table import Table
from fastavro.utils import generate_many

from imaging.candidates.lightcurve import LightcurveLikelihood
from imaging.candidates.packets import packet_schema
from imaging.detector.distortion import seed_wcs
from imaging.errors import InputError, StorageError
from imaging.image import ResamplingInputs
from imaging.io import truth
from imaging.io.atomic import atomic_path, content_hash, write_bytes
from imaging.io.calibrated import read_image
from imaging.io.calibration_write import write_calibration_image, write_image_extensions, write_table_extensions
from imaging.io.calibrations import (
    CalibrationEntry,
    CalibrationLibrary,
    read_bad_pixels,
    read_brighter_fatter,
    read_calibration_image,
    read_crosstalk,
    read_linearity,
    read_sky_modes,
    read_sky_templates,
    write_manifest,
)
from imaging.io.candidates import read_labels
from imaging.io.colour_terms import read_colour_terms, write_colour_terms
from imaging.io.images import read_planes, write_planes
from imaging.io.lightcurve_likelihood import read_lightcurve_likelihood, write_lightcurve_likelihood
from imaging.io.original_epochs import original_entries
from imaging.io.original_sky import binned_templates
from imaging.io.packets import packets_bytes, read_packets
from imaging.io.raw import index_raw
from imaging.io.reference import read_pieces, write_pieces
from imaging.io.skymaps import read_skymap, write_skymap
from imaging.io.source_tables import source_batches
from imaging.io.tables import read_table, write_table
from imaging.photometry.colours import ColourTerm, ColourTerms, published_colour_terms
from imaging.schemas.reference import REFERENCE_GALAXIES
from imaging.skymap.build import gaussian_skymap
from imaging.tables import make_table
from imaging.templates.resampling_inputs import EXTENSIONS, resampling_inputs_from, resampling_planes

IMAGE = np.random.default_rng(1).normal(size=(90, 70)).astype(np.float32)
GALAXIES = {name: np.linspace(1, 2, 400) for name in ("ra", "dec", "distance_mpc", "distance_error_mpc", "mag")}


def write_judged(path):
    flat, wide = np.ones(90), np.ones((90, 4), np.float32)
    write_lightcurve_likelihood(
        path, LightcurveLikelihood(np.ones(4), wide, wide, flat, flat, np.ones(90, np.int64), flat, flat > 0), "key"
    )


def write_stars(path):
    stars = {field.name: np.ones(300) for field in REFERENCE_GALAXIES} | {"source_id": np.arange(300)}
    write_pieces(path, make_table(stars, REFERENCE_GALAXIES), 3)


def write_planes_of(path):
    write_planes(
        path, {"SCI": IMAGE, "MSK": np.ones(IMAGE.shape, np.int16), "WGT": IMAGE}, seed_wcs(1, 9.0, 0.0).to_header()
    )


def write_map(path):
    write_skymap(path, gaussian_skymap(9.0, 9.0, 6.0, distance_mpc=90.0, distance_sigma_mpc=9.0, order=5))


def write_packed(path):
    rows = "ra,dec\n" + "".join(f"{x},{-x}\n" for x in np.random.default_rng(2).uniform(size=900))
    path.write_bytes(gzip.compress(rows.encode()))


def write_labels(path):
    path.write_text(json.dumps({"kind": "gw-workflow labels", "night": 20240510, "event": "S1", "labels": []}))


def stars_of(path):
    return list(source_batches(path, {"ra": pa.float64()}))


def write_modes(path, n=3):
    modes = np.random.default_rng(3).normal(1.0, 0.1, size=(3, 32, 16)).astype(np.float32)
    write_image_extensions(path, {f"CCD{ccd:02d}": modes for ccd in range(1, n + 1)}, {})


def write_fringes(path):
    write_calibration_image(path, np.stack([IMAGE, 2 * IMAGE]), {"CCDNUM": 4})


def write_gzipped_image(path):
    write_calibration_image(path, IMAGE, {})
    path.write_bytes(gzip.compress(path.read_bytes()))


def write_curves(path):
    adu = 100.0 * np.arange(500)
    curves = {"ADU": adu, "ADU_LINEAR_A": adu, "ADU_LINEAR_B": adu}
    write_table_extensions(path, {"CCD03": curves, "CCD04": curves})


def write_any_image(path):
    write_calibration_image(path, IMAGE, {})


def write_bits(path):
    write_calibration_image(path, (IMAGE > 1).astype(np.int16), {})


KINDS = {
    "flat.fits": (write_any_image, read_calibration_image, InputError),
    "flat.fits.gz": (write_gzipped_image, read_calibration_image, InputError),
    "bad.fits": (write_bits, read_bad_pixels, InputError),
    "fringes.fits": (write_fringes, lambda p: read_sky_templates(p, 4), InputError),
    "kernels.fits": (
        lambda p: write_image_extensions(p, {"N4R": np.eye(9), "N4T": np.eye(9)}, {}),
        lambda p: read_brighter_fatter(p, 35),
        InputError,
    ),
    "linearity.fits": (write_curves, lambda p: read_linearity(p, 4), InputError),
    "planes.fits": (write_planes_of, read_planes, StorageError),
    "foreign.fits": (write_planes_of, read_image, InputError),
    "map.fits": (write_map, read_skymap, InputError),
    "judged.arrow": (write_judged, lambda p: read_lightcurve_likelihood(p, "key"), StorageError),
    "pieces.parquet": (write_stars, lambda p: read_pieces(p, range(768)), StorageError),
    "table.parquet": (lambda p: write_table(p, pa.table(GALAXIES)), read_table, StorageError),
    "source.parquet": (lambda p: write_table(p, pa.table(GALAXIES)), stars_of, InputError),
    "source.csv.gz": (write_packed, stars_of, InputError),
    "packets.avro": (lambda p: p.write_bytes(packets_bytes([])), read_packets, InputError),
    "terms.json": (lambda p: write_colour_terms(p, published_colour_terms()), read_colour_terms, InputError),
    "labels.json": (write_labels, read_labels, InputError),
}


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")  # of files that are too short
@pytest.mark.parametrize("name", KINDS)
def test_damage_of_every_kind_is_an_error_that_names_the_file(tmp_path, name):
    write, read, error = KINDS[name]
    path = tmp_path / name
    write(path)
    read(path)
    content = path.read_bytes()
    lengths = [round(share * len(content)) for share in (0.1, 0.35, 0.6, 0.8)]
    for damaged in (None, b"", b"<html>404: not found</html>\n" * 300, *(content[:n] for n in lengths)):
        path.unlink(missing_ok=True)
        if damaged is not None:
            path.write_bytes(damaged)
        with pytest.raises(error) as caught:
            read(path)
        assert name in str(caught.value) and "To do: " in str(caught.value), damaged and len(damaged)
        assert "\n" not in str(caught.value)


def write_alerts(path):
    random.seed(3)
    schema = fastavro.parse_schema(packet_schema())
    with path.open("wb") as stream:
        fastavro.writer(stream, schema, list(generate_many(schema, 3)), codec="deflate")


def write_votable(path):
    Table({"ra": np.arange(100.0)}).write(path, format="votable", tabledata_format="binary2")


CHANGED = {
    "pixels.npz": (lambda p: truth.write_pixel_truth(p, {"a": np.arange(900)}), truth.read_pixel_truth, 0.8),
    "array.npy": (lambda p: truth.write_array(p, np.arange(50.0)), truth.read_array, 0.2),
    "alerts.avro": (write_alerts, read_packets, 0.4),
    "stars.csv.gz": (write_packed, stars_of, 0.9),
    "stars.vot": (write_votable, stars_of, 0.2),
}


@pytest.mark.parametrize("name", CHANGED)
def test_changed_bytes_end_in_an_error_that_names_the_file_or_are_read(tmp_path, name):
    """Any byte may have changed; most changes must be noticed, and no other kind of error may arise."""
    write, read, least = CHANGED[name]
    path, draws, noticed = tmp_path / name, np.random.default_rng(5), 0
    write(path)
    content = path.read_bytes()
    places = np.concatenate([draws.integers(0, min(300, len(content)), 100), draws.integers(0, len(content), 100)])
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << draws.integers(8)
        path.write_bytes(changed)
        try:
            read(path)
        except InputError as error:
            noticed += 1
            assert name in str(error)
    assert noticed > least * len(places)


@pytest.mark.parametrize("content", [None, b"", b"\x93NUMPY\x01", b"\xff\xfe{}"])
def test_truth_files_that_are_absent_or_no_files_of_their_kind_are_named(tmp_path, content):
    path = tmp_path / "truth.file"
    if content is not None:
        path.write_bytes(content)
    for read in (truth.read_array, truth.read_pixel_truth, truth.read_truth_text):
        if content == b"" and read is truth.read_truth_text:
            continue
        with pytest.raises(InputError, match=r"truth\.file.*simulate the night again"):
            read(path)


@pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")
@pytest.mark.parametrize("cut", [0.5, 1.1, 1.5])
def test_modes_of_which_a_later_ccd_is_cut_away_are_damaged(tmp_path, cut):
    """The cut falls into the data of CCD 2 (half an extension from the end), or into its header (between 1 and 1.5)."""
    path = tmp_path / "modes.fits"
    write_modes(path, 2)
    assert sorted(read_sky_modes(path).values) == [1, 2]
    content = path.read_bytes()
    header, data = 2880, 3 * 32 * 16 * 4 // 2880 * 2880 + 2880
    lengths = {0.5: header + data // 2, 1.1: 2 * header // 3, 1.5: 80}
    path.write_bytes(content[: len(content) - header - data + lengths[cut]])
    with pytest.raises(InputError, match=r"modes\.fits"):
        read_sky_modes(path)
    write_modes(path, 1)
    path.write_bytes(path.read_bytes() + bytes(2880))  # padding of a tape
    assert list(read_sky_modes(path).values) == [1]


@pytest.mark.parametrize("content", [b"", b"# victim source x x_err src_nl poly_coeff\n", b"ccd01A \xff\xfe ccd02A"])
def test_crosstalk_without_coefficients_or_of_bytes_that_are_no_text_is_damaged(tmp_path, content):
    path = tmp_path / "crosstalk.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"damaged .*crosstalk\.txt"):
        read_crosstalk(path)
    with pytest.raises(InputError, match=r"missing .*absent\.txt"):
        read_crosstalk(tmp_path / "absent.txt")
    path.write_text("ccd01A ccd02A 9e-7 0 1e10 0 0 0\n")
    assert read_crosstalk(path).terms == ()  # one that is negligible


@pytest.mark.parametrize("name", ["manifest.json", "colour_terms.json"])
def test_a_manifest_or_colour_terms_that_are_no_text_are_named(tmp_path, name):
    (tmp_path / name).write_bytes(b'{"version": "\xff\xfe"}')
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        CalibrationLibrary(tmp_path) if name == "manifest.json" else read_colour_terms(tmp_path / name)


def test_a_cut_raw_file_and_a_manifest_of_another_form_are_named(tmp_path):
    fits.PrimaryHDU().writeto(tmp_path / "raw.fits")
    (tmp_path / "raw.fits").write_bytes((tmp_path / "raw.fits").read_bytes()[:800])
    with pytest.raises(InputError, match=r"raw\.fits at byte 0"):
        index_raw(tmp_path / "raw.fits")
    entry = CalibrationEntry(epoch="e", kind="bias", files="b_{ccd:02d}.fits", made_night=20240501)
    for change, words in (({"kind": "dark"}, "entries.0.kind"), ({"colour": 1}, "entries.0.colour")):
        write_manifest(tmp_path, (entry,))
        document = json.loads((tmp_path / "manifest.json").read_text())
        document["entries"][0] |= change
        (tmp_path / "manifest.json").write_text(json.dumps(document))
        with pytest.raises(InputError, match=rf"manifest\.json: {words}"):
            CalibrationLibrary(tmp_path)
    library_entry = entry.model_copy(update={"first_night": 20240101, "last_night": 20240131})
    write_manifest(tmp_path, (library_entry,))
    assert CalibrationLibrary(tmp_path).manifest.entries == (library_entry,)


def test_a_colour_term_comes_back_and_a_wrong_one_is_named_by_its_place(tmp_path):
    terms = ColourTerms(
        bands={"g": ColourTerm(coefficients=(0.1, -0.2), colour_min=0.2, colour_max=2.0, scatter_mag=0.01)}
    )
    write_colour_terms(tmp_path / "t.json", terms)
    assert read_colour_terms(tmp_path / "t.json") == terms
    document = json.loads((tmp_path / "t.json").read_text())
    document["bands"]["g"]["scatter_mag"] = -1
    (tmp_path / "t.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"t\.json: bands\.g\.scatter_mag"):
        read_colour_terms(tmp_path / "t.json")


def test_a_process_that_dies_in_the_middle_of_a_write_leaves_the_old_file(tmp_path):
    write_bytes(tmp_path / "deep" / "a.bin", b"old")
    code = (
        "import os, sys; from pathlib import Path; from imaging.io.atomic import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary: temporary.write_bytes(b'ne'); os._exit(3)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "deep" / "a.bin")], check=False).returncode == 3
    assert (tmp_path / "deep" / "a.bin").read_bytes() == b"old"
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "b.bin") as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert [p.name for p in tmp_path.iterdir()] == ["deep"]
    with pytest.raises(StorageError, match=r"a\.bin"):
        write_bytes(tmp_path / "deep" / "a.bin" / "deeper" / "c.bin", b"a file as a folder")
    # XXH3-128 of nothing, from the specification of xxHash.
    write_bytes(tmp_path / "empty", b"")
    assert content_hash(tmp_path / "empty") == "99aa06d3014798d86001c324468d497f"


def test_the_truth_of_a_simulation_lies_where_its_names_say(tmp_path):
    assert truth.settings_truth_path(tmp_path) == tmp_path / "truth" / "settings.json"
    assert truth.sky_table_path(tmp_path, "stars") == tmp_path / "truth" / "sky" / "stars.parquet"
    assert truth.source_truth_path(tmp_path, 123, 7) == tmp_path / "truth" / "sources" / "00000123" / "c07.parquet"
    for expnum in (2000, 30):
        write_bytes(truth.exposure_truth_path(tmp_path, expnum), b"{}")
    assert truth.exposures_with_truth(tmp_path) == (30, 2000)
    assert truth.read_truth_text(truth.exposure_truth_path(tmp_path, 30)) == "{}"
    path = truth.pixel_truth_path(tmp_path, 123, 7)
    truth.write_pixel_truth(path, {"crays": np.arange(9), "full": IMAGE})
    with np.load(path) as arrays:
        assert np.array_equal(arrays["full"], IMAGE)
    assert np.array_equal(truth.read_pixel_truth(path)["crays"], np.arange(9))
    for read in (truth.read_pixel_truth, truth.read_truth_text):
        with pytest.raises(InputError, match="absent"):
            read(tmp_path / "absent")
    truth.write_array(tmp_path / "parts" / "a.npy", IMAGE)
    mapped = truth.read_array(tmp_path / "parts" / "a.npy")
    assert isinstance(mapped, np.memmap) and np.array_equal(mapped, IMAGE)
    truth.write_part(tmp_path / "parts" / "deep" / "b.part", b"abc")
    for write, what in ((truth.write_part, b"x"), (truth.write_array, IMAGE)):
        with pytest.raises(StorageError, match=r"a\.npy"):
            write(tmp_path / "parts" / "a.npy" / "c", what)
    truth.remove_folder(tmp_path / "parts")
    truth.remove_folder(tmp_path / "parts")
    assert not (tmp_path / "parts").exists()


def test_resampling_inputs_are_kept_even_where_there_was_nothing_to_do():
    none = ResamplingInputs(*(np.empty(0, t) for t in ("i4", "f4", "i4", "i2")), np.empty((0, 2)), 12, 2)
    planes = resampling_planes(none)
    assert set(planes) == {"RESAMPLING"} and set(planes) < set(EXTENSIONS)
    again = resampling_inputs_from(planes)
    assert (again.repair_gap_pixels, again.mask_growth_pixels, again.stars.shape) == (12, 2, (0, 2))
    assert np.array_equal(again.repair(IMAGE), IMAGE) and resampling_inputs_from({"SCI": IMAGE}) is None
    some = ResamplingInputs(
        np.array([69, 71], np.int32), np.array([5.0, 6.0], np.float32), np.array([1], np.int32),
        np.array([9], np.int16), np.array([[1.0, 2.0]]), 3, 1,
    )  # fmt: skip
    found = resampling_inputs_from(resampling_planes(some))
    repaired = found.repair(IMAGE)
    assert repaired[0, 69] == 5.0 and repaired[1, 1] == 6.0 and (repaired != IMAGE).sum() == 2
    assert found.grow(np.zeros((90, 70), np.int16))[0, 1] == 9 and found.stars.tolist() == [[1.0, 2.0]]


def test_full_size_sky_templates_become_means_of_eight_by_eight_pixels():
    y, x = np.mgrid[:4096, :2048].astype(np.float32)
    binned = binned_templates(np.stack([x + 2 * y]))
    rows, columns = np.mgrid[:512, :256]
    assert binned.shape == (1, 512, 256) and np.allclose(binned[0], 8 * (columns + 2 * rows) + 3.5 * 3, rtol=1e-6)
    small = np.ones((2, 512, 256), np.float32)
    assert binned_templates(small) is small


def test_the_epochs_of_the_survey_follow_each_other_without_a_gap_in_every_band():
    entries = original_entries()
    for kind in ("bias", "bad_pixels", "flat", "star_flat", "sky_modes", "sky_templates"):
        for band in (None, "u"):
            spans = sorted((e.first_expnum, e.last_expnum) for e in entries if e.kind == kind and e.band == band)
            assert spans and all(first <= last for first, last in spans)
            assert all(b[0] == a[1] + 1 for a, b in pairwise(spans)), (kind, band, spans)
            assert spans[-1][1] == 10**12
    assert {e.made_night for e in entries if e.kind == "linearity"} == {20130606}


def test_a_calibration_of_two_nameless_images_is_refused(tmp_path):
    write_image_extensions(tmp_path / "a.fits", {"ONE": IMAGE, "TWO": 2 * IMAGE}, {})
    write_calibration_image(tmp_path / "b.fits", IMAGE.astype(">f8"), {})
    assert read_calibration_image(tmp_path / "b.fits").dtype.isnative
    with pytest.raises(InputError, match=r"a\.fits"):
        read_calibration_image(tmp_path / "a.fits")
