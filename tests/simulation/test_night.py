"""A whole simulated night: its files can be read, and they hold what the truth says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from imaging.detector.ccds import CCDS
from imaging.detector.crosstalk import observatory_crosstalk
from imaging.detector.sections import raw_sections
from imaging.errors import InputError
from imaging.io.calibrations import CalibrationLibrary, read_bad_pixels, read_calibration_image
from imaging.io.exposure_list import read_exposure_list
from imaging.io.raw import index_raw, read_raw_ccd
from imaging.io.reference import read_reference_cone
from imaging.io.tables import read_table
from imaging.io.truth import pixel_truth_path, read_pixel_truth, source_truth_path
from imaging.schemas.reference import REFERENCE_GALAXIES
from imaging.simulation.background import sky_image
from imaging.simulation.camera import LINEARITY_ADU, linearity_table, read_noise_electrons
from imaging.simulation.ccd import CcdJob, expected_electrons
from imaging.simulation.crosstalk import add_crosstalk
from imaging.simulation.night import open_night, simulate_night
from imaging.simulation.settings import SimulationSettings
from imaging.simulation.truth import read_exposure_truth, read_sky, true_geometry, true_zeropoint_mag
from imaging.tables import column
from imaging.wcs.sphere import separation_deg


def of_role(night, role):
    return next(e for e in night.exposures if e.role == role)


def true_sources(night, exposure, ccd):
    """Return the columns of the true sources of a CCD."""
    table = read_table(source_truth_path(night.root, exposure.expnum, ccd))
    return {name: column(table, name) for name in table.column_names}


def bright_stars(sources, faintest):
    """Return the indices of unsaturated stars that are bright and stand well inside the CCD."""
    inside = (sources["x"] > 40) & (sources["x"] < 2008) & (sources["y"] > 40) & (sources["y"] < 4056)
    bright = (sources["mag"] > 16.5) & (sources["mag"] < faintest) & ~sources["is_saturated"].astype(bool)
    return np.flatnonzero((sources["kind"] == "star") & bright & inside)


def raw_ccd(night, exposure, ccd):
    index = index_raw(night.raw_path(exposure))
    return read_raw_ccd(night.raw_path(exposure), index.extensions[ccd], exposure.expnum)


def above_overscan(night, exposure, ccd):
    """Subtract the overscan row by row, by a mean without the extremes."""
    pixels = raw_ccd(night, exposure, ccd).pixels.astype(np.float32)
    sections = raw_sections(CCDS[ccd])
    for amplifier in CCDS[ccd].amplifiers:
        overscan = sections[f"BIASSEC{amplifier.name}"]
        half = slice(0, 1080) if amplifier.is_left else slice(1080, 2160)
        level = np.sort(pixels[:, overscan.x0 : overscan.x1], axis=1)[:, 8:-8].mean(axis=1)
        pixels[:, half] -= level[:, None]
    return pixels


def detrend(night, exposure, ccd):
    """Undo what the detector did, by the calibration library: electrons where the flat is one."""
    signals = {n: above_overscan(night, exposure, n) for n in night.settings.ccds}
    leak = add_crosstalk(np.zeros_like(signals[ccd]), ccd, observatory_crosstalk().into(ccd), signals)
    library = CalibrationLibrary(night.calibrations)
    listed = exposure.listed()
    image = (signals[ccd] - leak)[raw_sections(CCDS[ccd])["DATASEC"].slices]
    image = image - read_calibration_image(library.find("bias", listed, ccd))
    table = linearity_table(night.settings.camera_seed, CCDS[ccd])
    for amplifier in CCDS[ccd].amplifiers:
        part = image[:, amplifier.columns]
        linear = np.interp(part, LINEARITY_ADU, table[amplifier.name])
        image[:, amplifier.columns] = np.where(part > 0, linear, part) * amplifier.gain
    flat = read_calibration_image(library.find("flat", listed, ccd))
    return image / np.where(flat > 0.01, flat, 1.0), flat


@pytest.fixture(scope="module")
def detrended(night):
    return detrend(night, of_role(night, "search"), 34)


@pytest.fixture(scope="module")
def good_pixels(night):
    """Return the pixels of CCD 34 that neither the detector nor a particle nor a satellite has spoilt."""
    exposure = of_role(night, "search")
    library = CalibrationLibrary(night.calibrations)
    bad = (read_bad_pixels(library.find("bad_pixels", exposure.listed(), 34)) & ~(8192 | 16384)) != 0
    truth = read_pixel_truth(pixel_truth_path(night.root, exposure.expnum, 34))
    for name in ("cosmic_ray_index", "full_index", "streak_index"):
        bad.ravel()[truth[name]] = True
    return ~bad


def test_detrended_pixels_are_the_truth_plus_the_noise_of_light_and_readout(night, detrended, good_pixels):
    image, flat = detrended[0], np.maximum(detrended[1], 0.01)
    exposure = of_role(night, "search")
    library = CalibrationLibrary(night.calibrations)
    star_flat = read_calibration_image(library.find("star_flat", exposure.listed(), 34))
    expected = expected_electrons(CcdJob(night.root, night.settings, exposure, 34))
    sky = sky_image(exposure, night.settings.camera_seed, 34)
    model = (expected - sky) * star_flat + sky
    for amplifier in CCDS[34].amplifiers:
        part = np.s_[:, amplifier.columns]
        noise = np.sqrt(model[part] * flat[part] + read_noise_electrons(CCDS[34], amplifier.name) ** 2) / flat[part]
        good = good_pixels[part]
        chi = ((image - model)[part] / noise)[good].astype(float)
        assert chi.std() == pytest.approx(1.0, abs=0.003)
        assert (image - model)[part][good].mean(dtype=float) == pytest.approx(0.0, abs=0.15)
        assert np.abs(chi).max() < 7.0
        bright = good & (expected[part] > 3 * sky[part])
        assert ((image - model)[part] / noise)[bright].std() == pytest.approx(1.0, abs=0.06)


def test_stars_have_the_flux_of_their_magnitude(night, detrended, good_pixels):
    """The flux in the reference aperture gives the magnitude back with the true zero point, within the noise."""
    image, _ = detrended
    exposure = of_role(night, "search")
    library = CalibrationLibrary(night.calibrations)
    star_flat = read_calibration_image(library.find("star_flat", exposure.listed(), 34))
    clean = (image - sky_image(exposure, night.settings.camera_seed, 34)) / star_flat
    sources = true_sources(night, exposure, 34)
    yy, xx = np.mgrid[-14:15, -14:15]
    residuals = []
    for k in bright_stars(sources, 18.0):
        star_x, star_y = sources["x"][k], sources["y"][k]
        x, y = round(star_x), round(star_y)
        box = np.s_[y - 14 : y + 15, x - 14 : x + 15]
        near = np.hypot(sources["x"] - star_x, sources["y"] - star_y) < 25
        crowded = (near & (sources["mag"] < sources["mag"][k] + 5)).sum() > 1
        inside = np.hypot(xx + x - star_x, yy + y - star_y) < 11.11
        if crowded or not good_pixels[box][inside].all():
            continue
        zeropoint = true_zeropoint_mag(night.settings, exposure, 34, [star_x], [star_y])[0]
        residuals.append(zeropoint - 2.5 * np.log10(clean[box][inside].sum(dtype=float)) - sources["mag"][k])
    assert len(residuals) > 10
    assert np.median(residuals) == pytest.approx(0.0, abs=0.004)
    assert np.std(residuals) < 0.015


def test_sources_stand_where_the_truth_says(night, detrended):
    image, _ = detrended
    exposure = of_role(night, "search")
    clean = image - sky_image(exposure, night.settings.camera_seed, 34)
    sources = true_sources(night, exposure, 34)
    yy, xx = np.mgrid[-6:7, -6:7]
    offsets = []
    for k in bright_stars(sources, 18.5):
        x, y = round(sources["x"][k]), round(sources["y"][k])
        dx, dy = sources["x"][k] - x, sources["y"][k] - y
        weight = np.exp(-0.5 * ((xx - dx) ** 2 + (yy - dy) ** 2) / 2.0**2) * clean[y - 6 : y + 7, x - 6 : x + 7]
        offsets.append(((weight * (xx - dx)).sum() / weight.sum(), (weight * (yy - dy)).sum() / weight.sum()))
    assert np.abs(np.median(offsets, axis=0)).max() < 0.02


def test_truth_positions_come_from_the_catalogue_through_the_true_geometry(night):
    exposure = of_role(night, "search")
    sources = true_sources(night, exposure, 33)
    stars = sources["kind"] == "star"
    geometry = true_geometry(night.settings, exposure, 33)
    ra, dec = sources["ra"][stars], sources["dec"][stars]
    x, y = geometry.sky_to_pixel(ra, dec, sources["g_minus_i"][stars])
    np.testing.assert_allclose(x, sources["x"][stars], atol=1e-6)
    np.testing.assert_allclose(y, sources["y"][stars], atol=1e-6)
    cone = read_reference_cone(night.stars, exposure.ra_deg, exposure.dec_deg, 1.5)
    _, known, true = np.intersect1d(column(cone, "source_id"), sources["source_id"][stars], return_indices=True)
    assert len(known) > 150
    moved = separation_deg(column(cone, "ra")[known], column(cone, "dec")[known], ra[true], dec[true]) * 3600
    assert np.median(moved) < 0.15  # eight years of proper motion


def test_kilonova_is_in_the_search_exposure_only(night):
    search, template = of_role(night, "search"), of_role(night, "template")
    found = []
    for exposure in (search, template):
        tables = [read_table(source_truth_path(night.root, exposure.expnum, ccd)) for ccd in night.settings.ccds]
        found.append([row for t in tables for row in t.to_pylist() if row["kind"] == "kilonova"])
    assert len(found[0]) == 1
    assert not found[1]
    assert found[0][0]["mag"] == pytest.approx(20.5, abs=0.3)
    host = int(read_sky(night.root).transients.host_id[0])
    galaxies = read_reference_cone(night.galaxies, search.ra_deg, search.dec_deg, 1.5, REFERENCE_GALAXIES)
    row = np.flatnonzero(column(galaxies, "source_id") == host)[0]
    error = float(column(galaxies, "distance_error_mpc")[row])
    assert float(column(galaxies, "distance_mpc")[row]) == pytest.approx(night.settings.distance_mpc, abs=4 * error)


def test_exposure_list_agrees_with_the_raw_headers(night):
    listed = read_exposure_list(night.exposure_list)
    assert {item.exposure.expnum for item in listed} == {e.expnum for e in night.exposures if e.is_on_sky}
    for item in listed:
        header = index_raw(night.raw / str(item.exposure.night) / f"DECam_{item.exposure.expnum:08d}.fits.fz").exposure
        assert header.expnum == item.exposure.expnum
        assert header.band == item.exposure.band
        assert header.night == item.exposure.night
        assert header.mjd == pytest.approx(item.exposure.mjd, abs=1e-8)
        assert header.ra_deg == pytest.approx(item.exposure.ra_deg, abs=2e-6)
        assert 0.3 < item.t_eff < 2.0


def test_truth_of_an_exposure_survives_its_file(night):
    exposure = of_role(night, "search")
    assert read_exposure_truth(night.root, exposure.expnum) == exposure


def test_night_can_be_opened_again_but_not_overwritten_by_another(night):
    assert open_night(night.root) == night
    with pytest.raises(InputError, match="other settings"):
        simulate_night(night.root, night.settings.with_values(seed=6), processes=1)
    with pytest.raises(InputError, match="truth file missing"):
        open_night(night.root / "nowhere")


def test_raw_bias_and_dome_flat(night):
    bias, flat = of_role(night, "zero"), of_role(night, "dome flat")
    assert index_raw(night.raw_path(bias)).exposure.obstype == "zero"
    assert index_raw(night.raw_path(flat)).exposure.obstype == "dome flat"
    library = CalibrationLibrary(night.calibrations)
    structure = read_calibration_image(library.find("bias", bias.listed(), 34))
    data = raw_sections(CCDS[34])["DATASEC"].slices
    zero = above_overscan(night, bias, 34)[data] - structure
    assert np.median(zero) == pytest.approx(0.0, abs=0.05)
    assert 1.4826 * np.median(np.abs(zero)) == pytest.approx(1.55, abs=0.1)  # 6.1 e- of readout at 4 e-/ADU
    image, response = detrend(night, flat, 34)
    share = image[100:-100, 100:-100] / 60_000.0
    assert np.median(share) == pytest.approx(1.0, abs=0.002)
    assert np.corrcoef((image * response)[::7, 100:-100:5].ravel(), response[::7, 100:-100:5].ravel())[0, 1] > 0.8


def digest(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_same_settings_give_the_same_bytes_whatever_the_processes(tmp_path):
    settings = SimulationSettings(
        seed=9, ccds=(33, 34), n_search_exposures=1, n_template_epochs=0, galaxy_density=0.01, star_density=0.2
    )
    done = []
    simulate_night(tmp_path / "one", settings, processes=1, progress=lambda *what: done.append(what))
    simulate_night(tmp_path / "two", settings, processes=2)
    first, second = digest(tmp_path / "one"), digest(tmp_path / "two")
    assert first == second
    assert not any(".work" in name for name in first)
    assert ("exposures", 1, 1) in done
    assert len([name for name in first if name.endswith(".fits.fz")]) == 1
