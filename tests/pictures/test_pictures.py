import io

import numpy as np
import pytest
from PIL import Image

from imaging.candidates.associate import candidate_table
from imaging.detector.ccds import CCDS, SCIENCE_CCDS
from imaging.detector.distortion import seed_wcs
from imaging.pictures import focal_plane
from imaging.pictures.canvas import GRADE_COLOURS, STATUS_COLOURS, nice_number, robust_limits
from imaging.pictures.curves import efficiency_picture, lightcurve_picture, zeropoint_picture
from imaging.pictures.depth import depth_picture
from imaging.pictures.focal_plane import focal_plane_picture, focal_plane_status, sky_offset
from imaging.pictures.night import map_background, night_picture, project, unproject
from imaging.pictures.stamps import candidate_picture, stamp_strip
from imaging.quality.grades import Grade
from imaging.schemas.difference import FORCED_PHOTOMETRY
from imaging.simulation.candidate_night import footprints_of, join_footprints, make_night
from imaging.simulation.candidate_sources import MJD_EVENT
from imaging.skymap.build import gaussian_skymap
from imaging.skymap.coverage import search_coverage
from imaging.skymap.settings import CoverageSettings
from tests.timing import least_s

SKYMAP = gaussian_skymap(60.0, -30.0, 1.0, distance_mpc=100.0, distance_sigma_mpc=20.0, order=7)
MAX_BYTES, MAX_SECONDS = 150_000, 1.0


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def galaxy_and_source():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[-25:26, -25:26]
    template = rng.normal(0, 20, (51, 51)) + 500 * np.exp(-np.hypot(x - 5, y) / 4)
    return template + rng.normal(0, 20, (51, 51)) + 700 * np.exp(-(x**2 + y**2) / 6), template


def forced_of_one():
    night = make_night(1, scale=0.1)
    table = candidate_table({"ra": [1.0], "dec": [1.0], "candidate_id": ["A"], "detection_ids": [[min(night.kind)]]})
    forced = night.forced(table)
    return forced.filter(np.asarray(forced.column("flux_error")) < 1e6)


PICTURES = {
    "focal plane": lambda: focal_plane_picture(
        {ccd: 1.0 + 0.002 * ccd for ccd in SCIENCE_CCDS[:-2]}, label="seeing", unit="arcsec", title="exposure 1"
    ),
    "nothing known": lambda: focal_plane_picture({}, label="seeing", unit="arcsec"),
    "all equal": lambda: focal_plane_picture(dict.fromkeys(SCIENCE_CCDS, 5.0), label="x", unit="", diverging=True),
    "status": lambda: focal_plane_status({1: "good", 2: "bad", 31: "usable", 5: "strange"}, title="exposure 1"),
    "candidate": lambda: candidate_picture(
        *galaxy_and_source(), np.subtract(*galaxy_and_source()), title="GWJ1", pixel_scale_arcsec=0.263
    ),
    "light curve": lambda: lightcurve_picture(forced_of_one(), MJD_EVENT, title="GWJ1", distance_mpc=100.0),
    "no photometry": lambda: lightcurve_picture(FORCED_PHOTOMETRY.empty_table(), MJD_EVENT, title="GWJ1"),
    "efficiency": lambda: efficiency_picture(
        np.linspace(20, 25, 500), np.linspace(20, 25, 500) < 23, title="i", m50_mag=23.0
    ),
    "no fakes": lambda: efficiency_picture(np.empty(0), np.empty(0, dtype=bool), title="i"),
    "zero points": lambda: zeropoint_picture(
        {ccd: (30.0 + 0.001 * ccd, 0.004) for ccd in SCIENCE_CCDS}, [2, 31], exposure_mag=30.03, title="exposure 1"
    ),
    "night": lambda: night_picture(
        SKYMAP,
        footprints_of(1, "i", 6e4, 60.0, -30.0, 23.0),
        candidate_table({"ra": np.linspace(59, 61, 30), "dec": np.full(30, -30.2), "candidate_id": ["A"] * 30}),
        title="night",
    ),
    "depth": lambda: depth_picture(
        SKYMAP,
        search_coverage(
            SKYMAP,
            join_footprints(
                [footprints_of(1, "g", 6e4, 60.0, -30.0, 23.4), footprints_of(2, "z", 6e4, 60.3, -30.2, 22.1)]
            ),
            CoverageSettings(order=10),
        ),
        title="depth",
    ),
    "no depth": lambda: depth_picture(
        SKYMAP, search_coverage(SKYMAP, empty_footprints(), CoverageSettings(order=10)), title="depth"
    ),
    "map alone": lambda: night_picture(SKYMAP, empty_footprints(), title="night"),
}


def empty_footprints():
    some = footprints_of(1, "i", 6e4, 60.0, -30.0, 23.0)
    return type(some)(*(getattr(some, n)[:0] for n in ("expnum", "ccd", "band", "mjd", "corners", "m50_mag")))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_small_quick_and_the_same_every_time(name):
    first = PICTURES[name]()
    assert PICTURES[name]() == first
    assert least_s(PICTURES[name]) < MAX_SECONDS
    assert len(first) < MAX_BYTES
    shape = pixels(first).shape
    assert shape[1] >= 600
    assert len(np.unique(pixels(first).reshape(-1, 3), axis=0)) > 5


