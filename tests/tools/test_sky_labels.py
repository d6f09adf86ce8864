"""Labels of detections on simulated nights, for the training of the score."""

import numpy as np
import pyarrow as pa

from tools.sky_nights import SKIES, TrainingNight, labels_of


def detections(*rows):
    names = ("x", "y", "flux")
    return pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)})


def sources(*rows):
    names = ("kind", "x", "y", "flux_electrons")
    return pa.table({name: [row[k] for row in rows] for k, name in enumerate(names)})


def test_what_is_near_a_new_source_and_as_bright_is_real():
    truth = sources(
        ("star", 300.0, 300.0, 1e6), ("supernova_ia", 100.0, 100.0, 5000.0), ("kilonova", 500.0, 500.0, 2000.0)
    )
    found = detections((100.8, 99.5, 4700.0), (501.0, 500.0, 2300.0), (303.0, 300.0, 4000.0), (900.0, 40.0, 3000.0))
    is_real, is_clear = labels_of(found, truth)
    assert is_real.tolist() == [True, True, False, False]
    assert is_clear.tolist() == [False, False, True, True]


def test_residuals_at_a_faint_supernova_and_what_varies_or_moves_are_in_no_class():
    truth = sources(
        ("supernova_ii", 100.0, 100.0, 50.0), ("variable_star", 200.0, 200.0, 9e4), ("asteroid", 300.0, 300.0, 4000.0)
    )
    found = detections((100.0, 101.0, 6000.0), (200.0, 200.0, -7000.0), (305.0, 300.0, 3900.0))
    is_real, is_clear = labels_of(found, truth)
    assert not is_real.any() and not is_clear.any()


def test_the_hole_that_an_asteroid_of_a_template_leaves_is_no_artefact():
    found = detections((100.0, 100.0, -4000.0), (900.0, 40.0, -3000.0))
    found = found.append_column("ra", pa.array([10.0, 10.06])).append_column("dec", pa.array([-30.0, -30.0]))
    truth = sources(("star", 300.0, 300.0, 1e6))
    close = np.array([10.0 + 1.5 / 3600.0 / np.cos(np.radians(30.0))]), np.array([-30.0])  # 1.5 of 2.1 arcseconds
    is_real, is_clear = labels_of(found, truth, close)
    assert is_clear.tolist() == [False, True] and not is_real.any()
    assert labels_of(found, truth, (close[0] + 1.0 / 3600.0, close[1]))[1].all()


def test_no_source_and_no_detection():
    assert all(part.tolist() == [] for part in labels_of(detections(), sources(("kilonova", 1.0, 1.0, 1.0))))
    is_real, is_clear = labels_of(detections((5.0, 5.0, 1.0)), sources(("star", 5.0, 5.0, 1.0)))
    assert is_clear.all() and not is_real.any()


def test_the_nights_have_every_sky_but_the_easy_one_and_both_directions_of_sharpness(tmp_path):
    assert {sky for sky, *_ in SKIES} == {"typical", "hard", "bright"}
    assert {band for _, band, *_ in SKIES} == set("griz")
    assert {sharp for *_, sharp, _ in SKIES} == {True, False}
    sky, band, sharp, ccds = SKIES[0]
    settings = TrainingNight(tmp_path, sky, band, sharp, 1, ccds).settings
    assert settings.sky == "typical" and settings.supernovae_per_ccd == 90.0 and settings.effects.vanes
