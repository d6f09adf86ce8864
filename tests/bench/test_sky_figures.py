"""Figures of nights of the named skies: what is counted, and that what is too little is not measured."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bench.report import at_most, cells
from bench.sky_astrometry import guessed_colour_errors_mas, rms_per_axis, solution_errors_mas
from bench.sky_candidates import Ranked, are_false, kilonova_searchable
from bench.sky_candidates import rows_of as candidate_rows
from bench.sky_difference import KINDS, Collected, judged_fluxes, listed_detections, places_of, rate_of, rows_of
from bench.sky_masks import masked_by_light
from bench.sky_night import SkyNight, add_options
from bench.sky_single_epoch import (
    CALIBRATION,
    Measured,
    colour_trend,
    excess_scatter_mmag,
    psf_residuals,
    rms_of,
)
from bench.sky_single_epoch import rows_of as single_epoch_rows
from blocks.site import Site
from deployments.reports.candidates import candidate_table as candidates_path
from imaging.bits import MaskBit
from imaging.candidates.associate import candidate_table
from imaging.difference.forced import ForcedFluxes
from imaging.errors import InputError
from imaging.io.candidates import write_candidates
from imaging.io.tables import write_table
from imaging.io.truth import source_truth_path
from imaging.schemas.difference import DetectionFlag
from imaging.schemas.truth import TRUE_SOURCES
from imaging.simulation.exposures import PsfTruth, SimulatedExposure
from imaging.simulation.psf import true_psf
from imaging.tables import make_table
from tests.simulated_exposures import an_exposure

RNG = np.random.default_rng(5)


def collected(n: int, width: float = 1.0, bias: float = 0.0) -> Collected:
    """Return what two CCDs give that have n true transients of S/N 100 and 5,000 fakes."""
    pull = RNG.normal(0.0, width, n)
    pulls = np.stack([pull, 1.0 + bias + pull / 100.0, np.full(n, 100.0)], axis=1)
    snr = np.repeat([10.0, 60.0], 2500)
    number = np.arange(5000)
    fakes = np.stack([RNG.normal(0.0, 1.0, 5000), snr, np.where(number % 50 == 0, 0.0, 1.0)], axis=1)
    flags = np.where(number % 50 == 0, int(DetectionFlag.NEAR_STAR), 0)
    flags |= np.where(number % 100 == 0, int(DetectionFlag.DIPOLE), 0)
    return Collected(
        quality=[{"kernel_chi2": 0.9}, {"kernel_chi2": 1.02}],
        false=[4, 8],
        unflagged=[5, 10],
        used=[9, 0],
        kinds=[np.array([5, 0, 1, 3]), np.zeros(4, dtype=int)],
        scores=[np.array([0.95] * 3), np.zeros(0)],
        stars=[RNG.normal(0.0, [2e-4, 1.2], (1000, 2))],
        pulls=[pulls],
        fakes=[fakes],
        fake_flags=[np.stack([snr, flags], axis=1)],
        searched=[0.97, 0.99],
        masked=[0.01, 0.04],
        wanted=3,
    )


def rows_with(data: Collected) -> dict[str, float | None]:
    return {row.name.removeprefix("hard, g: "): row.value for row in rows_of(data, "hard, g", (7,))}


def test_the_pull_of_a_bright_flux_contains_the_stated_error_of_the_zero_point():
    """Zero points with errors of 5 mmag as stated, fluxes of S/N 400."""
    rng, flux = np.random.default_rng(4), np.full(4000, 1e6)
    found = flux * 10 ** (0.4 * rng.normal(0.0, 0.005, 4000)) + rng.normal(0.0, 2500.0, 4000)
    forced = ForcedFluxes(found, np.full(4000, 2500.0), np.zeros(4000, bool))
    pull, ratio, snr = judged_fluxes(forced, flux, 0.005).T
    assert np.std(pull) == pytest.approx(1.0, abs=0.04)
    assert ratio == pytest.approx(found / 1e6)
    assert snr == pytest.approx(1.0 / np.hypot(1.0 / 400.0, 0.0046052), rel=1e-4)


def test_counts_are_per_ccd_and_widths_are_those_of_the_pulls():
    rows = rows_with(collected(4000, width=1.3, bias=0.01))
    false = "false detections per CCD, "
    assert [rows[false + name] for name in ("all", "without a flag", "that make a candidate")] == [6.0, 7.5, 4.5]
    assert rows[false + "of these with a score above 0.9"] == 1.5
    assert rows[f"{false}that make a candidate: {KINDS[0]}"] == 2.5
    assert rows["CCDs with a difference"] == 2
    assert rows["searched share of the pixels"] == pytest.approx(98.0)
    assert rows["pixels masked by the light of bright stars alone"] == pytest.approx(2.5)
    assert rows["chi-square of the kernel fit, median distance from 1"] == pytest.approx(0.06)
    assert rows["residual of stars of 16 to 18 mag"] == pytest.approx(0.02, rel=0.1)
    assert rows["the same over its stated error"] == pytest.approx(1.2, rel=0.1)
    assert rows["pull of true transients, |width - 1|"] == pytest.approx(0.3, abs=0.06)
    assert rows["their flux over the true one, S/N above 20, |ratio - 1|"] == pytest.approx(1.0, abs=0.1)
    assert rows["detected fakes of S/N 8 to 12 without a flag"] == pytest.approx(98.0)
    assert rows["detected fakes of S/N 50 to inf without a flag"] == pytest.approx(98.0)
    for snr in ("8 to 12", "50 to inf"):
        of = f"detected fakes of S/N {snr} with the flag "
        hit = {name.removeprefix(of): value for name, value in rows.items() if name.startswith(of)}
        assert hit == pytest.approx({"NEAR_STAR": 2.0, "DIPOLE": 1.0})


def test_pixels_without_a_template_and_defects_are_not_masked_by_light():
    """Halo, ghost taken for a streak, satellite, full well, bleed trail, no template: a pixel each."""
    light, streak = MaskBit.SATURATE, MaskBit.STREAK
    mask, search = np.zeros((2, 2, 50), np.int16)
    satellites = np.zeros(mask.shape, bool)
    mask[0, :6] = light, streak, streak, light, light | MaskBit.TRAIL, light | MaskBit.EDGE
    search[0, 3], satellites[0, 2] = light, True
    assert masked_by_light(mask, search, satellites) == pytest.approx(0.02)


def test_false_detections_are_told_by_their_place():
    stars = {"x": [100.0, 300.0, 900.0], "y": [100.0, 300.0, 900.0], "mag": [17.0, 10.0, 21.0]}
    truth = pa.table(stars | {"kind": ["star", "star", "galaxy"]})
    x = np.array([102.0, 115.0, 140.0, 400.0, 902.0, 920.0, 600.0])
    places = places_of(x, x, truth, 5.0)
    assert [KINDS[k].split()[0] for k in places] == [
        "on", "within", "elsewhere", "around", "on", "elsewhere", "elsewhere"
    ]  # fmt: skip


def test_a_figure_of_too_few_objects_is_not_measured():
    rows = rows_with(collected(30))
    for name in ("pull of true transients, |width - 1|", "mean pull of true transients"):
        assert rows[name] is None
    assert rows["their flux over the true one, S/N above 20, |ratio - 1|"] is None
    assert rows["pull of fakes above S/N 8, |width - 1|"] == pytest.approx(0.0, abs=0.05)
    assert cells(at_most("a", None, "", 1.0))[1] == "not measured"


@pytest.mark.parametrize(
    ("number", "n", "goal", "rate"),
    [
        (1, 8, 0.5, None),  # four are allowed: one is too few to say that the goal is met
        (5, 8, 0.5, None),  # and five may be chance
        (12, 8, 0.5, 1.5),  # twelve of four are not
        (5, 20, 0.5, 0.25),
        (0, 0, 0.5, None),
    ],
)
def test_a_count_is_a_figure_where_it_meets_or_misses_its_goal_beyond_chance(number, n, goal, rate):
    assert rate_of(number, n, goal) == rate


def write_truth(root, expnum, **given):
    n = len(given["ra"])
    columns = {f.name: given.get(f.name, np.zeros(n, dtype=f.type.to_pandas_dtype())) for f in TRUE_SOURCES}
    path = source_truth_path(root, expnum, 27)
    path.parent.mkdir(parents=True)
    write_table(path, make_table(columns, TRUE_SOURCES))


def test_a_candidate_is_false_without_a_changing_source_at_its_place(tmp_path):
    """The asteroid moves by 20 arcsec; its mean place depends on the errors of its detections."""
    arcsec = 1 / 3600
    kinds, ra = ["star", "variable_star", "kilonova", "asteroid"], np.array([10.0, 10.1, 10.2, 10.3])
    for expnum, moved in ((1300001, 0.0), (1300002, 20 * arcsec)):
        dec = np.array([-5.0, -5.0, -5.0, -5.0 + moved])
        write_truth(tmp_path, expnum, kind=kinds, ra=ra, dec=dec, source_id=np.arange(4))
    lines = [f"{n},20240510,60441.1,10.1,-5.0,i,90" for n in (1300001, 1300002)]
    (tmp_path / "exposures.csv").write_text("\n".join(["EXPNUM,NITE,MJD,RA,DEC,BAND,EXPTIME", *lines, ""]))
    places = [(a, 0.4) for a in ra[:3]] + [(10.2, 2.0)] + [(10.3, north) for north in (-2.0, 0.2, 8.0, 19.0, 22.0)]
    listed = [{"ra": a, "dec": -5.0 + north * arcsec} for a, north in places]
    false = are_false(SkyNight(tmp_path, "hard", "i", False, 1, (27,)), listed)
    assert np.flatnonzero(false).tolist() == [0, 3, 4, 8]


def test_detections_that_make_a_candidate_are_those_of_the_ranked_list(tmp_path):
    night = SkyNight(tmp_path, "hard", "i", False, 1, (27,))
    with pytest.raises(InputError):
        listed_detections(night)
    ids = pa.array([[130000127_00001, 130000227_00004], [130000127_00007]], pa.list_(pa.int64()))
    columns = {"ra": np.zeros(2), "dec": np.zeros(2), "rank": np.array([2, 1]), "detection_ids": ids}
    names = {"candidate_id": np.array(["a", "b"], dtype=object), "night": np.full(2, 20240510)}
    write_candidates(candidates_path(Site.at(tmp_path), night.settings.night), candidate_table(columns | names))
    assert sorted(listed_detections(night).tolist()) == [130000127_00001, 130000127_00007, 130000227_00004]


@pytest.mark.parametrize(
    ("ranks", "false", "shown"),
    [
        ([1], [0], [None, None]),  # one night can meet nothing
        ([9999], [12], [9999, 12]),  # but it can miss
        ([1] * 6, [0] * 6, [1, None]),
        ([1, 1, 2] * 3, [0, 1, 0] * 3, [2, 1]),
    ],
)
def test_a_rank_counts_with_enough_nights(ranks, false, shown):
    rows = candidate_rows(Ranked(ranks, false, [20] * len(ranks), [True] * 79), "typical, i", range(len(ranks)))
    assert [row.value for row in rows] == [*shown, None, 20, 0]


@pytest.mark.parametrize(
    ("bits", "searchable"),
    [
        ((MaskBit.TRAIL, MaskBit.SATURATE), False),
        ((MaskBit.TRAIL, 0), True),
        ((MaskBit.STAR, MaskBit.TRAIL), True),  # the halo of a star is searched
        ((MaskBit.TRAIL, None), True),  # what failed is no mask
    ],
)
def test_a_kilonova_that_masks_hide_in_every_search_exposure_has_no_rank(tmp_path, monkeypatch, bits, searchable):
    night, masks = SkyNight(tmp_path, "bright", "i", True, 5, (27,)), {}
    lines = []
    for expnum, bit in zip((1300001, 1300077), bits, strict=True):
        places = {"ra": np.zeros(2), "x": np.array([3.0, 10.4]), "y": np.array([3.0, 20.6])}
        write_truth(tmp_path, expnum, kind=["star", "kilonova"], **places)
        lines.append(f"{expnum},20240510,60441.1,10.1,-5.0,i,90")
        if bit is not None:
            path = Site.at(tmp_path).store / f"gw/exp/20240510/{expnum}/D0{expnum}_i_27_r1p1_immask.fits"
            path.parent.mkdir(parents=True)
            path.touch()
            masks[path] = np.full((30, 30), int(MaskBit.BPM), np.int16)
            masks[path][21, 10] = int(bit)
    (tmp_path / "exposures.csv").write_text("\n".join(["EXPNUM,NITE,MJD,RA,DEC,BAND,EXPTIME", *lines, ""]))
    monkeypatch.setattr("bench.sky_candidates.read_planes", lambda path, _: ({"MSK": masks[path]}, {}))
    assert kilonova_searchable(night) == searchable


def test_nights_without_a_searchable_kilonova_are_named_and_have_no_rank():
    rows = candidate_rows(Ranked([9999], [0, 1], [20, 20], [], unsearchable=[8355]), "bright, i", [8350, 8355])
    assert (rows[0].value, rows[0].n) == (9999, 1)
    assert (rows[-1].value, rows[-1].n, rows[-1].seeds) == (1, 2, (8355,))
    assert candidate_rows(Ranked([], [1], [20], [], unsearchable=[8355]), "bright, i", [8355])[0].value is None


def test_a_probability_is_reliable_with_enough_candidates():
    rows = candidate_rows(Ranked([1], [0], [20], [True] * 72 + [False] * 28), "typical, i", [1])
    assert [(row.value, row.ok) for row in rows if row.unit == "share"] == [(0.72, False)]


def test_the_search_is_sharper_than_its_templates_where_that_is_asked_for():
    sharp = SkyNight(Path(), "typical", "g", True, 3, (26, 27)).settings
    assert sharp.search_seeing_arcsec[1] < sharp.template_seeing_arcsec[0]
    assert (sharp.sky, sharp.bands, sharp.seed, sharp.ccds) == ("typical", ("g",), 3, (26, 27))
    usual = SkyNight(Path(), "hard", "i", False, 3, (26,)).settings
    assert usual.search_seeing_arcsec[0] > usual.template_seeing_arcsec[0]
    parser = argparse.ArgumentParser()
    add_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--sky", "kind"])


def test_errors_of_centroids_are_not_errors_of_the_solution():
    true = RNG.uniform(0.0, [[2047.0], [4095.0]], (2, 800))
    noise = RNG.normal(0.0, 0.02, true.shape)
    mas = RNG.normal(0.0, 6.0, true.shape)  # the error of the solution
    dec = -40.0 + (true[0] + noise[0]) * -0.263 / 3600
    ra = 150.0 + (true[1] + noise[1]) * 0.263 / 3600 / np.cos(np.radians(dec))
    true_dec = -40.0 + true[0] * -0.263 / 3600
    true_ra = 150.0 + true[1] * 0.263 / 3600 / np.cos(np.radians(true_dec))
    sky = np.stack([ra + mas[0] / 3.6e6 / np.cos(np.radians(dec)), dec + mas[1] / 3.6e6])
    errors = solution_errors_mas(true + noise, np.full(true.shape, 0.02), true, sky, np.stack([true_ra, true_dec]))
    assert rms_per_axis(errors) == pytest.approx(5.9, rel=0.06)


def test_the_plane_of_the_centroids_follows_the_good_ones():
    true = RNG.uniform(0.0, [[2047.0], [4095.0]], (2, 400))
    stated = np.where(np.arange(400) % 2 == 0, 0.002, 0.08) + np.zeros((2, 1))
    measured = true + RNG.normal(0.0, stated) + 0.05 + 0.1 * true / 4096.0
    true_dec = -40.0 - true[0] * 0.263 / 3600
    true_ra = 150.0 + true[1] * 0.263 / 3600 / np.cos(np.radians(true_dec))
    solved = (measured - 0.05) / (1.0 + 0.1 / 4096.0)  # the solution knows the offset of the centres
    dec = -40.0 - solved[0] * 0.263 / 3600
    ra = 150.0 + solved[1] * 0.263 / 3600 / np.cos(np.radians(dec))
    errors = solution_errors_mas(measured, stated, true, np.stack([ra, dec]), np.stack([true_ra, true_dec]))
    assert rms_per_axis(errors) < 0.5  # 1.3 mas with one weight: 21 mas sqrt(3 / 800)


def test_coordinates_are_told_for_stars_of_listed_colour_and_for_the_others():
    measured = Measured(wanted=10, exposures=[k // 2 for k in range(10)], ideal_mas=[1.5] * 5)
    measured.solution_mas, measured.coloured_mas, measured.other_mas = (
        [3.0, 3.1] * 5,
        [1.3, 1.35] * 5,
        [5.0, np.nan] * 5,
    )
    measured.ideal_coloured_mas = [1.2] * 5
    rows = {row.name.removeprefix("typical, g: "): row for row in single_epoch_rows(measured, "typical, g", (1,))}
    assert rows["coordinates without photon noise, rms per axis"].ok is False
    assert rows["coordinates of stars of listed colour without photon noise, rms per axis"].ok is True
    assert rows["of listed colour, ideal process on the same stars"].value == pytest.approx(1.2)
    assert rows["coordinates of the other stars"].value == pytest.approx(5.0)


def test_a_root_mean_square_is_known_where_its_samples_are_many():
    fields = np.repeat(np.arange(40), 5)
    errors = RNG.normal(0.0, 1.9, 40)[fields]  # the same reference stars in five exposures
    assert rms_of(errors, fields, 2.0) == pytest.approx(1.9, rel=0.3)
    assert rms_of(errors[:10], fields[:10], 2.0) is None  # two fields, whatever the number of exposures
    known = [rms_of(RNG.normal(0.0, 1.9, 4), np.arange(4), 2.0) for _ in range(200)]
    assert sum(value is None for value in known) > 20
    assert rms_of(np.array([9.0, 10.0, 11.0, -10.0]), np.arange(4), 2.0) == pytest.approx(10.0, rel=0.1)
    assert rms_of(np.zeros(0), [], 2.0) is None


def test_a_quick_night_has_too_few_fields_for_a_zero_point():
    measured = Measured(wanted=10, zeropoint_mmag=[-1.6, -2.7] * 5, fields=[126, 127] * 5)
    measured.solution_mas, measured.exposures = [5.0, 5.2] * 5, [k // 2 for k in range(10)]
    measured.ideal_mas = [4.0, 5.0]
    measured.psf_residual = list(RNG.normal(0.002, 1e-4, 90))
    rows = {row.name.removeprefix("typical, i: "): row.value for row in single_epoch_rows(measured, "typical, i", (1,))}
    assert rows["zero point, rms"] is None
    assert rows["coordinates without photon noise, rms per axis"] == pytest.approx(5.1, abs=0.01)
    assert rows["the same, ideal process on the same stars"] == pytest.approx(4.53, abs=0.01)
    assert rows["PSF, rms residual"] == pytest.approx(0.2, abs=0.01)
    assert [sum(part in name for name in rows) for part in CALIBRATION] == [1] * len(CALIBRATION)


def test_trend_with_colour_and_scatter_beyond_the_stated_errors():
    colour = RNG.uniform(0.5, 3.0, 6000)
    stars = np.stack([RNG.uniform(16.0, 19.0, 6000), RNG.normal(1.5 * colour, 2.5), np.full(6000, 2.0), colour], axis=1)
    slope, contrast, n = colour_trend(stars)
    assert slope == pytest.approx(1.5, abs=0.15)
    assert contrast == pytest.approx(1.5 * 2.5 * 2 / 3 / 10.857, abs=0.02)
    assert n == pytest.approx(6000, abs=20)
    stars[:, 1] -= 1.5 * colour
    assert excess_scatter_mmag(stars)[0] == pytest.approx(1.5, abs=0.15)
    assert colour_trend(stars[:300])[:2] == (None, None)


def test_a_psf_that_is_displaced_or_two_per_cent_too_bright():
    exposure = an_exposure(psf=PsfTruth(fwhm_arcsec=1.0))

    @dataclass
    class Model:
        factor: float
        shift: float

        def stamp(self, x, y, half_width):
            mixture, offsets = true_psf(exposure, 34, [x], [y]), np.arange(-half_width, half_width + 1.0)
            dx, dy = offsets - (x - round(x)) - self.shift, offsets - (y - round(y))
            return self.factor * mixture.evaluate(0, dx[None, :], dy[:, None]) / mixture.aperture_fraction()[0]

    stamp = SkyNight(Path(), "easy", "i", False, 1, (34,)).true_psf(exposure, 34)
    assert max(psf_residuals(stamp, Model(1.0, 0.03))) < 2e-3
    assert psf_residuals(stamp, Model(1.02, 0.0)) == pytest.approx(np.full(9, 0.02), rel=1e-3)


def test_of_stars_that_no_catalogue_lists_the_magnitude_alone_tells_the_colour():
    """In g at 45 degrees 45 mas per magnitude of g - i: a scatter of 0.4 mag is 12.7 mas per axis."""
    random = np.random.default_rng(2)
    exposure = SimulatedExposure.model_construct(band="g", zenith_distance_deg=45.0, parallactic_deg=30.0, optics=None)
    mag, listed = random.uniform(20.5, 22.5, 600), np.arange(600) < 200
    colour = 1.0 + 0.5 * (mag - 21.0) + 0.4 * random.normal(size=600)
    found = guessed_colour_errors_mas(exposure, listed, mag, colour)
    assert not found[listed].any()
    assert found[~listed] == pytest.approx(np.full(400, 12.73), rel=0.1)
    assert not guessed_colour_errors_mas(exposure, ~listed | True, mag, colour).any()