def test_ccds_lie_where_the_sky_puts_them():
    # the picture leaves out the gaps between CCDs, a tenth of the field
    for ccd in (1, 31, 35, 62):
        west, north = sky_offset(ccd)
        wcs = seed_wcs(ccd, 100.0, 0.0)
        ra, dec = wcs.pixel_to_sky([1023.5], [2047.5])
        assert (100.0 - ra[0]) * 3600 / 0.263 == pytest.approx(west, rel=0.15, abs=300)
        assert dec[0] * 3600 / 0.263 == pytest.approx(north, rel=0.15, abs=300)
    assert CCDS[1].focal_plane_centre[0] < 0 < sky_offset(1)[1]


def test_a_ccd_that_failed_is_hatched_and_one_that_was_never_there_is_not():
    ink = [(pixels(focal_plane_status({1: "good", **more})) < 200).mean() for more in ({}, {7: "missing"})]
    assert ink[1] > ink[0]
    values = [
        (pixels(focal_plane_picture({1: 5.0, **more}, label="x", unit="")) < 200).mean() for more in ({}, {7: None})
    ]
    assert values[1] > values[0]


def test_a_change_of_one_ccd_changes_the_picture():
    values = dict.fromkeys(SCIENCE_CCDS, 1.0) | {1: 2.0}
    other = dict.fromkeys(SCIENCE_CCDS, 1.0) | {2: 2.0}
    limits = (0.0, 2.0)
    first, second = (pixels(focal_plane_picture(v, label="x", unit="", limits=limits)) for v in (values, other))
    changed = np.argwhere((first != second).any(axis=2))
    height, width = first.shape[:2]
    # CCDs 1 and 2 are in the northernmost row
    assert changed[:, 0].max() < 0.3 * height
    assert 0 < len(changed) < 0.02 * height * width


def test_the_strip_shows_the_source_in_the_middle_of_search_and_difference_only():
    search, template = galaxy_and_source()
    strip = pixels(stamp_strip(search, template, search - template))[..., 0]
    assert strip.shape == (51, 155)
    panels = strip[:, :51], strip[:, 52:103], strip[:, 104:]
    middle = [panel[24:27, 24:27].mean() for panel in panels]
    assert middle[0] > middle[1] + 50
    assert middle[2] > 230
    assert abs(np.median(panels[2]) - 102) < 8, "darker than the middle, for eyes used to the night"
    assert panels[0][25, 30] == pytest.approx(panels[1][25, 30], abs=40)


def test_stamps_survive_missing_pixels():
    search, template = galaxy_and_source()
    search[:10] = np.nan
    strip = pixels(stamp_strip(search, template, search - template))[..., 0]
    assert (strip[-10:, :51] == 0).all()
    assert (pixels(stamp_strip(*np.full((3, 51, 51), np.nan)))[:, :51] == 0).all()


@pytest.mark.parametrize("centre", [(0.2, -40.0), (120.0, 89.0), (250.0, 10.0)])
def test_the_projection_inverts_and_keeps_areas(centre):
    rng = np.random.default_rng(2)
    east, north = rng.uniform(-40, 40, (2, 200))
    ra, dec = unproject(east, north, centre)
    np.testing.assert_allclose(project(ra, dec, centre), (east, north), atol=1e-8)


def test_the_background_is_bright_where_the_map_is():
    image = np.asarray(Image.open(io.BytesIO(map_background(SKYMAP, (60.0, -30.0), 5.0, 100)))).astype(int)
    assert image[50, 50] > image[5, 5] + 50
    moved = np.asarray(Image.open(io.BytesIO(map_background(SKYMAP, (58.0, -30.0), 5.0, 100)))).astype(int)
    # the map now lies to the east, which is left
    assert moved[50, :50].max() > moved[50, 50:].max()


def test_numbers_limits_and_colours():
    assert [nice_number(v) for v in (0.0, 1.234, 0.01234, 123.4, -5.5, float("nan"))] == [
        "0", "1.23", "0.0123", "123", "-5.50", "–",
    ]  # fmt: skip
    assert robust_limits(np.array([np.nan])) == (0.0, 1.0)
    low, high = robust_limits(np.append(np.linspace(0, 1, 200), 1e6))
    assert high < 2
    assert low < high
    assert set(GRADE_COLOURS) == {str(grade) for grade in Grade}
    assert set(STATUS_COLOURS) == {"good", "usable", "bad", "missing"}


def test_numbers_on_the_focal_plane_tell_ccds_apart_that_differ_little():
    zeropoints = {ccd: 31.66 + 0.001 * ccd for ccd in SCIENCE_CCDS}
    texts = focal_plane._told_apart(zeropoints)
    assert (texts[1], texts[30], texts[62]) == ("31.66", "31.69", "31.72")
    assert focal_plane._told_apart({1: 3.0, 2: 5.0}) == {1: "3.00", 2: "5.00"}
    assert len(set(focal_plane._told_apart(dict.fromkeys(SCIENCE_CCDS, 5.0)).values())) == 1
    assert focal_plane._told_apart({}) == {}


def test_the_label_of_the_colour_bar_is_inside_the_picture_however_long_its_numbers():
    """Zero points that differ by millimagnitudes need seven digits; the last columns of the picture stay white."""
    values = {26: 31.72415, 27: 31.7232, 33: 31.7217, 34: 31.7231}
    picture = pixels(focal_plane_picture(values, label="zero point", unit="mag"))
    border = picture[:, -4:]
    assert (border > 250).all()
